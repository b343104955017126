/* str.c - see str.h. */
#include "worker/text/jinja/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/utf8.h"

/* Sums up to here are copied at once: a node of a rope is no smaller. */
#define SMALL 128

static struct str *new_str(struct jinja *j)
{
	struct str *s = jinja_alloc(j, 1, sizeof(*s));

	s->n_chars = STR_UNCOUNTED;
	return s;
}

struct str *str_new(struct jinja *j, const char *p, size_t n, enum mark mark)
{
	struct str *s = new_str(j);

	s->p = p;
	s->n = n;
	s->mark = mark;
	return s;
}

struct str *str_from(struct jinja *j, const char *terminated, enum mark mark)
{
	return str_new(j, terminated, strlen(terminated), mark);
}

struct str *str_printf(struct jinja *j, enum mark mark, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	p = jinja_alloc(j, (size_t)n + 1, 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return str_new(j, p, (size_t)n, mark);
}

/* Leaves of a sum, last first: a chain of s = s + x needs no deep stack so. */
struct leaves {
	struct str **stack;
	size_t n, cap;
};

static void push(struct jinja *j, struct leaves *l, struct str *s)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;

		l->stack = jinja_grow(j, l->stack, l->n, cap, sizeof(struct str *));
		l->cap = cap;
	}
	l->stack[l->n++] = s;
}

static void copy_leaf(const struct str *s, char *p, uint8_t *marks)
{
	memcpy(p, s->p, s->n);
	if (s->marks)
		memcpy(marks, s->marks, s->n);
	else
		memset(marks, s->mark, s->n);
}

static void flatten(struct jinja *j, struct str *sum)
{
	char *p = jinja_alloc(j, sum->n, 1);
	uint8_t *marks = jinja_alloc(j, sum->n, 1);
	struct leaves l = { NULL, 0, 0 };
	size_t end = sum->n;
	bool has[2] = { false, false };

	jinja_work(j, sum->n);
	push(j, &l, sum);
	while (l.n) {
		struct str *s = l.stack[--l.n];

		if (!s->p) {
			push(j, &l, s->left);
			push(j, &l, s->right);
			jinja_work(j, 0);
			continue;
		}
		end -= s->n;
		copy_leaf(s, p + end, marks + end);
		if (s->marks)
			has[0] = has[1] = true;
		else if (s->n)
			has[s->mark] = true;
	}
	sum->p = p;
	sum->mark = has[DATA] ? DATA : TEMPLATE;
	sum->marks = has[DATA] && has[TEMPLATE] ? marks : NULL;
	sum->left = sum->right = NULL;
}

const char *str_bytes(struct jinja *j, struct str *s)
{
	if (!s->p)
		flatten(j, s);
	return s->p;
}

static size_t count_chars(const char *p, size_t n)
{
	size_t chars = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((unsigned char)p[i] & 0xc0) != 0x80;
	return chars;
}

size_t str_n_chars(struct jinja *j, struct str *s)
{
	if (s->n_chars == STR_UNCOUNTED) {
		jinja_work(j, s->n);
		s->n_chars = count_chars(str_bytes(j, s), s->n);
	}
	return s->n_chars;
}

bool str_has_data(struct jinja *j, struct str *s)
{
	str_bytes(j, s);
	return s->n && (s->marks ? memchr(s->marks, DATA, s->n) != NULL : s->mark == DATA);
}

struct str *str_cut(struct jinja *j, struct str *s, size_t from, size_t to)
{
	struct str *cut;

	if (from >= to)
		from = to = from < s->n ? from : s->n;
	if (from == 0 && to == s->n)
		return s;
	cut = new_str(j);
	*cut = (struct str){ .p = str_bytes(j, s) + from, .n = to - from,
			     .n_chars = STR_UNCOUNTED, .safe = s->safe };
	cut->marks = s->marks ? s->marks + from : NULL;
	cut->mark = s->mark;
	if (s->n_chars == s->n)
		cut->n_chars = cut->n;
	return cut;
}

static struct str *add_small(struct jinja *j, const struct str *a, const struct str *b)
{
	size_t n = a->n + b->n;
	bool mixed = a->marks || b->marks || a->mark != b->mark;
	uint8_t *marks = jinja_alloc(j, n * 2, 1);
	char *p = (char *)marks + n;
	struct str *s = str_new(j, p, n, a->mark);

	copy_leaf(a, p, marks);
	copy_leaf(b, p + a->n, marks + a->n);
	s->marks = mixed ? marks : NULL;
	return s;
}

struct str *str_add(struct jinja *j, struct str *a, struct str *b)
{
	struct str *s;

	if (a->safe != b->safe) {
		a = a->safe ? a : str_escape(j, a);
		b = b->safe ? b : str_escape(j, b);
		s = str_add(j, a, b);
		return s;
	}
	if (!b->n)
		return a;
	if (!a->n)
		return b;
	if (a->n > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
		jinja_raise(j, -E2BIG, "a string becomes too long");
	if (a->p && b->p && a->n + b->n <= SMALL) {
		s = add_small(j, a, b);
	} else {
		s = new_str(j);
		s->n = a->n + b->n;
		s->left = a;
		s->right = b;
	}
	s->safe = a->safe;
	return s;
}

/* The byte at which character k starts. */
static size_t char_at(struct jinja *j, struct str *s, size_t k)
{
	const char *p = str_bytes(j, s);
	size_t i = 0;

	if (str_n_chars(j, s) == s->n)
		return k;
	while (k-- > 0)
		i += char_len(p[i]);
	jinja_work(j, i);
	return i;
}

static struct str *slice_steps(struct jinja *j, struct str *s, size_t at, int64_t step, int64_t n)
{
	const char *p = str_bytes(j, s);
	struct str_out o = STR_OUT(j);

	while (n-- > 0) {
		struct str *c = str_cut(j, s, at, at + char_len(p[at]));

		str_out_str(&o, c);
		if (!n)
			break;
		for (int64_t k = 0; k < step; k++)
			at += char_len(p[at]);
		for (int64_t k = 0; k > step; k--)
			do
				at--;
			while (((unsigned char)p[at] & 0xc0) == 0x80);
		jinja_work(j, (size_t)(step < 0 ? -step : step));
	}
	return str_out_done(&o);
}

struct str *str_slice(struct jinja *j, struct str *s, int64_t from, int64_t step, int64_t n)
{
	struct str *r;
	size_t at;

	if (n <= 0) {
		r = str_empty(j);
	} else {
		at = char_at(j, s, (size_t)from);
		if (step == 1 && str_n_chars(j, s) == s->n)
			return str_cut(j, s, at, at + (size_t)n);
		if (step == 1)
			return str_cut(j, s, at, char_at(j, s, (size_t)(from + n)));
		r = slice_steps(j, s, at, step, n);
	}
	r->safe = s->safe;
	return r;
}

bool str_eq(struct jinja *j, struct str *a, struct str *b)
{
	if (a->n != b->n)
		return false;
	if (a == b || !a->n)
		return true;
	jinja_work(j, a->n);
	return !memcmp(str_bytes(j, a), str_bytes(j, b), a->n);
}

bool str_is(struct jinja *j, struct str *a, const char *b)
{
	return a->n == strlen(b) && !memcmp(str_bytes(j, a), b, a->n);
}

int str_cmp(struct jinja *j, struct str *a, struct str *b)
{
	size_t n = a->n < b->n ? a->n : b->n;
	int c = n ? memcmp(str_bytes(j, a), str_bytes(j, b), n) : 0;

	jinja_work(j, n);
	return c < 0 ? -1 : c > 0 ? 1 : a->n < b->n ? -1 : a->n > b->n;
}

bool str_has_prefix(struct jinja *j, struct str *s, struct str *prefix)
{
	return prefix->n <= s->n &&
	       !memcmp(str_bytes(j, s), str_bytes(j, prefix), prefix->n);
}

bool str_has_suffix(struct jinja *j, struct str *s, struct str *suffix)
{
	return suffix->n <= s->n &&
	       !memcmp(str_bytes(j, s) + s->n - suffix->n, str_bytes(j, suffix), suffix->n);
}

size_t str_find(struct jinja *j, struct str *s, struct str *what, size_t from)
{
	const char *p = str_bytes(j, s), *w = str_bytes(j, what), *hit;

	if (from > s->n || what->n > s->n - from)
		return STR_NONE;
	if (!what->n)
		return from;
	/* glibc's memmem is linear for any needle. */
	hit = memmem(p + from, s->n - from, w, what->n);
	jinja_work(j, hit ? (size_t)(hit - p) - from : s->n - from);
	return hit ? (size_t)(hit - p) : STR_NONE;
}

size_t str_rfind(struct jinja *j, struct str *s, struct str *what, size_t to)
{
	const char *p = str_bytes(j, s), *w = str_bytes(j, what);

	if (to > s->n)
		to = s->n;
	if (what->n > to)
		return STR_NONE;
	for (size_t at = to - what->n;; at--) {
		jinja_work(j, what->n);
		if (!memcmp(p + at, w, what->n))
			return at;
		if (!at)
			return STR_NONE;
	}
}

/* With an empty `old`, Python puts `by` before each character and at the end. */
static struct str *replace_empty(struct jinja *j, struct str *s, struct str *by, int64_t max)
{
	const char *p = str_bytes(j, s);
	struct str_out o = STR_OUT(j);
	size_t at = 0, next;

	for (; max != 0; max--) {
		str_out_str(&o, by);
		if (at == s->n)
			return str_out_done(&o);
		next = at + char_len(p[at]);
		str_out_str(&o, str_cut(j, s, at, next));
		at = next;
	}
	str_out_str(&o, str_cut(j, s, at, s->n));
	return str_out_done(&o);
}

struct str *str_replace(struct jinja *j, struct str *s, struct str *old, struct str *by,
			int64_t max)
{
	struct str_out o = STR_OUT(j);
	size_t at = 0, hit;
	struct str *r;

	if (!old->n) {
		r = replace_empty(j, s, by, max);
	} else {
		if (str_find(j, s, old, 0) == STR_NONE)
			return s;
		for (; max != 0; max--) {
			hit = str_find(j, s, old, at);
			if (hit == STR_NONE)
				break;
			str_out_str(&o, str_cut(j, s, at, hit));
			str_out_str(&o, by);
			at = hit + old->n;
		}
		str_out_str(&o, str_cut(j, s, at, s->n));
		r = str_out_done(&o);
	}
	r->safe = s->safe;
	return r;
}

bool char_is_space(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
	       c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t char_get(const char *p, uint32_t *ret_c)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t n = char_len(*p);
	uint32_t c = n == 1 ? u[0] : u[0] & (0xffu >> (n + 1));

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (u[i] & 0x3fu);
	*ret_c = c;
	return n;
}

static bool strips(struct jinja *j, const char *p, size_t n, struct str *chars)
{
	uint32_t c;

	if (chars) {
		jinja_work(j, chars->n);
		return memmem(str_bytes(j, chars), chars->n, p, n) != NULL;
	}
	char_get(p, &c);
	return char_is_space(c);
}

struct str *str_strip(struct jinja *j, struct str *s, struct str *chars, int ends)
{
	const char *p = str_bytes(j, s);
	size_t from = 0, to = s->n;

	while (from < to && ends & STR_LEFT) {
		size_t n = char_len(p[from]);

		if (!strips(j, p + from, n, chars))
			break;
		from += n;
	}
	while (from < to && ends & STR_RIGHT) {
		size_t at = to - 1;

		while (((unsigned char)p[at] & 0xc0) == 0x80)
			at--;
		if (!strips(j, p + at, to - at, chars))
			break;
		to = at;
	}
	jinja_work(j, from + s->n - to);
	return str_cut(j, s, from, to);
}

struct str *str_escape(struct jinja *j, struct str *s)
{
	const char *p = str_bytes(j, s);
	struct str_out o = STR_OUT(j);
	size_t at = 0;
	struct str *r;

	if (s->safe)
		return s;
	for (size_t i = 0; i < s->n; i++) {
		const char *to = p[i] == '&' ? "&amp;" : p[i] == '<' ? "&lt;" :
				 p[i] == '>' ? "&gt;" : p[i] == '"' ? "&#34;" :
				 p[i] == '\'' ? "&#39;" : NULL;

		if (!to)
			continue;
		str_out_str(&o, str_cut(j, s, at, i));
		str_out_puts(&o, to, s->marks ? (enum mark)s->marks[i] : s->mark);
		at = i + 1;
	}
	str_out_str(&o, str_cut(j, s, at, s->n));
	r = str_out_done(&o);
	r->safe = true;
	return r;
}

static void out_room(struct str_out *o, size_t n)
{
	size_t cap = o->cap ? o->cap : 64;
	struct str *only = o->only;

	if (only) {
		o->only = NULL;
		o->n = 0;
		o->has[DATA] = o->has[TEMPLATE] = false;
		o->p = jinja_alloc(o->j, cap, 1);
		o->marks = jinja_alloc(o->j, cap, 1);
		o->cap = cap;
		str_out_str(o, only);
		cap = o->cap;
	}
	if (o->limit && (n > o->limit || o->n > o->limit - n))
		jinja_raise(o->j, -E2BIG, "the template writes more than %zu bytes", o->limit);
	if (n <= o->cap - o->n)
		return;
	if (n > SIZE_MAX / 8)
		jinja_raise(o->j, -E2BIG, "a string becomes too long");
	while (cap - o->n < n)
		cap *= 2;
	o->p = jinja_grow(o->j, o->p, o->n, cap, 1);
	o->marks = jinja_grow(o->j, o->marks, o->n, cap, 1);
	o->cap = cap;
}

void str_out_put(struct str_out *o, const char *p, size_t n, enum mark mark)
{
	if (!n)
		return;
	out_room(o, n);
	jinja_work(o->j, n);
	memcpy(o->p + o->n, p, n);
	memset(o->marks + o->n, mark, n);
	o->n += n;
	o->has[mark] = true;
}

void str_out_puts(struct str_out *o, const char *terminated, enum mark mark)
{
	str_out_put(o, terminated, strlen(terminated), mark);
}

void str_out_char(struct str_out *o, uint32_t c, enum mark mark)
{
	char p[4];

	str_out_put(o, p, utf8_put(c, p), mark);
}

void str_out_str(struct str_out *o, struct str *s)
{
	const char *p;

	if (!s->n)
		return;
	/* A single piece, the rule for a macro that answers its argument, is not copied. */
	if (!o->n && !o->p && !o->only && !s->safe && (!o->limit || s->n <= o->limit)) {
		o->only = s;
		o->n = s->n;
		o->has[DATA] = o->has[TEMPLATE] = true;
		return;
	}
	p = str_bytes(o->j, s);
	str_out_put(o, p, s->n, s->mark);
	if (s->marks) {
		memcpy(o->marks + o->n - s->n, s->marks, s->n);
		o->has[DATA] = o->has[TEMPLATE] = true;
	}
}

struct str *str_out_done(struct str_out *o)
{
	struct str *s;

	if (o->only)
		return o->only;
	s = str_new(o->j, o->p ? o->p : "", o->n, o->has[DATA] ? DATA : TEMPLATE);
	if (o->has[DATA] && o->has[TEMPLATE])
		s->marks = o->marks;
	return s;
}
