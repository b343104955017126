/* tool_value.c - see tool_value.h. */
#include "worker/text/tool_value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/own.h"
#include "worker/text/out_lex.h"
#include "worker/text/py_literal.h"

struct text {
	const char *p;
	size_t n;
};

static struct text trimmed(struct text t)
{
	while (t.n > 0 && lex_is_space(t.p[0])) {
		t.p++;
		t.n--;
	}
	while (t.n > 0 && lex_is_space(t.p[t.n - 1]))
		t.n--;
	return t;
}

static bool is_word(struct text t, const char *word)
{
	return t.n == strlen(word) && !strncasecmp(t.p, word, t.n);
}

static bool is_null_word(struct text t)
{
	return is_word(t, "null") || is_word(t, "none");
}

/* Sign and digits.  `strict`: as JSON writes them. */
static bool put_integer(struct buf *b, struct text t, bool strict)
{
	bool minus = t.n > 0 && t.p[0] == '-';
	size_t i = t.n > 0 && (minus || t.p[0] == '+') ? 1 : 0;
	size_t n_digits = 0;

	while (i + n_digits < t.n && t.p[i + n_digits] >= '0' && t.p[i + n_digits] <= '9')
		n_digits++;
	if (n_digits == 0 || i + n_digits < t.n || (strict && !jx_number_ok(t.p, t.n)))
		return false;
	while (i + 1 < t.n && t.p[i] == '0')
		i++;
	if (minus && t.p[i] != '0')
		buf_putc(b, '-');
	buf_put(b, t.p + i, t.n - i);
	return true;
}

static bool is_finite(const char *number)
{
	return isfinite(strtod(number, NULL));
}

static bool put_number(struct buf *b, struct text t, bool strict)
{
	CLEANUP(buf_donep) struct buf number = BUF_INIT;
	bool sign = t.n > 0 && (t.p[0] == '-' || t.p[0] == '+');
	size_t i = sign ? 1 : 0;

	if (strict ? !jx_number_ok(t.p, t.n) : i < t.n && t.p[i] == '-')
		return false;
	if (sign && t.p[0] == '-')
		buf_putc(&number, '-');
	if (i < t.n && t.p[i] == '.')
		buf_putc(&number, '0');
	buf_put(&number, t.p + i, t.n - i);
	if (!buf_ok(&number) || !jx_number_ok(number.p, number.n) || !is_finite(number.p))
		return false;
	buf_put(b, number.p, number.n);
	return true;
}

static bool put_boolean(struct buf *b, struct text t, bool strict)
{
	bool yes = is_word(t, "true") || (!strict && is_word(t, "1"));
	bool no = is_word(t, "false") || (!strict && is_word(t, "0"));

	if (yes || no)
		buf_puts(b, yes ? "true" : "false");
	return yes || no;
}

/* No number in it overflows. */
static bool all_finite(const json_t *v)
{
	json_t *object = (json_t *)(uintptr_t)v;	/* jansson's iterators take no const */
	const char *key;
	json_t *item;

	if (jx_is_num(v))
		return jx_is_int(v) || is_finite(jx_num(v));
	for (size_t i = 0; i < json_array_size(v); i++)
		if (!all_finite(json_array_get(v, i)))
			return false;
	json_object_foreach(object, key, item)
		if (!all_finite(item))
			return false;
	return true;
}

static bool put_container(struct buf *b, struct text t, unsigned types)
{
	JX_OWNED json_t *v = NULL;

	if (jx_load(t.p, t.n, &v, NULL) < 0 && py_literal_load(t.p, t.n, &v) < 0)
		return false;
	if (!((types & TOOL_OBJECT) && json_is_object(v)) &&
	    !((types & TOOL_ARRAY) && json_is_array(v)))
		return false;
	if (!all_finite(v))
		return false;
	jx_put(b, v, JX_SPACED);
	return true;
}

/* The types before string, in their order.  Whether one of them fits. */
static bool put_typed(struct buf *b, unsigned types, struct text whole)
{
	bool strict = types & TOOL_STRING;
	struct text t = strict ? whole : trimmed(whole);

	if ((types & TOOL_NULL) && is_null_word(t)) {
		buf_puts(b, "null");
		return true;
	}
	return ((types & TOOL_INTEGER) && put_integer(b, t, strict)) ||
	       ((types & TOOL_NUMBER) && put_number(b, t, strict)) ||
	       ((types & TOOL_BOOLEAN) && put_boolean(b, t, strict)) ||
	       ((types & (TOOL_OBJECT | TOOL_ARRAY)) && put_container(b, whole, types));
}

/* Where nothing fits and string is not among the types. */
static bool put_other(struct buf *b, struct text t)
{
	if (!is_null_word(t))
		return put_number(b, t, false);
	buf_puts(b, "null");
	return true;
}

int tool_value_put(struct buf *b, const struct tool_param *p, const char *s, size_t n)
{
	struct text t = { n ? s : "", n };

	if (tool_value_is_string(p) || tool_schema_lists(p, t.p, n))
		return jx_put_str(b, t.p, n);
	if (!put_typed(b, p->types, t) &&
	    ((p->types & TOOL_STRING) || !put_other(b, trimmed(t))))
		jx_put_str(b, t.p, n);
	return buf_ok(b) ? 0 : -ENOMEM;
}
