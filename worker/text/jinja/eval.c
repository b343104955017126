/* eval.c - expressions; see run.h. */
#include <string.h>

#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/run.h"

/* ---- names ---- */

struct value *frame_find(struct frame *f, const struct name *name)
{
	for (; f; f = f->outer)
		for (size_t i = f->n; i > 0; i--)
			if (f->at[i - 1].name == name)
				return &f->at[i - 1].v;
	return NULL;
}

static struct value eval_name(struct run *r, const struct name *name)
{
	struct value *have = frame_find(r->frame, name), v;

	if (have)
		return *have;
	v = find_global(r, name->text);
	return v.kind == V_MISSING ? v_no_such(&r->j, MISSING, v_str(name->s)) : v;
}

/* ---- attributes and items ---- */

static struct value unsafe(struct run *r, struct value v, struct str *name)
{
	struct str *s = str_printf(&r->j, TEMPLATE,
				   "access to attribute %s of '%s' object is unsafe.",
				   v_repr_text(&r->j, v_str(name)), v_type_name(v));

	return v_undefined(&r->j, str_text(&r->j, s));
}

/* What Python's getattr() finds; V_MISSING. */
static struct value attribute(struct run *r, struct value v, struct str *name)
{
	struct value *have;

	if (v.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, v);
	if (v.kind == V_LOOP)
		return loop_attr(r, v, name);
	if (v.kind == V_NAMESPACE) {
		have = dict_get(&r->j, v.d, v_str(name));
		return have ? *have : MISSING;
	}
	if (name->n > 4 && str_bytes(&r->j, name)[0] == '_' && name->p[1] == '_' &&
	    name->p[name->n - 1] == '_')
		return unsafe(r, v, name);
	return find_method(r, v, name);
}

/* v[key] of Python; V_MISSING where that is a TypeError or LookupError. */
static struct value subscript(struct run *r, struct value v, struct value key)
{
	struct jinja *j = &r->j;
	int64_t i, n;

	if (v.kind == V_UNDEFINED)
		v_fail_undefined(j, v);
	if (v.kind == V_DICT) {
		struct value *have = v_hashable(key) ? dict_get(j, v.d, key) : NULL;

		return have ? *have : MISSING;
	}
	if (key.kind != V_INT && key.kind != V_BOOL)
		return MISSING;
	i = v_index(j, key);
	if (v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_RANGE)
		n = (int64_t)v.l->n;
	else if (v.kind == V_STR)
		n = (int64_t)str_n_chars(j, v.s);
	else
		return MISSING;
	if (i < 0)
		i += n;
	if (i < 0 || i >= n)
		return MISSING;
	return v.kind == V_STR ? v_str(str_slice(j, v.s, i, 1, 1)) : v.l->v[i];
}

struct value get_attr(struct run *r, struct value v, struct str *name)
{
	struct value found = attribute(r, v, name);

	if (found.kind == V_MISSING)
		found = subscript(r, v, v_str(name));
	return found.kind == V_MISSING ? v_no_such(&r->j, v, v_str(name)) : found;
}

struct value get_item(struct run *r, struct value v, struct value key)
{
	struct value found = subscript(r, v, key);

	if (found.kind == V_MISSING && key.kind == V_STR)
		found = attribute(r, v, key.s);
	return found.kind == V_MISSING ? v_no_such(&r->j, v, key) : found;
}

/* ---- slices ---- */

struct bound {
	bool given;
	int64_t at;
};

static struct bound slice_bound(struct run *r, const struct node *n)
{
	struct value v = n ? eval(r, n) : NONE;

	if (v.kind == V_NONE)
		return (struct bound){ false, 0 };
	if (v.kind != V_INT && v.kind != V_BOOL && v.kind != V_BIG)
		jinja_fail(&r->j, "slice indices must be integers or None or have an"
			   " __index__ method");
	return (struct bound){ true, v_index(&r->j, v) };
}

/* As PySlice_AdjustIndices: a bound brought into 0..n (or -1..n-1 backwards). */
static int64_t clamp(int64_t i, int64_t n, bool back)
{
	if (i < 0) {
		i = i < -n ? -1 : i + n;
		return i < 0 ? (back ? -1 : 0) : i;
	}
	return i >= n ? (back ? n - 1 : n) : i;
}

static struct value take_slice(struct run *r, struct value v, int64_t from, int64_t step, int64_t n)
{
	struct list *l;

	if (v.kind == V_STR)
		return v_str(str_slice(&r->j, v.s, from, step, n));
	l = list_new(&r->j, n > 0 ? (size_t)n : 0);
	for (int64_t i = 0; i < n; i++)
		list_push(&r->j, l, v.l->v[from + i * step]);
	return v_list(l, v.kind == V_TUPLE ? V_TUPLE : V_LIST);
}

static void check_sliceable(struct run *r, struct value v)
{
	if (v.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, v);
	if (v.kind == V_DICT)
		jinja_fail(&r->j, "unhashable type: 'slice'");
	if (v.kind != V_STR && v.kind != V_LIST && v.kind != V_TUPLE && v.kind != V_RANGE)
		jinja_fail(&r->j, "'%s' object is not subscriptable", v_type_name(v));
}

static struct value eval_slice(struct run *r, struct value v, const struct node *n)
{
	struct bound from = slice_bound(r, n->a), to = slice_bound(r, n->b);
	struct bound by = slice_bound(r, n->c);
	int64_t step = by.given ? by.at : 1, len;

	check_sliceable(r, v);
	len = v.kind == V_STR ? (int64_t)str_n_chars(&r->j, v.s) : (int64_t)v.l->n;
	if (step == 0)
		jinja_fail(&r->j, "slice step cannot be zero");
	if (step == INT64_MIN)
		step++;
	if (step < 0) {
		from.at = from.given ? clamp(from.at, len, true) : len - 1;
		to.at = to.given ? clamp(to.at, len, true) : -1;
		len = to.at < from.at ? (from.at - to.at - 1) / -step + 1 : 0;
	} else {
		from.at = from.given ? clamp(from.at, len, false) : 0;
		to.at = to.given ? clamp(to.at, len, false) : len;
		len = from.at < to.at ? (to.at - from.at - 1) / step + 1 : 0;
	}
	return take_slice(r, v, from.at, step, len);
}

/* ---- operators ---- */

bool contains(struct run *r, struct value all, struct value one)
{
	struct jinja *j = &r->j;
	struct list *l;

	switch (all.kind) {
	case V_STR:
		if (one.kind != V_STR)
			jinja_fail(j, "'in <string>' requires string as left operand, not %s",
				   v_type_name(one));
		return str_find(j, all.s, one.s, 0) != STR_NONE;
	case V_DICT:
		if (!v_hashable(one))
			jinja_fail(j, "unhashable type: '%s'", v_type_name(one));
		return dict_get(j, all.d, one) != NULL;
	default:
		if (!is_iterable(all))
			jinja_fail(j, "argument of type '%s' is not iterable", v_type_name(all));
	}
	l = items_of(r, all);
	for (size_t i = 0; i < l->n; i++)
		if (v_eq(j, l->v[i], one))
			return true;
	return false;
}

static bool compare(struct run *r, enum compare_op op, struct value a, struct value b)
{
	static const char *const text[] = {
		[OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">=",
	};
	int c;

	switch (op) {
	case OP_EQ:
		return v_eq(&r->j, a, b);
	case OP_NE:
		return !v_eq(&r->j, a, b);
	case OP_IN:
		return contains(r, b, a);
	case OP_NOT_IN:
		return !contains(r, b, a);
	default:
		c = v_compare(&r->j, a, b, text[op]);
	}
	if (c == 2)	/* NaN */
		return false;
	return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
}

static struct value eval_compare(struct run *r, const struct node *n)
{
	struct value left = eval(r, n->a);

	for (size_t i = 0; i < n->list.n; i++) {
		struct value right = eval(r, n->list.at[i]->a);

		if (!compare(r, n->list.at[i]->op, left, right))
			return v_bool(false);
		left = right;
	}
	return v_bool(true);
}

static struct value eval_concat(struct run *r, const struct node *n)
{
	struct str *s = str_empty(&r->j);

	for (size_t i = 0; i < n->list.n; i++)
		s = str_add(&r->j, s, v_to_str(&r->j, eval(r, n->list.at[i])));
	return v_str(s);
}

static struct value eval_cond(struct run *r, const struct node *n)
{
	struct str *hint;

	if (v_truth(r, eval(r, n->a)))
		return eval(r, n->b);
	if (n->c)
		return eval(r, n->c);
	hint = str_printf(&r->j, TEMPLATE, "the inline if-expression on line %u evaluated to false"
			  " and no else section was defined.", n->line);
	return v_undefined(&r->j, hint->p);
}

static struct value eval_sign(struct run *r, const struct node *n)
{
	struct value v = eval(r, n->a);

	if (v.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, v);
	if (!v_is_number(v))
		jinja_fail(&r->j, "bad operand type for unary %s: '%s'",
			   n->kind == N_NEG ? "-" : "+", v_type_name(v));
	if (n->kind == N_NEG)
		return negate(r, v);
	return v.kind == V_BOOL ? v_int(v.b) : v;
}

/* ---- literals ---- */

static struct value eval_list(struct run *r, const struct node *n, enum kind kind)
{
	struct list *l = list_new(&r->j, n->list.n);

	for (size_t i = 0; i < n->list.n; i++)
		list_push(&r->j, l, eval(r, n->list.at[i]));
	return v_list(l, kind);
}

static struct value eval_dict(struct run *r, const struct node *n)
{
	struct dict *d = dict_new(&r->j, n->list.n / 2);

	for (size_t i = 0; i + 1 < n->list.n; i += 2) {
		struct value key = eval(r, n->list.at[i]);

		dict_put(&r->j, d, key, eval(r, n->list.at[i + 1]));
	}
	return v_dict(d);
}

/* ---- calls ---- */

static void add_star(struct run *r, struct args *a, struct value v)
{
	struct list *more = items_of(r, v);

	a->v = jinja_grow(&r->j, a->v, a->n, a->n + more->n, sizeof(*a->v));
	for (size_t i = 0; i < more->n; i++)
		a->v[a->n++] = more->v[i];
}

static void add_star_star(struct run *r, struct args *a, struct value v)
{
	if (v.kind != V_DICT)
		jinja_fail(&r->j, "argument after ** must be a mapping, not %s", v_type_name(v));
	a->kw = jinja_grow(&r->j, a->kw, a->n_kw, a->n_kw + v.d->n, sizeof(*a->kw));
	for (size_t i = 0; i < v.d->n; i++) {
		if (v.d->at[i].key.kind != V_STR)
			jinja_fail(&r->j, "keywords must be strings");
		a->kw[a->n_kw++] = (struct arg_kw){ v.d->at[i].key.s, v.d->at[i].v };
	}
}

struct args *eval_args(struct run *r, const struct call_args *c)
{
	struct args *a = jinja_alloc(&r->j, 1, sizeof(*a));

	if (!c)
		return a;
	a->v = jinja_alloc(&r->j, c->n, sizeof(*a->v));
	a->kw = jinja_alloc(&r->j, c->n_kw + 1, sizeof(*a->kw));	/* room for `caller` */
	for (size_t i = 0; i < c->n; i++)
		a->v[a->n++] = eval(r, c->v[i]);
	for (size_t i = 0; i < c->n_kw; i++)
		a->kw[a->n_kw++] = (struct arg_kw){ c->kw[i].name->s, eval(r, c->kw[i].v) };
	if (c->star)
		add_star(r, a, eval(r, c->star));
	if (c->star_star)
		add_star_star(r, a, eval(r, c->star_star));
	return a;
}

struct value call_value(struct run *r, struct value f, struct args *a)
{
	struct value v;

	jinja_enter(&r->j);
	switch (f.kind) {
	case V_FUNCTION:
		v = f.fn->call(r, f.fn->self, a);
		break;
	case V_MACRO:
		v = call_macro(r, f.m, a);
		break;
	case V_LOOP:
		if (a->n != 1)
			jinja_fail(&r->j, "LoopContext.__call__() takes 2 positional arguments");
		v = loop_recurse(r, f.loop, a->v[0]);
		break;
	case V_JOINER:
		v = f.joiner->used ? f.joiner->sep : v_text(&r->j, "");
		f.joiner->used = true;
		break;
	case V_UNDEFINED:
		v_fail_undefined(&r->j, f);
	default:
		jinja_fail(&r->j, "'%s' object is not callable", v_type_name(f));
	}
	jinja_leave(&r->j);
	return v;
}

struct value apply_filter(struct run *r, const struct node *n, struct value input)
{
	if (!n->fn)
		jinja_fail(&r->j, "No %s named '%s' found.", n->kind == N_TEST ? "test" : "filter",
			   n->name->text);
	return n->fn(r, input, eval_args(r, n->args));
}

static struct value eval_node(struct run *r, const struct node *n)
{
	struct value v;

	switch (n->kind) {
	case N_CONST:
		return n->konst;
	case N_NAME:
		return eval_name(r, n->name);
	case N_LIST:
		return eval_list(r, n, V_LIST);
	case N_TUPLE:
		return eval_list(r, n, V_TUPLE);
	case N_DICT:
		return eval_dict(r, n);
	case N_GETATTR:
		return get_attr(r, eval(r, n->a), n->name->s);
	case N_GETITEM:
		v = eval(r, n->a);
		return n->b->kind == N_SLICE ? eval_slice(r, v, n->b) :
					       get_item(r, v, eval(r, n->b));
	case N_SLICE:
		jinja_fail(&r->j, "a slice cannot be part of a tuple");
	case N_CALL:
		v = eval(r, n->a);
		return call_value(r, v, eval_args(r, n->args));
	case N_FILTER:
	case N_TEST:
		return apply_filter(r, n, eval(r, n->a));
	case N_NOT:
		return v_bool(!v_truth(r, eval(r, n->a)));
	case N_NEG:
	case N_POS:
		return eval_sign(r, n);
	case N_AND:
		v = eval(r, n->a);
		return v_truth(r, v) ? eval(r, n->b) : v;
	case N_OR:
		v = eval(r, n->a);
		return v_truth(r, v) ? v : eval(r, n->b);
	case N_CONCAT:
		return eval_concat(r, n);
	case N_COMPARE:
		return eval_compare(r, n);
	case N_COND:
		return eval_cond(r, n);
	default:
		v = eval(r, n->a);
		return arithmetic(r, n->kind, v, eval(r, n->b));
	}
}

struct value eval(struct run *r, const struct node *n)
{
	struct value v;

	jinja_enter(&r->j);
	jinja_work(&r->j, 0);
	v = eval_node(r, n);
	jinja_leave(&r->j);
	return v;
}
