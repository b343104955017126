/* link_client.c - a worker's side of a link (link.h).
 *
 * A lost connection gets a new socket: what was queued for the old one dies with it, so
 * old answers are not delivered late.  Reconnecting is libzmq's, with a jitter of ours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/link_int.h"

enum { RECONNECT_MS = 200, RECONNECT_MAX_MS = 10000 };

enum { ON_DATA = 1, ON_MONITOR = 2 };

struct link_client {
	void *ctx;
	struct link_socket sock;
	char *endpoint;
	bool curve;
	char key_public[41], key_secret[41], key_server[41];
	int epfd;
	bool connected;
	bool looked;		/* since the last -EAGAIN */
	bool event_due;		/* the monitor has something */
	unsigned generation;	/* of the socket; names its monitor */
	uint32_t next_in, next_out;
};

static int client_curve(struct link_client *c)
{
	if (!c->curve)
		return 0;
	if (zmq_setsockopt(c->sock.zmq, ZMQ_CURVE_SERVERKEY, c->key_server, 41) < 0)
		return -errno;
	return link_auth_own_keys(c->sock.zmq, c->key_public, c->key_secret);
}

static int start_connecting(struct link_client *c, int jitter)
{
	int r = client_curve(c);

	if (r == 0)
		r = link_set_int(c->sock.zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS + jitter);
	if (r == 0)
		r = link_set_int(c->sock.zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
	if (r == 0 && zmq_connect(c->sock.zmq, c->endpoint) < 0)
		r = -errno;
	if (r == 0)
		r = link_watch(c->epfd, c->sock.zmq, ON_DATA);
	if (r == 0)
		r = link_watch(c->epfd, c->sock.monitor, ON_MONITOR);
	return r;
}

static int client_connect(struct link_client *c)
{
	/* so that a rack of workers does not come back to a restarted router in step */
	int jitter = (int)((getpid() * 7919 + (int)c->generation * 104729) % RECONNECT_MS);
	char name[64];
	int r;

	snprintf(name, sizeof(name), "inproc://monitor-%u", c->generation++);
	c->connected = c->looked = false;
	c->event_due = true;	/* a pipe nobody has read from yet does not signal */
	c->next_in = c->next_out = 0;
	r = link_socket_open(&c->sock, c->ctx, ZMQ_DEALER, name,
			     ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED,
			     wire_limit(WIRE_GENERATE));
	if (r < 0)
		return r;
	r = start_connecting(c, jitter);
	if (r < 0)
		link_socket_close(&c->sock);
	return r;
}

static int copy_keys(struct link_client *c, const struct link_curve *k)
{
	if (!k)
		return 0;
	if (strlen(k->own_public) != 40 || strlen(k->own_secret) != 40 ||
	    strlen(k->server_public) != 40)
		return -EINVAL;
	memcpy(c->key_public, k->own_public, 41);
	memcpy(c->key_secret, k->own_secret, 41);
	memcpy(c->key_server, k->server_public, 41);
	c->curve = true;
	return 0;
}

int link_client_open(const char *endpoint, const struct link_curve *curve,
		     struct link_client **ret, struct err *e)
{
	struct link_client *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return err_set(e, r, "out of memory");
	c->epfd = epoll_create1(EPOLL_CLOEXEC);
	c->ctx = zmq_ctx_new();
	c->endpoint = strdup(endpoint);
	if (c->epfd >= 0 && c->ctx && c->endpoint) {
		r = copy_keys(c, link_auth_is_file(endpoint) ? NULL : curve);
		if (r == 0)
			r = client_connect(c);
	}
	if (r < 0) {
		err_set(e, r, "%s: %s", endpoint, strerror(-r));
		link_client_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct link_client *link_client_close(struct link_client *c)
{
	if (!c)
		return NULL;
	link_socket_close(&c->sock);
	if (c->ctx)
		zmq_ctx_term(c->ctx);
	if (c->epfd >= 0)
		close(c->epfd);
	explicit_bzero(c->key_secret, sizeof(c->key_secret));
	free(c->endpoint);
	free(c);
	return NULL;
}

int link_client_fd(const struct link_client *c)
{
	return c->epfd;
}

int link_client_renew(struct link_client *c)
{
	link_unwatch(c->epfd, c->sock.zmq);
	link_unwatch(c->epfd, c->sock.monitor);
	link_socket_close(&c->sock);
	return client_connect(c);
}

static int client_gone(struct link_client *c, struct link_in *ret, const char *why)
{
	*ret = (struct link_in){ .event = LINK_GONE };
	link_set_why(ret, why);
	return link_client_renew(c);
}

/* Connected, or connection lost. */
static int client_event(struct link_client *c, struct link_in *ret)
{
	int event, fd;

	while (link_monitor_next(c->sock.monitor, &event, &fd) == 0) {
		if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED && !c->connected) {
			c->connected = true;
			*ret = (struct link_in){ .event = LINK_NEW };
			return 0;
		}
		if (event == ZMQ_EVENT_DISCONNECTED && c->connected)
			return client_gone(c, ret, "connection closed");
	}
	c->event_due = false;
	return -EAGAIN;
}

static int client_message(struct link_client *c, struct link_in *ret)
{
	struct link_in in = { .event = LINK_MESSAGE };
	zmq_msg_t body;
	struct err e;
	int r = link_recv_wire(c->sock.zmq, WIRE_FROM_ROUTER, &c->next_in, &in.msg, &body, &e);

	zmq_msg_close(&body);
	if (r == -EAGAIN)
		return r;
	if (r < 0)
		return client_gone(c, ret, e.text);
	*ret = in;
	return 0;
}

/* Messages come before the event that their connection is lost. */
int link_client_recv(struct link_client *c, struct link_in *ret)
{
	int r = -EAGAIN;

	if (!c->sock.zmq)	/* an earlier renewal failed: memory or descriptors ran out */
		return link_client_renew(c) < 0 ? -ENOTCONN : -EAGAIN;
	if (!c->looked) {
		c->event_due |= (link_ready(c->epfd) & ON_MONITOR) != 0;
		c->looked = true;
	}
	if (c->connected)
		r = client_message(c, ret);
	else
		link_settle(c->sock.zmq);
	if (r == -EAGAIN && c->event_due)
		r = client_event(c, ret);
	if (r == -EAGAIN)
		c->looked = false;
	return r;
}

int link_client_send(struct link_client *c, enum wire_type t, const ProtobufCMessage *m)
{
	if (!c->connected)
		return -ENOTCONN;
	return link_send_wire(c->sock.zmq, NULL, 0, t, &c->next_out, m);
}
