/* loop.c - see loop.h: a for, round by round. */
#include "worker/text/jinja/loop.h"

#include <string.h>

#include "worker/text/jinja/exec.h"

static struct value fetch(struct loop *l)
{
	struct run *r = l->r;

	while (l->next < l->items->n) {
		struct value v = l->items->v[l->next++];
		struct frame *f, *frame = r->frame;
		bool yes;

		if (!l->node->c || l->length_known)
			return v;
		f = frame_new(r, l->frame);
		r->frame = f;
		frame_assign(r, f, l->node->a, v);
		yes = v_truth(r, eval(r, l->node->c));
		r->frame = frame;
		if (yes)
			return v;
	}
	return MISSING;
}

static struct value peek(struct loop *l)
{
	if (l->after.kind == V_MISSING && !l->at_end) {
		l->after = fetch(l);
		l->at_end = l->after.kind == V_MISSING;
	}
	return l->after;
}

bool loop_step(struct loop *l)
{
	struct value v = peek(l);

	if (v.kind == V_MISSING)
		return false;
	l->after = MISSING;
	l->index0++;
	l->before = l->current;
	l->current = v;
	return true;
}

size_t loop_length(struct loop *l)
{
	struct list *rest;
	struct value v;

	if (!l->node->c)
		return l->items->n;
	if (l->length_known)
		return l->length;
	rest = list_new(&l->r->j, 0);
	while ((v = fetch(l)).kind != V_MISSING)
		list_push(&l->r->j, rest, v);
	l->items = rest;
	l->next = 0;
	l->length_known = true;
	l->length = rest->n + l->index0 + 1 + (l->after.kind != V_MISSING);
	return l->length;
}

static struct value loop_cycle(struct run *r, struct value self, const struct args *a)
{
	if (!a->n)
		jinja_fail(&r->j, "no items for cycling given");
	return a->v[self.loop->index0 % a->n];
}

static struct value loop_changed(struct run *r, struct value self, const struct args *a)
{
	struct list *now = list_new(&r->j, a->n);
	bool same;

	for (size_t i = 0; i < a->n; i++)
		list_push(&r->j, now, a->v[i]);
	same = self.loop->changed.kind != V_MISSING &&
	       v_eq(&r->j, self.loop->changed, v_list(now, V_TUPLE));
	self.loop->changed = v_list(now, V_TUPLE);
	return v_bool(!same);
}

static struct value number(size_t n)
{
	return v_int((int64_t)n);
}

struct value loop_attr(struct run *r, struct value v, struct str *name)
{
	struct loop *l = v.loop;
	const char *s = str_text(&r->j, name);

	if (!strcmp(s, "index0"))
		return number(l->index0);
	if (!strcmp(s, "index"))
		return number(l->index0 + 1);
	if (!strcmp(s, "first"))
		return v_bool(l->index0 == 0);
	if (!strcmp(s, "last"))
		return v_bool(peek(l).kind == V_MISSING);
	if (!strcmp(s, "length"))
		return number(loop_length(l));
	if (!strcmp(s, "revindex"))
		return number(loop_length(l) - l->index0);
	if (!strcmp(s, "revindex0"))
		return number(loop_length(l) - l->index0 - 1);
	if (!strcmp(s, "previtem"))
		return l->index0 ? l->before : v_undefined(&r->j, "there is no previous item");
	if (!strcmp(s, "nextitem"))
		return peek(l).kind == V_MISSING ?
			       v_undefined(&r->j, "there is no next item") : l->after;
	if (!strcmp(s, "depth0"))
		return number(l->depth0);
	if (!strcmp(s, "depth"))
		return number(l->depth0 + 1);
	if (!strcmp(s, "cycle"))
		return v_method(&r->j, loop_cycle, "cycle", v);
	if (!strcmp(s, "changed"))
		return v_method(&r->j, loop_changed, "changed", v);
	return MISSING;
}

struct loop *loop_new(struct run *r, const struct node *n, struct value items, size_t depth0)
{
	struct loop *l = jinja_alloc(&r->j, 1, sizeof(*l));

	l->r = r;
	l->node = n;
	l->items = items_of(r, items);
	l->frame = r->frame;
	l->index0 = SIZE_MAX;	/* before the first */
	l->depth0 = depth0;
	return l;
}

/* The frame of the next round: the last one again, unless something remembers it. */
static struct frame *round_frame(struct run *r, struct frame *last, struct frame *outer)
{
	if (!last || last->kept)
		return frame_new(r, outer);
	last->n = 0;
	return last;
}

enum flow loop_exec(struct run *r, struct loop *l)
{
	const struct node *n = l->node;
	const struct name *loop = name_find(r->names, "loop", 4);
	struct frame *outer = r->frame, *f = NULL;
	enum flow flow = FLOW_ON;
	bool whole_round = false;

	while (flow != FLOW_BREAK && loop_step(l)) {
		f = round_frame(r, f, outer);
		if (loop)
			frame_set(r, f, loop, (struct value){ .kind = V_LOOP, .loop = l });
		r->frame = f;
		frame_assign(r, f, n->a, l->current);
		flow = exec(r, &n->body);
		/* As in the reference, a round that breaks or continues does not count
		 * for the else. */
		whole_round |= flow == FLOW_ON;
	}
	r->frame = outer;
	if (whole_round || !n->orelse.n)
		return FLOW_ON;
	r->frame = frame_new(r, outer);
	flow = exec(r, &n->orelse);
	r->frame = outer;
	return flow;
}

struct value loop_recurse(struct run *r, struct loop *l, struct value items)
{
	struct str_out *out = r->out, o = STR_OUT(&r->j);
	struct frame *frame = r->frame;

	if (!l->node->flag)
		jinja_fail(&r->j, "The loop must have the 'recursive' marker to be called"
			   " recursively.");
	o.limit = r->max_output;
	r->out = &o;
	r->frame = l->frame;
	loop_exec(r, loop_new(r, l->node, items, l->depth0 + 1));
	r->frame = frame;
	r->out = out;
	return v_str(str_out_done(&o));
}
