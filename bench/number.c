/* number.c - see number.h. */
#include "bench/number.h"

#include <stdlib.h>
#include <string.h>

bool number_of(const char *s, uint32_t least, uint32_t most, uint32_t *ret)
{
	char *end;
	unsigned long x = strtoul(s, &end, 10);

	*ret = (uint32_t)x;
	return *s >= '0' && *s <= '9' && !*end && x >= least && x <= most;
}

bool number_list(const char *s, uint32_t most, uint32_t unit, uint32_t *ret, uint32_t room,
		 uint32_t *ret_n)
{
	uint32_t n = 0;
	char *end;

	*ret_n = 0;
	if (strcmp(s, "0") == 0)
		return true;
	for (;; s = end + 1) {
		unsigned long x = strtoul(s, &end, 10);

		if (n == room || *s < '0' || *s > '9' || x == 0 || x > most || x % unit)
			return false;
		ret[n++] = (uint32_t)x;
		if (*end != ',')
			break;
	}
	*ret_n = n;
	return !*end;
}

bool number_gibibytes(const char *s, uint64_t *ret)
{
	char *end;
	double x = strtod(s, &end);

	if (end == s || *end || !(x > 0) || x > 1e6)
		return false;
	*ret = (uint64_t)(x * 1073741824.0);
	return *ret > 0;
}
