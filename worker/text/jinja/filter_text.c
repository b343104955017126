/* filter_text.c - filters that make text and numbers; see filter.h. */
#include "worker/text/jinja/filter.h"

#include <math.h>
#include <string.h>

#include "worker/text/jinja/chars.h"

struct str *soft_str(struct run *r, struct value v)
{
	return v.kind == V_STR ? v.s : v_to_str(&r->j, v);
}

static struct value f_upper(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "do_upper", 0, "", NULL);
	return v_str(str_upper(&r->j, soft_str(r, self)));
}

static struct value f_lower(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "do_lower", 0, "", NULL);
	return v_str(str_lower(&r->j, soft_str(r, self)));
}

static struct value f_capitalize(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "do_capitalize", 0, "", NULL);
	return v_str(str_capitalize(&r->j, soft_str(r, self)));
}

static bool separates_words(uint32_t c)
{
	return char_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* Not str.title(): words begin after white space and opening brackets only. */
static struct value f_title(struct run *r, struct value self, const struct args *a)
{
	struct str *s = soft_str(r, self);
	const char *p = str_bytes(&r->j, s);
	struct str_out o = STR_OUT(&r->j);
	size_t at = 0, from;
	uint32_t c;

	bind_args(r, a, "do_title", 0, "", NULL);
	while (at < s->n) {
		bool gap;

		from = at;
		at += char_get(p + at, &c);
		gap = separates_words(c);
		str_out_str(&o, str_upper(&r->j, str_cut(&r->j, s, from, at)));
		from = at;
		for (size_t n; at < s->n; at += n) {
			n = char_get(p + at, &c);
			if (separates_words(c) != gap)
				break;
		}
		if (at > from)
			str_out_str(&o, str_lower(&r->j, str_cut(&r->j, s, from, at)));
	}
	return v_str(str_out_done(&o));
}

static struct value f_trim(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];
	struct str *chars = NULL;

	bind_args(r, a, "do_trim", 0, "chars", v);
	if (v[0].kind != V_MISSING && v[0].kind != V_NONE)
		chars = want_str(r, v[0], "strip arg");
	return v_str(str_strip(&r->j, soft_str(r, self), chars, STR_LEFT | STR_RIGHT));
}

static struct value f_replace(struct run *r, struct value self, const struct args *a)
{
	struct value v[3];

	bind_args(r, a, "do_replace", 2, "old new count", v);
	return v_str(str_replace(&r->j, v_to_str(&r->j, self), v_to_str(&r->j, v[0]),
				 v_to_str(&r->j, v[1]), want_int_or(r, v[2], -1)));
}

static struct value f_string(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "soft_str", 0, "", NULL);
	return v_str(soft_str(r, self));
}

static struct value f_safe(struct run *r, struct value self, const struct args *a)
{
	struct str *s = v_to_str(&r->j, self), *safe;

	bind_args(r, a, "do_mark_safe", 0, "", NULL);
	str_bytes(&r->j, s);
	safe = jinja_alloc(&r->j, 1, sizeof(*safe));
	*safe = *s;
	safe->safe = true;
	return v_str(safe);
}

static struct value f_escape(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "escape", 0, "", NULL);
	return v_str(str_escape(&r->j, soft_str(r, self)));
}

static struct value f_forceescape(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "do_forceescape", 0, "", NULL);
	return v_str(str_escape(&r->j, v_to_str(&r->j, self)));
}

static struct value f_format(struct run *r, struct value self, const struct args *a)
{
	struct list *l = list_new(&r->j, a->n);
	struct dict *d = dict_new(&r->j, a->n_kw);

	if (a->n && a->n_kw)
		jinja_fail(&r->j, "can't handle positional and keyword arguments at the same time");
	for (size_t i = 0; i < a->n; i++)
		list_push(&r->j, l, a->v[i]);
	for (size_t i = 0; i < a->n_kw; i++)
		dict_put(&r->j, d, v_str(a->kw[i].name), a->kw[i].v);
	return format_percent(r, soft_str(r, self), a->n_kw ? v_dict(d) : v_list(l, V_TUPLE));
}

static struct value f_center(struct run *r, struct value self, const struct args *a)
{
	struct args width = { .v = (struct value[]){ v_int(80) }, .n = 1 };
	struct value v[1];

	bind_args(r, a, "do_center", 0, "width", v);
	if (v[0].kind != V_MISSING)
		width.v[0] = v[0];
	return method_center(r, v_str(soft_str(r, self)), &width);
}

static struct str *spaces(struct run *r, int64_t n)
{
	struct str_out o = STR_OUT(&r->j);

	for (; n > 0; n--)
		str_out_puts(&o, " ", TEMPLATE);
	return str_out_done(&o);
}

static struct value f_indent(struct run *r, struct value self, const struct args *a)
{
	struct str_out o = STR_OUT(&r->j);
	struct str *by, *newline = str_from(&r->j, "\n", TEMPLATE);
	struct value v[3];
	struct list *l;

	bind_args(r, a, "do_indent", 0, "width first blank", v);
	by = v[0].kind == V_STR ? v[0].s : spaces(r, want_int_or(r, v[0], 4));
	if (self.kind == V_LIST)
		jinja_fail(&r->j, "'list' object has no attribute 'splitlines'");
	if (self.kind != V_STR && self.kind != V_UNDEFINED && self.kind != V_TUPLE)
		jinja_fail(&r->j, "unsupported operand type(s) for +=: '%s' and 'str'",
			   v_type_name(self));
	self = arithmetic(r, N_ADD, self, v_str(newline));
	l = split_lines(r, self.s, false);
	if (v_truth(r, v[1]))
		str_out_str(&o, by);
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			str_out_str(&o, newline);
		if (i && (l->v[i].s->n || v_truth(r, v[2])))
			str_out_str(&o, by);
		str_out_str(&o, l->v[i].s);
	}
	return v_str(str_out_done(&o));
}

static struct value f_truncate(struct run *r, struct value self, const struct args *a)
{
	struct jinja *j = &r->j;
	int64_t length, leeway, n, cut;
	struct str *s, *end;
	struct value v[4];
	size_t space;

	bind_args(r, a, "do_truncate", 0, "length killwords end leeway", v);
	length = want_int_or(r, v[0], 255);
	leeway = want_int_or(r, v[3], 5);
	end = v[2].kind == V_MISSING ? str_from(j, "...", TEMPLATE) : want_str(r, v[2], "end");
	if (!length_of(r, self, &space))
		jinja_fail(j, "object of type '%s' has no len()", v_type_name(self));
	n = (int64_t)space;
	cut = length - (int64_t)str_n_chars(j, end);
	if (cut < 0)
		jinja_fail(j, "expected length >= %zu, got %lld", str_n_chars(j, end),
			   (long long)length);
	if (leeway < 0)
		jinja_fail(j, "expected leeway >= 0, got %lld", (long long)leeway);
	if (n <= leeway || n - leeway <= length)
		return self;
	s = want_str(r, self, "the value");
	s = str_slice(j, s, 0, 1, cut);
	if (!v_truth(r, v[1])) {
		space = str_rfind(j, s, str_from(j, " ", TEMPLATE), s->n);
		if (space != STR_NONE)
			s = str_cut(j, s, 0, space);
	}
	return v_str(str_add(j, s, end));
}

static struct value f_wordcount(struct run *r, struct value self, const struct args *a)
{
	struct str *s = soft_str(r, self);
	const char *p = str_bytes(&r->j, s);
	bool in_word = false, is_word;
	int64_t n = 0;
	uint32_t c;

	bind_args(r, a, "do_wordcount", 0, "", NULL);
	jinja_work(&r->j, s->n);
	for (size_t i = 0; i < s->n; in_word = is_word) {
		i += char_get(p + i, &c);
		is_word = c == '_' || char_is(c, CHAR_LETTER) || char_is(c, CHAR_NUMERIC) ||
			  char_is(c, CHAR_DIGIT) || char_is(c, CHAR_DECIMAL);
		n += is_word && !in_word;
	}
	return v_int(n);
}

/* Hugging Face's own: json.dumps with ensure_ascii off. */
static struct value f_tojson(struct run *r, struct value self, const struct args *a)
{
	struct json_style style = { 0 };
	struct value v[4];

	bind_args(r, a, "tojson", 0, "ensure_ascii indent separators sort_keys", v);
	style.ascii = v[0].kind != V_MISSING && v_truth(r, v[0]);
	if (v[1].kind == V_STR)
		style.indent = v[1].s;
	else if (v[1].kind != V_MISSING && v[1].kind != V_NONE)
		style.indent = spaces(r, v_index(&r->j, v[1]));
	style.item_sep = str_from(&r->j, style.indent ? "," : ", ", TEMPLATE);
	style.key_sep = str_from(&r->j, ": ", TEMPLATE);
	if (v[2].kind != V_MISSING && v[2].kind != V_NONE) {
		struct list *l = items_of(r, v[2]);

		if (l->n != 2)
			jinja_fail(&r->j, "separators must be two strings");
		style.item_sep = want_str(r, l->v[0], "separators");
		style.key_sep = want_str(r, l->v[1], "separators");
	}
	style.sort_keys = v[3].kind != V_MISSING && v_truth(r, v[3]);
	return v_str(v_to_json(&r->j, self, &style));
}

static struct value f_int(struct run *r, struct value self, const struct args *a)
{
	struct value v[2];

	bind_args(r, a, "do_int", 0, "default base", v);
	return to_int(r, self, v[0].kind == V_MISSING ? v_int(0) : v[0], want_int_or(r, v[1], 10));
}

static struct value f_float(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];

	bind_args(r, a, "do_float", 0, "default", v);
	return to_float(r, self, v[0].kind == V_MISSING ? v_float(0) : v[0]);
}

static struct value f_round(struct run *r, struct value self, const struct args *a)
{
	const char *method = "common";
	struct value v[2];

	bind_args(r, a, "do_round", 0, "precision method", v);
	if (v[1].kind != V_MISSING)
		method = str_text(&r->j, v_to_str(&r->j, v[1]));
	if (strcmp(method, "common") && strcmp(method, "ceil") && strcmp(method, "floor"))
		jinja_fail(&r->j, "method must be common, ceil or floor");
	return round_number(r, self, want_int_or(r, v[0], 0), method);
}

static struct value f_abs(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "abs", 0, "", NULL);
	if (!v_is_number(self))
		jinja_fail(&r->j, "bad operand type for abs(): '%s'", v_type_name(self));
	if (self.kind == V_BOOL)
		return v_int(self.b);
	if (self.kind == V_FLOAT)
		self.f = fabs(self.f);
	else if (v_compare(&r->j, self, v_int(0), "<") < 0)
		return negate(r, self);
	return self;
}

static struct value f_default(struct run *r, struct value self, const struct args *a)
{
	struct value v[2];

	bind_args(r, a, "do_default", 0, "default_value boolean", v);
	if (self.kind == V_UNDEFINED || (v_truth(r, v[1]) && !v_truth(r, self)))
		return v[0].kind == V_MISSING ? v_text(&r->j, "") : v[0];
	return self;
}

static struct value f_attr(struct run *r, struct value self, const struct args *a)
{
	struct value v[1], found;

	bind_args(r, a, "do_attr", 1, "name", v);
	found = find_method(r, self, want_str(r, v[0], "attribute name"));
	return found.kind == V_MISSING ? v_no_such(&r->j, self, v[0]) : found;
}

const struct filter text_filters[] = {
	{ "abs", f_abs }, { "attr", f_attr }, { "capitalize", f_capitalize },
	{ "center", f_center }, { "d", f_default }, { "default", f_default }, { "e", f_escape },
	{ "escape", f_escape }, { "float", f_float }, { "forceescape", f_forceescape },
	{ "format", f_format }, { "indent", f_indent }, { "int", f_int }, { "lower", f_lower },
	{ "replace", f_replace }, { "round", f_round }, { "safe", f_safe }, { "string", f_string },
	{ "title", f_title }, { "tojson", f_tojson }, { "trim", f_trim },
	{ "truncate", f_truncate }, { "upper", f_upper }, { "wordcount", f_wordcount },
	{ NULL, NULL },
};
