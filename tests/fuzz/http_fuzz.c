/* http_fuzz.c - any bytes as requests on a connection, whole and cut in two at byte 0's
 * place: both must be read alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "router/http_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct http_limits limits = { .max_body = 1000, .max_header = 500 };

static void read_all(struct http_request *r, const char *p, size_t n, size_t cut)
{
	size_t at = 0;

	while (at < n && !r->complete && !r->status) {
		size_t end = at < cut && cut < n ? cut : n;

		at += http_request_feed(r, p + at, end - at);
	}
}

static void same(const struct http_request *a, const struct http_request *b)
{
	if (a->text.n != b->text.n || memcmp(a->text.p, b->text.p, a->text.n) != 0 ||
	    a->path != b->path || a->query != b->query || a->n_headers != b->n_headers ||
	    memcmp(a->header, b->header, a->n_headers * sizeof(*a->header)) != 0)
		abort();
	if (a->body.n != b->body.n || a->body.n > limits.max_body ||
	    (a->body.n && memcmp(a->body.p, b->body.p, a->body.n) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct http_request a, b;

	if (n < 2)
		return 0;
	http_request_init(&a, &limits);
	http_request_init(&b, &limits);
	read_all(&a, (const char *)data + 1, n - 1, n);
	read_all(&b, (const char *)data + 1, n - 1, data[0] % (n - 1));
	/* of a request that is refused, how much was taken in before depends on the pieces */
	if (a.complete != b.complete || !a.status != !b.status)
		abort();
	if (a.complete) {
		same(&a, &b);
		(void)http_request_header(&a, "content-length");
		(void)http_request_keep_alive(&a);
	}
	http_request_done(&a);
	http_request_done(&b);
	return 0;
}
