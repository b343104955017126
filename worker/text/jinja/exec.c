/* exec.c - statements; see run.h. */
#include "worker/text/jinja/exec.h"

struct str *exec_capture(struct run *r, const struct block *body, struct frame *f,
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

void exec_print(struct run *r, struct value v)
{
	str_out_str(r->out, v.kind == V_STR ? v.s : v_to_str(&r->j, v));
}

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

	frame_check_target(r, n->a);
	if (n->kind == N_SET) {
		frame_assign(r, r->frame, n->a, eval(r, n->b));
		return flow;
	}
	text = exec_capture(r, &n->body, frame_new(r, r->frame), &flow);
	if (flow == FLOW_ON)
		frame_assign(r, r->frame, n->a, filter_text(r, n->b, text));
	return flow;
}

static enum flow exec_with(struct run *r, const struct node *n)
{
	struct frame *outer = r->frame, *f = frame_new(r, outer);
	enum flow flow;

	/* values are worked out outside, in order */
	for (size_t i = 0; i + 1 < n->list.n; i += 2)
		frame_assign(r, f, n->list.at[i], eval(r, n->list.at[i + 1]));
	r->frame = f;
	flow = exec(r, &n->body);
	r->frame = outer;
	return flow;
}

static enum flow exec_filter_block(struct run *r, const struct node *n)
{
	enum flow flow;
	struct str *text = exec_capture(r, &n->body, frame_new(r, r->frame), &flow);

	if (flow == FLOW_ON)
		exec_print(r, filter_text(r, n->a, text));
	return flow;
}

static enum flow exec_node(struct run *r, const struct node *n)
{
	switch (n->kind) {
	case N_OUTPUT:
		for (size_t i = 0; i < n->list.n; i++)
			exec_print(r, eval(r, n->list.at[i]));
		return FLOW_ON;
	case N_SET:
	case N_SET_BLOCK:
		return exec_set(r, n);
	case N_IF:
		return exec_if(r, n);
	case N_FOR:
		return loop_exec(r, loop_new(r, n, eval(r, n->b), 0));
	case N_MACRO:
		frame_set(r, r->frame, n->name, macro_new(r, n));
		return FLOW_ON;
	case N_CALL_BLOCK:
		macro_call_block(r, n);
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
