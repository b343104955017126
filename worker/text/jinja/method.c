/* method.c - methods of dicts and lists, and finding a method; see run.h.
 *
 * What would change a list or a dict is refused, as by the reference's immutable
 * sandbox.
 */
#include "worker/text/jinja/method.h"
#include "worker/text/jinja/run.h"

/* ---- dicts ---- */

static struct value view(struct run *r, const struct dict *d, const char *name, int what)
{
	struct list *l = list_new(&r->j, d->n);

	for (size_t i = 0; i < d->n; i++) {
		struct list *pair;

		if (what < 2) {
			list_push(&r->j, l, what ? d->at[i].v : d->at[i].key);
			continue;
		}
		pair = list_new(&r->j, 2);
		list_push(&r->j, pair, d->at[i].key);
		list_push(&r->j, pair, d->at[i].v);
		list_push(&r->j, l, v_list(pair, V_TUPLE));
	}
	l->name = name;
	return v_list(l, V_VIEW);
}

static struct value m_keys(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "keys", 0, "", NULL);
	return view(r, self.d, "dict_keys", 0);
}

static struct value m_values(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "values", 0, "", NULL);
	return view(r, self.d, "dict_values", 1);
}

struct value method_items(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "items", 0, "", NULL);
	return view(r, self.d, "dict_items", 2);
}

static struct value m_get(struct run *r, struct value self, const struct args *a)
{
	struct value v[2], *have;

	if (a->n_kw)
		jinja_fail(&r->j, "dict.get() takes no keyword arguments");
	bind_args(r, a, "get", 1, "key default", v);
	if (!v_hashable(v[0]))
		jinja_fail(&r->j, "unhashable type: '%s'", v_type_name(v[0]));
	have = dict_get(&r->j, self.d, v[0]);
	return have ? *have : v[1].kind == V_MISSING ? NONE : v[1];
}

static struct value m_copy(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "copy", 0, "", NULL);
	return self;	/* nothing can change it */
}

/* ---- lists ---- */

static struct value m_list_count(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];
	int64_t n = 0;

	bind_args(r, a, "count", 1, "value", v);
	for (size_t i = 0; i < self.l->n; i++)
		n += v_eq(&r->j, self.l->v[i], v[0]);
	return v_int(n);
}

static struct value m_list_index(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];

	bind_args(r, a, "index", 1, "value", v);
	for (size_t i = 0; i < self.l->n; i++)
		if (v_eq(&r->j, self.l->v[i], v[0]))
			return v_int((int64_t)i);
	jinja_fail(&r->j, "%s is not in %s", v_repr_text(&r->j, v[0]), v_type_name(self));
}

/* ---- cycler ---- */

static struct value m_cycler_next(struct run *r, struct value self, const struct args *a)
{
	struct cycler *c = self.cycler;
	struct value v = c->items.v[c->at];

	bind_args(r, a, "next", 0, "", NULL);
	c->at = (c->at + 1) % c->items.n;
	return v;
}

static struct value m_cycler_reset(struct run *r, struct value self, const struct args *a)
{
	bind_args(r, a, "reset", 0, "", NULL);
	self.cycler->at = 0;
	return NONE;
}

/* ---- the tables ---- */

static const struct method dict_methods[] = {
	{ "get", m_get }, { "items", method_items }, { "keys", m_keys }, { "values", m_values },
	{ "copy", m_copy }, { "clear", NULL }, { "pop", NULL }, { "popitem", NULL },
	{ "setdefault", NULL }, { "update", NULL }, { NULL, NULL },
};

static const struct method list_methods[] = {
	{ "count", m_list_count }, { "index", m_list_index }, { "copy", m_copy },
	{ "append", NULL },	   { "clear", NULL },	      { "pop", NULL },
	{ "reverse", NULL },	   { "insert", NULL },	      { "sort", NULL },
	{ "extend", NULL },	   { "remove", NULL },	      { NULL, NULL },
};

static const struct method tuple_methods[] = {
	{ "count", m_list_count }, { "index", m_list_index }, { NULL, NULL },
};

static const struct method cycler_methods[] = {
	{ "next", m_cycler_next }, { "reset", m_cycler_reset }, { NULL, NULL },
};

static const struct method *methods_of(struct value v)
{
	static const struct method none[] = { { NULL, NULL } };

	return v.kind == V_STR ? str_methods : v.kind == V_DICT ? dict_methods :
	       v.kind == V_LIST ? list_methods :
	       v.kind == V_TUPLE || v.kind == V_RANGE ? tuple_methods :
	       v.kind == V_CYCLER ? cycler_methods : none;
}

struct value find_method(struct run *r, struct value v, struct str *name)
{
	struct str *s;

	for (const struct method *m = methods_of(v); m->name; m++) {
		if (!str_is(&r->j, name, m->name))
			continue;
		if (m->call)
			return v_method(&r->j, m->call, m->name, v);
		s = str_printf(&r->j, TEMPLATE,
			       "access to attribute '%s' of '%s' object is unsafe.", m->name,
			       v_type_name(v));
		return v_undefined(&r->j, s->p);
	}
	if (v.kind == V_MACRO && str_is(&r->j, name, "name"))
		return v.m->node->name ? v_str(v.m->node->name->s) : NONE;
	if (v.kind == V_CYCLER && str_is(&r->j, name, "current"))
		return v.cycler->items.v[v.cycler->at];
	return MISSING;
}
