/* openai_request_fuzz.c - any bytes as a request's body: a request, or an error with its parts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "router/cloud.h"
#include "router/openai_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	for (int kind = OA_CHAT; kind <= OA_COMPLETION; kind++) {
		struct oa_request r;
		struct oa_error e = { 0 };
		struct buf b = BUF_INIT;

		if (oa_request_parse((enum oa_kind)kind, (const char *)data, n, &r, &e) < 0) {
			if (e.status < 400 || !e.type || !*e.message)
				abort();
			oa_error_put(&e, &b);
			buf_done(&b);
			continue;
		}
		if (!r.model || !r.n || r.n > OA_MAX_CHOICES)
			abort();
		(void)cloud_body(&r, "m", &b);
		buf_done(&b);
		oa_request_done(&r);
	}
	return 0;
}
