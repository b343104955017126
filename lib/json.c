/* json.c - see json.h.  Reading: numbers become tagged strings, then jansson. */
#include "lib/json.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/own.h"

#define TAG '\x01'
#define TAG_TEXT "\\u0001"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && is_digit(*p))
		p++;
	return p;
}

bool jx_number_ok(const char *s, size_t n)
{
	const char *p = s, *end = s + n, *from;

	if (p < end && *p == '-')
		p++;
	if (p == end || !is_digit(*p))
		return false;
	p = *p == '0' ? p + 1 : skip_digits(p, end);
	if (p < end && *p == '.') {
		from = ++p;
		p = skip_digits(p, end);
		if (p == from)
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		from = p;
		p = skip_digits(p, end);
		if (p == from)
			return false;
	}
	return p == end;
}

/* From the opening quote to after the closing one; NULL when there is none. */
static const char *skip_string(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p + 1;
	}
	return NULL;
}

static bool is_key(const char *after, const char *end)
{
	while (after < end && is_space(*after))
		after++;
	return after < end && *after == ':';
}

/* Copies one string; a value that begins with the tag gets another. */
static const char *copy_string(struct buf *out, const char *p, const char *end)
{
	const size_t n_tag = sizeof(TAG_TEXT) - 1;
	const char *after = skip_string(p, end);

	if (!after)
		after = end;	/* jansson will say what is wrong */
	else if ((size_t)(after - p) > n_tag && !memcmp(p + 1, TAG_TEXT, n_tag) &&
		 !is_key(after, end))
		buf_puts(out, "\"" TAG_TEXT), p++;
	buf_put(out, p, (size_t)(after - p));
	return after;
}

/* Copies one number as a tagged string.  NULL when it is not a number. */
static const char *copy_number(struct buf *out, const char *p, const char *end)
{
	const char *after = p;

	while (after < end && (is_digit(*after) || strchr("+-.eE", *after)) && *after)
		after++;
	/* {1: 2} would otherwise become an object with the key "1" */
	if (!jx_number_ok(p, (size_t)(after - p)) || is_key(after, end))
		return NULL;
	buf_puts(out, "\"" TAG_TEXT);
	buf_put(out, p, (size_t)(after - p));
	buf_putc(out, '"');
	return after;
}

static int tag_numbers(const char *text, size_t n, struct buf *out, struct err *e)
{
	const char *p = text, *end = text + n;

	while (p < end) {
		const char *from = p;

		if (*p == '"') {
			p = copy_string(out, p, end);
		} else if (*p == '-' || is_digit(*p)) {
			p = copy_number(out, p, end);
			if (!p)
				return err_set(e, -EINVAL, "invalid number at byte %zu",
					       (size_t)(from - text));
		} else {
			while (p < end && *p != '"' && *p != '-' && !is_digit(*p))
				p++;
			buf_put(out, from, (size_t)(p - from));
		}
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int jx_load(const char *text, size_t n, json_t **ret_v, struct err *e)
{
	CLEANUP(buf_donep) struct buf tagged = BUF_INIT;
	json_error_t je;
	json_t *v;
	int r;

	/* Most texts grow by little; one reservation saves the doubling. */
	if (n > SIZE_MAX / 8 || buf_reserve(&tagged, n + n / 4 + 16) < 0)
		return err_set(e, -ENOMEM, "out of memory for %zu bytes of JSON", n);
	r = tag_numbers(text, n, &tagged, e);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory for %zu bytes of JSON", n);
	if (r < 0)
		return r;
	v = json_loadb(tagged.p, tagged.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
	if (!v)
		return err_set(e, -EINVAL, "line %d: %s", je.line, je.text);
	*ret_v = v;
	return 0;
}

int jx_load_file(const char *path, size_t max, json_t **ret_v, struct err *e)
{
	CLEANUP(freep) char *text = NULL;
	size_t n;
	int r = file_read(path, max, &text, &n, e);

	if (r < 0)
		return r;
	if (n > 8 && memcmp(text, "version ", 8) == 0)	/* large ones too: tokenizer.json */
		return err_set(e, -EINVAL, "%s: a Git LFS pointer, not the file; 'git lfs pull' fetches it",
			       path);
	r = jx_load(text, n, ret_v, e);
	if (r < 0)
		return err_prefix(e, r, "%s", path);
	return 0;
}

static bool is_tagged(const json_t *v)
{
	return json_string_length(v) > 0 && json_string_value(v)[0] == TAG;
}

bool jx_is_num(const json_t *v)
{
	return json_is_string(v) && is_tagged(v) &&
	       (json_string_length(v) < 2 || json_string_value(v)[1] != TAG);
}

bool jx_is_str(const json_t *v)
{
	return json_is_string(v) && !jx_is_num(v);
}

bool jx_is_int(const json_t *v)
{
	return jx_is_num(v) && !strpbrk(json_string_value(v), ".eE");
}

const char *jx_str(const json_t *v, size_t *ret_n)
{
	size_t skip;

	if (!jx_is_str(v))
		return NULL;
	skip = is_tagged(v) ? 1 : 0;
	if (ret_n)
		*ret_n = json_string_length(v) - skip;
	return json_string_value(v) + skip;
}

const char *jx_num(const json_t *v)
{
	return jx_is_num(v) ? json_string_value(v) + 1 : NULL;
}

int jx_double(const json_t *v, double *ret_x)
{
	const char *s = jx_num(v);
	double x;

	if (!s)
		return -EINVAL;
	x = strtod(s, NULL);
	if (!isfinite(x))
		return -ERANGE;
	*ret_x = x;
	return 0;
}

int jx_int64(const json_t *v, int64_t *ret_x)
{
	long long x;

	if (!jx_is_int(v))
		return -EINVAL;
	errno = 0;
	x = strtoll(jx_num(v), NULL, 10);
	if (errno == ERANGE)
		return -ERANGE;
	*ret_x = x;
	return 0;
}

static json_t *tagged_new(const char *s, size_t n)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	buf_putc(&b, TAG);
	buf_put(&b, s, n);
	return buf_ok(&b) ? json_stringn(b.p, b.n) : NULL;
}

json_t *jx_str_new(const char *s, size_t n)
{
	return n && s[0] == TAG ? tagged_new(s, n) : json_stringn(s, n);
}

json_t *jx_num_new(const char *spelling)
{
	return jx_number_ok(spelling, strlen(spelling)) ?
		       tagged_new(spelling, strlen(spelling)) : NULL;
}

json_t *jx_int_new(int64_t x)
{
	char s[24];

	snprintf(s, sizeof(s), "%lld", (long long)x);
	return jx_num_new(s);
}
