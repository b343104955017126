/* json_put.c - writing JSON (see json.h).
 *
 * Own code, because jansson prints numbers from int64 and double and cannot
 * print a float as Python does; the rest is forty lines.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/own.h"
#include "lib/utf8.h"

static void put_escape(struct buf *b, unsigned char c)
{
	static const char *const short_form[] = {
		['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r",
	};

	if (c == '"' || c == '\\') {
		buf_putc(b, '\\');
		buf_putc(b, (char)c);
	} else if (c < sizeof(short_form) / sizeof(*short_form) && short_form[c]) {
		buf_puts(b, short_form[c]);
	} else {
		buf_printf(b, "\\u%04x", c);
	}
}

/* How many of the first bytes stand in JSON as they are. */
static size_t plain_run(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		unsigned char c = (unsigned char)s[i];
		size_t len = 1;

		if (c < 0x20 || c == '"' || c == '\\')
			break;
		if (c >= 0x80)
			len = utf8_len(s + i, n - i);
		if (!len)
			break;
		i += len;
	}
	return i;
}

int jx_put_str(struct buf *b, const char *s, size_t n)
{
	buf_reserve(b, n + 2);
	buf_putc(b, '"');
	for (size_t i = 0; i < n;) {
		size_t run = plain_run(s + i, n - i);
		unsigned char c;

		buf_put(b, s + i, run);
		i += run;
		if (i == n)
			break;
		c = (unsigned char)s[i++];
		if (c < 0x80)
			put_escape(b, c);
		else
			buf_puts(b, "\xef\xbf\xbd");
	}
	return buf_putc(b, '"');
}

/* The fewest digits that read back as x.  digits gets "d" or "ddd..", the value
 * is 0.ddd * 10^point. */
static void shortest_digits(double x, char digits[32], int *ret_point)
{
	char s[40], *exp;
	int prec, n = 0;

	for (prec = 0; prec < 17; prec++) {
		snprintf(s, sizeof(s), "%.*e", prec, x);
		if (strtod(s, NULL) == x)
			break;
	}
	exp = strchr(s, 'e');
	for (const char *p = s; p < exp; p++)
		if (*p >= '0' && *p <= '9')
			digits[n++] = *p;
	while (n > 1 && digits[n - 1] == '0')
		n--;
	digits[n] = '\0';
	*ret_point = atoi(exp + 1) + 1;
}

static int put_exponent_form(struct buf *b, const char *digits, int exp)
{
	buf_putc(b, digits[0]);
	if (digits[1]) {
		buf_putc(b, '.');
		buf_puts(b, digits + 1);
	}
	return buf_printf(b, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
}

static int put_plain_form(struct buf *b, const char *digits, int point)
{
	int n = (int)strlen(digits);

	if (point <= 0) {
		buf_puts(b, "0.");
		for (int i = point; i < 0; i++)
			buf_putc(b, '0');
		return buf_puts(b, digits);
	}
	for (int i = 0; i < point; i++)
		buf_putc(b, i < n ? digits[i] : '0');
	buf_putc(b, '.');
	return buf_puts(b, n > point ? digits + point : "0");
}

int jx_put_pyfloat(struct buf *b, double x)
{
	char digits[32];
	int point;

	if (isnan(x))
		return buf_puts(b, "NaN");
	if (signbit(x))
		buf_putc(b, '-');
	if (isinf(x))
		return buf_puts(b, "Infinity");
	if (x == 0)
		return buf_puts(b, "0.0");
	shortest_digits(fabs(x), digits, &point);
	/* float_repr_style: exponents below -4 and from 16 on */
	if (point - 1 < -4 || point - 1 >= 16)
		return put_exponent_form(b, digits, point - 1);
	return put_plain_form(b, digits, point);
}

static int put_num(struct buf *b, const json_t *v, enum jx_style style)
{
	const char *s = jx_num(v);

	if (style == JX_PYTHON && !jx_is_int(v))
		return jx_put_pyfloat(b, strtod(s, NULL));
	if (style == JX_PYTHON && !strcmp(s, "-0"))
		return buf_puts(b, "0");
	return buf_puts(b, s);
}

static int put_array(struct buf *b, const json_t *v, enum jx_style style)
{
	buf_putc(b, '[');
	for (size_t i = 0; i < json_array_size(v); i++) {
		if (i)
			buf_puts(b, style == JX_COMPACT ? "," : ", ");
		jx_put(b, json_array_get(v, i), style);
	}
	return buf_putc(b, ']');
}

static int put_object(struct buf *b, const json_t *v, enum jx_style style)
{
	json_t *o = (json_t *)(uintptr_t)v;	/* jansson's iterators take no const */
	const char *key;
	json_t *item;
	bool first = true;

	buf_putc(b, '{');
	json_object_foreach(o, key, item) {
		if (!first)
			buf_puts(b, style == JX_COMPACT ? "," : ", ");
		first = false;
		jx_put_str(b, key, strlen(key));
		buf_puts(b, style == JX_COMPACT ? ":" : ": ");
		jx_put(b, item, style);
	}
	return buf_putc(b, '}');
}

int jx_put(struct buf *b, const json_t *v, enum jx_style style)
{
	const char *s;
	size_t n;

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		put_object(b, v, style);
		break;
	case JSON_ARRAY:
		put_array(b, v, style);
		break;
	case JSON_TRUE:
		buf_puts(b, "true");
		break;
	case JSON_FALSE:
		buf_puts(b, "false");
		break;
	case JSON_STRING:
		s = jx_str(v, &n);
		if (s)
			jx_put_str(b, s, n);
		else
			put_num(b, v, style);
		break;
	default:
		buf_puts(b, "null");
	}
	return buf_ok(b) ? 0 : -ENOMEM;
}
