/* iterate.c - walking over values, their truth and length; see run.h. */
#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/run.h"

bool is_iterable(struct value v)
{
	return v.kind == V_STR || v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_RANGE ||
	       v.kind == V_VIEW || v.kind == V_DICT || v.kind == V_GENERATOR ||
	       v.kind == V_UNDEFINED;
}

static struct list *characters(struct run *r, struct str *s)
{
	const char *p = str_bytes(&r->j, s);
	struct list *l = list_new(&r->j, str_n_chars(&r->j, s));

	for (size_t i = 0, n; i < s->n; i += n) {
		n = char_len(p[i]);
		list_push(&r->j, l, v_str(str_cut(&r->j, s, i, i + n)));
	}
	return l;
}

static struct list *keys(struct run *r, const struct dict *d)
{
	struct list *l = list_new(&r->j, d->n);

	for (size_t i = 0; i < d->n; i++)
		list_push(&r->j, l, d->at[i].key);
	return l;
}

static struct list *rest_of(struct run *r, struct generator *g)
{
	struct list *l = list_new(&r->j, 0);

	if (!g->items)
		g->items = g->make(r, g);
	while (g->at < g->items->n)
		list_push(&r->j, l, g->items->v[g->at++]);
	return l;
}

struct list *items_of(struct run *r, struct value v)
{
	switch (v.kind) {
	case V_LIST:
	case V_TUPLE:
	case V_RANGE:
	case V_VIEW:
		return v.l;
	case V_STR:
		return characters(r, v_to_str(&r->j, v));
	case V_DICT:
		return keys(r, v.d);
	case V_GENERATOR:
		return rest_of(r, v.g);
	case V_UNDEFINED:
		return list_new(&r->j, 0);
	default:
		jinja_fail(&r->j, "'%s' object is not iterable", v_type_name(v));
	}
}

bool length_of(struct run *r, struct value v, size_t *ret_n)
{
	switch (v.kind) {
	case V_STR:
		*ret_n = str_n_chars(&r->j, v.s);
		return true;
	case V_LIST:
	case V_TUPLE:
	case V_RANGE:
	case V_VIEW:
		*ret_n = v.l->n;
		return true;
	case V_DICT:
		*ret_n = v.d->n;
		return true;
	case V_UNDEFINED:
		*ret_n = 0;
		return true;
	case V_LOOP:
		*ret_n = loop_length(v.loop);
		return true;
	default:
		return false;
	}
}

bool v_truth(struct run *r, struct value v)
{
	size_t n;

	switch (v.kind) {
	case V_MISSING:
	case V_NONE:
		return false;
	case V_BOOL:
		return v.b;
	case V_INT:
		return v.i != 0;
	case V_FLOAT:
		return v.f != 0;
	case V_STR:
		return v.s->n > 0;
	default:
		return !length_of(r, v, &n) || n > 0;
	}
}

struct value make_generator(struct run *r, struct value source, const struct args *a,
			    struct list *(*make)(struct run *r, const struct generator *g),
			    int flag)
{
	struct generator *g = jinja_alloc(&r->j, 1, sizeof(*g));

	*g = (struct generator){ .source = source, .args = a, .make = make, .flag = flag };
	return (struct value){ .kind = V_GENERATOR, .g = g };
}
