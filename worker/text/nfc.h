/* nfc.h - Unicode normalisation form C, as the reference tokenizer does it.
 *
 * Not utf8proc: the reference (Hugging Face tokenizers 0.22, 0.23) normalises by
 * the data of Unicode 9, Debian's utf8proc by that of 14, and the two give
 * different ids wherever a newer mark appears (tools/unicode/make_tables.py tells
 * how that was measured).  And text that needs no change, nearly all of it, must
 * cost nothing: nfc_quick() lets the caller keep its own bytes.
 *
 * Linear in the length of the text, whatever it holds: a run of a million
 * combining marks is put in order by counting.  Thread-safe.
 */
#ifndef HEARTH_WORKER_TEXT_NFC_H
#define HEARTH_WORKER_TEXT_NFC_H

#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"

/* Sets CHAR_NFC in a table of chars.h: on characters that have a combining class,
 * may compose with what stands before them, or are not their own NFC.  A
 * character without the mark begins a stretch that can be normalised alone. */
void nfc_fill(uint8_t *table);

/* How many of the n bytes (valid UTF-8) are surely NFC already: n, or the start
 * of the first stretch that must go through nfc_put(). */
size_t nfc_quick(const uint8_t *table, const char *s, size_t n);

/* Appends the NFC of n bytes of valid UTF-8.  0 or -ENOMEM. */
int nfc_put(const uint8_t *table, const char *s, size_t n, struct buf *out);

#endif
