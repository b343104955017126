/* job_try.c - the tries of a job: which target, how it went, what comes next. */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "router/job_int.h"

enum { BUSY_MS = 1000, COOL_MAX_MS = 600000 };

struct table {
	struct route_target route[JOB_MAX_TARGETS];
	struct job_target target[JOB_MAX_TARGETS];
	size_t n;
	uint32_t step;
	bool unprobed;		/* an upstream waits for a probe that was just sent */
};

/* ---- the table of targets --------------------------------------------------------- */

static bool was_tried(const struct job *j, const struct job_target *t)
{
	for (uint32_t i = 0; i < j->n_tried; i++)
		if (t->worker_uid
			    ? j->tried[i].worker_uid == t->worker_uid
			    : j->tried[i].upstream == t->upstream && j->tried[i].model == t->model)
			return true;
	return false;
}

static void add_worker(const struct job *j, struct table *t, const struct worker *w)
{
	uint32_t theirs = w->running + w->waiting, room = w->max_running + w->max_queue;
	uint32_t load = w->n_gens > theirs ? w->n_gens : theirs;

	if (t->n == JOB_MAX_TARGETS)
		return;
	/* errors count as load, or a worker that fails fast draws all requests to it; but
	 * alone they must not make it look full */
	if (load < room)
		load = load + w->penalty < room ? load + w->penalty : room - 1;
	t->target[t->n] = (struct job_target){ .worker_uid = w->uid, .model = w->model };
	t->route[t->n] = (struct route_target){
		.step = t->step, .able = w->able, .max_context = w->max_context, .load = load,
		.room = room, .last_used_ns = w->used_ns,
		.up = !w->draining && !w->doomed &&
		      !boxes_retires(fleet_boxes(j->rt->fleet), w->name),
		.not_before_ns = route_breaker_until(&w->breaker),
		.tried = was_tried(j, &t->target[t->n]),
	};
	t->n++;
}

static void add_workers(const struct job *j, struct table *t, const char *model)
{
	for (const struct worker *w = fleet_workers(j->rt->fleet); w; w = w->next)
		if (!strcmp(w->model, model))
			add_worker(j, t, w);
}

/* An upstream whose breaker was open is asked by a probe first, so that no client pays
 * for finding out; `risk`: there is nobody else. */
static uint64_t upstream_until(const struct job *j, struct table *t, const struct upstream_conf *u,
			       struct upstream_state *s, bool risk)
{
	uint64_t until = route_breaker_until(&s->breaker), now = clock_ns();

	if (!s->breaker.open_ms || until > now || !u->probe || risk)
		return until;
	cloud_probe(j->rt->cloud, j->settings, u);
	t->unprobed = true;
	return UINT64_MAX;
}

static void add_upstream(const struct job *j, struct table *t, const struct chain_step *step,
			 bool risk)
{
	struct upstream_state *s = cloud_state(j->rt->cloud, step->upstream->name);

	if (t->n == JOB_MAX_TARGETS || !s)
		return;
	t->target[t->n] = (struct job_target){ .upstream = step->upstream, .model = step->model };
	t->route[t->n] = (struct route_target){
		.step = t->step, .able = step->upstream->able,
		.max_context = step->upstream->max_context, .load = s->in_flight + s->penalty,
		.last_used_ns = s->used_ns, .up = true,
		.not_before_ns = upstream_until(j, t, step->upstream, s, risk),
		.tried = was_tried(j, &t->target[t->n]),
	};
	t->n++;
}

static void add_name(const struct job *j, struct table *t, const char *name, bool risk)
{
	const struct alias *a = settings_alias(j->settings, name);

	if (!a) {
		add_workers(j, t, name);
		t->step++;
		return;
	}
	for (size_t i = 0; i < a->n_steps; i++, t->step++) {
		if (a->steps[i].upstream)
			add_upstream(j, t, &a->steps[i], risk);
		else
			add_workers(j, t, a->steps[i].model);
	}
}

static void fill_table(const struct job *j, struct table *t, bool risk)
{
	t->n = t->step = 0;
	t->unprobed = false;
	add_name(j, t, j->req.model, risk);
	for (uint32_t i = 0; i < j->req.n_chain; i++)
		add_name(j, t, j->req.chain[i], risk);
}

/* After the first token only the same arithmetic can go on with the same words. */
static void keep_equals(const struct job *j, struct table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct worker *w = fleet_worker(j->rt->fleet, t->target[i].worker_uid);

		t->route[i].up = t->route[i].up && w && j->numeric_class && !j->cannot_continue &&
				 !strcmp(w->numeric_class, j->numeric_class) &&
				 !strcmp(w->model, j->model);
	}
}

/* ---- beginning a try ------------------------------------------------------------------ */

static int remaining_ms(const struct job *j)
{
	uint64_t used = (clock_ns() - j->started_ns) / NS_PER_MS;

	return used < j->settings->deadline_ms ? (int)(j->settings->deadline_ms - used) : 1;
}

static void fill_prompt(struct job *j, Hw__Generate *m)
{
	const struct buf *chat = &j->req.chat;

	if (j->req.kind == OA_CHAT) {
		m->has_chat = 1;
		m->chat.data = (uint8_t *)(uintptr_t)(j->req.rewritten ? chat->p : j->body);
		m->chat.len = j->req.rewritten ? chat->n : j->n_body;
	} else if (j->req.prompt) {
		m->has_text = 1;
		m->text.data = (uint8_t *)j->req.prompt;
		m->text.len = j->req.n_prompt;
	} else {
		m->token = j->req.token;
		m->n_token = j->req.n_token;
	}
}

static int begin_worker(struct job *j, struct worker *w)
{
	Hw__Generate m = HW__GENERATE__INIT;
	ProtobufCBinaryData stop[OA_MAX_STOPS];
	const struct oa_request *q = &j->req;

	m.model = w->model;
	m.credit = j->settings->credit;
	m.has_deadline_ms = 1;
	m.deadline_ms = (uint32_t)remaining_ms(j);
	fill_prompt(j, &m);
	m.has_max_tokens = q->has_max_tokens;
	m.max_tokens = q->max_tokens;
	m.has_n = 1;
	m.n = q->n;
	for (uint32_t i = 0; i < q->n_stop; i++)
		stop[i] = (ProtobufCBinaryData){ strlen(q->stop[i]), (uint8_t *)q->stop[i] };
	m.stop = stop;
	m.n_stop = q->n_stop;
	m.stop_token = q->stop_token;
	m.n_stop_token = q->n_stop_token;
	m.has_ignore_eos = q->ignore_eos;
	m.ignore_eos = q->ignore_eos;
	m.has_echo = q->echo;
	m.echo = q->echo;
	j->req.sampling.has_seed = 1;
	j->req.sampling.seed = j->seed;
	m.sampling = &j->req.sampling;
	m.known = j->known;
	m.n_known = j->sent ? j->n_known : 0;
	text_add(j->target, sizeof(j->target), text_add(j->target, sizeof(j->target), 0, "worker:"),
		 w->name);
	text_add(j->model, sizeof(j->model), 0, w->model);
	j->try_first_ms = j->settings->first_ms;
	j->try_idle_ms = j->settings->idle_ms;
	route_breaker_use(&w->breaker, clock_ns());
	return fleet_generate(j->rt->fleet, w, &m, &job_hooks, j, &j->gen);
}

static int begin_upstream(struct job *j, const struct job_target *t)
{
	struct upstream_state *s = cloud_state(j->rt->cloud, t->upstream->name);

	snprintf(j->target, sizeof(j->target), "upstream:%.80s", t->upstream->name);
	j->try_first_ms = t->upstream->first_ms;
	j->try_idle_ms = t->upstream->idle_ms;
	route_breaker_use(&s->breaker, clock_ns());
	j->upstream = s;
	return cloud_generate(j->rt->cloud, t->upstream, t->model, &j->req, &job_hooks, j,
			      &j->cloud);
}

static void mark_tried(struct job *j, const struct job_target *t)
{
	j->n_tries++;
	if (j->n_tried == JOB_MAX_TARGETS)
		return;
	j->tried[j->n_tried].worker_uid = t->worker_uid;
	j->tried[j->n_tried].upstream = t->upstream;
	j->tried[j->n_tried++].model = t->model;
}

static void note_attempt(struct job *j, const char *result)
{
	char labels[160];
	size_t n;

	if (j->attempts.n < 2000) {
		buf_puts(&j->attempts, j->attempts.n ? ", " : "");
		buf_puts(&j->attempts, j->target);
		buf_putc(&j->attempts, '=');
		buf_puts(&j->attempts, result);
	}
	n = text_add(labels, sizeof(labels), 0, "target=\"");
	n = text_add(labels, sizeof(labels), n, j->target);
	n = text_add(labels, sizeof(labels), n, "\",result=\"");
	n = text_add(labels, sizeof(labels), n, result);
	text_add(labels, sizeof(labels), n, "\"");
	metrics_add(j->rt->metrics, "hearth_attempts", labels, 1);
	record_result(j->record, result);
}

/* What a person is told when a try could not even begin. */
static void could_not_begin(struct job *j, int code)
{
	bool large = code == -EMSGSIZE;

	note_attempt(j, large ? "too_large" : "refused");
	j->last = (struct attempt_failure){ .fault = large ? FAULT_REJECTED : FAULT_LOST,
					    .status = large ? 413 : 0 };
	snprintf(j->last.message, sizeof(j->last.message), "%s: %s", j->target,
		 large ? "the request is larger than a worker takes" : strerror(-code));
	j->has_last = true;
	j->may_recover = true;
	record_why(j->record, j->last.message);
}

static int begin(struct job *j, const struct job_target *t)
{
	struct worker *w = t->worker_uid ? fleet_worker(j->rt->fleet, t->worker_uid) : NULL;
	int r;

	mark_tried(j, t);
	j->try_worker = t->worker_uid;
	j->accepted = j->try_tokens = false;
	j->owed = 0;
	j->try_began_ns = j->last_heard_ns = clock_ns();
	if (!j->sent) {
		j->n_known = 0;
		oa_out_restart(&j->out);
		if (oa_out_fingerprint(&j->out, w ? w->numeric_class : NULL) < 0)
			return -ENOMEM;
	}
	r = w ? begin_worker(j, w) : begin_upstream(j, t);
	record_try(j->record, j->target, w ? boxes_of_worker(fleet_boxes(j->rt->fleet), w->name) : NULL,
		   j->try_began_ns);
	if (r < 0)
		could_not_begin(j, r);
	return r;
}

/* ---- why not ---------------------------------------------------------------------------- */

static void last_error(const struct job *j, struct oa_error *e)
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
		oa_error_set(e, 404, "model_not_found", "model", "there is no model '%s' here",
			     j->req.model);
		return;
	}
	if (o.will == BOX_NOT) {	/* a person has to do something first */
		oa_error_set(e, 503, "upstream_unavailable", NULL, "box %s keeps '%s' out (%s)%s%s",
			     o.box->name, o.model->alias,
			     o.model->drained ? "drained" : box_state_name(o.model->state),
			     o.model->reason ? ": " : "", o.model->reason ? o.model->reason : "");
		return;
	}
	oa_error_set(e, 503, "upstream_unavailable", NULL, "nobody serves '%s' at the moment",
		     j->req.model);
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

static void no_target(struct job *j, const struct route_answer *a)
{
	struct oa_error e;

	if (j->has_last) {
		last_error(j, &e);
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

/* ---- the walk ----------------------------------------------------------------------------- */

static struct route_answer choose(struct job *j, struct table *t)
{
	const struct route_need need = { .able = j->req.needs, .tokens = j->req.n_token };
	struct route_answer a;

	for (int risk = 0;; risk++) {
		fill_table(j, t, risk);
		if (j->sent)
			keep_equals(j, t);
		a = route_next(&need, t->route, t->n, clock_ns());
		if (a.why == ROUTE_OK || !t->unprobed || risk)
			return a;
	}
}

/* The client may know what it waited for. */
static void note_wait(struct job *j, const struct job_target *t)
{
	const char *result = t->worker_uid && !strcmp(t->model, j->waits) ? "loaded" : "not_loaded";
	char target[96];

	if (j->attempts.n < 2000)
		buf_printf(&j->attempts, "%sbox:%s=%s", j->attempts.n ? ", " : "", j->wait_box, result);
	snprintf(target, sizeof(target), "box:%.80s", j->wait_box);
	record_try(j->record, target, j->wait_box, j->wait_began_ns);
	record_result(j->record, result);
}

/* The try's first limit, or what comes earlier. */
static void arm_try(struct job *j, bool worker)
{
	const struct settings *s = j->settings;
	uint64_t at = clock_ns() + (worker ? s->accept_ms : j->try_first_ms) * NS_PER_MS;
	uint64_t answer = j->started_ns + s->answer_ms * NS_PER_MS;
	uint64_t grace = j->started_ns + s->grace_ms * NS_PER_MS;

	if (!j->first_ns && answer < at)
		at = answer;
	if (j->req.stream && grace < at)
		at = grace;
	job_arm(j, at);
}

void job_next_try(struct job *j)
{
	struct table t;

	for (;;) {
		struct route_answer a = choose(j, &t);
		struct worker *w;

		if (job_wait(j, a.why == ROUTE_OK ? t.route[a.target].step : UINT32_MAX,
			     a.why == ROUTE_OK))
			return;
		if (a.why != ROUTE_OK) {
			no_target(j, &a);
			return;
		}
		if (*j->waits)
			note_wait(j, &t.target[a.target]);
		job_wait_end(j);
		w = fleet_worker(j->rt->fleet, t.target[a.target].worker_uid);
		if (begin(j, &t.target[a.target]) < 0)
			continue;
		if (w && !j->sent) {
			free(j->numeric_class);
			j->numeric_class = strdup(w->numeric_class);
		}
		arm_try(j, w != NULL);
		return;
	}
}

/* Of the try's target, if it is still there: the handle may be gone already. */
static struct route_breaker *breaker_of(struct job *j)
{
	struct worker *w = j->gen ? fleet_worker(j->rt->fleet, j->try_worker) : NULL;

	if (j->cloud)
		return &j->upstream->breaker;
	return w ? &w->breaker : NULL;
}

void job_drop_try(struct job *j, const char *result)
{
	struct route_breaker *b = breaker_of(j);

	if (!j->gen && !j->cloud)
		return;
	if (b)
		b->trying = false;
	if (b && !strcmp(result, "timeout"))
		route_breaker_fail(b, j->settings->breaker_failures, j->settings->breaker_ms,
				   clock_ns());
	note_attempt(j, result);
	if (j->gen)
		gen_cancel(j->gen);
	if (j->cloud)
		cloud_call_cancel(j->cloud);
	j->gen = NULL;
	j->cloud = NULL;
}

/* What a failure says about the target.  Called while worker or upstream still exist, if they do.
 */
static void teach_breaker(struct job *j, struct route_breaker *b, const struct attempt_failure *f)
{
	uint64_t now = clock_ns();

	switch (f->fault) {
	case FAULT_BUSY:
		if (f->retry_after_ms)
			route_breaker_cool(b, f->retry_after_ms < COOL_MAX_MS ? f->retry_after_ms :
									COOL_MAX_MS, now);
		else
			b->trying = false;
		return;
	case FAULT_REQUEST:
	case FAULT_REJECTED:
	case FAULT_CONTEXT:
	case FAULT_UNSUPPORTED:
		route_breaker_ok(b);
		return;
	default:
		route_breaker_fail(b, j->settings->breaker_failures, j->settings->breaker_ms, now);
	}
}

void job_try_failed(struct job *j, const struct attempt_failure *f)
{
	char labels[160];

	j->last = *f;
	j->has_last = true;
	record_why(j->record, f->message);
	if (f->fault != FAULT_REFUSED || !f->status)
		j->may_recover = true;
	if (f->fault == FAULT_REQUEST) {
		struct oa_error e;

		last_error(j, &e);
		job_fail(j, &e, 'C');
		return;
	}
	snprintf(labels, sizeof(labels), "from=\"%s\",reason=\"%s\"", j->target,
		 attempt_fault_name(f->fault));
	metrics_add(j->rt->metrics, "hearth_fallback", labels, 1);
	log_debug("request %s: %s: %s (%s), looking for another", j->id, j->target, f->message,
		  attempt_fault_name(f->fault));
	job_next_try(j);
}

static void on_failed(void *arg, const struct attempt_failure *f)
{
	struct job *j = arg;
	struct route_breaker *b = breaker_of(j);

	if (b)
		teach_breaker(j, b, f);
	j->gen = NULL;
	j->cloud = NULL;
	note_attempt(j, attempt_fault_name(f->fault));
	job_try_failed(j, f);
}

/* Into a header line: what does not belong there is left out. */
static void note_changes(struct job *j, const Hw__Accepted *m)
{
	buf_clear(&j->notes);
	for (size_t i = 0; i < m->n_note && j->notes.n < 500; i++) {
		if (j->notes.n)
			buf_puts(&j->notes, "; ");
		for (const char *p = m->note[i]; *p; p++)
			if (*p >= ' ' && *p <= '~')
				buf_putc(&j->notes, *p);
	}
}

static void on_accepted(void *arg, const Hw__Accepted *m)
{
	struct job *j = arg;

	j->accepted = true;
	record_accepted(j->record);
	job_arm(j, j->try_began_ns + j->try_first_ms * NS_PER_MS);
	if (j->phase == JOB_QUEUE)
		j->phase = JOB_PROMPT;
	j->out.usage.prompt = m->prompt_tokens;
	if (m->has_seed)
		j->seed = m->seed;
	note_changes(j, m);
	j->last_heard_ns = clock_ns();
}

static void on_alive(void *arg)
{
	struct job *j = arg;

	j->last_heard_ns = clock_ns();
}

static void on_delta(void *arg, const Hw__Delta *d)
{
	job_say_delta(arg, d);
}

static void on_done(void *arg, const Hw__Done *d)
{
	struct job *j = arg;
	struct route_breaker *b;
	uint32_t left = 0;

	for (uint32_t i = 0; i < j->out.n; i++)
		left += !j->out.choice[i].done;
	if (left == 1) {	/* the last one: the handle is gone */
		b = breaker_of(j);
		if (b)
			route_breaker_ok(b);
		j->gen = NULL;
		j->cloud = NULL;
		note_attempt(j, "ok");
	}
	job_say_done(j, d);
}

const struct attempt_hooks job_hooks = {
	.accepted = on_accepted,
	.alive = on_alive,
	.delta = on_delta,
	.done = on_done,
	.failed = on_failed,
};
