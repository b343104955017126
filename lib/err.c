/* err.c - see err.h. */
#include "lib/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A cut text must look cut: an operator who searches for the whole of it
 * should not believe that this was all. */
static void mark_cut(struct err *e, int wanted)
{
	if (wanted >= 0 && (size_t)wanted >= sizeof(e->text))
		memcpy(e->text + sizeof(e->text) - 4, "...", 4);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	mark_cut(e, vsnprintf(e->text, sizeof(e->text), fmt, ap));
	va_end(ap);
	return code;
}

int err_prefix(struct err *e, int code, const char *fmt, ...)
{
	char rest[sizeof(e->text)];
	va_list ap;
	int n;

	if (!e)
		return code;
	memcpy(rest, e->text, sizeof(rest));
	e->code = code;
	va_start(ap, fmt);
	n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(e->text))
		n += snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s", rest);
	mark_cut(e, n);
	return code;
}
