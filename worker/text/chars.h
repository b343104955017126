/* chars.h - what the tokenizer must know of a character, one byte for each.
 *
 * A flat table indexed by code point: the low bits are the class by which text
 * is cut into words, CHAR_NFC marks the characters at which Unicode
 * normalisation has work to do.  1.1 MiB, of which a text touches a few lines;
 * any two-level form would cost a second load for each character.
 *
 * Built once when a tokenizer is opened, read-only after that.
 */
#ifndef HEARTH_WORKER_TEXT_CHARS_H
#define HEARTH_WORKER_TEXT_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHARS_N 0x110000u

enum {
	CHAR_OTHER = 0,		/* punctuation, symbols, controls, unassigned */
	CHAR_WORD = 1,		/* letters, and marks where they belong to words */
	CHAR_NUMBER = 2,
	CHAR_SPACE = 3,		/* White_Space: not U+180E, not U+200B */
	CHAR_CLASS = 3,		/* mask of the four */
	CHAR_NFC = 4,		/* see nfc.h */
};

/* Fills the class of all CHARS_N characters and clears the other bits. */
void chars_fill(uint8_t *table, bool marks_are_words);

/* The character at s, which must be valid UTF-8 (the caller has checked the whole
 * text once); *ret_len is its bytes. */
static inline uint32_t chars_get(const char *s, size_t *ret_len)
{
	const unsigned char *u = (const unsigned char *)s;

	if (u[0] < 0x80) {
		*ret_len = 1;
		return u[0];
	}
	if (u[0] < 0xe0) {
		*ret_len = 2;
		return (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu);
	}
	if (u[0] < 0xf0) {
		*ret_len = 3;
		return (u[0] & 0xfu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
	}
	*ret_len = 4;
	return (u[0] & 7u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
}

#endif
