/* bytes.h - the alphabet in which byte-level vocabularies are written.
 *
 * tokenizer.json spells each byte as one printable character (GPT-2's table): the
 * bytes 21..7E, A1..AC and AE..FF stand for themselves, the other 68 are, in
 * ascending order, U+0100, U+0101, ...: a space is U+0120.
 */
#ifndef HEARTH_WORKER_TEXT_BYTES_H
#define HEARTH_WORKER_TEXT_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"

/* Replaces the bytes in `out` by those that the n bytes of UTF-8 at s spell.  0,
 * -EINVAL (a character outside the alphabet), -ENOMEM. */
int bytes_unspell(const char *s, size_t n, struct buf *out);

#endif
