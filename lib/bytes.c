/* bytes.c - see bytes.h. */
#include "lib/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int bytes_parse(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	char *end;
	double x = strtod(text, &end);
	const char *unit = *end ? strchr(units, *end) : NULL;

	if (end == text || !(x >= 0))
		return -EINVAL;
	if (unit) {
		x *= (double)(UINT64_C(1) << (10 * (unit - units + 1)));
		end++;
	}
	if (*end || x > 1e18)
		return -EINVAL;
	*ret = (uint64_t)x;
	return 0;
}

struct bytes_str bytes_text(uint64_t x)
{
	struct bytes_str t;

	if (x >= BYTES_GIB)
		snprintf(t.s, sizeof(t.s), "%.1f GiB", (double)x / (double)BYTES_GIB);
	else if (x >= BYTES_MIB)
		snprintf(t.s, sizeof(t.s), "%.0f MiB", (double)x / (double)BYTES_MIB);
	else if (x >= 1024)
		snprintf(t.s, sizeof(t.s), "%" PRIu64 " KiB", x >> 10);
	else
		snprintf(t.s, sizeof(t.s), "%" PRIu64 " B", x);
	return t;
}
