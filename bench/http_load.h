/* http_load.h - a load of HTTP requests on one server: keep-alive, N in flight.
 *
 * N connections; each sends the next request as soon as the last one is answered (a
 * closed loop: the load never outruns the server).  One thread, epoll.  Answers are
 * read as HTTP/1.1 frames them (Content-Length or chunked); their bodies are not kept,
 * only counted: server-sent events, and the `completion_tokens` that the answer names.
 */
#ifndef HEARTH_BENCH_HTTP_LOAD_H
#define HEARTH_BENCH_HTTP_LOAD_H

#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"

struct http_load {
	const char *host, *port;
	const struct buf *request;	/* the bytes of one request, sent again and again */
	uint32_t in_flight;		/* connections, 1 to HTTP_LOAD_MAX */
	uint32_t n_requests;		/* answers to wait for, all connections together */
	uint32_t stall_s;		/* give up when nothing arrives for so long */
};

enum { HTTP_LOAD_MAX = 4096, HTTP_LOAD_MAX_REQUESTS = 50000000 };

struct http_load_result {
	uint32_t n_ok, n_bad;		/* status 200, any other */
	int bad_status;			/* of the last bad one */
	uint64_t n_tokens, n_events, n_bytes;
	uint64_t ns;			/* from the first byte sent to the last one read */
	uint64_t *whole_ns, *first_ns;	/* of each answer, sorted: to its end, to its first
					 * byte of body.  Owned. */
};

/* 0; -ECONNREFUSED..: no connection; -EPROTO: not an HTTP answer; -ECONNRESET: closed before
 * the answer's end; -ETIMEDOUT: stalled. */
int http_load_run(const struct http_load *l, struct http_load_result *ret, struct err *e);
void http_load_result_done(struct http_load_result *r);
/* Of a sorted list; 0 when it is empty. */
uint64_t http_load_percentile(const uint64_t *sorted, uint32_t n, double part);

#endif
