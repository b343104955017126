/* format.c - "%s" % x and "{}".format(x); see run.h. */
#include <stdio.h>
#include <string.h>

#include "worker/text/jinja/run.h"

/* What a % conversion says: flags, width, precision, type. */
struct spec {
	bool minus, plus, space, zero, alt;
	int64_t width, precision;	/* precision -1: none */
	char type;
};

struct formatter {
	struct run *r;
	struct str *format;
	size_t at;
	struct str_out out;
	struct value args;	/* a tuple, a dict or one value */
	size_t next;		/* of a tuple; of one value: 0 or 1 */
	bool by_name;
};

static char peek(const struct formatter *f)
{
	return f->at < f->format->n ? f->format->p[f->at] : '\0';
}

static char take(struct formatter *f)
{
	if (f->at >= f->format->n)
		jinja_fail(&f->r->j, "incomplete format");
	return f->format->p[f->at++];
}

static struct value next_arg(struct formatter *f)
{
	if (f->args.kind == V_TUPLE) {
		if (f->next >= f->args.l->n)
			jinja_fail(&f->r->j, "not enough arguments for format string");
		return f->args.l->v[f->next++];
	}
	if (f->next++)
		jinja_fail(&f->r->j, "not enough arguments for format string");
	return f->args;
}

/* %(name)s */
static struct value named_arg(struct formatter *f)
{
	struct jinja *j = &f->r->j;
	size_t from = f->at;
	struct value *have;
	struct str *name;

	while (take(f) != ')')
		;
	if (f->args.kind != V_DICT)
		jinja_fail(j, "format requires a mapping");
	f->by_name = true;
	name = str_cut(j, f->format, from, f->at - 1);
	have = dict_get(j, f->args.d, v_str(name));
	if (!have)
		jinja_fail(j, "%s", v_repr_text(j, v_str(name)));
	return *have;
}

static int64_t count(struct formatter *f)
{
	int64_t n = 0;

	if (peek(f) == '*') {
		f->at++;
		return v_index(&f->r->j, next_arg(f));
	}
	while (peek(f) >= '0' && peek(f) <= '9' && n < 100000)
		n = n * 10 + (take(f) - '0');
	return n;
}

static struct spec read_spec(struct formatter *f)
{
	struct spec s = { .precision = -1 };

	for (;; f->at++) {
		char c = peek(f);

		if (c == '-')
			s.minus = true;
		else if (c == '+')
			s.plus = true;
		else if (c == ' ')
			s.space = true;
		else if (c == '0')
			s.zero = true;
		else if (c == '#')
			s.alt = true;
		else
			break;
	}
	s.width = count(f);
	if (s.width < 0) {
		s.minus = true;
		s.width = -s.width;
	}
	if (peek(f) == '.') {
		f->at++;
		s.precision = count(f);
	}
	while (peek(f) == 'h' || peek(f) == 'l' || peek(f) == 'L')
		f->at++;
	s.type = take(f);
	if (s.width > 100000 || s.precision > 100)
		s.precision = s.precision > 100 ? 100 : s.precision;
	return s;
}

static void put_padded(struct formatter *f, const struct spec *s, struct str *text)
{
	int64_t missing = s->width - (int64_t)str_n_chars(&f->r->j, text);
	size_t sign = 0;

	if (s->zero && !s->minus && text->n && strchr("+- ", str_bytes(&f->r->j, text)[0]))
		sign = 1;
	str_out_str(&f->out, str_cut(&f->r->j, text, 0, sign));
	for (; missing > 0 && !s->minus; missing--)
		str_out_puts(&f->out, s->zero ? "0" : " ", TEMPLATE);
	if (sign < text->n)
		str_out_str(&f->out, str_cut(&f->r->j, text, sign, text->n));
	for (; missing > 0; missing--)
		str_out_puts(&f->out, " ", TEMPLATE);
}

static void put_text(struct formatter *f, struct spec *s, struct value v)
{
	struct jinja *j = &f->r->j;
	struct str_out o = STR_OUT(j);
	struct str *text;

	if (s->type == 's') {
		text = v_to_str(j, v);
	} else {
		v_repr(&o, v);
		text = str_out_done(&o);
	}
	if (s->precision >= 0 && (int64_t)str_n_chars(j, text) > s->precision)
		text = str_slice(j, text, 0, 1, s->precision);
	s->zero = false;
	put_padded(f, s, text);
}

static void put_whole(struct formatter *f, const struct spec *s, struct value v)
{
	struct jinja *j = &f->r->j;
	char type = s->type == 'i' || s->type == 'u' ? 'd' : s->type;
	enum mark mark = v.data ? DATA : TEMPLATE;
	struct str *digits;
	const char *sign;
	uint64_t x;
	bool minus;

	if (v.kind == V_UNDEFINED)
		v_fail_undefined(j, v);
	if (!v_is_number(v) || (type != 'd' && v.kind == V_FLOAT))
		jinja_fail(j, "%%%c format: %s is required, not %s", s->type,
			   type == 'd' ? "a real number" : "an integer", v_type_name(v));
	if (v.kind == V_FLOAT)
		v = to_int(f->r, v, NONE, 10);
	if (v.kind == V_BIG || v.kind == V_NONE)
		jinja_fail(j, "integers beyond 64 bits cannot be computed with");
	minus = v_index(j, v) < 0;
	x = minus ? 0 - (uint64_t)v_index(j, v) : (uint64_t)v_index(j, v);
	digits = type == 'd' ? str_printf(j, mark, "%llu", (unsigned long long)x) :
		 type == 'x' ? str_printf(j, mark, "%llx", (unsigned long long)x) :
		 type == 'X' ? str_printf(j, mark, "%llX", (unsigned long long)x) :
			       str_printf(j, mark, "%llo", (unsigned long long)x);
	if (s->alt && type != 'd')
		digits = str_printf(j, mark, "0%c%s", type, digits->p);
	while ((int64_t)digits->n < s->precision)
		digits = str_printf(j, mark, "0%s", digits->p);
	sign = minus ? "-" : s->plus ? "+" : s->space ? " " : "";
	put_padded(f, s, str_printf(j, mark, "%s%s", sign, digits->p));
}

static void put_float(struct formatter *f, const struct spec *s, struct value v)
{
	struct jinja *j = &f->r->j;
	int precision = s->precision < 0 ? 6 : (int)s->precision;
	enum mark mark = v.data ? DATA : TEMPLATE;
	struct str *text;
	const char *sign;
	double x;

	if (v.kind == V_UNDEFINED)
		v_fail_undefined(j, v);
	if (!v_is_number(v))
		jinja_fail(j, "must be real number, not %s", v_type_name(v));
	x = v_double(j, v);
	text = s->type == 'e' ? str_printf(j, mark, "%.*e", precision, x) :
	       s->type == 'E' ? str_printf(j, mark, "%.*E", precision, x) :
	       s->type == 'g' ? str_printf(j, mark, "%.*g", precision, x) :
	       s->type == 'G' ? str_printf(j, mark, "%.*G", precision, x) :
				str_printf(j, mark, "%.*f", precision, x);
	sign = *text->p == '-' ? "" : s->plus ? "+" : s->space ? " " : "";
	put_padded(f, s, str_printf(j, mark, "%s%s", sign, text->p));
}

static void put_char(struct formatter *f, struct spec *s, struct value v)
{
	struct jinja *j = &f->r->j;
	struct str_out o = STR_OUT(j);

	s->zero = false;
	if (v.kind == V_STR && str_n_chars(j, v.s) == 1) {
		put_padded(f, s, v.s);
		return;
	}
	if (v.kind != V_INT)
		jinja_fail(j, "%%c requires int or char");
	if (v.i < 0 || v.i > 0x10ffff || (v.i >= 0xd800 && v.i < 0xe000))
		jinja_fail(j, "%%c arg not in range(0x110000)");
	str_out_char(&o, (uint32_t)v.i, v.data ? DATA : TEMPLATE);
	put_padded(f, s, str_out_done(&o));
}

static void convert(struct formatter *f)
{
	bool named = peek(f) == '(';
	struct value v = MISSING;
	struct spec s;

	if (named) {
		f->at++;
		v = named_arg(f);
	}
	s = read_spec(f);
	if (s.type == '%') {
		str_out_puts(&f->out, "%", TEMPLATE);
		return;
	}
	if (!strchr("srdiuxXofFeEgGca", s.type) || !s.type)
		jinja_fail(&f->r->j, "unsupported format character '%c' (%#x) at index %zu", s.type,
			   (unsigned char)s.type, f->at - 1);
	if (!named)
		v = next_arg(f);
	if (s.type == 's' || s.type == 'r' || s.type == 'a')
		put_text(f, &s, v);
	else if (s.type == 'c')
		put_char(f, &s, v);
	else if (strchr("diuxXo", s.type))
		put_whole(f, &s, v);
	else
		put_float(f, &s, v);
}

struct value format_percent(struct run *r, struct str *format, struct value args)
{
	struct formatter f = { .r = r, .format = format, .out = STR_OUT(&r->j), .args = args };
	const char *p = str_bytes(&r->j, format);
	bool all_used;

	while (f.at < format->n) {
		size_t from = f.at;

		while (f.at < format->n && p[f.at] != '%')
			f.at++;
		if (f.at > from)
			str_out_str(&f.out, str_cut(&r->j, format, from, f.at));
		if (f.at < format->n) {
			f.at++;
			convert(&f);
		}
	}
	all_used = args.kind == V_TUPLE ? f.next == args.l->n :
		   f.next > 0 || f.by_name || args.kind == V_DICT || args.kind == V_LIST ||
		   args.kind == V_RANGE || args.kind == V_UNDEFINED;
	if (!all_used)
		jinja_fail(&r->j, "not all arguments converted during string formatting");
	return v_str(str_out_done(&f.out));
}

/* ---- str.format() ---- */

struct braces {
	struct run *r;
	const struct args *args;
	int64_t next;
};

static struct value first_field(struct braces *b, struct str *name)
{
	struct jinja *j = &b->r->j;
	struct value v = v_int(b->next);

	if (name->n)
		v = to_int(b->r, v_str(name), MISSING, 10);
	else
		b->next++;
	if (v.kind == V_INT) {
		if (v.i < 0 || v.i >= (int64_t)b->args->n)
			jinja_fail(j, "tuple index out of range");
		return b->args->v[v.i];
	}
	for (size_t i = 0; i < b->args->n_kw; i++)
		if (str_eq(j, b->args->kw[i].name, name))
			return b->args->kw[i].v;
	jinja_fail(j, "%s", v_repr_text(j, v_str(name)));
}

/* name, name.attr, name[key], in any length */
static struct value field(struct braces *b, struct str *path)
{
	struct jinja *j = &b->r->j;
	const char *p = str_bytes(j, path);
	size_t at = 0, from;
	struct value v;

	while (at < path->n && p[at] != '.' && p[at] != '[')
		at++;
	v = first_field(b, str_cut(j, path, 0, at));
	while (at < path->n) {
		bool item = p[at] == '[';
		struct str *key;

		from = ++at;
		while (at < path->n && (item ? p[at] != ']' : p[at] != '.' && p[at] != '['))
			at++;
		key = str_cut(j, path, from, at);
		if (item) {
			struct value k = to_int(b->r, v_str(key), v_str(key), 10);

			v = get_item(b->r, v, k);
			at++;
		} else {
			v = get_attr(b->r, v, key);
		}
	}
	return v;
}

/* What stands between braces. */
static void replacement(struct braces *b, struct str_out *o, struct str *inside)
{
	struct jinja *j = &b->r->j;
	struct str *colon = str_from(j, ":", TEMPLATE), *bang = str_from(j, "!", TEMPLATE);
	size_t spec = str_find(j, inside, colon, 0), conv = str_find(j, inside, bang, 0);
	struct value v;

	if (spec != STR_NONE && spec + 1 < inside->n)
		jinja_fail(j, "format specifications of str.format() are not supported");
	if (spec != STR_NONE)
		inside = str_cut(j, inside, 0, spec);
	if (conv == STR_NONE || conv >= inside->n) {
		str_out_str(o, v_to_str(j, field(b, inside)));
		return;
	}
	v = field(b, str_cut(j, inside, 0, conv));
	if (conv + 2 == inside->n && inside->p[conv + 1] == 'r')
		v_repr(o, v);
	else
		str_out_str(o, v_to_str(j, v));
}

struct value format_braces(struct run *r, struct str *format, const struct args *a)
{
	struct braces b = { r, a, 0 };
	struct str_out o = STR_OUT(&r->j);
	const char *p = str_bytes(&r->j, format);
	size_t at = 0, from;

	while (at < format->n) {
		char c = p[at];

		from = at;
		if ((c == '{' || c == '}') && at + 1 < format->n && p[at + 1] == c) {
			str_out_str(&o, str_cut(&r->j, format, at, at + 1));
			at += 2;
		} else if (c == '{') {
			while (at < format->n && p[at] != '}')
				at++;
			if (at == format->n)
				jinja_fail(&r->j, from + 1 == at ?
					   "Single '{' encountered in format string" :
					   "expected '}' before end of string");
			replacement(&b, &o, str_cut(&r->j, format, from + 1, at++));
		} else if (c == '}') {
			jinja_fail(&r->j, "Single '}' encountered in format string");
		} else {
			while (at < format->n && p[at] != '{' && p[at] != '}')
				at++;
			str_out_str(&o, str_cut(&r->j, format, from, at));
		}
	}
	return v_str(str_out_done(&o));
}
