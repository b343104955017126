/* http_server.c - the listening sockets and what all connections share. */
#include <arpa/inet.h>
#include <event2/listener.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/own.h"
#include "router/http_int.h"

enum { BACKLOG = 1024, REST_MS = 100 };

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int n,
		      void *arg)
{
	struct http_server *s = arg;

	(void)l, (void)n;
	if (s->n_conns >= s->limits.max_connections)
		evutil_closesocket(fd);
	else
		conn_new(s, fd, sa);
}

static void set_listening(struct http_server *s, bool on)
{
	for (size_t i = 0; i < s->n_listeners; i++) {
		if (on)
			evconnlistener_enable(s->listeners[i]);
		else
			evconnlistener_disable(s->listeners[i]);
	}
}

/* Out of descriptors: accept() would fail again at once and for ever. */
static void on_accept_error(struct evconnlistener *l, void *arg)
{
	struct http_server *s = arg;
	struct timeval tv = { .tv_usec = REST_MS * 1000 };

	(void)l;
	set_listening(s, false);
	event_add(s->rest, &tv);
}

static void on_rest(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;

	(void)fd, (void)what;
	if (!s->draining)
		set_listening(s, true);
}

/* getaddrinfo() would take 65537 for port 1. */
static bool is_port(const char *text)
{
	const size_t n = strlen(text);

	return n >= 1 && n <= 5 && strspn(text, "0123456789") == n && atoi(text) <= UINT16_MAX;
}

/* "host:port", "[v6]:port" into two texts. */
static int split_address(const char *text, char host[256], char port[8], struct err *e)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : 0;

	if (!colon || n >= 256)
		return err_set(e, -EINVAL, "'%s' is not host:port", text);
	if (!is_port(colon + 1))
		return err_set(e, -EINVAL, "'%s' is not host:port with a port of 0..65535", text);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']')
		text++, n -= 2;
	memcpy(host, text, n);
	host[n] = '\0';
	strcpy(port, colon + 1);
	return 0;
}

int http_check_address(const char *address, struct err *e)
{
	char host[256], port[8];

	return split_address(address, host, port, e);
}

bool http_is_loopback(const char *address)
{
	char host[256], port[8];
	struct in_addr v4;

	if (split_address(address, host, port, NULL) < 0)
		return false;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	return !strcmp(host, "::1") || !strcmp(host, "localhost");
}

static int listen_on(struct http_server *s, const char *address, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *ai = NULL;
	struct evconnlistener *l;
	char host[256], port[8];
	int r = split_address(address, host, port, e);

	if (r < 0)
		return r;
	r = getaddrinfo(*host ? host : NULL, port, &hints, &ai);
	if (r != 0)
		return err_set(e, -EINVAL, "%s: %s", address, gai_strerror(r));
	l = evconnlistener_new_bind(s->base, on_accept, s,
				    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
					    LEV_OPT_REUSEABLE,
				    BACKLOG, ai->ai_addr, (int)ai->ai_addrlen);
	freeaddrinfo(ai);
	if (!l)
		return err_set(e, -errno, "cannot listen on %s: %s", address, strerror(errno));
	evconnlistener_set_error_cb(l, on_accept_error);
	s->listeners[s->n_listeners++] = l;
	return 0;
}

int http_socket_address(int fd, char *ret, size_t n, struct err *e)
{
	struct sockaddr_storage sa = { 0 };
	char host[INET6_ADDRSTRLEN];
	socklen_t len = sizeof(sa);
	bool v6;
	const void *at;
	int port;

	if (getsockname(fd, (void *)&sa, &len) < 0)
		return err_set(e, -EINVAL, "descriptor %d: %s", fd, strerror(errno));
	v6 = sa.ss_family == AF_INET6;
	if (!v6 && sa.ss_family != AF_INET)
		return err_set(e, -EINVAL, "descriptor %d is not a TCP socket", fd);
	at = v6 ? (void *)&((struct sockaddr_in6 *)&sa)->sin6_addr :
		  (void *)&((struct sockaddr_in *)&sa)->sin_addr;
	port = ntohs(v6 ? ((struct sockaddr_in6 *)&sa)->sin6_port :
			  ((struct sockaddr_in *)&sa)->sin_port);
	inet_ntop(sa.ss_family, at, host, sizeof(host));
	snprintf(ret, n, v6 ? "[%s]:%d" : "%s:%d", host, port);
	return 0;
}

int http_server_adopt(struct http_server *s, int fd, struct err *e)
{
	struct evconnlistener **more =
		realloc(s->listeners, (s->n_listeners + 1) * sizeof(*more));
	struct evconnlistener *l;
	int listening = 0;
	socklen_t n = sizeof(listening);

	if (!more)
		return err_set(e, -ENOMEM, "out of memory");
	s->listeners = more;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening)
		return err_set(e, -EINVAL, "descriptor %d does not listen", fd);
	if (evutil_make_socket_nonblocking(fd) < 0)
		return err_set(e, -errno, "descriptor %d: %s", fd, strerror(errno));
	l = evconnlistener_new(s->base, on_accept, s,
			       LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0,
			       fd);
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	evconnlistener_set_error_cb(l, on_accept_error);
	s->listeners[s->n_listeners++] = l;
	return 0;
}

void http_server_accept(struct http_server *s)
{
	set_listening(s, true);
}

static void http_server_freep(struct http_server **s)
{
	http_server_close(*s);
}

int http_server_open(struct event_base *base, const char *const *listen, size_t n,
		     const struct http_limits *limits, const struct http_hooks *hooks,
		     struct http_server **ret, struct err *e)
{
	CLEANUP(http_server_freep) struct http_server *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->base = base;
	s->limits = *limits;
	s->hooks = *hooks;
	arc4random_buf(&s->id_salt, sizeof(s->id_salt));
	s->listeners = calloc(n ? n : 1, sizeof(struct evconnlistener *));
	s->rest = event_new(base, -1, 0, on_rest, s);
	s->flush = event_new(base, -1, 0, http_socket_flush, s);
	s->queue_end = &s->queue;
	if (!s->listeners || !s->rest || !s->flush)
		return err_set(e, -ENOMEM, "out of memory");
	/* http-parser counts per header section; the limit for a person is ours */
	http_parser_set_max_header_size((uint32_t)limits->max_header + 4096);
	for (size_t i = 0; i < n; i++) {
		int r = listen_on(s, listen[i], e);

		if (r < 0)
			return r;
	}
	*ret = TAKE(s);
	return 0;
}

void http_server_drain(struct http_server *s)
{
	s->draining = true;
	set_listening(s, false);
	for (struct http_call *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (c->state == CONN_IDLE && !c->in.n)
			conn_drain(c);
	}
}

struct http_server *http_server_close(struct http_server *s)
{
	if (!s)
		return NULL;
	for (struct http_call *c = s->conns, *next; c; c = next) {
		next = c->next;
		(void)http_socket_send(c);	/* the last words, as far as they fit */
		http_abort(c);
	}
	for (size_t i = 0; i < s->n_listeners; i++)
		evconnlistener_free(s->listeners[i]);
	if (s->rest)
		event_free(s->rest);
	if (s->flush)
		event_free(s->flush);
	free(s->listeners);
	free(s->headers);
	free(s);
	return NULL;
}

uint32_t http_server_connections(const struct http_server *s)
{
	return s->n_conns;
}

uint16_t http_server_port(const struct http_server *s, size_t i)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);

	if (i >= s->n_listeners ||
	    getsockname(evconnlistener_get_fd(s->listeners[i]), (void *)&sa, &n) < 0)
		return 0;
	return sa.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&sa)->sin6_port) :
					  ntohs(((struct sockaddr_in *)&sa)->sin_port);
}

int http_server_set_headers(struct http_server *s, const char *lines)
{
	char *copy = strdup(lines);

	if (!copy)
		return -ENOMEM;
	free(s->headers);
	s->headers = copy;
	return 0;
}
