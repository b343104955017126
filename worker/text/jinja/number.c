/* number.c - arithmetic as Python does it; see run.h.
 *
 * Integers of any length pass through a template (V_BIG); computing stops at 64 bits,
 * with an error rather than a wrong digit.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja/run.h"

static const char *op_text(enum node_kind op)
{
	return op == N_ADD ? "+" : op == N_SUB ? "-" : op == N_MUL ? "*" : op == N_DIV ? "/" :
	       op == N_FLOORDIV ? "//" : op == N_MOD ? "%" : "** or pow()";
}

static bool is_safe(struct value v)
{
	return v.kind == V_STR && v.s->safe;
}

_Noreturn static void fail_types(struct run *r, enum node_kind op, struct value a, struct value b)
{
	if (op == N_MUL && (is_safe(a) || (is_safe(b) && a.kind != V_UNDEFINED)))
		jinja_fail(&r->j, "'%s' object cannot be interpreted as an integer",
			   v_type_name(is_safe(a) ? b : a));
	if (a.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, a);
	if (b.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, b);
	if (op == N_ADD && !is_safe(a) &&
	    (a.kind == V_STR || a.kind == V_LIST || a.kind == V_TUPLE))
		jinja_fail(&r->j, "can only concatenate %s (not \"%s\") to %s", v_type_name(a),
			   v_type_name(b), v_type_name(a));
	if (op == N_MUL && (a.kind == V_STR || a.kind == V_LIST || a.kind == V_TUPLE))
		jinja_fail(&r->j, "can't multiply sequence by non-int of type '%s'",
			   v_type_name(b));
	if (op == N_MUL && (b.kind == V_STR || b.kind == V_LIST || b.kind == V_TUPLE))
		jinja_fail(&r->j, "can't multiply sequence by non-int of type '%s'",
			   v_type_name(a));
	jinja_fail(&r->j, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(op),
		   v_type_name(a), v_type_name(b));
}

/* ---- sequences ---- */

static struct value repeat(struct run *r, struct value v, int64_t times)
{
	struct str_out o = STR_OUT(&r->j);
	struct list *l;

	if (v.kind == V_STR) {
		if (!v.s->n || times == 1)
			return v;
		for (; times > 0; times--)
			str_out_str(&o, v.s);
		return v_str(str_as_safe(&r->j, str_out_done(&o), v.s->safe));
	}
	l = list_new(&r->j, 0);
	for (; times > 0 && v.l->n; times--)
		for (size_t i = 0; i < v.l->n; i++)
			list_push(&r->j, l, v.l->v[i]);
	return v_list(l, v.kind);
}

static struct value join_lists(struct run *r, struct value a, struct value b)
{
	struct list *l = list_new(&r->j, a.l->n + b.l->n);

	for (size_t i = 0; i < a.l->n; i++)
		list_push(&r->j, l, a.l->v[i]);
	for (size_t i = 0; i < b.l->n; i++)
		list_push(&r->j, l, b.l->v[i]);
	return v_list(l, a.kind);
}

static bool is_sequence(struct value v)
{
	return v.kind == V_STR || v.kind == V_LIST || v.kind == V_TUPLE;
}

static bool is_whole(struct value v)
{
	return v.kind == V_INT || v.kind == V_BOOL || v.kind == V_BIG;
}

static struct value sequences(struct run *r, enum node_kind op, struct value a, struct value b)
{
	if (op == N_ADD && a.kind == V_STR && b.kind == V_STR)
		return v_str(str_add(&r->j, a.s, b.s));
	if (op == N_ADD && a.kind == b.kind && is_sequence(a))
		return join_lists(r, a, b);
	if (op == N_MUL && is_sequence(a) && is_whole(b))
		return repeat(r, a, v_index(&r->j, b));
	if (op == N_MUL && is_sequence(b) && is_whole(a))
		return repeat(r, b, v_index(&r->j, a));
	if (op == N_MOD && a.kind == V_STR)
		return format_percent(r, a.s, b);
	fail_types(r, op, a, b);
}

/* ---- numbers ---- */

static struct value floats(struct run *r, enum node_kind op, double a, double b)
{
	double m;

	if (b == 0 && (op == N_DIV || op == N_FLOORDIV || op == N_MOD))
		jinja_fail(&r->j, "%s", op == N_DIV ? "float division by zero" :
			   op == N_MOD ? "float modulo" : "float floor division by zero");
	switch (op) {
	case N_ADD:
		return v_float(a + b);
	case N_SUB:
		return v_float(a - b);
	case N_MUL:
		return v_float(a * b);
	case N_DIV:
		return v_float(a / b);
	case N_POW:
		if (a == 0 && b < 0)
			jinja_fail(&r->j, "0.0 cannot be raised to a negative power");
		if (a < 0 && b != floor(b))
			jinja_fail(&r->j, "complex numbers are not supported");
		return v_float(pow(a, b));
	default:
		m = fmod(a, b);
		if (m != 0 && (m < 0) != (b < 0))
			m += b;
		if (op == N_MOD)
			return v_float(m == 0 ? copysign(0, b) : m);
		return v_float(round((a - m) / b));
	}
}

_Noreturn static void fail_big(struct run *r)
{
	jinja_fail(&r->j, "integers beyond 64 bits cannot be computed with");
}

static struct value int_power(struct run *r, int64_t a, int64_t b)
{
	int64_t x = 1;

	if (b < 0)
		return floats(r, N_POW, (double)a, (double)b);
	if (a == 0 || a == 1)
		return v_int(b ? a : 1);
	if (a == -1)
		return v_int(b & 1 ? -1 : 1);
	for (; b > 0; b--)
		if (__builtin_mul_overflow(x, a, &x))
			fail_big(r);
	return v_int(x);
}

static struct value int_divide(struct run *r, enum node_kind op, int64_t a, int64_t b)
{
	int64_t q, m;

	if (!b)
		jinja_fail(&r->j, "%s", op == N_DIV ? "division by zero" :
			   op == N_MOD ? "integer modulo by zero" :
					 "integer division or modulo by zero");
	if (op == N_DIV)
		return v_float((double)a / (double)b);
	if (b == -1) {	/* INT64_MIN / -1 */
		if (op == N_MOD)
			return v_int(0);
		if (a == INT64_MIN)
			fail_big(r);
		return v_int(-a);
	}
	q = a / b;
	m = a % b;
	if (m && (m < 0) != (b < 0)) {
		q--;
		m += b;
	}
	return v_int(op == N_MOD ? m : q);
}

static struct value ints(struct run *r, enum node_kind op, int64_t a, int64_t b)
{
	bool over;
	int64_t x;

	switch (op) {
	case N_ADD:
		over = __builtin_add_overflow(a, b, &x);
		break;
	case N_SUB:
		over = __builtin_sub_overflow(a, b, &x);
		break;
	case N_MUL:
		over = __builtin_mul_overflow(a, b, &x);
		break;
	case N_POW:
		return int_power(r, a, b);
	default:
		return int_divide(r, op, a, b);
	}
	if (over)
		fail_big(r);
	return v_int(x);
}

/* Whether a big number is odd can be known. */
static struct value big_modulo(struct run *r, struct str *big, int64_t b)
{
	const char *p = str_bytes(&r->j, big);
	uint64_t by = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
	unsigned __int128 m = 0;

	if (!b)
		jinja_fail(&r->j, "integer modulo by zero");
	for (size_t i = *p == '-'; i < big->n; i++)
		m = (m * 10 + (unsigned)(p[i] - '0')) % by;
	if (m && (*p == '-') != (b < 0))
		m = by - m;
	return v_int(b < 0 ? (int64_t)(0 - (uint64_t)m) : (int64_t)m);
}

struct value negate(struct run *r, struct value v)
{
	struct value n;

	if (v.kind == V_FLOAT) {
		v.f = -v.f;
		return v;
	}
	if (v.kind != V_BIG && v_index(&r->j, v) != INT64_MIN) {
		n = v_int(-v_index(&r->j, v));
		n.data = v.data;
		return n;
	}
	n = v_str(v_to_str(&r->j, v));
	if (*str_bytes(&r->j, n.s) == '-')
		n.s = str_cut(&r->j, n.s, 1, n.s->n);
	else
		n.s = str_add(&r->j, str_from(&r->j, "-", v.data ? DATA : TEMPLATE), n.s);
	return to_int(r, n, NONE, 10);	/* it may fit now */
}

struct value arithmetic(struct run *r, enum node_kind op, struct value a, struct value b)
{
	struct value v;

	if (!v_is_number(a) || !v_is_number(b))
		return sequences(r, op, a, b);
	if (a.kind == V_FLOAT || b.kind == V_FLOAT)
		v = floats(r, op, v_double(&r->j, a), v_double(&r->j, b));
	else if (a.kind == V_BIG && b.kind != V_BIG && op == N_MOD)
		v = big_modulo(r, a.s, v_index(&r->j, b));
	else if (a.kind == V_BIG || b.kind == V_BIG)
		fail_big(r);
	else
		v = ints(r, op, v_index(&r->j, a), v_index(&r->j, b));
	v.data = a.data || b.data;
	return v;
}

/* ---- conversions ---- */

/* The text of a number without white space around and underscores between digits;
 * NULL when it has no such form. */
static char *number_text(struct run *r, struct str *s)
{
	struct str *bare = str_strip(&r->j, s, NULL, STR_LEFT | STR_RIGHT);
	const char *p = str_bytes(&r->j, bare);
	char *text = jinja_alloc(&r->j, bare->n + 1, 1), *q = text;

	for (size_t i = 0; i < bare->n; i++) {
		if (p[i] == '_' && (!i || p[i - 1] == '_' || i + 1 == bare->n))
			return NULL;
		if (!p[i])
			return NULL;
		if (p[i] != '_')
			*q++ = p[i];
	}
	return *text ? text : NULL;
}

static bool parse_int(struct run *r, struct str *s, int64_t base, struct value *ret)
{
	char *text = number_text(r, s), *end, *digits;
	long long x;

	if (!text || base < 0 || base == 1 || base > 36)
		return false;
	digits = text + (*text == '+' || *text == '-');
	/* Python's base 2, 8, 16 (and 0) take a prefix, strtoll only 0x */
	if (digits[0] == '0' && digits[1]) {
		char c = (char)(digits[1] | 0x20);
		int b = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;

		if (b && (base == b || base == 0)) {
			memmove(digits, digits + 2, strlen(digits + 2) + 1);
			base = b;
		}
	}
	if (base == 0)
		base = 10;
	if (!((*digits >= '0' && *digits <= '9') || (*digits >= 'A' && *digits <= 'Z') ||
	      (*digits >= 'a' && *digits <= 'z')))
		return false;
	errno = 0;
	x = strtoll(text, &end, (int)base);
	if (*end || end == text)
		return false;
	*ret = v_int(x);
	if (errno == ERANGE) {
		if (base != 10)
			fail_big(r);
		while (*digits == '0')
			digits++;
		*ret = (struct value){ .kind = V_BIG };
		ret->s = str_printf(&r->j, TEMPLATE, "%s%s", *text == '-' ? "-" : "", digits);
	}
	return true;
}

static bool parse_float(struct run *r, struct str *s, double *ret)
{
	char *text = number_text(r, s), *end;

	/* strtod knows more than Python: 0x10, nan(...) */
	if (!text || strpbrk(text, "xXpP("))
		return false;
	*ret = strtod(text, &end);
	return !*end;
}

static struct value int_of_float(struct run *r, double x, struct value otherwise, bool strict)
{
	struct str *s;

	if (isnan(x))
		return otherwise;
	if (isinf(x)) {
		if (strict)
			jinja_fail(&r->j, "cannot convert float infinity to integer");
		return otherwise;
	}
	x = trunc(x);
	if (x >= -0x1p63 && x < 0x1p63)
		return v_int((int64_t)x);
	s = str_printf(&r->j, TEMPLATE, "%.0f", x);
	return (struct value){ .kind = V_BIG, .s = s };
}

/* What came of a request's value is the request's. */
static struct value mark_like(struct run *r, struct value v, struct value from)
{
	v.data = from.kind == V_STR ? str_has_data(&r->j, from.s) : from.data;
	if (v.kind == V_BIG && v.data)
		v.s = str_new(&r->j, str_bytes(&r->j, v.s), v.s->n, DATA);
	return v;
}

struct value to_int(struct run *r, struct value v, struct value otherwise, int64_t base)
{
	struct value x;
	double f;

	switch (v.kind) {
	case V_INT:
	case V_BIG:
		return v;
	case V_BOOL:
		return v_int(v.b);
	case V_FLOAT:
		return mark_like(r, int_of_float(r, v.f, otherwise, true), v);
	case V_UNDEFINED:
		v_fail_undefined(&r->j, v);
	case V_STR:
		if (parse_int(r, v.s, base, &x))
			return mark_like(r, x, v);
		if (parse_float(r, v.s, &f))
			return mark_like(r, int_of_float(r, f, otherwise, false), v);
		return otherwise;
	default:
		return otherwise;
	}
}

struct value to_float(struct run *r, struct value v, struct value otherwise)
{
	double f;

	if (v.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, v);
	if (v_is_number(v))
		return mark_like(r, v_float(v_double(&r->j, v)), v);
	if (v.kind == V_STR && parse_float(r, v.s, &f))
		return mark_like(r, v_float(f), v);
	return otherwise;
}

/* ---- rounding ---- */

static struct value round_int(struct run *r, int64_t x, int64_t precision)
{
	int64_t unit = 1, rest;

	if (precision >= 0)
		return v_int(x);
	for (; precision < 0; precision++)
		if (__builtin_mul_overflow(unit, 10, &unit))
			return v_int(0);
	rest = x % unit;
	x -= rest;
	if (rest < 0) {
		rest += unit;
		if (__builtin_sub_overflow(x, unit, &x))
			fail_big(r);
	}
	/* half to even */
	if (rest > unit / 2 || (rest == unit / 2 && (x / unit) % 2))
		if (__builtin_add_overflow(x, unit, &x))
			fail_big(r);
	return v_int(x);
}

static double round_float(double x, int64_t precision)
{
	char text[400];
	double unit;

	if (!isfinite(x) || precision > 300)
		return x;
	if (precision >= 0) {
		snprintf(text, sizeof(text), "%.*f", (int)(precision > 60 ? 60 : precision), x);
		return strtod(text, NULL);
	}
	if (precision < -308)
		return copysign(0, x);
	unit = pow(10, (double)-precision);
	return rint(x / unit) * unit;
}

struct value round_number(struct run *r, struct value v, int64_t precision, const char *method)
{
	double unit, x;

	if (!v_is_number(v) && !strcmp(method, "common"))
		jinja_fail(&r->j, "type %s doesn't define __round__ method", v_type_name(v));
	if (is_sequence(v))
		jinja_fail(&r->j, "must be real number, not %s", v_type_name(v));
	if (!v_is_number(v))
		fail_types(r, N_MUL, v, v_int(1));
	if (!strcmp(method, "common")) {
		if (v.kind == V_FLOAT)
			return mark_like(r, v_float(round_float(v.f, precision)), v);
		if (v.kind == V_BIG)
			return v;
		return mark_like(r, round_int(r, v_index(&r->j, v), precision), v);
	}
	unit = pow(10, (double)precision);
	x = v_double(&r->j, v) * unit;
	x = !strcmp(method, "ceil") ? ceil(x) : floor(x);
	return mark_like(r, v_float((x == 0 ? 0 : x) / unit), v);
}
