/* buf.h - a growing run of bytes.
 *
 * Always true: `n <= cap`; when `p` is not NULL, p[n] is '\0' (not counted),
 * so text can be handed to C functions as it is.  Bytes may include NUL.
 *
 * A failed append leaves the buffer as it was and sets `failed`; a run of
 * appends may be checked once at the end with buf_ok().  Not thread-safe.
 */
#ifndef HEARTH_LIB_BUF_H
#define HEARTH_LIB_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *p;		/* owned; NULL while empty */
	size_t n;		/* bytes in use */
	size_t cap;		/* bytes allocated, without the terminator */
	bool failed;		/* an append did not fit into memory */
};

#define BUF_INIT ((struct buf){ NULL, 0, 0, false })

void buf_done(struct buf *b);		/* frees; b is BUF_INIT again */
void buf_clear(struct buf *b);		/* empties, keeps the memory */
static inline void buf_donep(struct buf *b)
{
	buf_done(b);
}

/* Room for `more` bytes after n.  0 or -ENOMEM. */
int buf_reserve(struct buf *b, size_t more);
/* Each answers 0 or -ENOMEM. */
int buf_put(struct buf *b, const void *p, size_t n);
int buf_puts(struct buf *b, const char *s);
int buf_putc(struct buf *b, char c);
int buf_put_uint(struct buf *b, uint64_t x);	/* decimal; a fifth of buf_printf()'s time */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Drops the first `n` bytes (all of them when n is larger). */
void buf_shift(struct buf *b, size_t n);

/* Hands the bytes on (terminated, free() them) and empties b.  An empty buffer
 * gives "" on the heap; NULL only when memory ran out here or before. */
char *buf_take(struct buf *b, size_t *ret_n);

static inline bool buf_ok(const struct buf *b)
{
	return !b->failed;
}

#endif
