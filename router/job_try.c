/* job_try.c - the walk along the targets: a try, how it went, what comes next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "router/job_int.h"

enum { COOL_MAX_MS = 600000 };

/* The client may know what it waited for. */
static void note_wait(struct job *j, const struct job_target *t)
{
	const char *result = t->worker_uid && !strcmp(t->model, j->waits) ? "loaded" : "not_loaded";
	char target[96];

	if (j->attempts.n < 2000)
		buf_printf(&j->attempts, "%sbox:%s=%s", j->attempts.n ? ", " : "", j->wait_box,
			   result);
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
	struct job_table t;

	for (;;) {
		struct route_answer a = job_choose(j, &t);
		struct worker *w;

		if (job_wait(j, a.why == ROUTE_OK ? t.route[a.target].step : UINT32_MAX,
			     a.why == ROUTE_OK))
			return;
		if (a.why != ROUTE_OK) {
			job_no_target(j, &a);
			return;
		}
		if (*j->waits)
			note_wait(j, &t.target[a.target]);
		job_wait_end(j);
		w = fleet_worker(j->rt->fleet, t.target[a.target].worker_uid);
		if (job_begin_try(j, &t.target[a.target]) < 0)
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
	job_note_attempt(j, result);
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

		job_last_error(j, &e);
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
	job_note_attempt(j, attempt_fault_name(f->fault));
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
		job_note_attempt(j, "ok");
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
