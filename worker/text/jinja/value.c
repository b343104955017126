/* value.c - making and asking values; see value.h. */
#include "worker/text/jinja/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Dicts of more pairs are searched by an index. */
#define SEARCH_IN_LINE 8

struct value v_text(struct jinja *j, const char *terminated)
{
	return v_str(str_from(j, terminated, TEMPLATE));
}

struct value v_undefined(struct jinja *j, const char *hint)
{
	struct undefined *u = jinja_alloc(j, 1, sizeof(*u));

	u->hint = hint;
	return (struct value){ .kind = V_UNDEFINED, .u = u };
}

struct value v_no_such(struct jinja *j, struct value obj, struct value name)
{
	struct value v = v_undefined(j, NULL);

	v.u->obj = obj;
	v.u->name = name;
	return v;
}

struct value v_method(struct jinja *j, jinja_fn call, const char *name, struct value self)
{
	struct function *fn = jinja_alloc(j, 1, sizeof(*fn));

	*fn = (struct function){ call, name, self };
	return (struct value){ .kind = V_FUNCTION, .fn = fn };
}

struct list *list_new(struct jinja *j, size_t room)
{
	struct list *l = jinja_alloc(j, 1, sizeof(*l));

	l->v = jinja_alloc(j, room, sizeof(*l->v));
	l->cap = room;
	return l;
}

void list_push(struct jinja *j, struct list *l, struct value v)
{
	if (l->n == l->cap) {
		size_t cap = l->cap < 4 ? 8 : l->cap * 2;

		l->v = jinja_grow(j, l->v, l->n, cap, sizeof(*l->v));
		l->cap = cap;
	}
	jinja_work(j, 0);
	l->v[l->n++] = v;
}

struct dict *dict_new(struct jinja *j, size_t room)
{
	struct dict *d = jinja_alloc(j, 1, sizeof(*d));

	d->at = jinja_alloc(j, room, sizeof(*d->at));
	d->cap = room;
	return d;
}

void dict_push(struct jinja *j, struct dict *d, struct value key, struct value v)
{
	if (d->n == d->cap) {
		size_t cap = d->cap < 4 ? 8 : d->cap * 2;

		d->at = jinja_grow(j, d->at, d->n, cap, sizeof(*d->at));
		d->cap = cap;
	}
	jinja_work(j, 0);
	d->sorted = NULL;
	d->at[d->n++] = (struct pair){ key, v };
}

void dict_put(struct jinja *j, struct dict *d, struct value key, struct value v)
{
	struct value *have;

	if (!v_hashable(key))
		jinja_fail(j, "unhashable type: '%s'", v_type_name(key));
	have = dict_get(j, d, key);
	if (have)
		*have = v;
	else
		dict_push(j, d, key, v);
}

static int by_key(const void *a, const void *b, void *arg)
{
	const struct dict *d = arg;
	const struct str *s = d->at[*(const uint32_t *)a].key.s;
	const struct str *t = d->at[*(const uint32_t *)b].key.s;
	int c = memcmp(s->p, t->p, s->n < t->n ? s->n : t->n);

	return c ? c : s->n < t->n ? -1 : s->n > t->n;
}

/* Only for dicts whose keys are all strings, which those of requests are. */
static bool dict_index(struct jinja *j, struct dict *d)
{
	uint32_t *sorted;

	if (d->sorted)
		return true;
	if (d->n > UINT32_MAX)
		return false;
	for (size_t i = 0; i < d->n; i++) {
		if (d->at[i].key.kind != V_STR)
			return false;
		str_bytes(j, d->at[i].key.s);
	}
	sorted = jinja_alloc(j, d->n, sizeof(*sorted));
	for (size_t i = 0; i < d->n; i++)
		sorted[i] = (uint32_t)i;
	/* Paid before: the sort itself must not raise, it may hold memory. */
	for (size_t i = 0; i < d->n; i++)
		jinja_work(j, 20 * 64 + 20 * d->at[i].key.s->n);
	qsort_r(sorted, d->n, sizeof(*sorted), by_key, d);
	d->sorted = sorted;
	return true;
}

static struct value *search(struct jinja *j, struct dict *d, struct str *key)
{
	size_t lo = 0, hi = d->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		struct pair *p = &d->at[d->sorted[mid]];
		int c = str_cmp(j, key, p->key.s);

		if (!c)
			return &p->v;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

struct value *dict_get(struct jinja *j, struct dict *d, struct value key)
{
	if (key.kind == V_STR && d->n > SEARCH_IN_LINE && dict_index(j, d))
		return search(j, d, key.s);
	for (size_t i = 0; i < d->n; i++)
		if (v_eq(j, d->at[i].key, key))
			return &d->at[i].v;
	return NULL;
}

struct value *dict_get_text(struct jinja *j, struct dict *d, const char *key)
{
	struct str s = { .p = key, .n = strlen(key), .n_chars = STR_UNCOUNTED };

	return dict_get(j, d, v_str(&s));
}

static const char *const type_names[V_N_KINDS] = {
	[V_MISSING] = "NoneType", [V_UNDEFINED] = "Undefined", [V_NONE] = "NoneType",
	[V_BOOL] = "bool", [V_INT] = "int", [V_BIG] = "int", [V_FLOAT] = "float",
	[V_STR] = "str", [V_LIST] = "list", [V_TUPLE] = "tuple", [V_DICT] = "dict",
	[V_RANGE] = "range", [V_GENERATOR] = "generator", [V_NAMESPACE] = "Namespace",
	[V_MACRO] = "Macro", [V_LOOP] = "LoopContext", [V_FUNCTION] = "function",
	[V_CYCLER] = "Cycler", [V_JOINER] = "Joiner",
};

const char *v_type_name(struct value v)
{
	if (v.kind == V_VIEW)
		return v.l->name;
	if (v.kind == V_STR && v.s->safe)
		return "Markup";
	return type_names[v.kind];
}

bool v_is_number(struct value v)
{
	return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_BIG || v.kind == V_FLOAT;
}

bool v_hashable(struct value v)
{
	if (v.kind == V_TUPLE) {
		for (size_t i = 0; i < v.l->n; i++)
			if (!v_hashable(v.l->v[i]))
				return false;
	}
	return v.kind != V_LIST && v.kind != V_DICT;
}

static bool lists_eq(struct jinja *j, const struct list *a, const struct list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!v_eq(j, a->v[i], b->v[i]))
			return false;
	return true;
}

static bool dicts_eq(struct jinja *j, struct dict *a, struct dict *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const struct value *v = dict_get(j, b, a->at[i].key);

		if (!v || !v_eq(j, a->at[i].v, *v))
			return false;
	}
	return true;
}

static int compare_big(struct jinja *j, struct str *a, struct str *b)
{
	const char *p = str_bytes(j, a), *q = str_bytes(j, b);
	bool minus = *p == '-';
	int c;

	if (minus != (*q == '-'))
		return minus ? -1 : 1;
	c = a->n == b->n ? memcmp(p, q, a->n) : a->n < b->n ? -1 : 1;
	c = c < 0 ? -1 : c > 0;
	return minus ? -c : c;
}

double v_double(struct jinja *j, struct value v)
{
	return v.kind == V_BIG ? strtod(str_text(j, v.s), NULL) :
	       v.kind == V_FLOAT ? v.f : v.kind == V_BOOL ? v.b : (double)v.i;
}

/* Exactly: 2 ** 90 + 1 is not 2.0 ** 90. */
static int compare_big_to_double(struct jinja *j, struct str *big, double f)
{
	if (isinf(f))
		return f > 0 ? -1 : 1;
	if (fabs(f) < 0x1p63)
		return str_bytes(j, big)[0] == '-' ? -1 : 1;
	return compare_big(j, big, str_printf(j, TEMPLATE, "%.0f", f));
}

/* 2: one of them is not a number. */
static int compare_numbers(struct jinja *j, struct value a, struct value b)
{
	long double x, y;

	if (a.kind == V_BOOL)
		a = v_int(a.b);
	if (b.kind == V_BOOL)
		b = v_int(b.b);
	if (a.kind == V_INT && b.kind == V_INT)
		return a.i < b.i ? -1 : a.i > b.i;
	if (a.kind == V_BIG && b.kind == V_BIG)
		return compare_big(j, a.s, b.s);
	if (a.kind == V_BIG && b.kind == V_INT)
		return str_bytes(j, a.s)[0] == '-' ? -1 : 1;
	if (a.kind == V_INT && b.kind == V_BIG)
		return str_bytes(j, b.s)[0] == '-' ? 1 : -1;
	if (isnan(v_double(j, a)) || isnan(v_double(j, b)))
		return 2;
	if (a.kind == V_BIG)
		return compare_big_to_double(j, a.s, b.f);
	if (b.kind == V_BIG)
		return -compare_big_to_double(j, b.s, a.f);
	/* 64 bits of mantissa: exact for int64 and double alike */
	x = a.kind == V_INT ? (long double)a.i : (long double)a.f;
	y = b.kind == V_INT ? (long double)b.i : (long double)b.f;
	return x < y ? -1 : x > y;
}

static bool same_kind_eq(struct jinja *j, struct value a, struct value b)
{
	switch (a.kind) {
	case V_STR:
		return str_eq(j, a.s, b.s);
	case V_LIST:
	case V_TUPLE:
	case V_RANGE:
	case V_VIEW:
		return lists_eq(j, a.l, b.l);
	case V_DICT:
		return dicts_eq(j, a.d, b.d);
	case V_NONE:
	case V_UNDEFINED:
		return true;
	default:
		return a.s == b.s;	/* the same object */
	}
}

bool v_eq(struct jinja *j, struct value a, struct value b)
{
	bool eq;

	jinja_work(j, 0);
	if (v_is_number(a) && v_is_number(b))
		return compare_numbers(j, a, b) == 0;
	if (a.kind != b.kind)
		return false;
	jinja_enter(j);
	eq = same_kind_eq(j, a, b);
	jinja_leave(j);
	return eq;
}

_Noreturn static void not_ordered(struct jinja *j, struct value a, struct value b, const char *op)
{
	if (a.kind == V_UNDEFINED)
		v_fail_undefined(j, a);
	if (b.kind == V_UNDEFINED)
		v_fail_undefined(j, b);
	jinja_fail(j, "'%s' not supported between instances of '%s' and '%s'", op, v_type_name(a),
		   v_type_name(b));
}

int v_compare(struct jinja *j, struct value a, struct value b, const char *op)
{
	int c = 0;

	jinja_work(j, 0);
	if (v_is_number(a) && v_is_number(b))
		return compare_numbers(j, a, b);
	if (a.kind == V_STR && b.kind == V_STR)
		return str_cmp(j, a.s, b.s);
	if (a.kind != b.kind || (a.kind != V_LIST && a.kind != V_TUPLE))
		not_ordered(j, a, b, op);
	jinja_enter(j);
	for (size_t i = 0; i < a.l->n && i < b.l->n && !c; i++)
		if (!v_eq(j, a.l->v[i], b.l->v[i]))
			c = v_compare(j, a.l->v[i], b.l->v[i], op);
	jinja_leave(j);
	return c ? c : a.l->n < b.l->n ? -1 : a.l->n > b.l->n;
}

int64_t v_index(struct jinja *j, struct value v)
{
	if (v.kind == V_BOOL)
		return v.b;
	if (v.kind == V_INT)
		return v.i;
	if (v.kind == V_BIG)
		return str_bytes(j, v.s)[0] == '-' ? INT64_MIN : INT64_MAX;
	if (v.kind == V_UNDEFINED)
		v_fail_undefined(j, v);
	jinja_fail(j, "'%s' object cannot be interpreted as an integer", v_type_name(v));
}

static const char *object_name(struct jinja *j, struct value v)
{
	switch (v.kind) {
	case V_NONE:
		return "None";
	case V_LOOP:
		return "jinja2.runtime.LoopContext object";
	case V_MACRO:
		return "jinja2.runtime.Macro object";
	case V_NAMESPACE:
		return "jinja2.utils.Namespace object";
	case V_CYCLER:
		return "jinja2.utils.Cycler object";
	case V_JOINER:
		return "jinja2.utils.Joiner object";
	default:
		return str_text(j, str_printf(j, TEMPLATE, "%s object", v_type_name(v)));
	}
}

struct str *v_undefined_message(struct jinja *j, struct value v)
{
	const struct undefined *u = v.u;

	if (u->hint)
		return str_from(j, u->hint, TEMPLATE);
	if (u->obj.kind == V_MISSING)
		return str_printf(j, TEMPLATE, "%s is undefined", v_repr_text(j, u->name));
	if (u->name.kind != V_STR)
		return str_printf(j, TEMPLATE, "%s has no element %s", object_name(j, u->obj),
				  v_repr_text(j, u->name));
	return str_printf(j, TEMPLATE, "'%s' has no attribute %s", object_name(j, u->obj),
			  v_repr_text(j, u->name));
}

void v_fail_undefined(struct jinja *j, struct value v)
{
	jinja_fail(j, "%s", str_text(j, v_undefined_message(j, v)));
}
