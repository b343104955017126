/* http_conn.c - one client connection: when to read, when to wait, when to give up.
 *
 *	IDLE -> READING -> CALL -> IDLE           keep-alive
 *	   any of the first three -> FLUSH -> (LINGER ->) closed
 *
 * Read events stay on in every state: an end of file is how a leaving client is noticed.
 * A half-closed client counts as gone, as with every proxy in front of us.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "router/http_int.h"

enum { LINGER_MS = 2000, FRESH_MS = 1000, BODY_TOTAL_MS = 600000 };

static void set_timer(struct http_call *c, uint64_t ms)
{
	struct timeval tv = { .tv_sec = (time_t)(ms / 1000),
			      .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	event_add(&c->timer, &tv);
}

static void drop_request(struct http_call *c)
{
	if (c->req)
		http_request_done(c->req);
	free(c->req);
	c->req = NULL;
	c->server->bodies -= c->body_charged;
	c->body_charged = 0;
}

static void conn_free(struct http_call *c)
{
	struct http_server *s = c->server;

	drop_request(c);
	if (c->next)
		c->next->prev = c->prev;
	*c->prev = c->next;
	s->n_conns--;
	event_del(&c->timer);
	http_socket_close(c);
	free(c);
}

void conn_enter(struct http_call *c)
{
	c->busy++;
}

void conn_leave(struct http_call *c)
{
	if (--c->busy == 0 && c->dead)
		conn_free(c);
}

void conn_close(struct http_call *c)
{
	if (c->dead)
		return;
	c->dead = true;
	http_socket_mute(c);
	conn_enter(c);
	conn_leave(c);
}

/* A connection that was accepted just before we stop belongs to a client that is about to
 * send its first request: closed now, it would see a reset and no answer. */
void conn_drain(struct http_call *c)
{
	if (http_socket_unsent(c))
		c->state = CONN_FLUSH;
	else if (c->started_ns)
		conn_close(c);
	else
		set_timer(c, FRESH_MS);
}

/* Whoever makes its reply must know first. */
void conn_lose(struct http_call *c)
{
	void (*gone)(void *) = c->state == CONN_CALL ? c->gone : NULL;

	c->gone = NULL;
	c->drained = NULL;
	if (gone)
		gone(c->arg);
	conn_close(c);
}

static void linger(struct http_call *c)
{
	c->state = CONN_LINGER;
	shutdown(c->fd, SHUT_WR);
	set_timer(c, LINGER_MS);
}

static void flushed(struct http_call *c)
{
	if (c->deaf)	/* unread bytes would turn our close into a reset that eats the reply */
		linger(c);
	else
		conn_close(c);
}

/* Unique over restarts by the salt, in order by the count. */
static void give_id(struct http_call *c)
{
	struct http_server *s = c->server;

	size_t n = text_add(c->id, sizeof(c->id), 0, "req-");

	n = text_add_hex(c->id, sizeof(c->id), n, s->id_salt, 16);
	text_add_hex(c->id, sizeof(c->id), n, ++s->n_requests, 8);
}

static void begin_call(struct http_call *c)
{
	c->state = CONN_CALL;
	give_id(c);
	c->close_after = !http_request_keep_alive(c->req) || c->server->draining;
	c->head = c->req->parser.method == HTTP_HEAD;
	c->begun = c->was_high = false;
	event_del(&c->timer);
	c->server->hooks.request(c->server->hooks.arg, c);
}

static void refuse(struct http_call *c)
{
	struct buf body = BUF_INIT;
	/* clients retry what is 500 or more; these say what a client is, not how we are */
	bool for_good = c->req->status == 501 || c->req->status == 505;

	c->state = CONN_CALL;
	give_id(c);
	c->close_after = c->deaf = true;
	c->begun = false;
	c->head = c->req->text.n && c->req->parser.method == HTTP_HEAD;
	c->server->hooks.error(c->server->hooks.arg, c->req->status, c->req->why, &body);
	http_reply(c, c->req->status, for_good ? "x-should-retry: false\r\n" : NULL,
		   "application/json", body.p ? body.p : "", body.n);
	buf_done(&body);
}

static int start_reading(struct http_call *c)
{
	c->req = malloc(sizeof(*c->req));
	if (!c->req)
		return -ENOMEM;
	http_request_init(c->req, &c->server->limits);
	c->state = CONN_READING;
	c->started_ns = clock_ns();
	c->body_ns = 0;
	return 0;
}

static void charge(struct http_call *c, size_t bytes)
{
	c->server->bodies += bytes - c->body_charged;
	c->body_charged = bytes;
}

static void headers_arrived(struct http_call *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

	c->body_ns = clock_ns();
	if (c->req->expect_continue && !c->req->complete)
		http_socket_put(c, go_on, sizeof(go_on) - 1);
}

/* Feeds bytes to the request at hand; how many it took. */
static size_t read_some(struct http_call *c, const char *p, size_t n)
{
	bool had_headers = c->req->headers_done;
	size_t used;

	c->req->body_room = c->server->limits.max_bodies - c->server->bodies + c->body_charged;
	used = http_request_feed(c->req, p, n);
	charge(c, c->req->body.cap);
	if (c->req->headers_done && !had_headers)
		headers_arrived(c);
	if (c->req->status)
		refuse(c);
	else if (c->req->complete)
		begin_call(c);
	return used;
}

static bool is_listening(const struct http_call *c)
{
	return !c->dead && (c->state == CONN_IDLE || c->state == CONN_READING);
}

/* A request that is whole in its first bytes needs no clock. */
static void watch_reading(struct http_call *c, bool fresh)
{
	if (c->dead || c->state != CONN_READING)
		return;
	if (!c->body_ns) {
		if (fresh)
			set_timer(c, c->server->limits.header_ms);
	} else if (clock_ns() - c->body_ns > BODY_TOTAL_MS * NS_PER_MS) {
		conn_close(c);
	} else {
		set_timer(c, c->server->limits.body_ms);
	}
}

/* Begins with as many requests as are there and answered at once; the bytes it took. */
static size_t advance(struct http_call *c, const char *p, size_t n)
{
	size_t used, at = 0;
	bool fresh = false;

	while (at < n && is_listening(c)) {
		if (c->state == CONN_IDLE) {
			if (start_reading(c) < 0) {
				conn_close(c);
				break;
			}
			fresh = true;
		}
		used = read_some(c, p + at, n - at);
		if (!used)
			break;
		at += used;
	}
	watch_reading(c, fresh);
	return at;
}

static void advance_waiting(struct http_call *c)
{
	buf_shift(&c->in, advance(c, c->in.p, c->in.n));
	if (c->dead || c->state > CONN_CALL || !c->in.n)
		buf_done(&c->in);
}

/* What cannot be used yet waits, up to a limit. */
static void keep(struct http_call *c, const char *p, size_t n)
{
	if (c->dead || c->deaf || c->state > CONN_CALL || !n)
		return;
	if (c->in.n + n <= HTTP_PIPELINE_BYTES && buf_put(&c->in, p, n) == 0)
		return;
	c->deaf = c->close_after = true;
	buf_done(&c->in);
}

void conn_read(struct http_call *c, const char *p, size_t n)
{
	size_t used = 0;

	if (!c->in.n) {
		used = advance(c, p, n);
		keep(c, p + used, n - used);
	} else {
		keep(c, p, n);
		if (is_listening(c))
			advance_waiting(c);
	}
}

static uint32_t bytes_taken(const struct http_call *c)
{
	return (uint32_t)(c->written - http_socket_unsent(c));
}

static void watch_stall(struct http_call *c)
{
	if (event_pending(&c->timer, EV_TIMEOUT, NULL))
		return;
	c->stall_mark = bytes_taken(c);
	set_timer(c, c->server->limits.stall_ms);
}

void conn_sent(struct http_call *c)
{
	size_t unsent = http_socket_unsent(c);

	if (c->state == CONN_FLUSH && !unsent) {
		flushed(c);
	} else if (c->state == CONN_CALL && c->was_high && unsent <= HTTP_LOW_WATER) {
		c->was_high = false;
		if (c->drained)
			c->drained(c->arg);
	} else if (c->in.n && is_listening(c)) {
		advance_waiting(c);
	}
	if (!c->dead && unsent && c->state != CONN_READING)
		watch_stall(c);
}

static void time_is_up(struct http_call *c)
{
	if (c->state == CONN_CALL || c->state == CONN_FLUSH) {
		if (!http_socket_unsent(c))
			return;
		if (bytes_taken(c) == c->stall_mark)
			conn_lose(c);
		else
			watch_stall(c);
	} else if (c->state == CONN_READING) {
		c->req->status = 408;
		c->req->why = "the request did not arrive in time";
		refuse(c);
	} else {
		conn_close(c);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct http_call *c = arg;

	(void)fd, (void)what;
	conn_enter(c);
	time_is_up(c);
	conn_leave(c);
}

/* The next request, perhaps there already, is begun from the loop: the caller is deep inside the
 * end of the last one. */
void conn_call_over(struct http_call *c)
{
	c->gone = c->drained = NULL;
	drop_request(c);
	if (c->close_after || c->server->draining) {
		c->state = CONN_FLUSH;
		event_del(&c->timer);
	} else {
		c->state = CONN_IDLE;
		set_timer(c, c->server->limits.idle_ms);
	}
	http_socket_later(c);
}

static void name_peer(struct http_call *c, const struct sockaddr *sa)
{
	const struct sockaddr_in *v4 = (const void *)sa;
	const struct sockaddr_in6 *v6 = (const void *)sa;

	if (sa->sa_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, c->peer, sizeof(c->peer));
		c->local = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
	} else if (sa->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, c->peer, sizeof(c->peer));
		c->local =
			IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
			(IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127);
	}
}

void conn_new(struct http_server *s, evutil_socket_t fd, const struct sockaddr *sa)
{
	struct http_call *c = calloc(1, sizeof(*c));

	if (!c) {
		evutil_closesocket(fd);
		return;
	}
	c->server = s;
	c->next = s->conns;
	c->prev = &s->conns;
	if (c->next)
		c->next->prev = &c->next;
	s->conns = c;
	s->n_conns++;
	name_peer(c, sa);
	event_assign(&c->timer, s->base, -1, 0, on_timer, c);
	if (http_socket_open(c, fd) < 0)
		conn_close(c);
	else
		set_timer(c, s->limits.idle_ms);
}
