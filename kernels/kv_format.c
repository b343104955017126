/* kv_format.c - the words for how keys and values are kept (step.h). */
#include "kernels/step.h"

#include <string.h>

static const char *const kv_names[] = { "bf16", "fp8" };

const char *kv_format_name(enum kv_format f)
{
	return kv_names[f];
}

int kv_format_parse(const char *name, enum kv_format *ret)
{
	for (unsigned i = 0; i < sizeof(kv_names) / sizeof(kv_names[0]); i++)
		if (strcmp(name, kv_names[i]) == 0) {
			*ret = (enum kv_format)i;
			return 0;
		}
	return -EINVAL;
}
