/* http_load.c - see http_load.h. */
#include "bench/http_load.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/http_answer.h"
#include "lib/clock.h"
#include "lib/own.h"

struct conn {
	int fd;
	size_t sent;			/* of the request */
	uint64_t began_ns, first_ns;	/* first_ns: 0 until a byte of body came */
	bool busy;
	struct http_answer answer;
};

struct load {
	const struct http_load *l;
	struct http_load_result *res;
	struct conn *conns;
	int epfd;
	uint32_t begun, over;
};

static int dial(const struct http_load *l, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai = NULL;
	int r = getaddrinfo(l->host, l->port, &hints, &ai);
	int one = 1, fd = -1;

	if (r != 0)
		return err_set(e, -EINVAL, "%s:%s: %s", l->host, l->port, gai_strerror(r));
	for (const struct addrinfo *a = ai; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			r = -errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(ai);
	if (fd < 0)
		return err_set(e, r ? r : -errno, "%s:%s: %s", l->host, l->port,
			       strerror(r ? -r : errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static int fail(const struct conn *c, int code, struct err *e, const char *what)
{
	return err_set(e, code, "%s, after %u bytes of an answer with status %d", what,
		       (unsigned)c->answer.n_body, c->answer.status);
}

/* Requests are small beside a socket's buffer; one that is not waits for EPOLLOUT. */
static int send_rest(struct load *ld, struct conn *c, struct err *e)
{
	const struct buf *q = ld->l->request;
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	bool waited = c->sent > 0;

	while (c->sent < q->n) {
		ssize_t n = send(c->fd, q->p + c->sent, q->n - c->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			ev.events |= EPOLLOUT;
			break;
		}
		if (n < 0)
			return fail(c, -errno, e, strerror(errno));
		c->sent += (size_t)n;
	}
	if (waited || c->sent < q->n)
		epoll_ctl(ld->epfd, EPOLL_CTL_MOD, c->fd, &ev);
	return 0;
}

static int begin(struct load *ld, struct conn *c, struct err *e)
{
	if (ld->begun == ld->l->n_requests)
		return 0;
	ld->begun++;
	c->busy = true;
	c->sent = 0;
	c->first_ns = 0;
	http_answer_init(&c->answer);
	c->began_ns = clock_ns();
	return send_rest(ld, c, e);
}

static void answered(struct load *ld, struct conn *c, uint64_t now)
{
	struct http_load_result *r = ld->res;
	const struct http_answer *a = &c->answer;

	c->busy = false;
	r->whole_ns[ld->over] = now - c->began_ns;
	r->first_ns[ld->over] = (c->first_ns ? c->first_ns : now) - c->began_ns;
	ld->over++;
	r->n_tokens += a->n_tokens;
	r->n_events += a->n_events;
	r->n_bytes += a->n_body;
	if (a->status == 200)
		r->n_ok++;
	else
		r->n_bad++, r->bad_status = a->status;
}

static int take(struct load *ld, struct conn *c, const char *p, size_t n, struct err *e)
{
	uint64_t now = clock_ns();
	size_t used;
	int r;

	if (!c->busy)
		return fail(c, -EPROTO, e, "bytes that nobody asked for");
	r = http_answer_feed(&c->answer, p, n, &used);
	if (r < 0)
		return fail(c, r, e, "not an HTTP answer");
	if (!c->first_ns && c->answer.n_body)
		c->first_ns = now;
	if (c->answer.state != ANSWER_OVER)
		return 0;
	if (used < n)
		return fail(c, -EPROTO, e, "bytes after the answer's end");
	answered(ld, c, now);
	return begin(ld, c, e);
}

static int on_event(struct load *ld, struct conn *c, uint32_t events, struct err *e)
{
	char bytes[65536];
	ssize_t n;
	int r;

	if (events & EPOLLOUT) {
		r = send_rest(ld, c, e);
		if (r < 0)
			return r;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : fail(c, -errno, e, strerror(errno));
	if (n == 0)
		return fail(c, -ECONNRESET, e, "the server closed the connection");
	return take(ld, c, bytes, (size_t)n, e);
}

static int loop(struct load *ld, struct err *e)
{
	struct epoll_event ev[256];
	int r = 0;

	while (r == 0 && ld->over < ld->l->n_requests) {
		int n = epoll_wait(ld->epfd, ev, 256, (int)ld->l->stall_s * 1000);

		if (n < 0 && errno != EINTR)
			return err_set(e, -errno, "epoll: %s", strerror(errno));
		if (n == 0)
			return err_set(e, -ETIMEDOUT, "nothing came for %u s; %u of %u answered",
				       ld->l->stall_s, ld->over, ld->l->n_requests);
		for (int i = 0; i < n && r == 0; i++)
			r = on_event(ld, ev[i].data.ptr, ev[i].events, e);
	}
	return r;
}

static int connect_all(struct load *ld, struct err *e)
{
	for (uint32_t i = 0; i < ld->l->in_flight; i++) {
		struct conn *c = &ld->conns[i];
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

		c->fd = dial(ld->l, e);
		if (c->fd < 0)
			return c->fd;
		if (epoll_ctl(ld->epfd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
			return err_set(e, -errno, "epoll: %s", strerror(errno));
	}
	return 0;
}

static void load_done(struct load *ld)
{
	for (uint32_t i = 0; ld->conns && i < ld->l->in_flight; i++)
		if (ld->conns[i].fd >= 0)
			close(ld->conns[i].fd);
	free(ld->conns);
	if (ld->epfd >= 0)
		close(ld->epfd);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int http_load_run(const struct http_load *l, struct http_load_result *ret, struct err *e)
{
	CLEANUP(load_done) struct load ld = { .l = l, .res = ret, .epfd = -1 };
	uint64_t start;
	int r;

	memset(ret, 0, sizeof(*ret));
	if (l->in_flight < 1 || l->in_flight > HTTP_LOAD_MAX || l->n_requests < 1 ||
	    l->n_requests > HTTP_LOAD_MAX_REQUESTS)
		return err_set(e, -EINVAL, "%u in flight, %u requests: out of range", l->in_flight,
			       l->n_requests);
	ret->whole_ns = calloc(l->n_requests, sizeof(*ret->whole_ns));
	ret->first_ns = calloc(l->n_requests, sizeof(*ret->first_ns));
	ld.conns = calloc(l->in_flight, sizeof(*ld.conns));
	ld.epfd = epoll_create1(EPOLL_CLOEXEC);
	if (!ret->whole_ns || !ret->first_ns || !ld.conns || ld.epfd < 0)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < l->in_flight; i++)
		ld.conns[i].fd = -1;
	r = connect_all(&ld, e);
	start = clock_ns();
	for (uint32_t i = 0; r == 0 && i < l->in_flight; i++)
		r = begin(&ld, &ld.conns[i], e);
	if (r == 0)
		r = loop(&ld, e);
	ret->ns = clock_ns() - start;
	qsort(ret->whole_ns, ld.over, sizeof(*ret->whole_ns), by_size);
	qsort(ret->first_ns, ld.over, sizeof(*ret->first_ns), by_size);
	return r;
}

void http_load_result_done(struct http_load_result *r)
{
	free(r->whole_ns);
	free(r->first_ns);
	memset(r, 0, sizeof(*r));
}

uint64_t http_load_percentile(const uint64_t *sorted, uint32_t n, double part)
{
	uint32_t i = (uint32_t)(part * (double)n);

	return n ? sorted[i < n ? i : n - 1] : 0;
}
