/* json_fuzz.c - any bytes through lib/json, and what was read through its writer and back. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/json.h"
#include "lib/own.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	CLEANUP(buf_donep) struct buf py = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	JX_OWNED json_t *again = NULL;

	if (jx_load((const char *)data, n, &v, NULL) < 0)
		return 0;
	if (jx_put(&b, v, JX_COMPACT) < 0 || jx_put(&py, v, JX_PYTHON) < 0)
		abort();
	if (jx_load(b.p, b.n, &again, NULL) < 0 || !json_equal(v, again))
		abort();
	return 0;
}
