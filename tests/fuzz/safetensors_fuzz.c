/* safetensors_fuzz.c - any bytes as a safetensors file: opened or refused, and what is
 * found lies inside the bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "worker/weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct st_file *f;

	if (st_open_memory("fuzz", p, n, &f, NULL) < 0)
		return 0;
	for (uint32_t i = 0; i < st_count(f); i++) {
		const struct st_tensor *t = st_at(f, i);
		const uint8_t *d = t->data;

		if (d < p || d > p + n || t->bytes > (uint64_t)(p + n - d) || !st_find(f, t->name))
			abort();
	}
	st_close(f);
	return 0;
}
