/* link_socket.c - a ZeroMQ socket as both sides want it, and messages as frames on it.
 *
 * Pitfalls of libzmq answered here: no queue for a peer that is not there (ZMQ_IMMEDIATE);
 * linger is 0; IPv6 is on; the size of a message is capped before memory is taken for
 * it; dead TCP peers end by heartbeat and keep-alive; a handshake that does not come to
 * an end is cut off.
 */
#include <string.h>
#include <sys/epoll.h>

#include "proto/link_int.h"

enum {
	PIPE_MESSAGES = 65536,	/* high-water mark; credits keep the real number far below */
	BEAT_MS = 1000, DEAD_MS = 3000,
	HANDSHAKE_MS = 5000,
	MAX_WATCHED = 3,
};

/* ---- the socket ------------------------------------------------------------------ */

int link_set_int(void *zmq, int option, int value)
{
	return zmq_setsockopt(zmq, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int set_common(void *zmq, size_t max_message)
{
	static const struct {
		int option, value;
	} all[] = {
		{ ZMQ_LINGER, 0 }, { ZMQ_IPV6, 1 }, { ZMQ_IMMEDIATE, 1 },
		{ ZMQ_SNDHWM, PIPE_MESSAGES }, { ZMQ_RCVHWM, PIPE_MESSAGES },
		{ ZMQ_TCP_KEEPALIVE, 1 }, { ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS },
		{ ZMQ_HEARTBEAT_IVL, BEAT_MS }, { ZMQ_HEARTBEAT_TIMEOUT, DEAD_MS },
		{ ZMQ_HEARTBEAT_TTL, DEAD_MS },
	};
	int64_t max = (int64_t)max_message;

	if (zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &max, sizeof(max)) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (link_set_int(zmq, all[i].option, all[i].value) < 0)
			return -errno;
	return 0;
}

int link_socket_open(struct link_socket *s, void *ctx, int type, const char *monitor_name,
		     int events, size_t max_message)
{
	int r;

	s->zmq = zmq_socket(ctx, type);
	if (!s->zmq)
		return -errno;
	r = set_common(s->zmq, max_message);
	if (r == 0)
		r = link_monitor_open(s->zmq, ctx, monitor_name, events, &s->monitor);
	if (r < 0)
		link_socket_close(s);
	return r;
}

void link_socket_close(struct link_socket *s)
{
	link_monitor_close(s->zmq, s->monitor);
	if (s->zmq)
		zmq_close(s->zmq);
	s->zmq = s->monitor = NULL;
}

/* ---- one descriptor for the loop ---------------------------------------------------- */

int link_watch(int epfd, void *zmq, unsigned which)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = which };
	size_t n = sizeof(int);
	int fd;

	if (zmq_getsockopt(zmq, ZMQ_FD, &fd, &n) < 0 ||
	    epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	return 0;
}

/* ZeroMQ closes descriptors later, on its reaper's thread; until then a stale one would
 * wake the loop for nothing. */
void link_unwatch(int epfd, void *zmq)
{
	size_t n = sizeof(int);
	int fd;

	if (zmq && zmq_getsockopt(zmq, ZMQ_FD, &fd, &n) == 0)
		epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
}

unsigned link_ready(int epfd)
{
	struct epoll_event ev[MAX_WATCHED];
	int n = epoll_wait(epfd, ev, MAX_WATCHED, 0);
	unsigned which = 0;

	for (int i = 0; i < n; i++)
		which |= ev[i].data.u32;
	return which;
}

void link_settle(void *zmq)
{
	int events;
	size_t n = sizeof(events);

	(void)zmq_getsockopt(zmq, ZMQ_EVENTS, &events, &n);
}

/* ---- receiving ------------------------------------------------------------------------ */

void link_drain_parts(void *zmq)
{
	int more = 1;
	size_t n = sizeof(more);

	while (zmq_getsockopt(zmq, ZMQ_RCVMORE, &more, &n) == 0 && more) {
		zmq_msg_t m;

		zmq_msg_init(&m);
		if (zmq_msg_recv(&m, zmq, ZMQ_DONTWAIT) < 0)
			more = 0;
		zmq_msg_close(&m);
	}
}

/* Header and body.  0, -EAGAIN, -EPROTO. */
static int recv_frames(void *zmq, zmq_msg_t *header, zmq_msg_t *body)
{
	if (zmq_msg_recv(header, zmq, ZMQ_DONTWAIT) < 0)
		return -EAGAIN;
	if (!zmq_msg_more(header))
		return -EPROTO;
	if (zmq_msg_recv(body, zmq, ZMQ_DONTWAIT) < 0)
		return -EPROTO;
	if (zmq_msg_more(body)) {
		link_drain_parts(zmq);
		return -EPROTO;
	}
	return 0;
}

int link_recv_wire(void *zmq, enum wire_side from, uint32_t *next_seq, struct wire_msg *ret,
		   zmq_msg_t *body, struct err *e)
{
	zmq_msg_t header;
	int r;

	zmq_msg_init(&header);
	zmq_msg_init(body);
	r = recv_frames(zmq, &header, body);
	if (r == -EPROTO)
		err_set(e, r, "not two frames");
	else if (r == 0)
		r = wire_unpack(from, next_seq, zmq_msg_data(&header), zmq_msg_size(&header),
				zmq_msg_data(body), zmq_msg_size(body), ret, e);
	zmq_msg_close(&header);
	return r;
}

int link_source_fd(const zmq_msg_t *m)
{
	return zmq_msg_get(m, ZMQ_SRCFD);
}

void link_set_why(struct link_in *in, const char *text)
{
	size_t n = strlen(text);

	if (n >= sizeof(in->why))
		n = sizeof(in->why) - 1;
	memcpy(in->why, text, n);
	in->why[n] = '\0';
}

/* ---- sending --------------------------------------------------------------------------- */

static int send_error(void)
{
	return errno == EHOSTUNREACH ? -ENOENT : -errno;
}

static int send_small(void *zmq, const void *p, size_t n)
{
	while (zmq_send(zmq, p, n, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
		if (errno != EINTR)
			return send_error();
	return 0;
}

static int send_body(void *zmq, zmq_msg_t *body)
{
	while (zmq_msg_send(body, zmq, ZMQ_DONTWAIT) < 0)
		if (errno != EINTR)
			return send_error();
	return 0;
}

/* The body is packed where libzmq keeps it: no copy. */
int link_send_wire(void *zmq, const void *id, size_t n_id, enum wire_type t, uint32_t *seq,
		   const ProtobufCMessage *m)
{
	unsigned char header[WIRE_HEADER_BYTES];
	zmq_msg_t body;
	size_t n;
	int r = wire_measure(t, m, &n);

	if (r < 0)
		return r;
	if (zmq_msg_init_size(&body, n) < 0)
		return -ENOMEM;
	wire_pack_into(t, *seq, m, n, header, zmq_msg_data(&body));
	if (id)
		r = send_small(zmq, id, n_id);
	if (r == 0)
		r = send_small(zmq, header, sizeof(header));
	if (r == 0)
		r = send_body(zmq, &body);
	zmq_msg_close(&body);	/* of a sent one nothing is left */
	if (r == 0)
		++*seq;
	return r;
}
