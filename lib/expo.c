/* expo.c - see expo.h. */
#include "lib/expo.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

const char *expo_type(bool open)
{
	return open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
		      "text/plain; version=0.0.4; charset=utf-8";
}

bool expo_wants_open(const char *accept)
{
	return accept && strstr(accept, "application/openmetrics-text");
}

/* Without the suffix that OpenMetrics keeps for the sample. */
static int family_length(const struct expo *x)
{
	const char *suffix = x->row->kind == EXPO_COUNTER ? "_total" :
			     x->row->kind == EXPO_INFO ? "_info" : "";
	size_t n = strlen(x->row->name), k = strlen(suffix);

	return (int)(x->open && n > k && !strcmp(x->row->name + n - k, suffix) ? n - k : n);
}

void expo_begin(struct expo *x, const struct expo_row *row)
{
	const char *type = row->kind == EXPO_COUNTER ? "counter" :
			   row->kind == EXPO_INFO && x->open ? "info" : "gauge";
	int n;

	x->row = row;
	n = family_length(x);
	buf_printf(x->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", n, row->name, row->help, n,
		   row->name, type);
}

static void put_label(struct expo *x, bool *first, const char *name, const char *value)
{
	buf_printf(x->out, "%s%s=\"", *first ? "{" : ",", name);
	*first = false;
	for (const char *p = value; *p; p++) {
		if (*p == '\n')
			buf_puts(x->out, "\\n");
		else if (*p == '"' || *p == '\\')
			buf_printf(x->out, "\\%c", *p);
		else
			buf_putc(x->out, *p);
	}
	buf_putc(x->out, '"');
}

void expo_put(struct expo *x, double value, ...)
{
	const char *name;
	bool first = true;
	va_list ap;

	buf_puts(x->out, x->row->name);
	if (x->labels[0])
		put_label(x, &first, x->labels[0], x->labels[1]);
	va_start(ap, value);
	while ((name = va_arg(ap, const char *)))
		put_label(x, &first, name, va_arg(ap, const char *));
	va_end(ap);
	buf_printf(x->out, "%s %.16g\n", first ? "" : "}", value);
}

int expo_end(struct expo *x)
{
	if (x->open)
		buf_puts(x->out, "# EOF\n");
	return buf_ok(x->out) ? 0 : -ENOMEM;
}
