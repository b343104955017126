/* scrape.c - see scrape.h. */
#include "daemon/scrape.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/scrape_head.h"
#include "lib/file.h"
#include "lib/own.h"
#include "lib/svc.h"

enum { PATIENCE_S = 5, MAX_KEY = 504 };

struct visit {
	struct scrape *owner;		/* NULL: the place is free */
	struct bufferevent *bev;
	struct event *timer;		/* for all of it, however it drips */
	bool answered;
	bool head_only;			/* asked by HEAD: what GET would be told, without the body */
};

struct scrape {
	struct event_base *base;
	struct evconnlistener *listener;
	char *key;
	void (*put)(void *arg, struct expo *x);
	void *arg;
	struct visit visits[SCRAPE_MAX];
};

static void end(struct visit *v)
{
	bufferevent_free(v->bev);
	event_free(v->timer);
	*v = (struct visit){ NULL };
}

static void answer(struct visit *v, const char *status, const char *type, const char *more,
		   const char *body, size_t n)
{
	struct evbuffer *out = bufferevent_get_output(v->bev);

	v->answered = true;
	bufferevent_disable(v->bev, EV_READ);
	evbuffer_add_printf(out, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
			    "Connection: close\r\n%s\r\n", status, type, n, more);
	if (!v->head_only)
		evbuffer_add(out, body, n);
}

static void answer_text(struct visit *v, const char *status, const char *more, const char *text)
{
	answer(v, status, "text/plain; charset=utf-8", more, text, strlen(text));
}

static void answer_metrics(struct visit *v, bool open)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct expo x = { .out = &b, .open = open };

	v->owner->put(v->owner->arg, &x);
	if (expo_end(&x) < 0)
		answer_text(v, "503 Service Unavailable", "", "out of memory\n");
	else
		answer(v, "200 OK", expo_type(x.open), "", b.p, b.n);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct visit *v = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	const size_t n = evbuffer_get_length(in);
	const char *head = (const char *)evbuffer_pullup(in, -1);
	bool open = false;

	if (v->answered || !n)
		return;
	v->head_only = head && n >= 5 && !memcmp(head, "HEAD ", 5);
	switch (head ? scrape_read_head(head, n, v->owner->key, &open) : SCRAPE_TOO_LARGE) {
	case SCRAPE_MORE:
		break;
	case SCRAPE_METRICS:
		answer_metrics(v, open);
		break;
	case SCRAPE_TOO_LARGE:
		answer_text(v, "431 Request Header Fields Too Large", "", "too large\n");
		break;
	case SCRAPE_ZERO_BYTE:
		answer_text(v, "400 Bad Request", "", "a zero byte in the request\n");
		break;
	case SCRAPE_NOT_GET:
		answer_text(v, "405 Method Not Allowed", "Allow: GET, HEAD\r\n",
			    "only GET and HEAD\n");
		break;
	case SCRAPE_NO_KEY:
		answer_text(v, "401 Unauthorized", "WWW-Authenticate: Bearer\r\n",
			    "the key is missing or wrong\n");
		break;
	case SCRAPE_NOT_FOUND:
		answer_text(v, "404 Not Found", "", "/metrics is all there is\n");
		break;
	}
}

static void on_written(struct bufferevent *bev, void *arg)
{
	struct visit *v = arg;

	(void)bev;
	if (v->answered)
		end(v);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev, (void)what;
	end(arg);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	end(arg);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int n,
		      void *arg)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct scrape *s = arg;
	struct visit *v = NULL;

	(void)l, (void)a, (void)n;
	for (int i = 0; i < SCRAPE_MAX && !v; i++)
		v = s->visits[i].owner ? NULL : &s->visits[i];
	if (!v) {
		evutil_closesocket(fd);
		return;
	}
	v->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	v->timer = evtimer_new(s->base, on_time, v);
	if (!v->bev || !v->timer) {
		if (v->timer)
			event_free(v->timer);
		if (v->bev)
			bufferevent_free(v->bev);
		else
			evutil_closesocket(fd);
		*v = (struct visit){ NULL };
		return;
	}
	v->owner = s;
	bufferevent_setcb(v->bev, on_read, on_written, on_event, v);
	bufferevent_setwatermark(v->bev, EV_READ, 0, SCRAPE_MAX_HEAD);
	bufferevent_enable(v->bev, EV_READ | EV_WRITE);
	event_add(v->timer, &patience);
}

static bool is_loopback(const struct sockaddr_storage *a)
{
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;

	if (a->ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return a->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static void scrape_closep(struct scrape **s)
{
	scrape_close(*s);
}

static int parse(const char *address, struct sockaddr_storage *ret, int *ret_n, struct err *e)
{
	*ret_n = sizeof(*ret);
	memset(ret, 0, sizeof(*ret));
	if (evutil_parse_sockaddr_port(address, (struct sockaddr *)ret, ret_n) == 0 &&
	    ((struct sockaddr_in *)(void *)ret)->sin_port)
		return 0;
	return err_set(e, -EINVAL, "box.metrics: '%s' is not ADDRESS:PORT", address);
}

int scrape_check(const char *address, const char *key_file, struct err *e)
{
	struct sockaddr_storage a;
	int n, r = parse(address, &a, &n, e);

	if (r == 0 && !is_loopback(&a) && !key_file)
		r = err_set(e, -EPERM, "box.metrics: %s is not loopback, so box.metrics_key_file is "
				       "needed", address);
	return r;
}

static int read_line(const char *name, char **ret, struct err *e)
{
	char path[PATH_MAX], line[MAX_KEY];
	ssize_t n = svc_path(name, path, sizeof(path), e);

	if (n == 0)
		n = file_read_head(path, line, sizeof(line) - 1, e);
	if (n < 0)
		return (int)n;
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (strlen(line) < 8)
		return err_set(e, -EINVAL, "%s: not a key of 8 characters or more", path);
	*ret = strdup(line);
	explicit_bzero(line, sizeof(line));
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int read_key(const char *name, char **ret, struct err *e)
{
	int r = read_line(name, ret, e);

	return r < 0 ? err_prefix(e, r, "box.metrics_key_file") : 0;
}

static void free_key(char *key)
{
	if (key)
		explicit_bzero(key, strlen(key));
	free(key);
}

int scrape_check_key(const char *key_file, struct err *e)
{
	char *key = NULL;
	int r = read_key(key_file, &key, e);

	free_key(key);
	return r;
}

int scrape_open(struct event_base *base, const char *address, const char *key_file,
		void (*put)(void *arg, struct expo *x), void *arg, struct scrape **ret,
		struct err *e)
{
	CLEANUP(scrape_closep) struct scrape *s = calloc(1, sizeof(*s));
	struct sockaddr_storage a;
	int n, r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	*s = (struct scrape){ .base = base, .put = put, .arg = arg };
	r = scrape_check(address, key_file, e);
	if (r == 0)
		r = parse(address, &a, &n, e);
	if (r == 0 && key_file)
		r = read_key(key_file, &s->key, e);
	if (r < 0)
		return r;
	s->listener = evconnlistener_new_bind(base, on_accept, s, LEV_OPT_CLOSE_ON_FREE |
					      LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, SCRAPE_MAX,
					      (struct sockaddr *)&a, n);
	if (!s->listener)
		return err_set(e, -errno, "box.metrics: %s: %s", address, strerror(errno));
	*ret = TAKE(s);
	return 0;
}

struct scrape *scrape_close(struct scrape *s)
{
	if (!s)
		return NULL;
	for (int i = 0; i < SCRAPE_MAX; i++)
		if (s->visits[i].owner)
			end(&s->visits[i]);
	if (s->listener)
		evconnlistener_free(s->listener);
	free_key(s->key);
	free(s);
	return NULL;
}
