/* fp4_prefill.c - the words for what of a prompt is multiplied in FP4 (step.h). */
#include "kernels/step.h"

#include <string.h>

static const char *const names[] = { "off", "up", "all" };

const char *fp4_prefill_name(enum fp4_prefill f)
{
	return names[f];
}

int fp4_prefill_parse(const char *name, enum fp4_prefill *ret)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0) {
			*ret = (enum fp4_prefill)i;
			return 0;
		}
	return -EINVAL;
}
