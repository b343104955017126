/* pretokenize.c - see pretokenize.h. */
#include "worker/text/pretokenize.h"

#include <stdbool.h>

#include "worker/text/chars.h"

static unsigned class_at(const uint8_t *table, const char *s, size_t at, size_t *ret_len)
{
	return table[chars_get(s + at, ret_len)] & CHAR_CLASS;
}

/* The end of the run of `class` that begins at i (i itself when there is none). */
static size_t run_of(const uint8_t *table, const char *s, size_t n, size_t i, unsigned class)
{
	size_t len;

	while (i < n && class_at(table, s, i, &len) == class)
		i += len;
	return i;
}

static bool is_newline(char c)
{
	return c == '\r' || c == '\n';
}

static bool same_letter(char c, char lower)
{
	return (c | 0x20) == lower;
}

/* Alternative 1 with its apostrophe at s[from]: the end, or `from`.  U+017F (the
 * long s) folds to s, the only character outside ASCII that folds to one of these. */
static size_t contraction(const char *s, size_t n, size_t from)
{
	const char *p = s + from + 1;
	size_t left = n - from - 1;

	if (left >= 1 && (same_letter(p[0], 's') || same_letter(p[0], 't') ||
			  same_letter(p[0], 'm') || same_letter(p[0], 'd')))
		return from + 2;
	if (left < 2)
		return from;
	if ((same_letter(p[0], 'r') && same_letter(p[1], 'e')) ||
	    (same_letter(p[0], 'v') && same_letter(p[1], 'e')) ||
	    (same_letter(p[0], 'l') && same_letter(p[1], 'l')) ||
	    ((unsigned char)p[0] == 0xc5 && (unsigned char)p[1] == 0xbf))
		return from + 3;
	return from;
}

/* Alternative 4 from its first punctuation character on. */
static size_t punctuation(const uint8_t *table, const char *s, size_t n, size_t i)
{
	i = run_of(table, s, n, i, CHAR_OTHER);
	while (i < n && is_newline(s[i]))
		i++;
	return i;
}

/* Alternatives 5 to 7: white space that no word or punctuation took. */
static size_t space(const uint8_t *table, const char *s, size_t n, size_t from)
{
	size_t i = from, last = from, newline = from, len;

	for (; i < n && class_at(table, s, i, &len) == CHAR_SPACE; i += len) {
		last = i;
		if (is_newline(s[i]))
			newline = i + 1;
	}
	if (newline > from)
		return newline;		/* 5 gives back what follows the last newline */
	if (i == n || last == from)
		return i;		/* 6 at the end of the text; 7 */
	return last;			/* 6 leaves the last one to the next word */
}

size_t pretokenize_next(const uint8_t *table, const char *s, size_t n, size_t from)
{
	size_t len, next_len;
	unsigned class = class_at(table, s, from, &len), next;
	size_t next_at = from + len;

	if (class == CHAR_WORD)
		return run_of(table, s, n, next_at, CHAR_WORD);
	if (class == CHAR_NUMBER)
		return next_at;
	if (s[from] == '\'') {
		size_t end = contraction(s, n, from);

		if (end > from)
			return end;
	}
	next = next_at < n ? class_at(table, s, next_at, &next_len) : CHAR_NUMBER;
	if (next == CHAR_WORD && !is_newline(s[from]))
		return run_of(table, s, n, next_at + next_len, CHAR_WORD);
	if (class == CHAR_OTHER)
		return punctuation(table, s, n, next_at);
	if (next == CHAR_OTHER && s[from] == ' ')
		return punctuation(table, s, n, next_at + next_len);
	return space(table, s, n, from);
}
