/* link_monitor.c - what becomes of a socket's connections.
 *
 * A ROUTER socket does not say that a peer left (ZMQ_ROUTER_NOTIFY is a draft that Debian
 * does not build), but a monitor, a PAIR socket, reports the descriptor of each closed
 * connection.  The I/O thread reports it before it closes the descriptor, so before the
 * number can be used again; and before it can read anything from a connection that does.
 */
#include <string.h>

#include "proto/link_int.h"

int link_monitor_open(void *zmq, void *ctx, const char *name, int events, void **ret)
{
	void *m = zmq_socket(ctx, ZMQ_PAIR);
	int r;

	if (!m)
		return -errno;
	if (zmq_socket_monitor(zmq, name, events) < 0 || link_set_int(m, ZMQ_LINGER, 0) < 0 ||
	    zmq_connect(m, name) < 0) {
		r = -errno;
		link_monitor_close(zmq, m);
		return r;
	}
	*ret = m;
	return 0;
}

void link_monitor_close(void *zmq, void *monitor)
{
	if (zmq)
		zmq_socket_monitor(zmq, NULL, 0);
	if (monitor)
		zmq_close(monitor);
}

/* Two frames: number (16 bits) and value (32 bits) of the event, then an address. */
int link_monitor_next(void *monitor, int *ret_event, int *ret_fd)
{
	unsigned char b[6];
	int32_t value;
	uint16_t event;
	char address[256];
	int n = zmq_recv(monitor, b, sizeof(b), ZMQ_DONTWAIT);

	if (n < 0)
		return -EAGAIN;
	(void)zmq_recv(monitor, address, sizeof(address), ZMQ_DONTWAIT);
	memcpy(&event, b, 2);
	memcpy(&value, b + 2, 4);
	*ret_event = n == sizeof(b) ? event : 0;
	*ret_fd = value;
	return 0;
}
