/* link_server.c - the router's side of the links (link.h).
 *
 * How a closed connection is noticed.  The monitor reports the descriptor of a closed
 * connection, and each message knows the descriptor it came by (ZMQ_SRCFD); the server
 * keeps the one of each peer's Hello.  A number may be used again by the next connection,
 * so the monitor is emptied before a new peer is entered with its own: the close of the
 * old one was reported before (link_monitor.c).  Otherwise closes come after messages:
 * the last words of a peer are heard before its end.
 *
 * Messages to unknown peers are errors (ZMQ_ROUTER_MANDATORY).  Workers set no identity,
 * so a restarted one never waits for its old connection to die.  Sequence numbers turn a
 * lost frame into a failed link.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/link_int.h"

enum {
	MAX_PEERS = 4096,
	MAX_ROUTING_ID = 32,
	LOOK_EVERY = 256,	/* messages: under a flood, too, closes and newcomers are seen */
};

enum { ON_DATA = 1, ON_MONITOR = 2, ON_AUTH = 4 };

struct peer {
	link_peer id;
	unsigned char routing[MAX_ROUTING_ID];
	size_t n_routing;
	int fd;			/* of the connection, for the monitor's events */
	char key[LINK_KEY];	/* with CURVE; "" without, and by a socket's file */
	bool closed;		/* to be reported once its messages are read */
	uint32_t next_in, next_out;
};

struct link_server {
	void *ctx;
	struct link_socket sock;
	struct link_auth *auth;		/* with CURVE only */
	int epfd;
	struct peer *peers;
	size_t n_peers, n_closed, last;	/* last: the peer found last, a guess for the next */
	link_peer next_id;
	unsigned unlooked;		/* messages since the last look; 0: look first */
};

/* ---- peers -------------------------------------------------------------------------- */

static struct peer *find_peer(struct link_server *s, link_peer id)
{
	if (s->last < s->n_peers && s->peers[s->last].id == id)
		return &s->peers[s->last];
	for (size_t i = 0; i < s->n_peers; i++) {
		if (s->peers[i].id == id) {
			s->last = i;
			return &s->peers[i];
		}
	}
	return NULL;
}

static bool is_routed(const struct peer *p, const void *routing, size_t n)
{
	return p->n_routing == n && !memcmp(p->routing, routing, n);
}

static struct peer *find_routing(struct link_server *s, const void *routing, size_t n)
{
	if (s->last < s->n_peers && is_routed(&s->peers[s->last], routing, n))
		return &s->peers[s->last];
	for (size_t i = 0; i < s->n_peers; i++) {
		if (is_routed(&s->peers[i], routing, n)) {
			s->last = i;
			return &s->peers[i];
		}
	}
	return NULL;
}

static struct peer *add_peer(struct link_server *s, const void *routing, size_t n)
{
	struct peer *p;

	if (s->n_peers == MAX_PEERS || n > MAX_ROUTING_ID)
		return NULL;
	p = realloc(s->peers, (s->n_peers + 1) * sizeof(*p));
	if (!p)
		return NULL;
	s->peers = p;
	p += s->n_peers++;
	*p = (struct peer){ .id = s->next_id++, .n_routing = n, .fd = -1 };
	memcpy(p->routing, routing, n);
	return p;
}

static void drop(struct link_server *s, struct peer *p)
{
	s->n_closed -= p->closed;
	*p = s->peers[--s->n_peers];
}

void link_server_drop(struct link_server *s, link_peer peer)
{
	struct peer *p = find_peer(s, peer);

	if (p)
		drop(s, p);
}

int link_server_allow(struct link_server *s, const char *const *allowed, size_t n)
{
	int r = s->auth ? link_auth_allow(s->auth, allowed, n) : 0;

	for (size_t i = 0; s->auth && r == 0 && i < s->n_peers; i++) {
		struct peer *p = &s->peers[i];

		if (p->closed || !p->key[0] || link_auth_allows(s->auth, p->key))
			continue;
		p->closed = true;
		s->n_closed++;
	}
	return r;
}

/* ---- closed connections ----------------------------------------------------------------- */

static void mark_closed(struct link_server *s, int fd)
{
	for (size_t i = 0; i < s->n_peers; i++) {
		struct peer *p = &s->peers[i];

		if (p->fd != fd || p->closed)
			continue;
		p->closed = true;
		s->n_closed++;
		return;
	}
}

static void read_monitor(struct link_server *s)
{
	int event, fd;

	while (link_monitor_next(s->sock.monitor, &event, &fd) == 0)
		if (event == ZMQ_EVENT_DISCONNECTED)
			mark_closed(s, fd);
}

static void look(struct link_server *s)
{
	unsigned ready = link_ready(s->epfd);

	if (ready & ON_AUTH)
		link_auth_answer(s->auth);
	if (ready & ON_MONITOR)
		read_monitor(s);
	s->unlooked = 0;
}

/* The next peer that was marked. */
static int take_closed(struct link_server *s, struct link_in *ret)
{
	for (size_t i = 0; s->n_closed && i < s->n_peers; i++) {
		if (!s->peers[i].closed)
			continue;
		*ret = (struct link_in){ .event = LINK_GONE, .peer = s->peers[i].id };
		link_set_why(ret, "connection closed");
		drop(s, &s->peers[i]);
		return 0;
	}
	return -EAGAIN;
}

/* ---- opening ---------------------------------------------------------------------- */

static int bind_one(struct link_server *s, const char *endpoint, const struct link_curve *c,
		    struct err *e)
{
	mode_t old;
	int r;

	if (!link_auth_is_loopback(endpoint) && !c)
		return err_set(e, -EPERM, "%s: listening off loopback needs CURVE keys", endpoint);
	old = umask(0117);	/* an ipc socket is 0660 from birth */
	r = zmq_bind(s->sock.zmq, endpoint);
	umask(old);
	if (r < 0)
		return err_set(e, -errno, "%s: %s", endpoint, zmq_strerror(errno));
	return 0;
}

/* An option holds for what is bound after it: so the sockets that a file's mode guards come first,
 * and with CURVE the door is locked behind them. */
static int bind_all(struct link_server *s, const char *const *endpoints, size_t n,
		    const struct link_curve *c, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		if (link_auth_is_file(endpoints[i]))
			r = bind_one(s, endpoints[i], c, e);
	if (r == 0 && c) {
		r = link_auth_lock(s->sock.zmq, c);
		if (r < 0)
			err_set(e, r, "CURVE keys: %s", strerror(-r));
	}
	for (size_t i = 0; i < n && r == 0; i++)
		if (!link_auth_is_file(endpoints[i]))
			r = bind_one(s, endpoints[i], c, e);
	return r;
}

static int open_sockets(struct link_server *s, const struct link_curve *curve)
{
	int r;

	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->ctx = zmq_ctx_new();
	s->next_id = 1;
	if (s->epfd < 0 || !s->ctx)
		return -errno;
	r = link_socket_open(&s->sock, s->ctx, ZMQ_ROUTER, "inproc://monitor",
			     ZMQ_EVENT_DISCONNECTED, wire_limit(WIRE_DELTA));
	if (r == 0)
		r = link_set_int(s->sock.zmq, ZMQ_ROUTER_MANDATORY, 1);
	if (r == 0 && curve)
		r = link_auth_open(s->ctx, curve, &s->auth);
	return r;
}

/* ZeroMQ signals for a pipe whose reader has once found it empty: hence the first look. */
static int watch_all(struct link_server *s)
{
	int r = link_watch(s->epfd, s->sock.zmq, ON_DATA);

	if (r == 0)
		r = link_watch(s->epfd, s->sock.monitor, ON_MONITOR);
	if (r == 0 && s->auth)
		r = link_watch(s->epfd, link_auth_socket(s->auth), ON_AUTH);
	if (r == 0)
		read_monitor(s);
	if (r == 0 && s->auth)
		link_auth_answer(s->auth);
	return r;
}

int link_server_open(const char *const *endpoints, size_t n, const struct link_curve *curve,
		     struct link_server **ret, struct err *e)
{
	struct link_server *s = calloc(1, sizeof(*s));
	bool said = false;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	r = open_sockets(s, curve);
	if (r == 0) {
		r = bind_all(s, endpoints, n, curve, e);
		said = r < 0;
	}
	if (r == 0)
		r = watch_all(s);
	if (r == 0) {
		*ret = s;
		return 0;
	}
	if (!said)
		err_set(e, r, "cannot make the workers' socket: %s", strerror(-r));
	link_server_close(s);
	return r;
}

struct link_server *link_server_close(struct link_server *s)
{
	if (!s)
		return NULL;
	link_socket_close(&s->sock);
	link_auth_close(s->auth);
	if (s->ctx)
		zmq_ctx_term(s->ctx);
	if (s->epfd >= 0)
		close(s->epfd);
	free(s->peers);
	free(s);
	return NULL;
}

int link_server_fd(const struct link_server *s)
{
	return s->epfd;
}

/* ---- messages ---------------------------------------------------------------------------- */

/* SO_PEERCRED on the connection itself: cannot be lied about, unlike the name in a Hello. */
static void read_credentials(int fd, struct link_in *in)
{
	struct ucred c;
	socklen_t n = sizeof(c);

	in->pid = in->uid = -1;
	if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) == 0 && c.pid > 0) {
		in->pid = (int)c.pid;
		in->uid = (int)c.uid;
	}
}

/* A peer that still has this connection's number has lost its own. */
static struct peer *welcome(struct link_server *s, const void *routing, size_t n, int fd,
			    struct link_in *in)
{
	struct peer *p;

	read_monitor(s);
	mark_closed(s, fd);
	p = add_peer(s, routing, n);
	if (!p)
		return NULL;
	p->fd = fd;
	in->event = LINK_NEW;
	read_credentials(fd, in);
	return p;
}

/* A message of a peer that we know, or the Hello that makes it known. */
static int take_message(struct link_server *s, const void *routing, size_t n,
			struct link_in *ret)
{
	struct peer *p = find_routing(s, routing, n);
	uint32_t first = 0;
	zmq_msg_t body;
	struct err e;
	int r;

	ret->event = LINK_MESSAGE;
	ret->msg = (struct wire_msg){ 0 };
	r = link_recv_wire(s->sock.zmq, WIRE_FROM_WORKER, p ? &p->next_in : &first, &ret->msg,
			   &body, &e);
	if (r == -EAGAIN)	/* a routing frame with nothing behind it */
		r = err_set(&e, -EPROTO, "not two frames");
	if (r == 0 && !p && ret->msg.type == WIRE_HELLO) {
		const char *key = zmq_msg_gets(&body, "User-Id");
		int fd = link_source_fd(&body);

		if (!s->auth || link_auth_may_greet(s->auth, key, fd))
			p = welcome(s, routing, n, fd, ret);
		if (p)
			p->next_in = first;
		if (p && key)
			snprintf(p->key, sizeof(p->key), "%s", key);
	}
	zmq_msg_close(&body);
	if (!p) {		/* a stranger that does not greet, or one too many */
		wire_msg_done(&ret->msg);
		return -ENOENT;
	}
	ret->peer = p->id;
	if (r < 0) {
		ret->event = LINK_GONE;
		link_set_why(ret, e.text);
		drop(s, p);
	}
	return 0;
}

int link_server_recv(struct link_server *s, struct link_in *ret)
{
	unsigned char routing[MAX_ROUTING_ID];

	for (;;) {
		int n;

		/* those marked at the last look have had LOOK_EVERY messages' time for theirs */
		if (s->unlooked == LOOK_EVERY && take_closed(s, ret) == 0)
			return 0;
		if (s->unlooked == 0 || s->unlooked == LOOK_EVERY)
			look(s);
		s->unlooked++;
		n = zmq_recv(s->sock.zmq, routing, sizeof(routing), ZMQ_DONTWAIT);
		if (n < 0)
			break;
		if ((size_t)n > sizeof(routing))
			link_drain_parts(s->sock.zmq);
		else if (take_message(s, routing, (size_t)n, ret) == 0)
			return 0;
	}
	s->unlooked = 0;
	return take_closed(s, ret);
}

int link_server_send(struct link_server *s, link_peer peer, enum wire_type t,
		     const ProtobufCMessage *m)
{
	struct peer *p = find_peer(s, peer);

	if (!p)
		return -ENOENT;
	return link_send_wire(s->sock.zmq, p->routing, p->n_routing, t, &p->next_out, m);
}
