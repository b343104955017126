/* filter_seq.c - filters over sequences; see filter.h. */
#include <string.h>

#include "worker/text/jinja/chars.h"
#include "worker/text/jinja/filter.h"

/* ---- attributes and order ---- */

static bool all_digits(struct run *r, struct str *s)
{
	const char *p = str_bytes(&r->j, s);

	for (size_t i = 0; i < s->n; i++)
		if (p[i] < '0' || p[i] > '9')
			return false;
	return s->n > 0;
}

struct value attr_path(struct run *r, struct value item, struct value path, struct value otherwise)
{
	struct str *dot = str_from(&r->j, ".", TEMPLATE);
	size_t at = 0, end;

	if (path.kind == V_MISSING || path.kind == V_NONE)
		return item;
	if (path.kind != V_STR) {
		item = get_item(r, item, path);
		return item.kind == V_UNDEFINED && otherwise.kind != V_MISSING ? otherwise : item;
	}
	do {
		struct str *part;

		end = str_find(&r->j, path.s, dot, at);
		part = str_cut(&r->j, path.s, at, end == STR_NONE ? path.s->n : end);
		item = get_item(r, item, all_digits(r, part) ? to_int(r, v_str(part), NONE, 10) :
							       v_str(part));
		if (item.kind == V_UNDEFINED && otherwise.kind != V_MISSING)
			item = otherwise;
		at = end + 1;
	} while (end != STR_NONE);
	return item;
}

struct value fold_case(struct run *r, struct value v)
{
	return v.kind == V_STR ? v_str(str_lower(&r->j, v.s)) : v;
}

struct keyed {
	struct value key, v;
};

/* A stable merge sort; comparing may raise, so nothing of libc's that holds memory. */
static void sort_keyed(struct run *r, struct keyed *at, size_t n, struct keyed *tmp, bool down)
{
	size_t half = n / 2, i = 0, k = half, out = 0;

	if (n < 2)
		return;
	sort_keyed(r, at, half, tmp, down);
	sort_keyed(r, at + half, n - half, tmp, down);
	while (i < half && k < n) {
		int c = down ? v_compare(&r->j, at[i].key, at[k].key, "<") :
			       v_compare(&r->j, at[k].key, at[i].key, "<");

		tmp[out++] = c < 0 ? at[k++] : at[i++];
	}
	while (i < half)
		tmp[out++] = at[i++];
	memcpy(at, tmp, out * sizeof(*at));
}

/* What cannot be ordered is found where the reference's sort begins: in the run at
 * the start.  So the message names the same two types. */
static void check_run(struct run *r, const struct keyed *at, size_t n, bool down)
{
	bool falling = false, less;

	for (size_t i = 1; i < n; i++) {
		size_t k = down ? n - 1 - i : i, before = down ? k + 1 : k - 1;

		less = v_compare(&r->j, at[k].key, at[before].key, "<") < 0;
		if (i == 1)
			falling = less;
		else if (less != falling)
			return;
	}
}

/* The key of an item by "a,b": a list of attributes. */
static struct value sort_key(struct run *r, struct value item, struct value paths, bool fold)
{
	struct str *comma = str_from(&r->j, ",", TEMPLATE);
	struct list *keys = list_new(&r->j, 1);
	size_t at = 0, end;
	struct value v;

	if (paths.kind != V_STR) {
		v = attr_path(r, item, paths, MISSING);
		return fold ? fold_case(r, v) : v;
	}
	do {
		struct str *path;

		end = str_find(&r->j, paths.s, comma, at);
		path = str_cut(&r->j, paths.s, at, end == STR_NONE ? paths.s->n : end);
		v = attr_path(r, item, v_str(path), MISSING);
		list_push(&r->j, keys, fold ? fold_case(r, v) : v);
		at = end + 1;
	} while (end != STR_NONE);
	return v_list(keys, V_LIST);
}

static struct list *sorted(struct run *r, const struct keyed *at, size_t n, bool down)
{
	struct keyed *copy = jinja_grow(&r->j, at, n, n, sizeof(*at));
	struct keyed *tmp = jinja_alloc(&r->j, n, sizeof(*tmp));
	struct list *l = list_new(&r->j, n);

	check_run(r, copy, n, down);
	sort_keyed(r, copy, n, tmp, down);
	for (size_t i = 0; i < n; i++)
		list_push(&r->j, l, copy[i].v);
	return l;
}

static struct list *sort_by(struct run *r, struct list *l, struct value paths, bool fold, bool down)
{
	struct keyed *at = jinja_alloc(&r->j, l->n, sizeof(*at));

	for (size_t i = 0; i < l->n; i++)
		at[i] = (struct keyed){ sort_key(r, l->v[i], paths, fold), l->v[i] };
	return sorted(r, at, l->n, down);
}

static struct value f_sort(struct run *r, struct value self, const struct args *a)
{
	struct value v[3];

	bind_args(r, a, "do_sort", 0, "reverse case_sensitive attribute", v);
	return v_list(sort_by(r, items_of(r, self), v[2], !v_truth(r, v[1]), v_truth(r, v[0])),
		      V_LIST);
}

static struct value pair_of(struct run *r, const struct pair *p)
{
	struct list *l = list_new(&r->j, 2);

	list_push(&r->j, l, p->key);
	list_push(&r->j, l, p->v);
	return v_list(l, V_TUPLE);
}

static struct value f_dictsort(struct run *r, struct value self, const struct args *a)
{
	struct value v[3];
	struct keyed *at;
	bool by_value = false, fold;

	bind_args(r, a, "do_dictsort", 0, "case_sensitive by reverse", v);
	if (self.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, self);
	if (self.kind != V_DICT)
		jinja_fail(&r->j, "'%s' object has no attribute 'items'", v_type_name(self));
	if (v[1].kind != V_MISSING) {
		by_value = v[1].kind == V_STR && str_is(&r->j, v[1].s, "value");
		if (!by_value && !(v[1].kind == V_STR && str_is(&r->j, v[1].s, "key")))
			jinja_fail(&r->j, "You can only sort by either \"key\" or \"value\"");
	}
	fold = !v_truth(r, v[0]);
	at = jinja_alloc(&r->j, self.d->n, sizeof(*at));
	for (size_t i = 0; i < self.d->n; i++) {
		struct value key = by_value ? self.d->at[i].v : self.d->at[i].key;

		at[i].key = fold ? fold_case(r, key) : key;
		at[i].v = pair_of(r, &self.d->at[i]);
	}
	return v_list(sorted(r, at, self.d->n, v_truth(r, v[2])), V_LIST);
}

static struct value extreme(struct run *r, struct value self, const struct args *a, bool max)
{
	struct value v[2], best, best_key = MISSING;
	struct list *l = items_of(r, self);

	bind_args(r, a, max ? "do_max" : "do_min", 0, "case_sensitive attribute", v);
	if (!l->n)
		return v_undefined(&r->j, "No aggregated item, sequence was empty.");
	best = l->v[0];
	for (size_t i = 0; i < l->n; i++) {
		struct value key = attr_path(r, l->v[i], v[1], MISSING);
		int c;

		if (!v_truth(r, v[0]))
			key = fold_case(r, key);
		c = !i ? -1 : max ? -v_compare(&r->j, key, best_key, ">") :
				    v_compare(&r->j, key, best_key, "<");
		if (c >= 0 || c == -2)
			continue;
		best = l->v[i];
		best_key = key;
	}
	return best;
}

static struct value f_min(struct run *r, struct value self, const struct args *a)
{
	return extreme(r, self, a, false);
}

static struct value f_max(struct run *r, struct value self, const struct args *a)
{
	return extreme(r, self, a, true);
}

/* ---- sizes and ends ---- */

static struct value f_length(struct run *r, struct value self, const struct args *a)
{
	size_t n;

	bind_args(r, a, "len", 0, "", NULL);
	if (!length_of(r, self, &n))
		jinja_fail(&r->j, "object of type '%s' has no len()", v_type_name(self));
	return v_int((int64_t)n);
}

static struct value f_first(struct run *r, struct value self, const struct args *a)
{
	struct list *l;

	bind_args(r, a, "do_first", 0, "", NULL);
	if (self.kind == V_STR && self.s->n) {
		const char *p = str_bytes(&r->j, self.s);

		return v_str(str_cut(&r->j, self.s, 0, char_len(*p)));
	}
	l = items_of(r, self);
	return l->n ? l->v[0] : v_undefined(&r->j, "No first item, sequence was empty.");
}

static struct value f_last(struct run *r, struct value self, const struct args *a)
{
	struct list *l;

	bind_args(r, a, "do_last", 0, "", NULL);
	if (self.kind == V_GENERATOR || !is_iterable(self))
		jinja_fail(&r->j, "'%s' object is not reversible", v_type_name(self));
	if (self.kind == V_STR && self.s->n)
		return get_item(r, self, v_int(-1));
	l = items_of(r, self);
	return l->n ? l->v[l->n - 1] : v_undefined(&r->j, "No last item, sequence was empty.");
}

static struct value f_list(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "do_list", 0, "", NULL);
	return v_list(items_of(r, self), V_LIST);
}

static struct list *make_reversed(struct run *r, const struct generator *g)
{
	struct list *from = items_of(r, g->source), *l = list_new(&r->j, from->n);

	for (size_t i = from->n; i > 0; i--)
		list_push(&r->j, l, from->v[i - 1]);
	return l;
}

static struct value f_reverse(struct run *r, struct value self, const struct args *a)
{
	int64_t n;

	bind_args(r, a, "do_reverse", 0, "", NULL);
	if (self.kind == V_STR) {
		n = (int64_t)str_n_chars(&r->j, self.s);
		return v_str(str_slice(&r->j, self.s, n - 1, -1, n));
	}
	if (!is_iterable(self))
		jinja_fail(&r->j, "argument must be iterable");
	return make_generator(r, self, a, make_reversed, 0);
}

static struct list *make_items(struct run *r, const struct generator *g)
{
	struct list *l = list_new(&r->j, 0);

	if (g->source.kind == V_UNDEFINED)
		return l;
	if (g->source.kind != V_DICT)
		jinja_fail(&r->j, "Can only get item pairs from a mapping.");
	for (size_t i = 0; i < g->source.d->n; i++)
		list_push(&r->j, l, pair_of(r, &g->source.d->at[i]));
	return l;
}

static struct value f_items(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "do_items", 0, "", NULL);
	return make_generator(r, self, a, make_items, 0);
}

static struct value f_join(struct run *r, struct value self, const struct args *a)
{
	struct str_out o = STR_OUT(&r->j);
	struct value v[2];
	struct list *l;
	struct str *by;

	bind_args(r, a, "do_join", 0, "d attribute", v);
	by = v[0].kind == V_MISSING ? str_empty(&r->j) : v_to_str(&r->j, v[0]);
	l = items_of(r, self);
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			str_out_str(&o, by);
		str_out_str(&o, v_to_str(&r->j, attr_path(r, l->v[i], v[1], MISSING)));
	}
	return v_str(str_out_done(&o));
}

static struct value f_sum(struct run *r, struct value self, const struct args *a)
{
	struct value v[2], sum;
	struct list *l = items_of(r, self);

	bind_args(r, a, "do_sum", 0, "attribute start", v);
	sum = v[1].kind == V_MISSING ? v_int(0) : v[1];
	if (sum.kind == V_STR)
		jinja_fail(&r->j, "sum() can't sum strings [use ''.join(seq) instead]");
	for (size_t i = 0; i < l->n; i++)
		sum = arithmetic(r, N_ADD, sum, attr_path(r, l->v[i], v[0], MISSING));
	return sum;
}

/* ---- choosing ---- */

static struct list *make_unique(struct run *r, const struct generator *g)
{
	struct list *from = items_of(r, g->source), *l = list_new(&r->j, 0);
	struct list *seen = list_new(&r->j, 0);
	struct value v[2];

	bind_args(r, g->args, "do_unique", 0, "case_sensitive attribute", v);
	for (size_t i = 0; i < from->n; i++) {
		struct value key = attr_path(r, from->v[i], v[1], MISSING);
		size_t k = 0;

		if (!v_truth(r, v[0]))
			key = fold_case(r, key);
		if (!v_hashable(key))
			jinja_fail(&r->j, "unhashable type: '%s'", v_type_name(key));
		while (k < seen->n && !v_eq(&r->j, seen->v[k], key))
			k++;
		if (k < seen->n)
			continue;
		list_push(&r->j, seen, key);
		list_push(&r->j, l, from->v[i]);
	}
	return l;
}

static struct value f_unique(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_unique, 0);
}

/* Arguments from the n-th on. */
static struct args rest_of_args(const struct args *a, size_t n)
{
	struct args rest = *a;

	rest.v += n;
	rest.n -= n;
	return rest;
}

static jinja_fn function_named(struct run *r, struct value name, bool filter)
{
	const char *what = filter ? "filter" : "test";
	jinja_fn fn;

	if (name.kind == V_UNDEFINED)
		jinja_fail(&r->j, "No %s named Undefined. (%s; did you forget to quote the callable"
			   " name?)", what, str_text(&r->j, v_undefined_message(&r->j, name)));
	if (name.kind != V_STR)
		jinja_fail(&r->j, "No %s named %s.", what, v_repr_text(&r->j, name));
	fn = filter ? jinja_filter(str_text(&r->j, name.s)) : jinja_test(str_text(&r->j, name.s));
	if (!fn)
		jinja_fail(&r->j, "No %s named %s.", what, v_repr_text(&r->j, name));
	return fn;
}

static struct list *map_attribute(struct run *r, struct list *from, const struct args *a)
{
	struct list *l = list_new(&r->j, from->n);
	struct value v[2];

	bind_args(r, a, "map", 0, "attribute default", v);
	if (v[1].kind == V_NONE)
		v[1] = MISSING;
	for (size_t i = 0; i < from->n; i++)
		list_push(&r->j, l, attr_path(r, from->v[i], v[0], v[1]));
	return l;
}

static bool has_kw(struct run *r, const struct args *a, const char *name)
{
	for (size_t i = 0; i < a->n_kw; i++)
		if (str_is(&r->j, a->kw[i].name, name))
			return true;
	return false;
}

static struct list *make_map(struct run *r, const struct generator *g)
{
	struct list *from, *l = list_new(&r->j, 0);
	struct args rest;
	jinja_fn fn;

	if (!v_truth(r, g->source))
		return l;
	if (!g->args->n && has_kw(r, g->args, "attribute"))
		return map_attribute(r, items_of(r, g->source), g->args);
	if (!g->args->n)
		jinja_fail(&r->j, "map requires a filter argument");
	fn = function_named(r, g->args->v[0], true);
	rest = rest_of_args(g->args, 1);
	from = items_of(r, g->source);
	for (size_t i = 0; i < from->n; i++)
		list_push(&r->j, l, fn(r, from->v[i], &rest));
	return l;
}

static struct value f_map(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_map, 0);
}

enum {
	BY_ATTRIBUTE = 1,
	REJECT = 2,
};

static struct list *make_selection(struct run *r, const struct generator *g)
{
	struct list *from, *l = list_new(&r->j, 0);
	size_t n_fixed = g->flag & BY_ATTRIBUTE ? 1 : 0;
	const struct args *a = g->args;
	struct args rest = { NULL, 0, NULL, 0 };
	jinja_fn fn = NULL;

	if (!v_truth(r, g->source))
		return l;
	if (a->n < n_fixed)
		jinja_fail(&r->j, "Missing parameter for attribute name");
	if (a->n > n_fixed) {
		fn = function_named(r, a->v[n_fixed], false);
		rest = rest_of_args(a, n_fixed + 1);
	}
	from = items_of(r, g->source);
	for (size_t i = 0; i < from->n; i++) {
		struct value v = n_fixed ? attr_path(r, from->v[i], a->v[0], MISSING) : from->v[i];
		bool yes = v_truth(r, fn ? fn(r, v, &rest) : v);

		if (yes != ((g->flag & REJECT) != 0))
			list_push(&r->j, l, from->v[i]);
	}
	return l;
}

static struct value f_select(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_selection, 0);
}

static struct value f_reject(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_selection, REJECT);
}

static struct value f_selectattr(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_selection, BY_ATTRIBUTE);
}

static struct value f_rejectattr(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_selection, BY_ATTRIBUTE | REJECT);
}

/* ---- groups ---- */

static struct value f_groupby(struct run *r, struct value self, const struct args *a)
{
	struct list *groups = list_new(&r->j, 0), *from, *items = NULL;
	struct value v[3], last = MISSING;
	struct keyed *at;
	bool fold;

	bind_args(r, a, "do_groupby", 1, "attribute default case_sensitive", v);
	from = items_of(r, self);
	fold = !v_truth(r, v[2]);
	at = jinja_alloc(&r->j, from->n, sizeof(*at));
	for (size_t i = 0; i < from->n; i++) {
		struct value key = attr_path(r, from->v[i], v[0], v[1]);

		at[i] = (struct keyed){ fold ? fold_case(r, key) : key, from->v[i] };
	}
	sort_keyed(r, at, from->n, jinja_alloc(&r->j, from->n, sizeof(*at)), false);
	for (size_t i = 0; i < from->n; i++) {
		struct list *pair;

		if (!items || !v_eq(&r->j, last, at[i].key)) {
			pair = list_new(&r->j, 2);
			items = list_new(&r->j, 0);
			last = at[i].key;
			list_push(&r->j, pair, attr_path(r, at[i].v, v[0], v[1]));
			list_push(&r->j, pair, v_list(items, V_LIST));
			list_push(&r->j, groups, v_list(pair, V_TUPLE));
		}
		list_push(&r->j, items, at[i].v);
	}
	return v_list(groups, V_LIST);
}

static struct list *make_batches(struct run *r, const struct generator *g)
{
	struct list *from = items_of(r, g->source), *l = list_new(&r->j, 0), *batch = NULL;
	struct value v[2];
	int64_t size;

	bind_args(r, g->args, "do_batch", 1, "linecount fill_with", v);
	size = v_index(&r->j, v[0]);
	for (size_t i = 0; i < from->n; i++) {
		if (!batch || (int64_t)batch->n == size) {
			batch = list_new(&r->j, 0);
			list_push(&r->j, l, v_list(batch, V_LIST));
		}
		list_push(&r->j, batch, from->v[i]);
	}
	while (batch && v[1].kind != V_MISSING && v[1].kind != V_NONE && (int64_t)batch->n < size)
		list_push(&r->j, batch, v[1]);
	return l;
}

static struct value f_batch(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_batches, 0);
}

static struct list *make_slices(struct run *r, const struct generator *g)
{
	struct list *from = items_of(r, g->source), *l = list_new(&r->j, 0);
	struct value v[2];
	int64_t n, each, extra;
	size_t at = 0;

	bind_args(r, g->args, "do_slice", 1, "slices fill_with", v);
	n = v_index(&r->j, v[0]);
	if (!n)
		jinja_fail(&r->j, "integer division or modulo by zero");
	each = n > 0 ? (int64_t)from->n / n : 0;
	extra = n > 0 ? (int64_t)from->n % n : 0;
	for (int64_t i = 0; i < n; i++) {
		struct list *part = list_new(&r->j, 0);

		for (int64_t k = 0; k < each + (i < extra); k++)
			list_push(&r->j, part, from->v[at++]);
		if (v[1].kind != V_MISSING && v[1].kind != V_NONE && i >= extra)
			list_push(&r->j, part, v[1]);
		list_push(&r->j, l, v_list(part, V_LIST));
	}
	return l;
}

static struct value f_slice(struct run *r, struct value self, const struct args *a)
{
	return make_generator(r, self, a, make_slices, 0);
}

const struct filter seq_filters[] = {
	{ "batch", f_batch }, { "count", f_length }, { "dictsort", f_dictsort },
	{ "first", f_first }, { "groupby", f_groupby }, { "items", f_items }, { "join", f_join },
	{ "last", f_last }, { "length", f_length }, { "list", f_list }, { "map", f_map },
	{ "max", f_max }, { "min", f_min }, { "reject", f_reject },
	{ "rejectattr", f_rejectattr }, { "reverse", f_reverse }, { "select", f_select },
	{ "selectattr", f_selectattr }, { "slice", f_slice }, { "sort", f_sort },
	{ "sum", f_sum }, { "unique", f_unique }, { NULL, NULL },
};
