/* text.h - short texts in arrays of a fixed size, where snprintf() is too dear.
 *
 * Always terminated; what does not fit is cut.  Thread-safe.
 */
#ifndef HEARTH_LIB_TEXT_H
#define HEARTH_LIB_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Writes s at to[at]; answers where the next one goes.  at < cap. */
static inline size_t text_add(char *to, size_t cap, size_t at, const char *s)
{
	size_t n = strlen(s), room = cap - at - 1;

	if (n > room)
		n = room;
	memcpy(to + at, s, n);
	to[at + n] = '\0';
	return at + n;
}

/* The last `digits` hexadecimal digits of x, with zeros in front. */
static inline size_t text_add_hex(char *to, size_t cap, size_t at, uint64_t x, size_t digits)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = digits; i-- > 0 && at < cap - 1;)
		to[at++] = hex[x >> (4 * i) & 15];
	to[at] = '\0';
	return at;
}

#endif
