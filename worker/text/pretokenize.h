/* pretokenize.h - cuts text into the pieces that byte-pair merging works on.
 *
 * The seven alternatives of the Qwen pre-tokenizer, the first that matches wins:
 *
 *	1  (?i:'s|'t|'re|'ve|'m|'ll|'d)
 *	2  [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+	(Qwen2, Qwen3: \p{L}+)
 *	3  \p{N}
 *	4   ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*	(Qwen2, Qwen3: without \p{M})
 *	5  \s*[\r\n]+
 *	6  \s+(?!\S)
 *	7  \s+
 *
 * written as a scanner instead of a regular expression: Debian's pcre2 knows
 * Unicode 14 and the reference 16, its \s has U+180E and the reference's has not,
 * and backtracking would make a long run of spaces quadratic.  Every character
 * belongs to exactly one piece.  Thread-safe, allocates nothing.
 */
#ifndef HEARTH_WORKER_TEXT_PRETOKENIZE_H
#define HEARTH_WORKER_TEXT_PRETOKENIZE_H

#include <stddef.h>
#include <stdint.h>

/* The end of the piece that begins at s[from], from < n; s is valid UTF-8 and
 * `table` (chars.h) says which characters belong to words. */
size_t pretokenize_next(const uint8_t *table, const char *s, size_t n, size_t from);

#endif
