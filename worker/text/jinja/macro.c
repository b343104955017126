/* macro.c - macros: their parameters bound, their bodies run. */
#include <string.h>

#include "worker/text/jinja/exec.h"
#include "worker/text/jinja/loop.h"

struct value macro_new(struct run *r, const struct node *n)
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
	return v_str(exec_capture(r, &m->node->body, f, &flow));
}

void macro_call_block(struct run *r, const struct node *n)
{
	struct value f = eval(r, n->a->a);
	struct args *a = eval_args(r, n->a->args);

	a->kw = jinja_grow(&r->j, a->kw, a->n_kw, a->n_kw + 1, sizeof(*a->kw));
	a->kw[a->n_kw++] = (struct arg_kw){ str_from(&r->j, "caller", TEMPLATE), macro_new(r, n) };
	exec_print(r, call_value(r, f, a));
}
