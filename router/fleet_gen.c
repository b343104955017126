/* fleet_gen.c - tries given to workers: their ids, their order, their ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "router/fleet_int.h"

enum { MAX_GENS = 1 << 20, FAILURE_PENALTY = 4 };

static int grow_slots(struct fleet *f)
{
	uint32_t n = f->n_slots ? f->n_slots * 2 : 64;
	struct gen **slots;
	uint32_t *list;

	if (f->n_slots == MAX_GENS)
		return -ENOSPC;
	slots = realloc(f->slots, n * sizeof(struct gen *));
	if (slots)
		f->slots = slots;
	list = realloc(f->free_slots, n * sizeof(*list));
	if (list)
		f->free_slots = list;
	if (!slots || !list)
		return -ENOMEM;
	for (uint32_t i = n; i-- > f->n_slots;) {
		slots[i] = NULL;
		list[f->n_free++] = i;
	}
	f->n_slots = n;
	return 0;
}

struct gen *gen_find(const struct fleet *f, const struct worker *w, uint64_t id)
{
	uint32_t slot = (uint32_t)(id % MAX_GENS);
	struct gen *g = slot < f->n_slots ? f->slots[slot] : NULL;

	return g && g->id == id && g->worker == w ? g : NULL;
}

static void gen_free(struct gen *g)
{
	struct fleet *f = g->fleet;

	f->slots[g->slot] = NULL;
	f->free_slots[f->n_free++] = g->slot;
	if (g->next)
		g->next->prev = g->prev;
	*g->prev = g->next;
	if (--g->worker->n_gens == 0)
		fleet_note_use(f);
	free(g);
}

void gen_fail(struct gen *g, const struct attempt_failure *why)
{
	const struct attempt_hooks *hooks = g->hooks;
	void *arg = g->arg;

	gen_free(g);
	hooks->failed(arg, why);
}

static void send_cancel(struct gen *g)
{
	Hw__Cancel m = HW__CANCEL__INIT;

	m.request = g->id;
	(void)fleet_send(g->fleet, g->worker, WIRE_CANCEL, &m.base);
}

void gen_cancel(struct gen *g)
{
	send_cancel(g);
	gen_free(g);
}

void gen_credit(struct gen *g, uint32_t more)
{
	Hw__Credit m = HW__CREDIT__INIT;

	m.request = g->id;
	m.more = more;
	g->credit += more;
	(void)fleet_send(g->fleet, g->worker, WIRE_CREDIT, &m.base);
}

struct worker *gen_worker(struct gen *g)
{
	return g->worker;
}

int fleet_generate(struct fleet *f, struct worker *w, Hw__Generate *m,
		   const struct attempt_hooks *hooks, void *arg, struct gen **ret)
{
	struct gen *g;
	int r;

	if (f->n_free == 0 && grow_slots(f) < 0)
		return -ENOMEM;
	g = m->n <= GEN_MAX_CHOICES ? calloc(1, sizeof(*g)) : NULL;
	if (!g)
		return -ENOMEM;
	*g = (struct gen){.fleet = f,
			  .worker = w,
			  .credit = m->credit,
			  .n = m->n,
			  .choices_left = m->n,
			  .hooks = hooks,
			  .arg = arg};
	g->slot = f->free_slots[--f->n_free];
	g->id = ++f->next_serial * MAX_GENS + g->slot;
	f->slots[g->slot] = g;
	g->next = w->gens;
	g->prev = &w->gens;
	if (g->next)
		g->next->prev = &g->next;
	w->gens = g;
	if (w->n_gens++ == 0)
		fleet_note_use(f);
	m->request = g->id;
	r = fleet_send(f, w, WIRE_GENERATE, &m->base);
	if (r < 0) {
		gen_free(g);
		return r;
	}
	w->used_ns = clock_ns();
	*ret = g;
	return 0;
}

static void break_gen(struct gen *g, const char *why)
{
	struct attempt_failure failure = { .fault = FAULT_GARBAGE };

	snprintf(failure.message, sizeof(failure.message), "worker %.64s: %s", g->worker->name,
		 why);
	log_event(LOG_WARN, EVENT_REQUEST_MOVED,
		  LOG_FIELDS({ "WORKER", g->worker->name }, { "REASON", why }),
		  "request of worker %s: %s; the request moves on", g->worker->name, why);
	g->worker->penalty += FAILURE_PENALTY;
	send_cancel(g);
	gen_fail(g, &failure);
}

void gen_refused(struct gen *g, const Hw__Refused *m)
{
	static const enum attempt_fault faults[] = {
		[HW__REFUSAL__BAD_REQUEST] = FAULT_REQUEST,
		[HW__REFUSAL__CONTEXT_LENGTH] = FAULT_CONTEXT,
		[HW__REFUSAL__QUEUE_FULL] = FAULT_BUSY,
		[HW__REFUSAL__DRAINING] = FAULT_BUSY,
		[HW__REFUSAL__UNSUPPORTED] = FAULT_UNSUPPORTED,
		[HW__REFUSAL__DEADLINE] = FAULT_TIMEOUT,
	};
	struct attempt_failure failure = { .fault = faults[m->reason],
					   .retry_after_ms = m->retry_after_ms };

	snprintf(failure.message, sizeof(failure.message), "%s", m->message);
	snprintf(failure.param, sizeof(failure.param), "%s", m->param ? m->param : "");
	gen_fail(g, &failure);
}

void gen_delta(struct gen *g, const Hw__Delta *d)
{
	if (d->seq != g->next_seq)
		break_gen(g, "a delta is missing");
	else if (d->choice >= g->n || g->choice_done[d->choice])
		break_gen(g, "a delta of a choice that is over or was not asked for");
	else if (g->credit == 0)
		break_gen(g, "more deltas than it had credit for");
	else {
		g->next_seq++;
		g->credit--;
		g->hooks->delta(g->arg, d);
	}
}

void gen_done(struct gen *g, const Hw__Done *d)
{
	const struct attempt_hooks *hooks = g->hooks;
	void *arg = g->arg;

	if (d->seq != g->next_seq) {
		break_gen(g, "a delta is missing");
		return;
	}
	if (d->choice >= g->n || g->choice_done[d->choice]) {
		break_gen(g, "the end of a choice that is over or was not asked for");
		return;
	}
	g->next_seq++;
	g->choice_done[d->choice] = true;
	if (d->finish == HW__FINISH__FAILED || d->finish == HW__FINISH__CANCELLED) {
		struct attempt_failure failure = { .fault = FAULT_SERVER };

		snprintf(failure.message, sizeof(failure.message), "worker %.64s: %.160s",
			 g->worker->name, d->message ? d->message : "gave up");
		g->worker->penalty += FAILURE_PENALTY;
		if (--g->choices_left)
			send_cancel(g);
		gen_fail(g, &failure);
		return;
	}
	if (--g->choices_left == 0)
		gen_free(g);
	hooks->done(arg, d);
}
