/* job_wait.c - a job whose local model is not loaded: it has the box load it, and waits.
 *
 * A job that waits holds no try.  It is looked at again whenever a worker or a box comes, goes or
 * reports, in the order in which the jobs began to wait; and it stops waiting when what the box
 * measures says that it would be too long.
 */
#include <string.h>

#include "lib/clock.h"
#include "router/job_int.h"

enum {
	MAX_TRIES = 3,		/* a request that workers die of does not wait for a fourth */
	MIN_RETRY_MS = 1000,
};

struct hope {
	struct box_outlook outlook;
	enum alias_load load;
	bool found;
};

static bool connected(const struct job *j, const char *model)
{
	for (const struct worker *w = fleet_workers(j->rt->fleet); w; w = w->next)
		if (!strcmp(w->model, model) && !w->doomed && !w->draining &&
		    !boxes_retires(fleet_boxes(j->rt->fleet), w->name))
			return true;
	return false;
}

static void look_at(const struct job *j, const char *model, enum alias_load load, struct hope *h)
{
	struct box_outlook o;

	if (h->found || load == LOAD_NEVER)
		return;
	o = boxes_outlook(fleet_boxes(j->rt->fleet), model);
	if (o.will == BOX_COMING || (o.will == BOX_HERE && !connected(j, model)))
		*h = (struct hope){ o, load, true };
}

static uint32_t look_at_name(const struct job *j, const char *name, uint32_t step, uint32_t before,
			     struct hope *h)
{
	const struct alias *a = settings_alias(j->settings, name);

	if (!a) {
		if (step < before)
			look_at(j, name, LOAD_WAIT, h);
		return step + 1;
	}
	for (size_t i = 0; i < a->n_steps; i++, step++)
		if (!a->steps[i].upstream && step < before)
			look_at(j, a->steps[i].model, a->load, h);
	return step;
}

/* The first local model of the chain, before this step, that is not there but could be.  After the
 * first token only the one that gave it: its successor goes on where it stopped. */
static struct hope find_hope(const struct job *j, uint32_t before)
{
	struct hope h = { .found = false };
	uint32_t step;

	if (j->sent) {
		if (before == UINT32_MAX && !j->cannot_continue && j->numeric_class)
			look_at(j, j->model, LOAD_WAIT, &h);
		return h;
	}
	step = look_at_name(j, j->req.model, 0, before, &h);
	for (uint32_t i = 0; i < j->req.n_chain; i++)
		step = look_at_name(j, j->req.chain[i], step, before, &h);
	return h;
}

static void stand_in_row(struct job *j, const char *alias)
{
	struct router *rt = j->rt;

	if (strcmp(j->waits, alias) != 0) {
		if (*j->waits)
			boxes_wait(fleet_boxes(rt->fleet), j->waits, -1);
		snprintf(j->waits, sizeof(j->waits), "%s", alias);
		boxes_wait(fleet_boxes(rt->fleet), j->waits, 1);
	}
	if (!j->in_row)
		TAILQ_INSERT_TAIL(&rt->waiters, j, row);
	j->in_row = true;
}

void job_wait_end(struct job *j)
{
	if (j->in_row)
		TAILQ_REMOVE(&j->rt->waiters, j, row);
	j->in_row = false;
	if (*j->waits)
		boxes_wait(fleet_boxes(j->rt->fleet), j->waits, -1);
	*j->waits = '\0';
}

static bool too_long(const struct job *j, const struct box_outlook *o, uint64_t now)
{
	uint64_t need = o->ready_ms == UINT32_MAX ? 0 : o->ready_ms * NS_PER_MS;

	/* once the client has its 200 there is nothing to gain by giving up early */
	return j->committed ? now >= j->wait_until_ns : now + need >= j->wait_until_ns;
}

static void refuse(struct job *j, const struct box_outlook *o)
{
	char text[96];
	struct oa_error e;

	box_outlook_text(o, text, sizeof(text));
	oa_error_set(&e, 503, "model_loading", "model", "'%s' cannot be waited for: %s",
		     o->model->alias, text);
	e.retry_after_ms = o->ready_ms == UINT32_MAX || o->ready_ms < MIN_RETRY_MS ? MIN_RETRY_MS :
										   o->ready_ms;
	metrics_add(j->rt->metrics, "hearth_load_refused", "", 1);
	job_fail(j, &e, 'R');
}

static void begin(struct job *j, uint64_t now)
{
	const struct settings *s = j->settings;
	uint32_t budget_ms = j->sent ? s->deadline_ms : s->answer_ms;
	uint64_t answer = j->started_ns + budget_ms * NS_PER_MS;

	if (*j->waits || (j->wait_began_ns && !j->sent))
		return;
	j->wait_began_ns = now;
	j->wait_until_ns = now + s->load_wait_ms * NS_PER_MS;
	if (j->wait_until_ns > answer)
		j->wait_until_ns = answer;
	metrics_add(j->rt->metrics, "hearth_load_waits", "", 1);
}

bool job_wait(struct job *j, uint32_t before, bool others)
{
	struct hope h = find_hope(j, before);
	uint64_t now = clock_ns();

	if (!h.found || j->n_tries >= MAX_TRIES)
		return false;
	boxes_demand(fleet_boxes(j->rt->fleet), &h.outlook);
	if (others && h.load == LOAD_BACKGROUND)
		return false;
	begin(j, now);
	if (too_long(j, &h.outlook, now)) {
		if (!others)
			refuse(j, &h.outlook);
		return !others;
	}
	snprintf(j->wait_box, sizeof(j->wait_box), "%s", h.outlook.box->name);
	stand_in_row(j, h.outlook.model->alias);
	job_arm(j, j->wait_until_ns);
	if (j->req.stream)
		job_arm(j, j->committed ? j->last_write_ns + j->settings->keepalive_ms * NS_PER_MS :
					  j->started_ns + j->settings->grace_ms * NS_PER_MS);
	return true;
}

void job_wait_text(const struct job *j, char *ret, size_t n)
{
	struct box_outlook o = boxes_outlook(fleet_boxes(j->rt->fleet), j->waits);
	char text[96];

	box_outlook_text(&o, text, sizeof(text));
	snprintf(ret, n, ": %s on box %s: %s\n\n", j->waits, j->wait_box, text);
}

void job_wake_all(void *router)
{
	struct router *rt = router;
	struct job_row row = TAILQ_HEAD_INITIALIZER(row);
	struct job *j;

	TAILQ_CONCAT(&row, &rt->waiters, row);
	while ((j = TAILQ_FIRST(&row))) {
		TAILQ_REMOVE(&row, j, row);
		j->in_row = false;
		job_next_try(j);
	}
}
