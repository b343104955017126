/* option_words.c - the words for what a back end may do to numbers (step.h). */
#include "kernels/step.h"

#include <string.h>

static const char *const kv_names[] = { "bf16", "fp8", NULL };
static const char *const fp4_names[] = { "off", "up", "all", NULL };

/* -EINVAL: none of them. */
static int index_of(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	return -EINVAL;
}

const char *kv_format_name(enum kv_format f)
{
	return kv_names[f];
}

int kv_format_parse(const char *name, enum kv_format *ret)
{
	const int i = index_of(kv_names, name);

	if (i < 0)
		return i;
	*ret = (enum kv_format)i;
	return 0;
}

const char *fp4_prefill_name(enum fp4_prefill f)
{
	return fp4_names[f];
}

int fp4_prefill_parse(const char *name, enum fp4_prefill *ret)
{
	const int i = index_of(fp4_names, name);

	if (i < 0)
		return i;
	*ret = (enum fp4_prefill)i;
	return 0;
}
