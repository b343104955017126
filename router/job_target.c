/* job_target.c - the targets of a job: what alias and fleet offer it, and which is the next. */
#include <string.h>

#include "lib/clock.h"
#include "router/job_int.h"

static bool was_tried(const struct job *j, const struct job_target *t)
{
	for (uint32_t i = 0; i < j->n_tried; i++)
		if (t->worker_uid
			    ? j->tried[i].worker_uid == t->worker_uid
			    : j->tried[i].upstream == t->upstream && j->tried[i].model == t->model)
			return true;
	return false;
}

static void add_worker(const struct job *j, struct job_table *t, const struct worker *w)
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

static void add_workers(const struct job *j, struct job_table *t, const char *model)
{
	for (const struct worker *w = fleet_workers(j->rt->fleet); w; w = w->next)
		if (!strcmp(w->model, model))
			add_worker(j, t, w);
}

/* An upstream whose breaker was open is asked by a probe first, so that no client pays
 * for finding out; `risk`: there is nobody else. */
static uint64_t upstream_until(const struct job *j, struct job_table *t,
			       const struct upstream_conf *u, struct upstream_state *s, bool risk)
{
	uint64_t until = route_breaker_until(&s->breaker), now = clock_ns();

	if (!s->breaker.open_ms || until > now || !u->probe || risk)
		return until;
	cloud_probe(j->rt->cloud, j->settings, u);
	t->unprobed = true;
	return UINT64_MAX;
}

static void add_upstream(const struct job *j, struct job_table *t, const struct chain_step *step,
			 bool risk)
{
	struct upstream_state *s = cloud_state(j->rt->cloud, step->upstream->name);

	if (t->n == JOB_MAX_TARGETS || !s)
		return;
	t->target[t->n] = (struct job_target){ .upstream = step->upstream, .model = step->model };
	t->route[t->n] = (struct route_target){
		.step = t->step, .able = step->upstream->able,
		.max_context = step->upstream->max_context, .load = s->in_flight + s->penalty,
		.last_used_ns = s->used_ns, .up = !job_was_here(j),
		.not_before_ns = upstream_until(j, t, step->upstream, s, risk),
		.tried = was_tried(j, &t->target[t->n]),
	};
	t->n++;
}

static void add_name(const struct job *j, struct job_table *t, const char *name, bool risk)
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

static void fill_table(const struct job *j, struct job_table *t, bool risk)
{
	t->n = t->step = 0;
	t->unprobed = false;
	add_name(j, t, j->req.model, risk);
	for (uint32_t i = 0; i < j->req.n_chain; i++)
		add_name(j, t, j->req.chain[i], risk);
}

/* After the first token only the same arithmetic can go on with the same words. */
static void keep_equals(const struct job *j, struct job_table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct worker *w = fleet_worker(j->rt->fleet, t->target[i].worker_uid);

		t->route[i].up = t->route[i].up && w && j->numeric_class && !j->cannot_continue &&
				 !strcmp(w->numeric_class, j->numeric_class) &&
				 !strcmp(w->model, j->model);
	}
}

struct route_answer job_choose(struct job *j, struct job_table *t)
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
