/* gen_config_fuzz.c - any text as generation_config.json: refused in words, or usable. */
#include <stdint.h>
#include <stdlib.h>

#include "worker/gen_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *param, *range;
	struct gen_config c;
	struct err e = { 0 };
	int r = gen_config_parse((const char *)data, n, &c, &e);

	if (r < 0 ? !e.text[0] : !sampling_ok(&c.sampling, &param, &range))
		abort();
	return 0;
}
