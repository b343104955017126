/* jinja.c - see jinja.h. */
#include "worker/text/jinja/jinja.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Scanning or copying this many bytes counts as one step. */
#define BYTES_A_STEP 64

void jinja_raise(struct jinja *j, int code, const char *fmt, ...)
{
	char text[sizeof(j->e->text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	j->code = err_set(j->e, code, "%s", text);
	longjmp(j->out, 1);
}

void *jinja_alloc(struct jinja *j, size_t n, size_t size)
{
	void *p = NULL;

	if (!size || n <= SIZE_MAX / 4 / size)
		p = arena_alloc(&j->mem, n * size);
	if (!p)
		jinja_raise(j, -E2BIG, "the template needs more than %zu bytes of memory",
			    j->mem.limit);
	return p;
}

void *jinja_grow(struct jinja *j, const void *p, size_t have, size_t want, size_t size)
{
	void *q = jinja_alloc(j, want, size);

	if (have)
		memcpy(q, p, have * size);
	jinja_work(j, have * size);
	return q;
}

void jinja_work(struct jinja *j, size_t bytes)
{
	j->steps += 1 + bytes / BYTES_A_STEP;
	if (j->steps > j->max_steps)
		jinja_raise(j, -E2BIG, "the template takes more than %llu steps",
			    (unsigned long long)j->max_steps);
}

void jinja_enter(struct jinja *j)
{
	if (++j->depth > JINJA_MAX_DEPTH)
		jinja_raise(j, -E2BIG, "the template nests more than %d calls deep",
			    JINJA_MAX_DEPTH);
}
