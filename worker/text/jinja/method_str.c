/* method_str.c - methods of strings; see method.h. */
#include "worker/text/jinja/method.h"

#include <string.h>

#include "worker/text/jinja/chars.h"

/* ---- strings: cutting ---- */

static struct value strip(struct run *r, struct value self, const struct args *a, int ends,
			  const char *name)
{
	struct value v[1];

	bind_args(r, a, name, 0, "chars", v);
	if (v[0].kind != V_MISSING && v[0].kind != V_NONE && v[0].kind != V_STR)
		jinja_fail(&r->j, "%s arg must be None or str", name);
	return v_str(str_strip(&r->j, self.s, v[0].kind == V_STR ? v[0].s : NULL, ends));
}

static struct value m_strip(struct run *r, struct value self, const struct args *a)
{
	return strip(r, self, a, STR_LEFT | STR_RIGHT, "strip");
}

static struct value m_lstrip(struct run *r, struct value self, const struct args *a)
{
	return strip(r, self, a, STR_LEFT, "lstrip");
}

static struct value m_rstrip(struct run *r, struct value self, const struct args *a)
{
	return strip(r, self, a, STR_RIGHT, "rstrip");
}

static size_t skip_space(struct str *s, size_t at)
{
	uint32_t c;

	while (at < s->n) {
		size_t n = char_get(s->p + at, &c);

		if (!char_is_space(c))
			break;
		at += n;
	}
	return at;
}

static size_t skip_word(struct str *s, size_t at)
{
	uint32_t c;

	while (at < s->n) {
		size_t n = char_get(s->p + at, &c);

		if (char_is_space(c))
			break;
		at += n;
	}
	return at;
}

/* Words between runs of white space. */
static struct list *split_space(struct run *r, struct str *s, int64_t max)
{
	struct list *l = list_new(&r->j, 0);
	size_t at, end;

	str_bytes(&r->j, s);
	jinja_work(&r->j, s->n);
	for (at = skip_space(s, 0); at < s->n; at = skip_space(s, end), max--) {
		end = skip_word(s, at);
		if (max == 0) {
			list_push(&r->j, l, v_str(str_cut(&r->j, s, at, s->n)));
			break;
		}
		list_push(&r->j, l, v_str(str_cut(&r->j, s, at, end)));
	}
	return l;
}

static size_t char_before(struct str *s, size_t at, uint32_t *c)
{
	do
		at--;
	while (((unsigned char)s->p[at] & 0xc0) == 0x80);
	char_get(s->p + at, c);
	return at;
}

static void reverse(struct list *l)
{
	for (size_t i = 0; i < l->n / 2; i++) {
		struct value v = l->v[i];

		l->v[i] = l->v[l->n - 1 - i];
		l->v[l->n - 1 - i] = v;
	}
}

/* The same from the end, with a limit. */
static struct list *rsplit_space(struct run *r, struct str *s, int64_t max)
{
	struct list *l = list_new(&r->j, 0);
	size_t at = s->n;
	uint32_t c = 0;

	str_bytes(&r->j, s);
	jinja_work(&r->j, s->n);
	for (;;) {
		size_t end, from;

		for (end = at; end > 0 && (from = char_before(s, end, &c), char_is_space(c));
		     end = from)
			;
		if (!end)
			break;
		if (max-- == 0) {
			list_push(&r->j, l, v_str(str_cut(&r->j, s, 0, end)));
			break;
		}
		for (at = end; at > 0 && (from = char_before(s, at, &c), !char_is_space(c));
		     at = from)
			;
		list_push(&r->j, l, v_str(str_cut(&r->j, s, at, end)));
	}
	reverse(l);
	return l;
}

static struct list *split_at(struct run *r, struct str *s, struct str *sep, int64_t max)
{
	struct list *l = list_new(&r->j, 0);
	size_t at = 0, hit;

	for (; max != 0; max--) {
		hit = str_find(&r->j, s, sep, at);
		if (hit == STR_NONE)
			break;
		list_push(&r->j, l, v_str(str_cut(&r->j, s, at, hit)));
		at = hit + sep->n;
	}
	list_push(&r->j, l, v_str(str_cut(&r->j, s, at, s->n)));
	return l;
}

static struct list *rsplit_at(struct run *r, struct str *s, struct str *sep, int64_t max)
{
	struct list *l = list_new(&r->j, 0);
	size_t end = s->n, hit;

	for (; max != 0; max--) {
		hit = str_rfind(&r->j, s, sep, end);
		if (hit == STR_NONE)
			break;
		list_push(&r->j, l, v_str(str_cut(&r->j, s, hit + sep->n, end)));
		end = hit;
	}
	list_push(&r->j, l, v_str(str_cut(&r->j, s, 0, end)));
	reverse(l);
	return l;
}

static struct value split(struct run *r, struct value self, const struct args *a, bool right,
			  const char *name)
{
	struct value v[2];
	struct list *l;
	int64_t max;

	bind_args(r, a, name, 0, "sep maxsplit", v);
	max = want_int_or(r, v[1], -1);
	if (v[0].kind == V_MISSING || v[0].kind == V_NONE) {
		l = right ? rsplit_space(r, self.s, max) : split_space(r, self.s, max);
		return v_list(l, V_LIST);
	}
	if (v[0].kind != V_STR)
		jinja_fail(&r->j, "must be str or None, not %s", v_type_name(v[0]));
	if (!v[0].s->n)
		jinja_fail(&r->j, "empty separator");
	l = right && max >= 0 ? rsplit_at(r, self.s, v[0].s, max) :
				split_at(r, self.s, v[0].s, max);
	return v_list(l, V_LIST);
}

static struct value m_split(struct run *r, struct value self, const struct args *a)
{
	return split(r, self, a, false, "split");
}

static struct value m_rsplit(struct run *r, struct value self, const struct args *a)
{
	return split(r, self, a, true, "rsplit");
}

static bool is_line_end(uint32_t c)
{
	return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
	       c == 0x2029;
}

struct list *split_lines(struct run *r, struct str *s, bool keep)
{
	const char *p = str_bytes(&r->j, s);
	struct list *l = list_new(&r->j, 0);
	size_t from = 0, at = 0;
	uint32_t c;

	jinja_work(&r->j, s->n);
	while (at < s->n) {
		size_t n = char_get(p + at, &c), end = at;

		at += n;
		if (!is_line_end(c))
			continue;
		if (c == '\r' && at < s->n && p[at] == '\n')
			at++;
		list_push(&r->j, l, v_str(str_cut(&r->j, s, from, keep ? at : end)));
		from = at;
	}
	if (from < s->n)
		list_push(&r->j, l, v_str(str_cut(&r->j, s, from, s->n)));
	return l;
}

static struct value m_splitlines(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];

	bind_args(r, a, "splitlines", 0, "keepends", v);
	return v_list(split_lines(r, self.s, v_truth(r, v[0])), V_LIST);
}

static struct value partition(struct run *r, struct value self, const struct args *a, bool right)
{
	struct list *l = list_new(&r->j, 3);
	struct str *s = self.s, *sep;
	struct value v[1];
	size_t hit;

	bind_args(r, a, "partition", 1, "sep", v);
	sep = want_str(r, v[0], "sep");
	if (!sep->n)
		jinja_fail(&r->j, "empty separator");
	hit = right ? str_rfind(&r->j, s, sep, s->n) : str_find(&r->j, s, sep, 0);
	if (hit == STR_NONE) {
		list_push(&r->j, l, right ? v_text(&r->j, "") : self);
		list_push(&r->j, l, v_text(&r->j, ""));
		list_push(&r->j, l, right ? self : v_text(&r->j, ""));
	} else {
		list_push(&r->j, l, v_str(str_cut(&r->j, s, 0, hit)));
		list_push(&r->j, l, v_str(str_cut(&r->j, s, hit, hit + sep->n)));
		list_push(&r->j, l, v_str(str_cut(&r->j, s, hit + sep->n, s->n)));
	}
	return v_list(l, V_TUPLE);
}

static struct value m_partition(struct run *r, struct value self, const struct args *a)
{
	return partition(r, self, a, false);
}

static struct value m_rpartition(struct run *r, struct value self, const struct args *a)
{
	return partition(r, self, a, true);
}

/* ---- strings: looking ---- */

/* self[start:end] by two optional arguments, and where it begins, in characters. */
static struct str *window(struct run *r, struct str *s, struct value start, struct value end,
			  int64_t *ret_from)
{
	int64_t n, from, to;

	if (start.kind == V_MISSING && end.kind == V_MISSING) {
		*ret_from = 0;
		return s;
	}
	n = (int64_t)str_n_chars(&r->j, s);
	from = want_int_or(r, start, 0);
	to = want_int_or(r, end, n);
	from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
	to = to < 0 ? (to + n < 0 ? 0 : to + n) : to > n ? n : to;
	*ret_from = from;
	if (from > n || from > to)
		return NULL;
	return str_slice(&r->j, s, from, 1, to - from);
}

static struct value with_affix(struct run *r, struct value self, const struct args *a, bool prefix,
			       const char *name)
{
	struct list one = { .n = 1 }, *l = &one;
	struct value v[3];
	struct str *s;
	int64_t from;

	bind_args(r, a, name, 1, "affix start end", v);
	s = window(r, self.s, v[1], v[2], &from);
	one.v = v;
	if (v[0].kind == V_TUPLE)
		l = v[0].l;
	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i].kind != V_STR)
			jinja_fail(&r->j, "%s first arg must be str or a tuple of str, not %s",
				   name, v_type_name(l->v[i]));
		if (s && (prefix ? str_has_prefix(&r->j, s, l->v[i].s) :
				   str_has_suffix(&r->j, s, l->v[i].s)))
			return v_bool(true);
	}
	return v_bool(false);
}

static struct value m_startswith(struct run *r, struct value self, const struct args *a)
{
	return with_affix(r, self, a, true, "startswith");
}

static struct value m_endswith(struct run *r, struct value self, const struct args *a)
{
	return with_affix(r, self, a, false, "endswith");
}

static struct value without_affix(struct run *r, struct value self, const struct args *a,
				  bool prefix)
{
	struct str *s = self.s, *affix;
	struct value v[1];

	bind_args(r, a, prefix ? "removeprefix" : "removesuffix", 1, "affix", v);
	affix = want_str(r, v[0], "affix");
	if (prefix)
		return v_str(str_has_prefix(&r->j, s, affix) ?
				     str_cut(&r->j, s, affix->n, s->n) : s);
	return v_str(affix->n && str_has_suffix(&r->j, s, affix) ?
			     str_cut(&r->j, s, 0, s->n - affix->n) : s);
}

static struct value m_removeprefix(struct run *r, struct value self, const struct args *a)
{
	return without_affix(r, self, a, true);
}

static struct value m_removesuffix(struct run *r, struct value self, const struct args *a)
{
	return without_affix(r, self, a, false);
}

static int64_t find(struct run *r, struct value self, const struct args *a, bool right,
		    const char *name)
{
	struct value v[3];
	struct str *s, *what;
	int64_t from;
	size_t hit;

	bind_args(r, a, name, 1, "sub start end", v);
	what = want_str(r, v[0], "must be str: the argument");
	s = window(r, self.s, v[1], v[2], &from);
	if (!s)
		return -1;
	hit = right ? str_rfind(&r->j, s, what, s->n) : str_find(&r->j, s, what, 0);
	if (hit == STR_NONE)
		return -1;
	return from + (int64_t)str_n_chars(&r->j, str_cut(&r->j, s, 0, hit));
}

static struct value m_find(struct run *r, struct value self, const struct args *a)
{
	return v_int(find(r, self, a, false, "find"));
}

static struct value m_rfind(struct run *r, struct value self, const struct args *a)
{
	return v_int(find(r, self, a, true, "rfind"));
}

static struct value m_index(struct run *r, struct value self, const struct args *a)
{
	int64_t at = find(r, self, a, false, "index");

	if (at < 0)
		jinja_fail(&r->j, "substring not found");
	return v_int(at);
}

static struct value m_rindex(struct run *r, struct value self, const struct args *a)
{
	int64_t at = find(r, self, a, true, "rindex");

	if (at < 0)
		jinja_fail(&r->j, "substring not found");
	return v_int(at);
}

static struct value m_count(struct run *r, struct value self, const struct args *a)
{
	struct str *s, *what;
	struct value v[3];
	int64_t from, n = 0;

	bind_args(r, a, "count", 1, "sub start end", v);
	what = want_str(r, v[0], "must be str: the argument");
	s = window(r, self.s, v[1], v[2], &from);
	if (!s)
		return v_int(0);
	if (!what->n)
		return v_int((int64_t)str_n_chars(&r->j, s) + 1);
	for (size_t at = 0; (at = str_find(&r->j, s, what, at)) != STR_NONE; at += what->n)
		n++;
	return v_int(n);
}

/* All characters of that class, and at least one. */
static bool all_of(struct run *r, struct str *s, bool (*is)(uint32_t c))
{
	const char *p = str_bytes(&r->j, s);
	uint32_t c;

	jinja_work(&r->j, s->n);
	for (size_t i = 0; i < s->n;) {
		i += char_get(p + i, &c);
		if (!is(c))
			return false;
	}
	return s->n > 0;
}

static bool is_letter(uint32_t c)
{
	return char_is(c, CHAR_LETTER);
}

static bool is_decimal(uint32_t c)
{
	return char_is(c, CHAR_DECIMAL);
}

static bool is_digit(uint32_t c)
{
	return char_is(c, CHAR_DIGIT);
}

static bool is_numeric(uint32_t c)
{
	return char_is(c, CHAR_NUMERIC);
}

static bool is_alnum(uint32_t c)
{
	return is_letter(c) || is_decimal(c) || is_digit(c) || is_numeric(c);
}

#define ALL_OF(name, is)                                                                    \
	static struct value name(struct run *r, struct value self, const struct args *a)    \
	{                                                                                   \
		bind_args(r, a, &#name[2], 0, "", NULL);                                    \
		return v_bool(all_of(r, self.s, is));                                       \
	}

ALL_OF(m_isalpha, is_letter)
ALL_OF(m_isdecimal, is_decimal)
ALL_OF(m_isdigit, is_digit)
ALL_OF(m_isnumeric, is_numeric)
ALL_OF(m_isalnum, is_alnum)
ALL_OF(m_isspace, char_is_space)

bool is_in_case(struct run *r, struct str *s, bool up)
{
	const char *p = str_bytes(&r->j, s);
	bool any = false;
	uint32_t c;

	jinja_work(&r->j, s->n);
	for (size_t i = 0; i < s->n;) {
		i += char_get(p + i, &c);
		if (char_is(c, up ? CHAR_LOWER : CHAR_UPPER))
			return false;
		any |= char_is(c, up ? CHAR_UPPER : CHAR_LOWER);
	}
	return any;
}

static struct value m_isupper(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "isupper", 0, "", NULL);
	return v_bool(is_in_case(r, self.s, true));
}

static struct value m_islower(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "islower", 0, "", NULL);
	return v_bool(is_in_case(r, self.s, false));
}

/* ---- strings: making others ---- */

#define CONVERTED(name, convert)                                                            \
	static struct value name(struct run *r, struct value self, const struct args *a)    \
	{                                                                                   \
		bind_args(r, a, &#name[2], 0, "", NULL);                                    \
		return v_str(convert(&r->j, self.s));                                       \
	}

CONVERTED(m_upper, str_upper)
CONVERTED(m_lower, str_lower)
CONVERTED(m_title, str_title)
CONVERTED(m_capitalize, str_capitalize)
CONVERTED(m_swapcase, str_swapcase)

static struct value m_replace(struct run *r, struct value self, const struct args *a)
{
	struct value v[3];

	bind_args(r, a, "replace", 2, "old new count", v);
	return v_str(str_replace(&r->j, self.s, want_str(r, v[0], "replace() argument 1"),
				 want_str(r, v[1], "replace() argument 2"),
				 want_int_or(r, v[2], -1)));
}

static struct value m_join(struct run *r, struct value self, const struct args *a)
{
	struct str_out o = STR_OUT(&r->j);
	struct value v[1];
	struct list *l;

	bind_args(r, a, "join", 1, "iterable", v);
	if (!is_iterable(v[0]))
		jinja_fail(&r->j, "can only join an iterable");
	l = items_of(r, v[0]);
	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i].kind != V_STR)
			jinja_fail(&r->j, "sequence item %zu: expected str instance, %s found", i,
				   v_type_name(l->v[i]));
		if (i)
			str_out_str(&o, self.s);
		str_out_str(&o, l->v[i].s);
	}
	return v_str(str_out_done(&o));
}

/* Fills up to a width in characters: `left` of the missing ones before. */
static struct value pad(struct run *r, struct value self, const struct args *a, const char *name,
			int64_t (*left)(int64_t missing, int64_t width))
{
	struct str_out o = STR_OUT(&r->j);
	struct value v[2];
	struct str *fill;
	int64_t width, missing;

	bind_args(r, a, name, 1, "width fillchar", v);
	width = v_index(&r->j, v[0]);
	missing = width - (int64_t)str_n_chars(&r->j, self.s);
	fill = v[1].kind == V_MISSING ? str_from(&r->j, " ", TEMPLATE) :
					want_str(r, v[1], "The fill character");
	if (str_n_chars(&r->j, fill) != 1)
		jinja_fail(&r->j, "The fill character must be exactly one character long");
	if (missing <= 0)
		return self;
	for (int64_t i = 0; i < left(missing, width); i++)
		str_out_str(&o, fill);
	str_out_str(&o, self.s);
	for (int64_t i = left(missing, width); i < missing; i++)
		str_out_str(&o, fill);
	return v_str(str_as_safe(&r->j, str_out_done(&o), self.s->safe));
}

static int64_t none_left(int64_t missing, int64_t width)
{
	(void)missing, (void)width;
	return 0;
}

static int64_t all_left(int64_t missing, int64_t width)
{
	(void)width;
	return missing;
}

static int64_t half_left(int64_t missing, int64_t width)
{
	return missing / 2 + (missing & width & 1);
}

static struct value m_ljust(struct run *r, struct value self, const struct args *a)
{
	return pad(r, self, a, "ljust", none_left);
}

static struct value m_rjust(struct run *r, struct value self, const struct args *a)
{
	return pad(r, self, a, "rjust", all_left);
}

struct value method_center(struct run *r, struct value self, const struct args *a)
{
	return pad(r, self, a, "center", half_left);
}

static struct value m_zfill(struct run *r, struct value self, const struct args *a)
{
	struct str_out o = STR_OUT(&r->j);
	struct value v[1];
	int64_t missing;
	size_t sign;

	bind_args(r, a, "zfill", 1, "width", v);
	missing = v_index(&r->j, v[0]) - (int64_t)str_n_chars(&r->j, self.s);
	sign = self.s->n && strchr("+-", str_bytes(&r->j, self.s)[0]) ? 1 : 0;
	str_out_str(&o, str_cut(&r->j, self.s, 0, sign));
	for (; missing > 0; missing--)
		str_out_puts(&o, "0", TEMPLATE);
	if (sign < self.s->n)
		str_out_str(&o, str_cut(&r->j, self.s, sign, self.s->n));
	return v_str(str_out_done(&o));
}

static struct value m_format(struct run *r, struct value self, const struct args *a)
{
	return format_braces(r, self.s, a);
}

/* ---- the table ---- */

const struct method str_methods[] = {
	{ "strip", m_strip },
	{ "lstrip", m_lstrip },
	{ "rstrip", m_rstrip },
	{ "split", m_split },
	{ "rsplit", m_rsplit },
	{ "splitlines", m_splitlines },
	{ "partition", m_partition },
	{ "rpartition", m_rpartition },
	{ "startswith", m_startswith },
	{ "endswith", m_endswith },
	{ "removeprefix", m_removeprefix },
	{ "removesuffix", m_removesuffix },
	{ "find", m_find },
	{ "rfind", m_rfind },
	{ "index", m_index },
	{ "rindex", m_rindex },
	{ "count", m_count },
	{ "isalpha", m_isalpha },
	{ "isdecimal", m_isdecimal },
	{ "isdigit", m_isdigit },
	{ "isnumeric", m_isnumeric },
	{ "isalnum", m_isalnum },
	{ "isspace", m_isspace },
	{ "isupper", m_isupper },
	{ "islower", m_islower },
	{ "upper", m_upper },
	{ "lower", m_lower },
	{ "title", m_title },
	{ "capitalize", m_capitalize },
	{ "swapcase", m_swapcase },
	{ "replace", m_replace },
	{ "join", m_join },
	{ "ljust", m_ljust },
	{ "rjust", m_rjust },
	{ "center", method_center },
	{ "zfill", m_zfill },
	{ "format", m_format },
	{ NULL, NULL },
};
