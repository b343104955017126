/* buf.c - see buf.h. */
#include "lib/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_done(struct buf *b)
{
	free(b->p);
	*b = BUF_INIT;
}

void buf_clear(struct buf *b)
{
	b->n = 0;
	b->failed = false;
	if (b->p)
		b->p[0] = '\0';
}

static int fail(struct buf *b)
{
	b->failed = true;
	return -ENOMEM;
}

int buf_reserve(struct buf *b, size_t more)
{
	size_t want, cap;
	char *p;

	if (b->p && b->cap - b->n >= more)
		return 0;
	if (more > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
		return fail(b);
	want = b->n + more;
	cap = b->cap < 64 ? 64 : b->cap;
	while (cap < want)
		cap *= 2;
	p = realloc(b->p, cap + 1);
	if (!p)
		return fail(b);
	b->p = p;
	b->cap = cap;
	b->p[b->n] = '\0';
	return 0;
}

int buf_put(struct buf *b, const void *p, size_t n)
{
	if (buf_reserve(b, n) < 0)
		return -ENOMEM;
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = '\0';
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

int buf_putc(struct buf *b, char c)
{
	return buf_put(b, &c, 1);
}

int buf_put_uint(struct buf *b, uint64_t x)
{
	char text[20], *p = text + sizeof(text);

	do {
		*--p = (char)('0' + x % 10);
		x /= 10;
	} while (x);
	return buf_put(b, p, (size_t)(text + sizeof(text) - p));
}

/* Into the room there is; once more when it was too little. */
int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	size_t room;
	int n;

	if (buf_reserve(b, 16) < 0)
		return -ENOMEM;
	room = b->cap - b->n;
	va_copy(again, ap);
	n = vsnprintf(b->p + b->n, room + 1, fmt, again);
	va_end(again);
	if (n >= 0 && (size_t)n > room) {
		b->p[b->n] = '\0';
		if (buf_reserve(b, (size_t)n) < 0)
			return -ENOMEM;
		vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
	}
	if (n < 0) {
		b->p[b->n] = '\0';
		return fail(b);
	}
	b->n += (size_t)n;
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

void buf_shift(struct buf *b, size_t n)
{
	if (n >= b->n) {
		b->n = 0;
	} else {
		memmove(b->p, b->p + n, b->n - n);
		b->n -= n;
	}
	if (b->p)
		b->p[b->n] = '\0';
}

char *buf_take(struct buf *b, size_t *ret_n)
{
	char *p;

	if (b->failed || buf_reserve(b, 0) < 0) {
		buf_done(b);
		return NULL;
	}
	p = b->p;
	if (ret_n)
		*ret_n = b->n;
	*b = BUF_INIT;
	return p;
}
