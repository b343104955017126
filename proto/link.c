/* link.c - see link.h.  The only file that knows libzmq.
 *
 * How a closed connection is noticed.  A ROUTER socket does not say that a peer left
 * (ZMQ_ROUTER_NOTIFY is a draft that Debian does not build).  But a socket monitor
 * reports the descriptor of a closed connection, and each message knows the descriptor
 * it came by (ZMQ_SRCFD).  So the server keeps descriptor -> peer.  A descriptor
 * number may be used again by the next connection; the I/O thread reports the close
 * before it can read anything from the new one, hence the monitor is always drained
 * before a message is looked at.
 *
 * Pitfalls of libzmq answered here: messages to unknown peers are errors, not dropped
 * (ZMQ_ROUTER_MANDATORY); no identity is set by workers, so a restarted one never waits
 * for its old connection to die; nothing is queued for a peer that is not there
 * (ZMQ_IMMEDIATE) and a lost connection gets a new socket, so old requests are not
 * delivered late; sequence numbers turn a dropped frame into a failed link; linger is 0;
 * IPv6 is on; message size is capped before memory is taken for it.
 */
#include "proto/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "lib/own.h"

enum {
	MAX_PEERS = 4096,
	MAX_ROUTING_ID = 32,
	PIPE_MESSAGES = 65536,	/* high-water mark; credits keep the real number far below */
	BEAT_MS = 1000, DEAD_MS = 3000,
	RECONNECT_MS = 200, RECONNECT_MAX_MS = 10000,
	HANDSHAKE_MS = 5000,
};

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"

/* ---- what both sides share --------------------------------------------------- */

struct sock {
	void *zmq;		/* the data socket */
	void *monitor;		/* PAIR that reports its connections */
};

static int set_int(void *s, int option, int value)
{
	return zmq_setsockopt(s, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int set_common(void *s, size_t max_message)
{
	int64_t max = (int64_t)max_message;

	if (zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &max, sizeof(max)) < 0)
		return -errno;
	if (set_int(s, ZMQ_LINGER, 0) < 0 || set_int(s, ZMQ_IPV6, 1) < 0 ||
	    set_int(s, ZMQ_SNDHWM, PIPE_MESSAGES) < 0 || set_int(s, ZMQ_RCVHWM, PIPE_MESSAGES) < 0 ||
	    set_int(s, ZMQ_IMMEDIATE, 1) < 0 || set_int(s, ZMQ_TCP_KEEPALIVE, 1) < 0 ||
	    set_int(s, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) < 0 ||
	    set_int(s, ZMQ_HEARTBEAT_IVL, BEAT_MS) < 0 ||
	    set_int(s, ZMQ_HEARTBEAT_TIMEOUT, DEAD_MS) < 0 ||
	    set_int(s, ZMQ_HEARTBEAT_TTL, DEAD_MS) < 0)
		return -errno;
	return 0;
}

static void sock_close(struct sock *s)
{
	if (s->zmq)
		zmq_socket_monitor(s->zmq, NULL, 0);
	if (s->monitor)
		zmq_close(s->monitor);
	if (s->zmq)
		zmq_close(s->zmq);
	s->zmq = s->monitor = NULL;
}

static int sock_open(struct sock *s, void *ctx, int type, const char *monitor_name, int events,
		     size_t max_message)
{
	int r = -ENOMEM;

	s->zmq = zmq_socket(ctx, type);
	s->monitor = zmq_socket(ctx, ZMQ_PAIR);
	if (!s->zmq || !s->monitor)
		goto fail;
	r = set_common(s->zmq, max_message);
	if (r < 0)
		goto fail;
	if (zmq_socket_monitor(s->zmq, monitor_name, events) < 0 ||
	    set_int(s->monitor, ZMQ_LINGER, 0) < 0 || zmq_connect(s->monitor, monitor_name) < 0) {
		r = -errno;
		goto fail;
	}
	return 0;
fail:
	sock_close(s);
	return r;
}

/* Takes the next monitor event: 0, or -EAGAIN. */
static int monitor_next(void *monitor, int *ret_event, int *ret_fd)
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
	*ret_event = event;
	*ret_fd = value;
	return 0;
}

/* One descriptor for the loop: an epoll over those of the sockets. */
static int watch(int epfd, void *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	size_t n = sizeof(ev.data.fd);

	if (zmq_getsockopt(s, ZMQ_FD, &ev.data.fd, &n) < 0 ||
	    epoll_ctl(epfd, EPOLL_CTL_ADD, ev.data.fd, &ev) < 0)
		return -errno;
	return 0;
}

/* ZeroMQ closes descriptors later, on its reaper's thread; until then a stale one would
 * wake the loop for nothing. */
static void unwatch(int epfd, void *s)
{
	size_t n = sizeof(int);
	int fd;

	if (s && zmq_getsockopt(s, ZMQ_FD, &fd, &n) == 0)
		epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
}

/* Processes pending commands of the I/O thread, without which ZMQ_FD does not fire
 * again; true when something can be read. */
static bool readable(void *s)
{
	int events = 0;
	size_t n = sizeof(events);

	return zmq_getsockopt(s, ZMQ_EVENTS, &events, &n) == 0 && (events & ZMQ_POLLIN);
}

static int curve_own(void *s, const struct link_curve *c)
{
	if (zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, c->own_public, 41) < 0 ||
	    zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, c->own_secret, 41) < 0)
		return -errno;
	return 0;
}

static int send_frame(void *s, const void *p, size_t n, int flags)
{
	while (zmq_send(s, p, n, flags | ZMQ_DONTWAIT) < 0)
		if (errno != EINTR)
			return errno == EHOSTUNREACH ? -ENOENT : -errno;
	return 0;
}

/* Reads and throws away what is left of a message of odd shape. */
static void drain_parts(void *s)
{
	int more = 1;
	size_t n = sizeof(more);

	while (zmq_getsockopt(s, ZMQ_RCVMORE, &more, &n) == 0 && more) {
		zmq_msg_t m;

		zmq_msg_init(&m);
		if (zmq_msg_recv(&m, s, ZMQ_DONTWAIT) < 0)
			more = 0;
		zmq_msg_close(&m);
	}
}

/* Header and body frames after whatever came before them.  0, -EPROTO. */
static int recv_frames(void *s, zmq_msg_t *header, zmq_msg_t *body)
{
	if (zmq_msg_recv(header, s, ZMQ_DONTWAIT) < 0 || !zmq_msg_more(header))
		return -EPROTO;
	if (zmq_msg_recv(body, s, ZMQ_DONTWAIT) < 0)
		return -EPROTO;
	if (zmq_msg_more(body)) {
		drain_parts(s);
		return -EPROTO;
	}
	return 0;
}

/* Receives and unpacks one message whose routing frame, if any, was taken. */
static int recv_wire(void *s, enum wire_side from, uint32_t *next_seq, struct wire_msg *ret,
		     int *ret_fd, struct err *e)
{
	zmq_msg_t header, body;
	int r;

	zmq_msg_init(&header);
	zmq_msg_init(&body);
	r = recv_frames(s, &header, &body);
	if (r < 0) {
		err_set(e, r, "not two frames");
	} else {
		*ret_fd = zmq_msg_get(&body, ZMQ_SRCFD);
		r = wire_unpack(from, next_seq, zmq_msg_data(&header), zmq_msg_size(&header),
				zmq_msg_data(&body), zmq_msg_size(&body), ret, e);
	}
	zmq_msg_close(&header);
	zmq_msg_close(&body);
	return r;
}

static void set_why(struct link_in *in, const char *text)
{
	size_t n = strlen(text);

	if (n >= sizeof(in->why))
		n = sizeof(in->why) - 1;
	memcpy(in->why, text, n);
	in->why[n] = '\0';
}

static int send_wire(void *s, const void *id, size_t n_id, enum wire_type t, uint32_t *seq,
		     const ProtobufCMessage *m)
{
	CLEANUP(buf_donep) struct buf header = BUF_INIT;
	CLEANUP(buf_donep) struct buf body = BUF_INIT;
	int r = wire_pack(t, *seq, m, &header, &body);

	if (r < 0)
		return r;
	if (id) {
		r = send_frame(s, id, n_id, ZMQ_SNDMORE);
		if (r < 0)
			return r;
	}
	r = send_frame(s, header.p, header.n, ZMQ_SNDMORE);
	if (r < 0)
		return r;
	r = send_frame(s, body.p, body.n, 0);
	if (r == 0)
		++*seq;
	return r;
}

/* ---- router side ---------------------------------------------------------------- */

struct peer {
	link_peer id;
	unsigned char routing[MAX_ROUTING_ID];
	size_t n_routing;
	int fd;			/* of the connection, for the monitor's events */
	uint32_t next_in, next_out;
};

struct link_server {
	void *ctx;
	struct sock sock;
	void *zap;		/* REP, with CURVE only */
	char (*allowed)[41];
	size_t n_allowed;
	int epfd;
	struct peer *peers;
	size_t n_peers;
	link_peer next_id;
};

static bool is_loopback(const char *endpoint)
{
	return !strncmp(endpoint, "ipc://", 6) || !strncmp(endpoint, "inproc://", 9) ||
	       !strncmp(endpoint, "tcp://127.", 10) || !strncmp(endpoint, "tcp://[::1]:", 12) ||
	       !strncmp(endpoint, "tcp://localhost:", 16);
}

/* CURVE alone lets any key in: a ZAP handler with the allow-list closes the door. */
static int open_zap(struct link_server *s, const struct link_curve *c)
{
	int one = 1;

	s->allowed = calloc(c->n_allowed ? c->n_allowed : 1, sizeof(*s->allowed));
	if (!s->allowed)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_allowed; i++) {
		if (strlen(c->allowed[i]) != 40)
			return -EINVAL;
		memcpy(s->allowed[i], c->allowed[i], 41);
	}
	s->n_allowed = c->n_allowed;
	s->zap = zmq_socket(s->ctx, ZMQ_REP);
	if (!s->zap || set_int(s->zap, ZMQ_LINGER, 0) < 0 || zmq_bind(s->zap, ZAP_ENDPOINT) < 0)
		return -errno;
	if (zmq_setsockopt(s->sock.zmq, ZMQ_CURVE_SERVER, &one, sizeof(one)) < 0 ||
	    zmq_setsockopt(s->sock.zmq, ZMQ_ZAP_DOMAIN, "hearth", 6) < 0)
		return -errno;
	return curve_own(s->sock.zmq, c);
}

static int bind_one(struct link_server *s, const char *endpoint, const struct link_curve *c,
		    struct err *e)
{
	mode_t old;
	int r;

	if (!is_loopback(endpoint) && !c)
		return err_set(e, -EPERM, "%s: listening off loopback needs CURVE keys", endpoint);
	old = umask(0117);	/* an ipc socket is 0660 from birth */
	r = zmq_bind(s->sock.zmq, endpoint);
	umask(old);
	if (r < 0)
		return err_set(e, -errno, "%s: %s", endpoint, zmq_strerror(errno));
	return 0;
}

int link_server_open(const char *const *endpoints, size_t n, const struct link_curve *curve,
		     struct link_server **ret, struct err *e)
{
	struct link_server *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return err_set(e, r, "out of memory");
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->ctx = zmq_ctx_new();
	s->next_id = 1;
	if (s->epfd < 0 || !s->ctx)
		goto fail;
	r = sock_open(&s->sock, s->ctx, ZMQ_ROUTER, "inproc://monitor", ZMQ_EVENT_DISCONNECTED,
		      wire_limit(WIRE_DELTA));
	if (r == 0)
		r = set_int(s->sock.zmq, ZMQ_ROUTER_MANDATORY, 1);
	if (r == 0 && curve)
		r = open_zap(s, curve);
	if (r < 0)
		goto fail;
	for (size_t i = 0; i < n; i++) {
		r = bind_one(s, endpoints[i], curve, e);
		if (r < 0)
			goto fail_said;
	}
	r = watch(s->epfd, s->sock.zmq);
	if (r == 0)
		r = watch(s->epfd, s->sock.monitor);
	if (r == 0 && s->zap)
		r = watch(s->epfd, s->zap);
	if (r < 0)
		goto fail;
	*ret = s;
	return 0;
fail:
	err_set(e, r, "cannot make the workers' socket: %s", strerror(-r));
fail_said:
	link_server_close(s);
	return r;
}

struct link_server *link_server_close(struct link_server *s)
{
	if (!s)
		return NULL;
	sock_close(&s->sock);
	if (s->zap)
		zmq_close(s->zap);
	if (s->ctx)
		zmq_ctx_term(s->ctx);
	if (s->epfd >= 0)
		close(s->epfd);
	free(s->allowed);
	free(s->peers);
	free(s);
	return NULL;
}

int link_server_fd(const struct link_server *s)
{
	return s->epfd;
}

static bool key_allowed(const struct link_server *s, const unsigned char *key, size_t n)
{
	char z85[41];

	if (n != 32 || !zmq_z85_encode(z85, key, n))
		return false;
	for (size_t i = 0; i < s->n_allowed; i++)
		if (!memcmp(s->allowed[i], z85, 40))
			return true;
	return false;
}

/* One ZAP request (RFC 27): version, id, domain, address, identity, mechanism, key. */
static void answer_zap(struct link_server *s)
{
	unsigned char frame[7][64];
	int n[7] = { 0 };
	bool ok;
	int i;

	for (i = 0; i < 7; i++) {
		n[i] = zmq_recv(s->zap, frame[i], sizeof(frame[i]), ZMQ_DONTWAIT);
		if (n[i] < 0)
			return;
		if (n[i] > (int)sizeof(frame[i]))
			n[i] = 0;	/* longer than any honest one: matches nothing below */
	}
	drain_parts(s->zap);
	ok = n[5] == 5 && !memcmp(frame[5], "CURVE", 5) && key_allowed(s, frame[6], (size_t)n[6]);
	zmq_send(s->zap, "1.0", 3, ZMQ_SNDMORE);
	zmq_send(s->zap, frame[1], (size_t)n[1], ZMQ_SNDMORE);
	zmq_send(s->zap, ok ? "200" : "400", 3, ZMQ_SNDMORE);
	zmq_send(s->zap, ok ? "OK" : "unknown key", ok ? 2 : 11, ZMQ_SNDMORE);
	zmq_send(s->zap, "", 0, ZMQ_SNDMORE);
	zmq_send(s->zap, "", 0, 0);
}

static struct peer *find_peer(struct link_server *s, link_peer id)
{
	for (size_t i = 0; i < s->n_peers; i++)
		if (s->peers[i].id == id)
			return &s->peers[i];
	return NULL;
}

static struct peer *find_routing(struct link_server *s, const void *id, size_t n)
{
	for (size_t i = 0; i < s->n_peers; i++)
		if (s->peers[i].n_routing == n && !memcmp(s->peers[i].routing, id, n))
			return &s->peers[i];
	return NULL;
}

static struct peer *add_peer(struct link_server *s, const void *id, size_t n)
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
	memcpy(p->routing, id, n);
	return p;
}

void link_server_drop(struct link_server *s, link_peer peer)
{
	struct peer *p = find_peer(s, peer);

	if (p)
		*p = s->peers[--s->n_peers];
}

/* The next peer whose connection is closed. */
static int server_gone(struct link_server *s, struct link_in *ret)
{
	int event, fd;

	while (monitor_next(s->sock.monitor, &event, &fd) == 0) {
		for (size_t i = 0; i < s->n_peers && event == ZMQ_EVENT_DISCONNECTED; i++) {
			if (s->peers[i].fd != fd)
				continue;
			*ret = (struct link_in){ .event = LINK_GONE, .peer = s->peers[i].id };
			set_why(ret, "connection closed");
			link_server_drop(s, ret->peer);
			return 0;
		}
	}
	return -EAGAIN;
}

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

/* A message of a peer that we know, or the Hello that makes it known. */
static int server_take(struct link_server *s, const void *routing, size_t n, struct link_in *ret)
{
	struct peer *p = find_routing(s, routing, n);
	struct link_in in = { .event = LINK_MESSAGE };
	uint32_t first = 0;
	struct err e;
	int fd = -1;
	int r;

	r = recv_wire(s->sock.zmq, WIRE_FROM_WORKER, p ? &p->next_in : &first, &in.msg, &fd, &e);
	if (r == 0 && !p && in.msg.type == WIRE_HELLO) {
		p = add_peer(s, routing, n);
		if (p) {
			p->fd = fd;
			p->next_in = first;
			in.event = LINK_NEW;
			read_credentials(fd, &in);
		}
	}
	if (!p) {		/* a stranger that does not greet, or one too many */
		wire_msg_done(&in.msg);
		return -ENOENT;
	}
	in.peer = p->id;
	if (r < 0) {
		in.event = LINK_GONE;
		set_why(&in, e.text);
		link_server_drop(s, p->id);
	}
	*ret = in;
	return 0;
}

int link_server_recv(struct link_server *s, struct link_in *ret)
{
	unsigned char routing[MAX_ROUTING_ID];

	for (;;) {
		int n;

		while (s->zap && readable(s->zap))
			answer_zap(s);
		if (server_gone(s, ret) == 0)
			return 0;
		(void)readable(s->sock.monitor);
		if (!readable(s->sock.zmq))
			return -EAGAIN;
		/* closes that were reported while we looked come before what we read now */
		if (server_gone(s, ret) == 0)
			return 0;
		n = zmq_recv(s->sock.zmq, routing, sizeof(routing), ZMQ_DONTWAIT);
		if (n < 0)
			continue;
		if ((size_t)n > sizeof(routing)) {
			drain_parts(s->sock.zmq);
			continue;
		}
		if (server_take(s, routing, (size_t)n, ret) == 0)
			return 0;
	}
}

int link_server_send(struct link_server *s, link_peer peer, enum wire_type t,
		     const ProtobufCMessage *m)
{
	struct peer *p = find_peer(s, peer);

	if (!p)
		return -ENOENT;
	return send_wire(s->sock.zmq, p->routing, p->n_routing, t, &p->next_out, m);
}

/* ---- worker side ---------------------------------------------------------------- */

struct link_client {
	void *ctx;
	struct sock sock;
	char *endpoint;
	bool curve;
	char key_public[41], key_secret[41], key_server[41];
	int epfd;
	bool connected;
	unsigned generation;	/* of the socket; names its monitor */
	uint32_t next_in, next_out;
};

static int client_curve(struct link_client *c)
{
	const struct link_curve keys = { c->key_public, c->key_secret, NULL, NULL, 0 };

	if (!c->curve)
		return 0;
	if (zmq_setsockopt(c->sock.zmq, ZMQ_CURVE_SERVERKEY, c->key_server, 41) < 0)
		return -errno;
	return curve_own(c->sock.zmq, &keys);
}

/* A new socket for each connection: what was queued for the old one dies with it. */
static int client_connect(struct link_client *c)
{
	/* so that a rack of workers does not come back to a restarted router in step */
	int jitter = (int)((getpid() * 7919 + (int)c->generation * 104729) % RECONNECT_MS);
	char name[64];
	int r;

	snprintf(name, sizeof(name), "inproc://monitor-%u", c->generation++);
	r = sock_open(&c->sock, c->ctx, ZMQ_DEALER, name,
		      ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED,
		      wire_limit(WIRE_GENERATE));
	if (r < 0)
		return r;
	r = client_curve(c);
	if (r == 0)
		r = set_int(c->sock.zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS + jitter);
	if (r == 0)
		r = set_int(c->sock.zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
	if (r == 0 && zmq_connect(c->sock.zmq, c->endpoint) < 0)
		r = -errno;
	if (r == 0)
		r = watch(c->epfd, c->sock.zmq);
	if (r == 0)
		r = watch(c->epfd, c->sock.monitor);
	if (r < 0)
		sock_close(&c->sock);
	c->connected = false;
	c->next_in = c->next_out = 0;
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
		r = copy_keys(c, curve);
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
	sock_close(&c->sock);
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
	unwatch(c->epfd, c->sock.zmq);
	unwatch(c->epfd, c->sock.monitor);
	sock_close(&c->sock);
	return client_connect(c);
}

static int client_gone(struct link_client *c, struct link_in *ret, const char *why)
{
	*ret = (struct link_in){ .event = LINK_GONE };
	set_why(ret, why);
	return link_client_renew(c);
}

/* Connected, or connection lost. */
static int client_event(struct link_client *c, struct link_in *ret)
{
	int event, fd;

	while (monitor_next(c->sock.monitor, &event, &fd) == 0) {
		if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED && !c->connected) {
			c->connected = true;
			*ret = (struct link_in){ .event = LINK_NEW };
			return 0;
		}
		if (event == ZMQ_EVENT_DISCONNECTED && c->connected)
			return client_gone(c, ret, "connection closed");
	}
	return -EAGAIN;
}

int link_client_recv(struct link_client *c, struct link_in *ret)
{
	struct link_in in = { .event = LINK_MESSAGE };
	struct err e;
	int fd, r;

	if (!c->sock.zmq)	/* an earlier renewal failed: memory or descriptors ran out */
		return link_client_renew(c) < 0 ? -ENOTCONN : -EAGAIN;
	(void)readable(c->sock.zmq);
	if (!c->connected || !readable(c->sock.zmq)) {
		r = client_event(c, ret);
		if (r != -EAGAIN)
			return r;
		(void)readable(c->sock.monitor);
		if (!c->connected || !readable(c->sock.zmq))
			return -EAGAIN;
	}
	r = recv_wire(c->sock.zmq, WIRE_FROM_ROUTER, &c->next_in, &in.msg, &fd, &e);
	if (r < 0)
		return client_gone(c, ret, e.text);
	*ret = in;
	return 0;
}

int link_client_send(struct link_client *c, enum wire_type t, const ProtobufCMessage *m)
{
	if (!c->connected)
		return -ENOTCONN;
	return send_wire(c->sock.zmq, NULL, 0, t, &c->next_out, m);
}
