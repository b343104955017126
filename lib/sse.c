/* sse.c - see sse.h. */
#include "lib/sse.h"

#include <errno.h>
#include <string.h>

void sse_done(struct sse *s)
{
	buf_done(&s->line);
	buf_done(&s->data);
	buf_done(&s->name);
}

static int dispatch(struct sse *s)
{
	int r = 0;

	if (s->has_data) {
		if (s->data.n)
			s->data.p[--s->data.n] = '\0';	/* the last newline */
		r = s->event(s->arg, s->name.n ? s->name.p : "", s->data.n ? s->data.p : "",
			     s->data.n);
	}
	s->has_data = false;
	buf_clear(&s->data);
	buf_clear(&s->name);
	return r;
}

/* What the field's name means; other names are ignored, as the format demands. */
static int take_field(struct sse *s, const char *name, size_t n_name, const char *p, size_t n)
{
	if (n_name == 4 && !memcmp(name, "data", 4)) {
		if (s->data.n + n >= SSE_MAX_EVENT)
			return -EMSGSIZE;
		s->has_data = true;
		if (buf_put(&s->data, p, n) < 0 || buf_putc(&s->data, '\n') < 0)
			return -ENOMEM;
	} else if (n_name == 5 && !memcmp(name, "event", 5)) {
		buf_clear(&s->name);
		return buf_put(&s->name, p, n);
	}
	return 0;
}

static int end_line(struct sse *s)
{
	const char *p = s->line.n ? s->line.p : "";
	size_t n = s->line.n, n_name;
	const char *value;

	if (!s->started && n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3, n -= 3;
	s->started = true;
	if (n == 0)
		return dispatch(s);
	value = memchr(p, ':', n);
	n_name = value ? (size_t)(value - p) : n;
	value = value ? value + 1 : p + n;
	if (n_name == 0) {
		if (s->comment)
			s->comment(s->arg, value, (size_t)(p + n - value));
		return 0;
	}
	if (value < p + n && *value == ' ')
		value++;
	return take_field(s, p, n_name, value, (size_t)(p + n - value));
}

int sse_feed(struct sse *s, const char *p, size_t n)
{
	const char *end = p + n;

	while (p < end) {
		const char *stop = p;
		int r;

		if (s->after_cr && *p == '\n') {	/* CRLF ended one line, not two */
			s->after_cr = false;
			p++;
			continue;
		}
		s->after_cr = false;
		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		if (s->line.n + (size_t)(stop - p) > SSE_MAX_EVENT)
			return -EMSGSIZE;
		if (buf_put(&s->line, p, (size_t)(stop - p)) < 0)
			return -ENOMEM;
		if (stop == end)
			return 0;
		s->after_cr = *stop == '\r';
		p = stop + 1;
		r = end_line(s);
		buf_clear(&s->line);
		if (r != 0)
			return r;
	}
	return 0;
}
