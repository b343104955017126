/* exact_crowd.c - see exact_crowd.h. */
#include "bench/exact_crowd.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/own.h"

/* In CROWD_PRESSED every one is preempted so often, whatever the pool does. */
enum { FORCE_EACH = 3 };

struct one {
	bool sampled, paused, over;
	uint32_t n_output, n_forced;
};

struct run {
	const struct crowd *c;
	enum crowd_how how;
	struct sched *sched;
	struct one *one;
	uint32_t n_sent, n_over, turn;
	uint32_t rows;		/* decode rows of the step that is being told */
	struct crowd_result *ret;
};

const char *crowd_how_name(enum crowd_how how)
{
	static const char *const names[CROWD_N] = { "alone", "decode rows only", "prompts mixed in",
						    "mixed, preempted" };

	return names[how];
}

static void on_ran(void *ctx, const struct seq *q, const struct sched_run *run)
{
	struct run *r = ctx;

	r->rows += run->kind == ROW_DECODE;
	r->one[q->id].n_output = seq_n_output(q);
	r->one[q->id].sampled |= run->result->sampled;
	exact_book_step(r->c->book, q, run);
}

static void on_done(void *ctx, const struct seq *q, enum seq_end how)
{
	struct run *r = ctx;

	r->one[q->id].over = true;
	r->n_over++;
	exact_book_answer(r->c->book, q, how);
}

static void on_collected(void *ctx, uint32_t n_sampled, uint32_t n_bad)
{
	struct run *r = ctx;

	(void)n_sampled, (void)n_bad;
	if (r->rows > r->ret->most_rows)
		r->ret->most_rows = r->rows;
	r->ret->n_full += r->rows == r->c->n_slots;
	r->rows = 0;
}

static int send(struct run *r)
{
	struct seq *q;
	int rc = random_request(r->c->kind, r->n_sent, r->n_sent, &q);

	if (rc < 0)
		return rc;
	rc = sched_add(r->sched, q);
	if (rc < 0)
		seq_free(q);
	r->n_sent++;
	return rc;
}

static uint32_t chance(const struct run *r, uint32_t what, uint32_t n)
{
	return random_below(r->c->seed, r->turn, what, n);
}

/* Whoever arrives before this turn. */
static int arrive(struct run *r)
{
	const uint32_t left = r->c->n_requests - r->n_sent, burst = r->c->n_slots / 8 + 1;
	uint32_t n = 0;
	int rc = 0;

	if (r->how == CROWD_DECODE)
		n = left;
	else if (r->how != CROWD_ALONE && chance(r, 0, 3) == 0)
		n = 1 + chance(r, 1, burst);
	else if (sched_idle(r->sched))
		n = 1;
	for (uint32_t i = 0; rc == 0 && i < n && i < left; i++)
		rc = send(r);
	return rc;
}

/* Whoever has a first sample waits until all have one. */
static void gather(struct run *r)
{
	bool all = true;

	for (uint32_t i = 0; i < r->n_sent; i++) {
		struct one *o = &r->one[i];

		all &= o->sampled || o->over;
		if (o->sampled && !o->over && !o->paused && sched_pause(r->sched, i, true) == 0)
			o->paused = true;
	}
	for (uint32_t i = 0; all && i < r->n_sent; i++)
		(void)sched_pause(r->sched, i, false);	/* one that is over is not there any more */
	if (all)
		r->how = CROWD_MIXED;	/* nobody is left to arrive */
}

static void force(struct run *r)
{
	for (uint32_t i = 0; i < r->n_sent; i++) {
		struct one *o = &r->one[i];

		if (o->n_forced < FORCE_EACH && o->n_output > 4 * o->n_forced + i % 4 &&
		    sched_preempt(r->sched, i) == 0)
			o->n_forced++;
	}
	if (chance(r, 2, 12) == 0)	/* perhaps in the midst of a prompt or of a replay */
		(void)sched_preempt(r->sched, chance(r, 3, r->c->n_requests));
}

static int run_all(struct run *r)
{
	int rc = 0;

	while (rc == 0 && r->n_over < r->c->n_requests) {
		rc = arrive(r);
		if (r->how == CROWD_DECODE)
			gather(r);
		if (r->how == CROWD_PRESSED)
			force(r);
		if (rc == 0)
			rc = sched_turn(r->sched);
		sched_check(r->sched);
		r->turn++;
	}
	while (rc == 0 && !sched_idle(r->sched))
		rc = sched_turn(r->sched);
	return rc;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static int open_sched(struct run *r)
{
	const struct crowd *c = r->c;
	const uint32_t each = seq_blocks_for(c->max_context);
	const struct sched_sink sink = { r, on_ran, on_done, NULL, on_collected };
	struct sched_config k = { .n_slots = c->n_slots,
				  .n_blocks = c->n_blocks,
				  .max_rows = c->max_rows,
				  .max_context = c->max_context,
				  .max_queue = c->n_requests,
				  .prefill_rows = 4 * STEP_GRID,
				  .replay_rows = r->how == CROWD_PRESSED ? 5 : 1 };

	/* a prompt in the smallest cuts: a mark wherever another may end */
	if (r->how == CROWD_ALONE)
		k.max_rows = c->n_slots + STEP_GRID;
	if (r->how == CROWD_PRESSED) {
		k.n_blocks = larger(c->n_slots * each / 2, each + 1);
		k.prefill_rows = STEP_GRID;
		k.most_parts = c->n_layers;
	}
	return sched_new(c->device, &k, &sink, &r->sched);
}

int crowd_run(const struct crowd *c, enum crowd_how how, struct crowd_result *ret)
{
	CLEANUP(freep) struct one *one = calloc(c->n_requests, sizeof(*one));
	struct run r = { .c = c, .how = how, .one = one, .ret = ret };
	struct sched_stats stats;
	int rc = one ? open_sched(&r) : -ENOMEM;

	*ret = (struct crowd_result){ .n_steps = 0 };
	if (rc < 0)
		return rc;
	rc = run_all(&r);
	sched_stats(r.sched, &stats);
	ret->n_steps = stats.n_steps;
	ret->n_parts = stats.n_parts;
	ret->n_preempted = stats.n_preempted;
	ret->n_replayed = stats.n_replayed;
	if (rc == 0 &&
	    (stats.n_running || stats.n_waiting || stats.n_free_blocks != stats.n_blocks))
		rc = -EPROTO;
	sched_free(r.sched);
	return rc;
}
