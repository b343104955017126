/* chars.c - see chars.h. */
#include "worker/text/chars.h"

#include <string.h>

#include "worker/text/unicode_class.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static void fill(uint8_t *table, const struct unicode_range *r, size_t n, uint8_t class)
{
	for (size_t i = 0; i < n; i++)
		memset(table + r[i].from, class, r[i].to - r[i].from + 1);
}

void chars_fill(uint8_t *table, bool marks_are_words)
{
	memset(table, CHAR_OTHER, CHARS_N);
	fill(table, unicode_letters, N(unicode_letters), CHAR_WORD);
	if (marks_are_words)
		fill(table, unicode_marks, N(unicode_marks), CHAR_WORD);
	fill(table, unicode_numbers, N(unicode_numbers), CHAR_NUMBER);
	fill(table, unicode_spaces, N(unicode_spaces), CHAR_SPACE);
}
