/* http_socket.c - a client's socket: bytes in, bytes out.
 *
 * Reads go into one buffer of the server's and are used up at once; what must wait is the
 * connection's.  Writes wait for the end of the loop's turn, so that all tokens that came
 * in it leave in one send(), and the kernel is asked to report room only after a send()
 * that found none.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "router/http_int.h"

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct http_call *c = arg;
	struct http_server *s = c->server;
	ssize_t n = recv(fd, s->scratch, sizeof(s->scratch), 0);

	(void)what;
	conn_enter(c);
	if (n > 0)
		conn_read(c, s->scratch, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		conn_lose(c);
	conn_leave(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	http_socket_later(arg);
}

int http_socket_open(struct http_call *c, evutil_socket_t fd)
{
	struct event_base *base = c->server->base;
	int one = 1;

	c->fd = fd;
	if (event_assign(&c->readable, base, fd, EV_READ | EV_PERSIST, on_readable, c) < 0 ||
	    event_assign(&c->writable, base, fd, EV_WRITE, on_writable, c) < 0 ||
	    event_add(&c->readable, NULL) < 0)
		return -ENOMEM;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	return 0;
}

static void unqueue(struct http_call *c)
{
	if (!c->queue_prev)
		return;
	*c->queue_prev = c->queue_next;
	if (c->queue_next)
		c->queue_next->queue_prev = c->queue_prev;
	else
		c->server->queue_end = c->queue_prev;
	c->queue_prev = NULL;
}

void http_socket_mute(struct http_call *c)
{
	event_del(&c->readable);
	event_del(&c->writable);
	unqueue(c);
}

void http_socket_close(struct http_call *c)
{
	http_socket_mute(c);
	evutil_closesocket(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
}

void http_socket_later(struct http_call *c)
{
	struct http_server *s = c->server;

	if (c->queue_prev || c->dead)
		return;
	if (!s->queue)
		event_active(s->flush, EV_WRITE, 0);
	c->queue_next = NULL;
	c->queue_prev = s->queue_end;
	*s->queue_end = c;
	s->queue_end = &c->queue_next;
}

void http_socket_put(struct http_call *c, const void *p, size_t n)
{
	c->written += n;
	buf_put(&c->out, p, n);		/* a failure is seen when it is sent */
	http_socket_later(c);
}

size_t http_socket_unsent(const struct http_call *c)
{
	return c->out.n - c->sent;
}

/* A stream goes on in the same memory, unless a slow spell made it large; an idle connection
 * has none. */
static void all_sent(struct http_call *c)
{
	c->sent = 0;
	if (c->state == CONN_CALL && c->out.cap <= HTTP_LOW_WATER)
		buf_clear(&c->out);
	else
		buf_done(&c->out);
}

bool http_socket_send(struct http_call *c)
{
	if (!buf_ok(&c->out))
		return false;
	while (c->sent < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0)
			break;
		c->sent += (size_t)n;
	}
	if (c->sent == c->out.n) {
		all_sent(c);
		return true;
	}
	if (c->sent > c->out.n / 2) {
		buf_shift(&c->out, c->sent);
		c->sent = 0;
	}
	return event_add(&c->writable, NULL) == 0;
}

/* Those that are queued while this runs are served as well. */
void http_socket_flush(evutil_socket_t fd, short what, void *server)
{
	struct http_server *s = server;

	(void)fd, (void)what;
	while (s->queue) {
		struct http_call *c = s->queue;

		unqueue(c);
		conn_enter(c);
		if (http_socket_send(c))
			conn_sent(c);
		else
			conn_lose(c);
		conn_leave(c);
	}
}
