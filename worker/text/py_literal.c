/* py_literal.c - see py_literal.h.  Recursive descent; each reader is left at the byte after
 * what it read, and answers NULL when it is not there (or memory ran out). */
#include "worker/text/py_literal.h"

#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"

#define MAX_DEPTH 200

struct reader {
	const char *p, *end;
	int depth;
};

static json_t *read_value(struct reader *r);

static void skip_space(struct reader *r)
{
	while (r->p < r->end && *r->p && strchr(" \t\n\r\f", *r->p))
		r->p++;
}

/* Skips white space; whether c was next, and is read. */
static bool take(struct reader *r, char c)
{
	skip_space(r);
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n digits in base 8 or 16 to one character. */
static bool put_code(struct reader *r, struct buf *b, int n, uint32_t base)
{
	uint32_t cp = 0;
	char utf8[4];

	for (int i = 0; i < n; i++, r->p++) {
		int digit = r->p < r->end ? hex_value(*r->p) : -1;

		if (digit < 0 || cp > 0x10ffff)
			return false;
		cp = cp * base + (uint32_t)digit;
	}
	if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		return false;
	return buf_put(b, utf8, utf8_put(cp, utf8)) == 0;
}

static int octal_digits(const struct reader *r)
{
	int n = 0;

	while (n < 3 && r->p + n < r->end && r->p[n] >= '0' && r->p[n] <= '7')
		n++;
	return n;
}

/* What follows a backslash. */
static bool read_escape(struct reader *r, struct buf *b)
{
	static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
	const char *known;
	int n = octal_digits(r);

	if (r->p == r->end || *r->p == '\0' || *r->p == 'N')
		return false;
	if (n > 0)
		return put_code(r, b, n, 8);
	switch (*r->p) {
	case 'x':
		r->p++;
		return put_code(r, b, 2, 16);
	case 'u':
		r->p++;
		return put_code(r, b, 4, 16);
	case 'U':
		r->p++;
		return put_code(r, b, 8, 16);
	case '\r':
		r->p += r->p + 1 < r->end && r->p[1] == '\n' ? 2 : 1;
		return true;
	case '\n':
		r->p++;
		return true;
	}
	known = strchr(from, *r->p);
	if (known)
		buf_putc(b, to[known - from]);
	else
		buf_put(b, (const char[]){ '\\', *r->p }, 2);	/* unknown: both stay */
	r->p++;
	return true;
}

static bool read_quoted(struct reader *r, struct buf *b)
{
	char quote;

	if (r->p == r->end || (*r->p != '\'' && *r->p != '"'))
		return false;
	quote = *r->p++;
	while (r->p < r->end && *r->p != quote) {
		char c = *r->p++;

		if (c == '\n' || c == '\r' || c == '\0')
			return false;
		if (c == '\\' ? !read_escape(r, b) : buf_putc(b, c) < 0)
			return false;
	}
	if (r->p == r->end)
		return false;
	r->p++;
	return buf_ok(b);
}

static json_t *read_string(struct reader *r)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	if (!read_quoted(r, &b))
		return NULL;
	return jx_str_new(b.n ? b.p : "", b.n);
}

static json_t *read_number(struct reader *r)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	while (r->p < r->end && *r->p && strchr("+-.0123456789eE", *r->p))
		buf_putc(&b, *r->p++);
	return b.n ? jx_num_new(b.p) : NULL;
}

static json_t *read_word(struct reader *r)
{
	size_t n = (size_t)(r->end - r->p);

	if (n >= 4 && (!memcmp(r->p, "True", 4) || !memcmp(r->p, "None", 4))) {
		r->p += 4;
		return r->p[-4] == 'T' ? json_true() : json_null();
	}
	if (n >= 5 && !memcmp(r->p, "False", 5)) {
		r->p += 5;
		return json_false();
	}
	return NULL;
}

/* After '[' or '(': items to the closing one.  A tuple of one needs its comma, as (x) is
 * x in Python, and no more than a literal is wanted. */
static json_t *read_items(struct reader *r, char close)
{
	JX_OWNED json_t *items = json_array();
	bool comma = true;

	while (!take(r, close)) {
		json_t *item = comma ? read_value(r) : NULL;

		if (!item || json_array_append_new(items, item) < 0)
			return NULL;
		comma = take(r, ',');
	}
	if (close == ')' && !comma && json_array_size(items) == 1)
		return NULL;
	return TAKE(items);
}

static bool read_member(struct reader *r, json_t *object)
{
	CLEANUP(buf_donep) struct buf key = BUF_INIT;
	json_t *value;

	skip_space(r);
	if (!read_quoted(r, &key) || !take(r, ':'))
		return false;
	if (key.n && memchr(key.p, '\0', key.n))
		return false;	/* jansson's keys end at one */
	value = read_value(r);
	return value && json_object_set_new(object, key.n ? key.p : "", value) == 0;
}

static json_t *read_dict(struct reader *r)
{
	JX_OWNED json_t *object = json_object();
	bool comma = true;

	while (!take(r, '}')) {
		if (!comma || !read_member(r, object))
			return NULL;
		comma = take(r, ',');
	}
	return TAKE(object);
}

static json_t *read_value(struct reader *r)
{
	json_t *v = NULL;

	if (r->depth == MAX_DEPTH)
		return NULL;
	r->depth++;
	if (take(r, '{'))
		v = read_dict(r);
	else if (take(r, '['))
		v = read_items(r, ']');
	else if (take(r, '('))
		v = read_items(r, ')');
	else if (r->p < r->end && (*r->p == '\'' || *r->p == '"'))
		v = read_string(r);
	else if (r->p < r->end && (*r->p == '-' || (*r->p >= '0' && *r->p <= '9')))
		v = read_number(r);
	else
		v = read_word(r);
	r->depth--;
	return v;
}

int py_literal_load(const char *s, size_t n, json_t **ret_v)
{
	struct reader r = { .p = s, .end = s + n };
	json_t *v = read_value(&r);

	if (v)
		skip_space(&r);
	if (!v || r.p != r.end) {
		json_decref(v);
		return -EINVAL;
	}
	*ret_v = v;
	return 0;
}
