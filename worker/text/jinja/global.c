/* global.c - the functions a template may call by name: those of Jinja and the two
 * that Hugging Face adds. */
#include <string.h>
#include <time.h>

#include "worker/text/jinja/run.h"

#define MAX_RANGE 100000	/* the sandbox's */

static struct value g_raise_exception(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];

	(void)self;
	bind_args(r, a, "raise_exception", 1, "message", v);
	jinja_fail(&r->j, "%s", str_text(&r->j, v_to_str(&r->j, v[0])));
}

static struct value g_strftime_now(struct run *r, struct value self, const struct args *a)
{
	time_t now = (time_t)r->now;
	struct value v[1];
	struct tm tm;
	char *text;

	(void)self;
	bind_args(r, a, "strftime_now", 1, "format", v);
	want_str(r, v[0], "strftime() argument 1");
	text = jinja_alloc(&r->j, 1024, 1);
	localtime_r(&now, &tm);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"	/* the format is the template's */
	strftime(text, 1024, str_text(&r->j, v[0].s), &tm);
#pragma GCC diagnostic pop
	return v_text(&r->j, text);
}

static struct list *count_up(struct run *r, int64_t from, int64_t to, int64_t step)
{
	struct list *l = list_new(&r->j, 0);
	uint64_t n = 0;

	if (step > 0 && from < to)
		n = ((uint64_t)to - (uint64_t)from - 1) / (uint64_t)step + 1;
	if (step < 0 && from > to)
		n = ((uint64_t)from - (uint64_t)to - 1) / (0 - (uint64_t)step) + 1;
	if (n > MAX_RANGE)
		jinja_fail(&r->j, "Range too big. The sandbox blocks ranges larger than MAX_RANGE"
			   " (%d).", MAX_RANGE);
	for (uint64_t i = 0; i < n; i++)
		list_push(&r->j, l, v_int(from + (int64_t)i * step));
	return l;
}

static struct value g_range(struct run *r, struct value self, const struct args *a)
{
	int64_t v[3] = { 0, 0, 1 };
	struct list *l;

	(void)self;
	if (a->n_kw)
		jinja_fail(&r->j, "range() takes no keyword arguments");
	if (!a->n)
		jinja_fail(&r->j, "range expected at least 1 argument, got 0");
	if (a->n > 3)
		jinja_fail(&r->j, "range expected at most 3 arguments, got %zu", a->n);
	for (size_t i = 0; i < a->n; i++)
		v[i] = v_index(&r->j, a->v[i]);
	if (a->n == 1) {
		v[1] = v[0];
		v[0] = 0;
	}
	if (!v[2])
		jinja_fail(&r->j, "range() arg 3 must not be zero");
	l = count_up(r, v[0], v[1], v[2]);
	l->name = a->n < 3 ? str_printf(&r->j, TEMPLATE, "range(%lld, %lld)", (long long)v[0],
					(long long)v[1])->p :
			     str_printf(&r->j, TEMPLATE, "range(%lld, %lld, %lld)",
					(long long)v[0], (long long)v[1], (long long)v[2])->p;
	return v_list(l, V_RANGE);
}

/* dict(mapping or pairs, key=value, ...) */
static struct dict *make_dict(struct run *r, const struct args *a, const char *name)
{
	struct dict *d = dict_new(&r->j, a->n_kw);

	if (a->n > 1)
		jinja_fail(&r->j, "%s expected at most 1 argument, got %zu", name, a->n);
	if (a->n && a->v[0].kind == V_DICT) {
		for (size_t i = 0; i < a->v[0].d->n; i++)
			dict_push(&r->j, d, a->v[0].d->at[i].key, a->v[0].d->at[i].v);
	} else if (a->n) {
		struct list *l = items_of(r, a->v[0]), *pair;

		for (size_t i = 0; i < l->n; i++) {
			if (!is_iterable(l->v[i]))
				jinja_fail(&r->j,
					   "cannot convert dictionary update sequence element"
					   " #%zu to a sequence",
					   i);
			pair = items_of(r, l->v[i]);
			if (pair->n != 2)
				jinja_fail(&r->j,
					   "dictionary update sequence element #%zu has length"
					   " %zu; 2 is required",
					   i, pair->n);
			dict_put(&r->j, d, pair->v[0], pair->v[1]);
		}
	}
	for (size_t i = 0; i < a->n_kw; i++)
		dict_put(&r->j, d, v_str(a->kw[i].name), a->kw[i].v);
	return d;
}

static struct value g_dict(struct run *r, struct value self, const struct args *a)
{
	(void)self;
	return v_dict(make_dict(r, a, "dict"));
}

static struct value g_namespace(struct run *r, struct value self, const struct args *a)
{
	struct value v = v_dict(make_dict(r, a, "dict"));

	(void)self;
	v.kind = V_NAMESPACE;
	return v;
}

static struct value g_cycler(struct run *r, struct value self, const struct args *a)
{
	struct cycler *c = jinja_alloc(&r->j, 1, sizeof(*c));

	(void)self;
	if (!a->n)
		jinja_fail(&r->j, "at least one item has to be provided");
	for (size_t i = 0; i < a->n; i++)
		list_push(&r->j, &c->items, a->v[i]);
	return (struct value){ .kind = V_CYCLER, .cycler = c };
}

static struct value g_joiner(struct run *r, struct value self, const struct args *a)
{
	struct joiner *jo = jinja_alloc(&r->j, 1, sizeof(*jo));
	struct value v[1];

	(void)self;
	bind_args(r, a, "joiner", 0, "sep", v);
	jo->sep = v[0].kind == V_MISSING ? v_text(&r->j, ", ") : v[0];
	return (struct value){ .kind = V_JOINER, .joiner = jo };
}

static const struct {
	const char *name;
	jinja_fn call;
} globals[] = {
	{ "raise_exception", g_raise_exception }, { "strftime_now", g_strftime_now },
	{ "range", g_range }, { "dict", g_dict }, { "namespace", g_namespace },
	{ "cycler", g_cycler }, { "joiner", g_joiner },
};

struct value find_global(struct run *r, const char *name)
{
	for (size_t i = 0; i < sizeof(globals) / sizeof(*globals); i++)
		if (!strcmp(name, globals[i].name))
			return v_method(&r->j, globals[i].call, globals[i].name, MISSING);
	return MISSING;
}
