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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct http_request a, b;

	if (n < 2)
		return 0;
	http_request_init(&a, &limits);
	http_request_init(&b, &limits);
	read_all(&a, (const char *)data + 1, n - 1, n);
	read_all(&b, (const char *)data + 1, n - 1, data[0] % (n - 1));
	if (a.complete != b.complete || a.body.n != b.body.n || a.n_headers != b.n_headers)
		abort();
	if (a.complete) {
		if (strcmp(a.text.p + a.path, b.text.p + b.path) != 0 || a.body.n > limits.max_body)
			abort();
		(void)http_request_header(&a, "content-length");
		(void)http_request_keep_alive(&a);
	}
	http_request_done(&a);
	http_request_done(&b);
	return 0;
}
