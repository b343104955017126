/* utf8.c - see utf8.h. */
#include "lib/utf8.h"

/* Length by first byte, and the range its second byte must lie in (the other
 * continuation bytes are 80..BF): table 3-7 of the Unicode Standard. */
static size_t lead(unsigned char c, unsigned char *lo, unsigned char *hi)
{
	*lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	*hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		return 2;
	if (c >= 0xe0 && c <= 0xef)
		return 3;
	if (c >= 0xf0 && c <= 0xf4)
		return 4;
	return 0;
}

/* How many of the first bytes are right, and how many are wanted. */
static size_t scan(const char *s, size_t n, size_t *ret_want)
{
	const unsigned char *u = (const unsigned char *)s;
	unsigned char lo, hi;
	size_t want = n ? lead(u[0], &lo, &hi) : 0;
	size_t i;

	*ret_want = want;
	if (want <= 1)
		return want;
	for (i = 1; i < want && i < n; i++) {
		if (u[i] < lo || u[i] > hi)
			break;
		lo = 0x80;
		hi = 0xbf;
	}
	return i;
}

size_t utf8_len(const char *s, size_t n)
{
	size_t want, have = scan(s, n, &want);

	return have == want ? want : 0;
}

size_t utf8_get(const char *s, size_t n, uint32_t *ret_cp)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t len = utf8_len(s, n);
	uint32_t cp;

	if (!len)
		return 0;
	cp = len == 1 ? u[0] : u[0] & (0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++)
		cp = cp << 6 | (u[i] & 0x3fu);
	*ret_cp = cp;
	return len;
}

size_t utf8_put(uint32_t cp, char out[4])
{
	size_t len = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

	if (len == 1) {
		out[0] = (char)cp;
		return 1;
	}
	for (size_t i = len - 1; i > 0; i--) {
		out[i] = (char)(0x80 | (cp & 0x3f));
		cp >>= 6;
	}
	out[0] = (char)((0xf00u >> len & 0xf0) | cp);
	return len;
}

bool utf8_ok(const char *s, size_t n)
{
	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_len(s + i, n - i);
		if (!len)
			return false;
	}
	return true;
}

size_t utf8_bad_prefix(const char *s, size_t n, bool *ret_incomplete)
{
	size_t want, have = scan(s, n, &want);

	*ret_incomplete = want > 1 && have == n && have < want;
	return have ? have : 1;
}
