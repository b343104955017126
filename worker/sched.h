/* sched.h - who gets rows in the next step of the device.
 *
 * Continuous batching: each step mixes one row of every decoding sequence with replays
 * and chunks of prompts.  The next step is planned and submitted while the current one
 * runs; what the host does not know yet, the last sample of a slot, the device does.
 *
 * Order is age, everywhere.  The queue is first come, first served, and nobody passes
 * its head.  When the blocks run out the youngest running sequence gives its blocks and
 * its slot back and waits at its old place in the queue (one that is paused goes before
 * all others: nobody reads it).  So the oldest always advances, and with it everybody.
 * A sequence that would not fit even alone is refused when it arrives.
 *
 * A sequence that ends, is cancelled or preempted may have rows in a step in flight.
 * Its slot and blocks are free at once all the same: the device does things in order,
 * so whoever takes them next comes after those rows.  Their results are dropped.
 *
 * Belongs to one thread, the one that owns the device.
 */
#ifndef HEARTH_WORKER_SCHED_H
#define HEARTH_WORKER_SCHED_H

#include "kernels/step.h"
#include "worker/flight.h"
#include "worker/seq.h"

struct sched;

struct sched_config {
	uint32_t n_slots, n_blocks, max_rows, max_context;	/* as given to the device */
	uint32_t max_queue;	/* sequences that wait for their first run; more are refused */
	uint32_t prefill_rows;	/* of prompts in a step that also decodes, a multiple of
				 * STEP_GRID; with a pause: how many at first */
	uint64_t pause_ns;	/* how long such a step should take (chunk.h); 0: does not matter */
	uint32_t most_parts;	/* that a prompt is taken in beside answers (chunk.h): layers of the
				 * device's model at most; 0, 1: there are none */
	uint32_t replay_rows;	/* of one replay in a step */
	bool drafts;		/* let the MTP head guess, and count how often it is right */
};

/* One run of a collected step. */
struct sched_run {
	enum row_kind kind;
	uint32_t pos, n;
	const struct run_result *result;
};

/* Called from sched_turn() and sched_cancel(); must not call back. */
struct sched_sink {
	void *ctx;
	/* A run of `s` was computed; its sample, if any, is already in s->tokens. */
	void (*ran)(void *ctx, const struct seq *s, const struct sched_run *run);
	/* The last word; s is freed on return. */
	void (*done)(void *ctx, const struct seq *s, enum seq_end end);
	/* What the device has from now on, oldest first: told before it is given a step, and after
	 * one was collected.  NULL ok, as the next. */
	void (*flying)(void *ctx, const struct step_flight *f, uint32_t n);
	/* A step was collected and its runs were told: n_bad of its n_sampled samples had no
	 * number. */
	void (*collected)(void *ctx, uint32_t n_sampled, uint32_t n_bad);
};

struct sched_stats {
	uint32_t n_running, n_waiting;
	uint32_t n_new;		/* of those waiting: never ran yet; what max_queue bounds */
	uint32_t n_free_blocks, n_blocks;
	uint64_t n_steps, n_prompt_tokens, n_output_tokens, n_replayed, n_preempted;
	uint64_t n_short;	/* times that blocks were missing, for a row or to start */
	uint64_t n_parts;	/* steps with a part of a prompt (step.h) */
	uint64_t n_drafts, n_draft_hits;	/* hit: the first draft was then sampled */
};

/* -EINVAL: max_rows has no room for a row of every slot and a chunk of a prompt beside
 * them (n_slots + STEP_GRID), or a number off the grid; -ENOMEM. */
int sched_new(struct device *d, const struct sched_config *c, const struct sched_sink *sink,
	      struct sched **ret);
/* Collects and drops what is in flight, drops what is left without telling the sink. */
struct sched *sched_free(struct sched *s);

/* Takes q on success.  -ENOBUFS: the queue is full; -E2BIG: longer than the context, or
 * more blocks than there are. */
int sched_add(struct sched *s, struct seq *q);
/* The tokens that one sequence may have, prompt and output: what the context and the
 * pool allow. */
uint32_t sched_max_tokens(const struct sched_config *c);

/* -ENOENT: not here (any more). */
int sched_cancel(struct sched *s, uint64_t id);
int sched_pause(struct sched *s, uint64_t id, bool paused);
/* Gives the blocks and the slot of a running sequence back, as when memory runs short.
 * -ENOENT: it does not run. */
int sched_preempt(struct sched *s, uint64_t id);

/* Whether sched_turn() would do anything. */
bool sched_idle(const struct sched *s);
/* Submits the next step if there is one, then collects the one before it.  0; -ENODEV
 * and other codes of the device: it is lost, sched_free() is all that is left to do. */
int sched_turn(struct sched *s);

void sched_stats(const struct sched *s, struct sched_stats *ret);
/* Aborts unless slots and blocks add up. */
void sched_check(const struct sched *s);

#endif
