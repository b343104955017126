/* http_conn.c - one client connection: when to read, when to wait, when to give up.
 *
 *	IDLE -> READING -> CALL -> IDLE           keep-alive
 *	   any of the first three -> FLUSH -> (LINGER ->) closed
 *
 * Read events stay on in every state: an end of file is how a leaving client is noticed.
 * A half-closed client counts as gone, as with every proxy in front of us.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "router/http_int.h"

enum { LINGER_MS = 2000, FRESH_MS = 1000, BODY_TOTAL_MS = 600000 };

static void set_timer(struct http_call *c, uint64_t ms)
{
	struct timeval tv = { .tv_sec = (time_t)(ms / 1000),
			      .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	event_add(c->timer, &tv);
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
	event_free(c->timer);
	bufferevent_free(c->bev);
	free(c);
}

static void enter(struct http_call *c)
{
	c->busy++;
}

static void leave(struct http_call *c)
{
	if (--c->busy == 0 && c->dead)
		conn_free(c);
}

void conn_close(struct http_call *c)
{
	if (c->dead)
		return;
	c->dead = true;
	bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	enter(c);
	leave(c);
}

/* A connection that was accepted just before we stop belongs to a client that is about to
 * send its first request: closed now, it would see a reset and no answer. */
void conn_drain(struct http_call *c)
{
	if (c->started_ns)
		conn_close(c);
	else
		set_timer(c, FRESH_MS);
}

/* The client is gone or is cut off: whoever makes its reply must know first. */
static void lose(struct http_call *c)
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
	shutdown(bufferevent_getfd(c->bev), SHUT_WR);
	set_timer(c, LINGER_MS);
}

static void flushed(struct http_call *c)
{
	if (c->deaf)	/* unread bytes would turn our close into a reset that eats the reply */
		linger(c);
	else
		conn_close(c);
}

static void begin_call(struct http_call *c)
{
	c->state = CONN_CALL;
	c->close_after = !http_request_keep_alive(c->req) || c->server->draining;
	c->head = c->req->parser.method == HTTP_HEAD;
	c->begun = c->was_high = false;
	event_del(c->timer);
	c->server->hooks.request(c->server->hooks.arg, c);
}

static void refuse(struct http_call *c)
{
	struct buf body = BUF_INIT;

	c->state = CONN_CALL;
	c->close_after = c->deaf = true;
	c->head = c->begun = false;
	c->server->hooks.error(c->server->hooks.arg, c->req->status, c->req->why, &body);
	http_reply(c, c->req->status, NULL, "application/json", body.p ? body.p : "", body.n);
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
	set_timer(c, c->server->limits.header_ms);
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
		bufferevent_write(c->bev, go_on, sizeof(go_on) - 1);
}

/* Feeds what is there to the request at hand; false when there is nothing to go on with. */
static bool read_some(struct http_call *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	struct evbuffer_iovec v;
	bool had_headers = c->req->headers_done;
	size_t used;

	if (evbuffer_peek(in, -1, NULL, &v, 1) < 1 || v.iov_len == 0)
		return false;
	c->req->body_room = c->server->limits.max_bodies - c->server->bodies + c->body_charged;
	used = http_request_feed(c->req, v.iov_base, v.iov_len);
	evbuffer_drain(in, used);
	charge(c, c->req->body.cap);
	if (c->req->headers_done && !had_headers)
		headers_arrived(c);
	if (c->req->status)
		refuse(c);
	else if (c->req->complete)
		begin_call(c);
	return used > 0;
}

static void advance(struct http_call *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);

	while (!c->dead && (c->state == CONN_IDLE || c->state == CONN_READING) &&
	       evbuffer_get_length(in)) {
		if (c->state == CONN_IDLE && start_reading(c) < 0) {
			conn_close(c);
			return;
		}
		if (!read_some(c))
			break;
	}
	if (!c->dead && c->state == CONN_READING && c->body_ns) {
		if (clock_ns() - c->body_ns > BODY_TOTAL_MS * NS_PER_MS)
			conn_close(c);
		else
			set_timer(c, c->server->limits.body_ms);
	}
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct http_call *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);

	enter(c);
	if (c->state == CONN_IDLE || c->state == CONN_READING)
		advance(c);
	if (c->state >= CONN_CALL) {
		if (c->state == CONN_CALL && evbuffer_get_length(in) > HTTP_PIPELINE_BYTES)
			c->deaf = c->close_after = true;
		if (c->deaf || c->state > CONN_CALL)
			evbuffer_drain(in, evbuffer_get_length(in));
	}
	leave(c);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	struct http_call *c = arg;

	enter(c);
	if (c->state == CONN_FLUSH && evbuffer_get_length(bufferevent_get_output(bev)) == 0) {
		flushed(c);
	} else if (c->state == CONN_CALL && c->was_high) {
		c->was_high = false;
		if (c->drained)
			c->drained(c->arg);
	}
	leave(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct http_call *c = arg;

	(void)bev;
	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
		return;
	enter(c);
	lose(c);
	leave(c);
}

static uint32_t bytes_taken(const struct http_call *c)
{
	return (uint32_t)(c->written - evbuffer_get_length(bufferevent_get_output(c->bev)));
}

void conn_watch_stall(struct http_call *c)
{
	if (event_pending(c->timer, EV_TIMEOUT, NULL))
		return;
	c->stall_mark = bytes_taken(c);
	set_timer(c, c->server->limits.stall_ms);
}

static void time_is_up(struct http_call *c)
{
	if (c->state == CONN_CALL || c->state == CONN_FLUSH) {
		if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
			return;
		if (bytes_taken(c) == c->stall_mark)
			lose(c);
		else
			conn_watch_stall(c);
	} else if (c->state == CONN_READING) {
		c->req->status = 408;
		c->req->why = "the request did not arrive in time";
		refuse(c);
	} else {
		conn_close(c);
	}
}

/* The kick used the timer up, whatever it was waiting for. */
static void restart_timer(struct http_call *c)
{
	if (c->dead || event_pending(c->timer, EV_TIMEOUT, NULL))
		return;
	if (c->state == CONN_IDLE)
		set_timer(c, c->server->limits.idle_ms);
	else if (c->state == CONN_READING)
		set_timer(c, c->server->limits.header_ms);
	else if (evbuffer_get_length(bufferevent_get_output(c->bev)))
		conn_watch_stall(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct http_call *c = arg;

	(void)fd, (void)what;
	enter(c);
	if (c->kick) {
		c->kick = false;
		advance(c);
		restart_timer(c);
	} else {
		time_is_up(c);
	}
	leave(c);
}

/* The next request, perhaps already in the buffer, is begun from the loop: the caller is
 * deep inside the end of the last one. */
void conn_call_over(struct http_call *c)
{
	c->gone = c->drained = NULL;
	drop_request(c);
	event_del(c->timer);
	if (c->close_after || c->server->draining) {
		c->state = CONN_FLUSH;
		bufferevent_setwatermark(c->bev, EV_WRITE, 0, 0);
		if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0) {
			enter(c);
			flushed(c);
			leave(c);
		} else {
			conn_watch_stall(c);
		}
		return;
	}
	c->state = CONN_IDLE;
	set_timer(c, c->server->limits.idle_ms);
	if (evbuffer_get_length(bufferevent_get_input(c->bev))) {
		c->kick = true;		/* after set_timer(): event_add() takes activity back */
		event_active(c->timer, EV_TIMEOUT, 0);
	}
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
	int one = 1;

	if (!c)
		goto no_conn;
	c->server = s;
	c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->bev)
		goto no_bev;
	c->timer = event_new(s->base, -1, 0, on_timer, c);
	if (!c->timer)
		goto no_timer;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	name_peer(c, sa);
	c->next = s->conns;
	c->prev = &s->conns;
	if (c->next)
		c->next->prev = &c->next;
	s->conns = c;
	s->n_conns++;
	bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
	bufferevent_setwatermark(c->bev, EV_WRITE, HTTP_LOW_WATER, 0);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	set_timer(c, s->limits.idle_ms);
	return;
no_timer:
	bufferevent_free(c->bev);
	free(c);
	return;
no_bev:
	free(c);
no_conn:
	evutil_closesocket(fd);
}
