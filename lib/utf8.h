/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, at most
 * U+10FFFF.  Thread-safe, allocates nothing.
 */
#ifndef HEARTH_LIB_UTF8_H
#define HEARTH_LIB_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at s (1..4), or 0 when the n bytes there do not begin
 * with a whole valid one. */
size_t utf8_len(const char *s, size_t n);

/* The same, and its code point. */
size_t utf8_get(const char *s, size_t n, uint32_t *ret_cp);

/* Writes cp (a valid one) to out, answers its bytes. */
size_t utf8_put(uint32_t cp, char out[4]);

/* Whether all n bytes are valid. */
bool utf8_ok(const char *s, size_t n);

/* For n bytes that do not begin with a whole valid character: how many of them
 * are a maximal invalid prefix (one U+FFFD in WHATWG's and Rust's lossy
 * decoding, >= 1), and whether more bytes could still make it valid. */
size_t utf8_bad_prefix(const char *s, size_t n, bool *ret_incomplete);

#endif
