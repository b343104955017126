/* job_error.c - why nobody could answer: the status and the words that the client is sent. */
#include "lib/clock.h"
#include "router/job_int.h"

enum { BUSY_MS = 1000 };

void job_last_error(const struct job *j, struct oa_error *e)
{
	const struct attempt_failure *f = &j->last;
	uint32_t retry = f->retry_after_ms ? f->retry_after_ms : BUSY_MS;
	const char *param = *f->param ? f->param : NULL;

	switch (f->fault) {
	case FAULT_REQUEST:
		oa_error_set(e, 400, "invalid_value", param, "%s", f->message);
		return;
	case FAULT_REJECTED:
		oa_error_set(e, f->status ? f->status : 400, NULL, param, "%s", f->message);
		return;
	case FAULT_CONTEXT:
		oa_error_set(e, 400, "context_length_exceeded",
			     j->req.kind == OA_CHAT ? "messages" : "prompt", "%s", f->message);
		return;
	case FAULT_UNSUPPORTED:
		oa_error_set(e, 400, "unsupported_value", param, "%s", f->message);
		return;
	case FAULT_BUSY:
		if (f->status == 429)
			oa_error_set(e, 429, "rate_limit_exceeded", NULL, "%s", f->message);
		else
			oa_error_set(e, 503, "server_overloaded", NULL, "%s", f->message);
		e->retry_after_ms = retry;
		return;
	case FAULT_TIMEOUT:
		oa_error_set(e, 504, "upstream_unavailable", NULL, "%s", f->message);
		return;
	case FAULT_SERVER:
	case FAULT_GARBAGE:
		oa_error_set(e, 502, "upstream_unavailable", NULL, "%s", f->message);
		return;
	case FAULT_REFUSED:
	case FAULT_LOST:
		oa_error_set(e, 503, "upstream_unavailable", NULL, "%s", f->message);
		e->retry_after_ms = retry;
		return;
	}
}

static void unable_error(uint32_t lacking, struct oa_error *e)
{
	static const struct {
		uint32_t able;
		const char *param;
	} params[] = {
		{ ABLE_N, "n" }, { ABLE_LOGPROBS, "logprobs" }, { ABLE_TOOL_CHOICE, "tool_choice" },
		{ ABLE_TOOLS, "tools" }, { ABLE_JSON_OBJECT | ABLE_JSON_SCHEMA, "response_format" },
		{ ABLE_VISION, "messages" }, { ABLE_TOKENS, "prompt" },
	};
	const char *param = "model";

	for (size_t i = 0; i < sizeof(params) / sizeof(*params); i++) {
		if (lacking & params[i].able) {
			param = params[i].param;
			break;
		}
	}
	oa_error_set(e, 400, "unsupported_value", param,
		     "%s: no target of this model can do '%s'", param, route_able_name(lacking));
}

/* What a box says about the first local model of what was asked for. */
static struct box_outlook first_outlook(const struct job *j)
{
	const struct alias *a = settings_alias(j->settings, j->req.model);
	const char *model = a ? NULL : j->req.model;

	for (size_t i = 0; a && i < a->n_steps && !model; i++)
		model = a->steps[i].upstream ? NULL : a->steps[i].model;
	return boxes_outlook(fleet_boxes(j->rt->fleet), model ? model : "");
}

static void nobody_error(const struct job *j, struct oa_error *e)
{
	const struct box_outlook o = first_outlook(j);

	if (!settings_alias(j->settings, j->req.model) &&
	    !fleet_knows_model(j->rt->fleet, j->req.model)) {
		oa_error_no_model(e, j->req.model);
		return;
	}
	if (o.will == BOX_NOT) {	/* a person has to do something first */
		oa_error_set(e, 503, "upstream_unavailable", NULL, "box %s keeps '%s' out (%s)%s%s",
			     o.box->name, o.model->alias,
			     o.model->drained ? "drained" : box_state_name(o.model->state),
			     o.model->reason ? ": " : "", o.model->reason ? o.model->reason : "");
		return;
	}
	oa_error_set(e, 503, "upstream_unavailable", NULL, "nobody serves '%s' at the moment%s",
		     j->req.model, job_was_here(j) ? "; other servers of its chain lead back "
		     "to this router" : "");
	e->retry_after_ms = 2000;
}

/* Each target is another server, was asked, and has us, our key or the model's name refused:
 * that takes a person. */
static bool hopeless(const struct job *j)
{
	const struct alias *a = settings_alias(j->settings, j->req.model);

	if (!a || j->may_recover || j->n_tried != a->n_steps)
		return false;
	for (size_t i = 0; i < a->n_steps; i++)
		if (!a->steps[i].upstream)
			return false;
	return true;
}

void job_no_target(struct job *j, const struct route_answer *a)
{
	struct oa_error e;

	if (j->has_last) {
		job_last_error(j, &e);
		e.no_retry = hopeless(j);
	} else if (a->why == ROUTE_UNABLE) {
		unable_error(a->lacking, &e);
	} else if (a->why == ROUTE_CONTEXT) {
		oa_error_set(&e, 400, "context_length_exceeded", "prompt",
			     "the prompt is longer than the context of any target");
	} else if (a->why == ROUTE_BUSY) {
		oa_error_set(&e, 503, "server_overloaded", NULL, "all targets of '%s' are busy",
			     j->req.model);
		e.retry_after_ms = a->wait_ns ? (uint32_t)(a->wait_ns / NS_PER_MS) + 1 : BUSY_MS;
	} else {
		nobody_error(j, &e);
	}
	job_fail(j, &e, j->has_last ? 'S' : 'R');
}
