/* frame.c - names and their values: set, assigned in patterns, kept. */
#include <string.h>

#include "worker/text/jinja/exec.h"

struct frame *frame_new(struct run *r, struct frame *outer)
{
	struct frame *f = jinja_alloc(&r->j, 1, sizeof(*f));

	f->outer = outer;
	return f;
}

void frame_set(struct run *r, struct frame *f, const struct name *name, struct value v)
{
	for (size_t i = 0; i < f->n; i++) {
		if (f->at[i].name == name) {
			f->at[i].v = v;
			return;
		}
	}
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 4;

		f->at = jinja_grow(&r->j, f->at, f->n, cap, sizeof(*f->at));
		f->cap = cap;
	}
	f->at[f->n].name = name;
	f->at[f->n++].v = v;
}

void frame_keep(struct frame *f)
{
	for (; f && !f->kept; f = f->outer)
		f->kept = true;
}

static void assign_tuple(struct run *r, struct frame *f, const struct node *target, struct value v)
{
	size_t want = target->list.n;
	struct list *l;

	if (!is_iterable(v))
		jinja_fail(&r->j, "cannot unpack non-iterable %s object", v_type_name(v));
	l = items_of(r, v);
	if (l->n > want)
		jinja_fail(&r->j, "too many values to unpack (expected %zu)", want);
	if (l->n < want)
		jinja_fail(&r->j, "not enough values to unpack (expected %zu, got %zu)", want,
			   l->n);
	for (size_t i = 0; i < want; i++)
		frame_assign(r, f, target->list.at[i], l->v[i]);
}

static struct value *namespace_of(struct run *r, const struct node *target)
{
	struct value *ns = frame_find(r->frame, target->name);

	if (!ns || ns->kind != V_NAMESPACE)
		jinja_fail(&r->j, "cannot assign attribute on non-namespace object");
	return ns;
}

void frame_assign(struct run *r, struct frame *f, const struct node *target, struct value v)
{
	if (target->kind == N_NAME)
		frame_set(r, f, target->name, v);
	else if (target->kind == N_NSREF)
		dict_put(&r->j, namespace_of(r, target)->d, v_str(target->attr->s), v);
	else
		assign_tuple(r, f, target, v);
}

void frame_check_target(struct run *r, const struct node *target)
{
	if (target->kind == N_NSREF)
		namespace_of(r, target);
	for (size_t i = 0; i < target->list.n; i++)
		frame_check_target(r, target->list.at[i]);
}
