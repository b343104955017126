/* seq.h - one sequence: an answer being made, as the scheduler sees it.
 *
 * A sequence is the ids it was given (prompt, and output that is already known when an
 * answer is continued), the ids it sampled, and how far the device's state has come.
 * It knows what its next run on the device would be; whether it gets one is the
 * scheduler's business.
 *
 * Two clocks: `pos` counts positions whose rows were *submitted*; `n_tokens` counts ids
 * that the host *knows*.  With a step in flight the sample of that step is in the
 * device's hands only, so a decoding sequence has pos == n_tokens - 1 + n_flying.
 *
 * Preemption and fail-over are the same thing: the prompt is prefilled again and the
 * output replayed through the decode kernels (docs/numerics.md), and then the sequence
 * goes on, to the same bits.
 *
 * Belongs to one thread at a time: whoever made it, then the engine's.
 */
#ifndef HEARTH_WORKER_SEQ_H
#define HEARTH_WORKER_SEQ_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/step.h"

/*      QUEUED --> PREFILL --> DECODE --> DONE
 *        ^  ^       |  |        ^ |
 *        |  |       |  +> REPLAY  |
 *        |  +-------+      |      |       preempted: blocks and slot given back
 *        +-----------------+------+
 *      any of them --> DONE               cancelled, or failed
 *
 * The state says what the next run is, so a sequence is in DECODE as soon as the run
 * that samples its first new token was submitted. */
enum seq_state { SEQ_QUEUED, SEQ_PREFILL, SEQ_REPLAY, SEQ_DECODE, SEQ_DONE, SEQ_N_STATES };

const char *seq_state_name(enum seq_state s);
bool seq_may_go(enum seq_state from, enum seq_state to);

/* What is asked for; everything is copied. */
struct seq_spec {
	uint64_t id;			/* the caller's; unique among living sequences */
	const uint32_t *prompt;		/* at least one */
	uint32_t n_prompt;
	const uint32_t *known;		/* output made before: replayed, not sampled again */
	uint32_t n_known;
	uint32_t max_output;		/* > n_known: known ones count */
	struct sampling sampling;
	const uint32_t *stop;		/* ids that end the answer; they count as output */
	uint32_t n_stop;
};

enum seq_end { SEQ_END_NOT_YET, SEQ_END_STOP, SEQ_END_LENGTH, SEQ_END_CANCELLED, SEQ_END_FAILED,
	       SEQ_END_NO_NUMBER	/* its logits are no numbers: run_result.no_number */ };

#define SEQ_NO_SLOT UINT32_MAX

struct seq {
	uint64_t id;
	enum seq_state state;		/* written by seq_go() only */
	bool paused;			/* gets no rows: nobody reads its output now */
	uint64_t arrival;		/* order of age; given by the scheduler */

	uint32_t *tokens;		/* n_prompt + max_output; prompt, then output */
	uint32_t n_prompt, n_tokens;
	uint32_t max_output;
	uint32_t n_known;		/* output that came with the request */

	uint32_t pos;			/* positions submitted */
	uint32_t n_flying;		/* samples submitted and not collected */
	uint32_t slot;
	uint32_t slot_was;		/* the last one that it gave back, for a line in the log */
	kv_block *blocks;		/* room for all that it can ever need */
	uint32_t n_blocks;

	struct sampling sampling;	/* its pointers are owned here */
	uint32_t *stop;
	uint32_t n_stop;

	uint32_t n_preempted;
	bool has_draft;			/* `draft` was proposed for the next token */
	uint32_t draft;
};

/* -EINVAL: the spec breaks a rule above; -ENOMEM. */
int seq_new(const struct seq_spec *spec, struct seq **ret);
struct seq *seq_free(struct seq *s);	/* NULL ok; returns NULL.  Holds no blocks any more. */
static inline void seq_freep(struct seq **s)
{
	seq_free(*s);
}

/* The only writer of `state`.  An edge that is not in the picture is our bug: aborts. */
void seq_go(struct seq *s, enum seq_state to);

static inline uint32_t seq_n_output(const struct seq *s)
{
	return s->n_tokens - s->n_prompt;
}

/* Blocks that cover n positions. */
static inline uint32_t seq_blocks_for(uint32_t n)
{
	return n / STEP_GRID + (n % STEP_GRID != 0);
}

/* Blocks that it needs before it can start (prompt and known output), and at its end. */
uint32_t seq_blocks_to_start(const struct seq *s);
uint32_t seq_blocks_at_most(const struct seq *s);

/* Writes the next run, of `max_rows` rows at most, `replay_rows` when it is a replay.
 * Answers its rows; 0: nothing can be run now (paused, the end is in flight, or fewer
 * rows left than the prefill grid needs).  Borrows from s until s changes. */
uint32_t seq_next_run(const struct seq *s, uint32_t max_rows, uint32_t replay_rows,
		      struct plan_run *ret);
/* That run was submitted: pos moves on, and perhaps the state. */
void seq_submitted(struct seq *s, const struct plan_run *run);
/* Its sample arrived: appended.  Whether that ends the answer. */
enum seq_end seq_sampled(struct seq *s, uint32_t token);
/* Back to QUEUED; blocks and slot are already given back. */
void seq_rewind(struct seq *s);

#endif
