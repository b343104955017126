/* bytes.c - see bytes.h. */
#include "worker/text/bytes.h"

#include <errno.h>

#include "lib/utf8.h"

static bool is_itself(uint32_t c)
{
	return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The byte that cp spells, or -1. */
static int byte_of(uint32_t cp)
{
	uint32_t b;

	if (cp < 0x100)
		return is_itself(cp) ? (int)cp : -1;
	/* U+0100 + i is the i-th byte that is not itself: 00..20, 7F..A0, AD. */
	b = cp - 0x100;
	if (b > 0x20)
		b += 0x7f - 0x21;
	if (b > 0xa0)
		b += 0xad - 0xa1;
	return b <= 0xad ? (int)b : -1;
}

int bytes_unspell(const char *s, size_t n, struct buf *out)
{
	uint32_t cp;
	size_t len;
	int b;

	buf_clear(out);
	for (size_t i = 0; i < n; i += len) {
		len = utf8_get(s + i, n - i, &cp);
		b = len ? byte_of(cp) : -1;
		if (b < 0)
			return -EINVAL;
		if (buf_putc(out, (char)b) < 0)
			return -ENOMEM;
	}
	return 0;
}
