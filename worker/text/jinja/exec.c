/* exec.c - statements; see run.h. */
#include <string.h>

#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/run.h"

/* ---- frames ---- */

static struct frame *frame_new(struct run *r, struct frame *outer)
{
	struct frame *f = jinja_alloc(&r->j, 1, sizeof(*f));

	f->outer = outer;
	return f;
}

static void frame_set(struct run *r, struct frame *f, const struct name *name, struct value v)
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

static void frame_keep(struct frame *f)
{
	for (; f && !f->kept; f = f->outer)
		f->kept = true;
}

/* ---- assignment ---- */

static void assign(struct run *r, struct frame *f, const struct node *target, struct value v);

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
		assign(r, f, target->list.at[i], l->v[i]);
}

static struct value *namespace_of(struct run *r, const struct node *target)
{
	struct value *ns = frame_find(r->frame, target->name);

	if (!ns || ns->kind != V_NAMESPACE)
		jinja_fail(&r->j, "cannot assign attribute on non-namespace object");
	return ns;
}

static void assign(struct run *r, struct frame *f, const struct node *target, struct value v)
{
	if (target->kind == N_NAME)
		frame_set(r, f, target->name, v);
	else if (target->kind == N_NSREF)
		dict_put(&r->j, namespace_of(r, target)->d, v_str(target->attr->s), v);
	else
		assign_tuple(r, f, target, v);
}

/* A wrong ns.attr is found before the value is worked out. */
static void check_namespaces(struct run *r, const struct node *target)
{
	if (target->kind == N_NSREF)
		namespace_of(r, target);
	for (size_t i = 0; i < target->list.n; i++)
		check_namespaces(r, target->list.at[i]);
}

/* ---- text of a body ---- */

static struct str *capture(struct run *r, const struct block *body, struct frame *f,
			   enum flow *ret_flow)
{
	struct frame *frame = r->frame;
	struct str_out *out = r->out, o = STR_OUT(&r->j);

	o.limit = r->max_output;
	r->frame = f;
	r->out = &o;
	*ret_flow = exec(r, body);
	r->frame = frame;
	r->out = out;
	return str_out_done(&o);
}

/* The filters of a block, the innermost first. */
static struct value filter_text(struct run *r, const struct node *filter, struct str *text)
{
	if (!filter)
		return v_str(text);
	return apply_filter(r, filter, filter_text(r, filter->a, text));
}

static void print(struct run *r, struct value v)
{
	str_out_str(r->out, v.kind == V_STR ? v.s : v_to_str(&r->j, v));
}

/* ---- macros ---- */

static struct value macro_new(struct run *r, const struct node *n)
{
	struct macro *m = jinja_alloc(&r->j, 1, sizeof(*m));

	m->node = n;
	m->frame = r->frame;
	frame_keep(r->frame);
	return (struct value){ .kind = V_MACRO, .m = m };
}

const char *macro_name(struct jinja *j, const struct macro *m)
{
	return m->node->name ? v_repr_text(j, v_str(m->node->name->s)) : "None";
}

/* Takes a keyword argument out; V_MISSING. */
static struct value take_kw(struct run *r, struct args *a, const char *name)
{
	struct value v;

	for (size_t i = 0; i < a->n_kw; i++) {
		if (!str_is(&r->j, a->kw[i].name, name))
			continue;
		v = a->kw[i].v;
		memmove(&a->kw[i], &a->kw[i + 1], (a->n_kw - i - 1) * sizeof(*a->kw));
		a->n_kw--;
		return v;
	}
	return MISSING;
}

static void set_if_used(struct run *r, struct frame *f, const char *name, struct value v)
{
	const struct name *known = name_find(r->names, name, strlen(name));

	if (known)
		frame_set(r, f, known, v);
}

static bool has_param(const struct params *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->name[i]->text, name))
			return true;
	return false;
}

static void bind_caller(struct run *r, const struct params *p, struct frame *f, struct args *a)
{
	struct value v;

	if (!p->uses_caller || has_param(p, "caller"))
		return;
	v = take_kw(r, a, "caller");
	if (v.kind == V_MISSING || v.kind == V_NONE)
		v = v_undefined(&r->j, "No caller defined");
	set_if_used(r, f, "caller", v);
}

static void bind_rest(struct run *r, const struct macro *m, struct frame *f, struct args *a)
{
	const struct params *p = m->node->params;
	const char *name = macro_name(&r->j, m);
	struct dict *kwargs;
	struct list *varargs;

	if (p->uses_kwargs && !has_param(p, "kwargs")) {
		kwargs = dict_new(&r->j, a->n_kw);
		for (size_t i = 0; i < a->n_kw; i++)
			dict_put(&r->j, kwargs, v_str(a->kw[i].name), a->kw[i].v);
		set_if_used(r, f, "kwargs", v_dict(kwargs));
	} else if (a->n_kw) {
		if (take_kw(r, a, "caller").kind != V_MISSING)
			jinja_fail(&r->j, "macro %s was invoked with two values for the special"
				   " caller argument. This is most likely a bug.", name);
		jinja_fail(&r->j, "macro %s takes no keyword argument %s", name,
			   v_repr_text(&r->j, v_str(a->kw[0].name)));
	}
	if (p->uses_varargs && !has_param(p, "varargs")) {
		varargs = list_new(&r->j, 0);
		for (size_t i = p->n; i < a->n; i++)
			list_push(&r->j, varargs, a->v[i]);
		set_if_used(r, f, "varargs", v_list(varargs, V_TUPLE));
	} else if (a->n > p->n) {
		jinja_fail(&r->j, "macro %s takes not more than %zu argument(s)", name, p->n);
	}
}

static void bind_params(struct run *r, const struct macro *m, struct frame *f, struct args *a)
{
	const struct params *p = m->node->params;
	struct value *v = jinja_alloc(&r->j, p->n, sizeof(*v));
	struct str *hint;

	for (size_t i = 0; i < p->n; i++)
		v[i] = i < a->n ? a->v[i] : take_kw(r, a, p->name[i]->text);
	bind_caller(r, p, f, a);
	bind_rest(r, m, f, a);
	r->frame = f;	/* a default may name the parameters before it */
	for (size_t i = 0; i < p->n; i++) {
		if (v[i].kind == V_MISSING && p->defaults[i]) {
			v[i] = eval(r, p->defaults[i]);
		} else if (v[i].kind == V_MISSING) {
			hint = str_printf(&r->j, TEMPLATE, "parameter '%s' was not provided",
					  p->name[i]->text);
			v[i] = v_undefined(&r->j, hint->p);
		}
		frame_set(r, f, p->name[i], v[i]);
	}
}

struct value call_macro(struct run *r, struct macro *m, struct args *a)
{
	struct frame *f = frame_new(r, m->frame), *frame = r->frame;
	enum flow flow;

	bind_params(r, m, f, a);
	r->frame = frame;
	return v_str(capture(r, &m->node->body, f, &flow));
}

static void exec_call_block(struct run *r, const struct node *n)
{
	struct value f = eval(r, n->a->a);
	struct args *a = eval_args(r, n->a->args);

	a->kw = jinja_grow(&r->j, a->kw, a->n_kw, a->n_kw + 1, sizeof(*a->kw));
	a->kw[a->n_kw++] = (struct arg_kw){ str_from(&r->j, "caller", TEMPLATE), macro_new(r, n) };
	print(r, call_value(r, f, a));
}

/* ---- loops ---- */

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
		assign(r, f, l->node->a, v);
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

static struct loop *loop_new(struct run *r, const struct node *n, struct value items, size_t depth0)
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

static enum flow exec_loop(struct run *r, struct loop *l)
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
		assign(r, f, n->a, l->current);
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
	exec_loop(r, loop_new(r, l->node, items, l->depth0 + 1));
	r->frame = frame;
	r->out = out;
	return v_str(str_out_done(&o));
}

/* ---- the other statements ---- */

static enum flow exec_if(struct run *r, const struct node *n)
{
	if (v_truth(r, eval(r, n->a)))
		return exec(r, &n->body);
	for (size_t i = 0; i < n->list.n; i++)
		if (v_truth(r, eval(r, n->list.at[i]->a)))
			return exec(r, &n->list.at[i]->body);
	return exec(r, &n->orelse);
}

static enum flow exec_set(struct run *r, const struct node *n)
{
	enum flow flow = FLOW_ON;
	struct str *text;

	check_namespaces(r, n->a);
	if (n->kind == N_SET) {
		assign(r, r->frame, n->a, eval(r, n->b));
		return flow;
	}
	text = capture(r, &n->body, frame_new(r, r->frame), &flow);
	if (flow == FLOW_ON)
		assign(r, r->frame, n->a, filter_text(r, n->b, text));
	return flow;
}

static enum flow exec_with(struct run *r, const struct node *n)
{
	struct frame *outer = r->frame, *f = frame_new(r, outer);
	enum flow flow;

	/* values are worked out outside, in order */
	for (size_t i = 0; i + 1 < n->list.n; i += 2)
		assign(r, f, n->list.at[i], eval(r, n->list.at[i + 1]));
	r->frame = f;
	flow = exec(r, &n->body);
	r->frame = outer;
	return flow;
}

static enum flow exec_filter_block(struct run *r, const struct node *n)
{
	enum flow flow;
	struct str *text = capture(r, &n->body, frame_new(r, r->frame), &flow);

	if (flow == FLOW_ON)
		print(r, filter_text(r, n->a, text));
	return flow;
}

static enum flow exec_node(struct run *r, const struct node *n)
{
	switch (n->kind) {
	case N_OUTPUT:
		for (size_t i = 0; i < n->list.n; i++)
			print(r, eval(r, n->list.at[i]));
		return FLOW_ON;
	case N_SET:
	case N_SET_BLOCK:
		return exec_set(r, n);
	case N_IF:
		return exec_if(r, n);
	case N_FOR:
		return exec_loop(r, loop_new(r, n, eval(r, n->b), 0));
	case N_MACRO:
		frame_set(r, r->frame, n->name, macro_new(r, n));
		return FLOW_ON;
	case N_CALL_BLOCK:
		exec_call_block(r, n);
		return FLOW_ON;
	case N_FILTER_BLOCK:
		return exec_filter_block(r, n);
	case N_WITH:
	case N_SCOPE:
	case N_GENERATION:
		return exec_with(r, n);
	case N_BREAK:
		return FLOW_BREAK;
	case N_CONTINUE:
		return FLOW_CONTINUE;
	default:
		jinja_fail(&r->j, "no loader for this environment specified");
	}
}

enum flow exec(struct run *r, const struct block *b)
{
	enum flow flow = FLOW_ON;

	jinja_enter(&r->j);
	for (size_t i = 0; i < b->n && flow == FLOW_ON; i++) {
		jinja_work(&r->j, 0);
		flow = exec_node(r, b->at[i]);
	}
	jinja_leave(&r->j);
	return flow;
}
