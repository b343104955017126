/* step.h - the boundary between the engine and whatever computes.
 *
 * Above it: sequences, blocks, slots and token ids.  Below it: tensors, fusion,
 * graphs.  The unit is a *step*: submit() enqueues a plan, collect() returns what
 * the oldest step in flight sampled; the host plans step n+1 while n runs.  Both
 * back ends (cpu, cuda) implement it, chosen at run time by the device's name, and
 * the same tests drive both.
 *
 * Exactness (docs/numerics.md): a sampled token is a pure function of the tokens
 * before it, the sampling parameters and the seed.  It does not depend on which
 * other runs share the step, on how many rows a step has, or on how a prompt was
 * cut into steps, as long as the rules on `kind` below are kept.
 *
 * Geometry:
 *  - A *block* holds the keys and values of STEP_GRID consecutive positions in all
 *    attention layers (MTP included).  The engine above owns the numbers
 *    0..n_blocks-1; the back end owns the memory.
 *  - A *slot* holds what a sequence has besides KV: recurrent and convolution state,
 *    its last sample, penalty counts, sampling parameters.  0..n_slots-1.
 *
 * Thread: every call on one device from one thread.  Nothing blocks but
 * device_collect(), device_load() and the *_save / *_restore calls, which first
 * wait for the steps in flight.
 *
 * Codes: -EINVAL (a plan breaks a rule stated here: nothing was enqueued),
 * -EAGAIN (STEP_AHEAD steps are in flight: collect one first), -ENOTSUP (a shape or
 * format that this back end cannot run), -ENOMEM, -ENODEV (the device is lost, it
 * stays lost; the process must end).
 */
#ifndef HEARTH_KERNELS_STEP_H
#define HEARTH_KERNELS_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/model.h"
#include "lib/err.h"

#define STEP_GRID 64		/* positions: prefill chunks, KV blocks, cached states */
#define STEP_AHEAD 2		/* steps in flight at most */
#define STEP_PART_ROWS 8192	/* of a prompt that is taken in parts, at most */
#define STEP_MAX_TOP 20		/* alternatives a sample can report */
#define STEP_MAX_BIAS 1024	/* logit_bias entries of a request */

typedef uint32_t kv_block;

/* ---- the device ------------------------------------------------------------ */

enum step_numerics {
	NUMERICS_BF16,	/* the contract of docs/numerics.md: what is served */
	NUMERICS_F32,	/* no rounding between float32 operations: for comparison with references */
};

/* How keys and values are kept. */
enum kv_format {
	KV_BF16,
	KV_FP8, /* e4m3 and, for each head of a position, a power of two for key and value */
};

const char *kv_format_name(enum kv_format f);			/* "bf16", "fp8" */
int kv_format_parse(const char *name, enum kv_format *ret);	/* -EINVAL */

/* What of a prompt is multiplied in NVFP4 on both sides, where the chip can and the weights are NVFP4:
 * activations are rounded to four bits (docs/numerics.md 7).  Generated tokens never are. */
enum fp4_prefill {
	FP4_PREFILL_OFF,
	FP4_PREFILL_UP,		/* gate and up, of experts and dense */
	FP4_PREFILL_ALL,	/* every matrix */
};

const char *fp4_prefill_name(enum fp4_prefill f);		/* "off", "up", "all" */
int fp4_prefill_parse(const char *name, enum fp4_prefill *ret);	/* -EINVAL */

struct device_limits {
	uint32_t n_slots;	/* sequences that hold state at the same time */
	uint32_t n_blocks;
	uint32_t max_rows;	/* rows of one step, >= STEP_GRID */
	uint32_t max_context;	/* positions of one sequence */
	uint32_t n_threads;	/* cpu only; 0: one per core this process may use */
	enum step_numerics numerics;
	enum kv_format kv;	/* -ENOTSUP where a back end has no such */
	enum fp4_prefill fp4;	/* a wish: device_load_note() tells when it is not done */
	bool digests;		/* fill run_result.digest (costs time; tests) */
};

/* What the device will take, in bytes; printed and granted before anything is allocated. */
struct device_budget {
	uint64_t weights, kv, states, workspace;
};

struct device;

/* `name` is "cpu" or "cuda:N".  Checks that the shape can be run and computes the
 * budget; allocates nothing large yet.  -ENODEV: no such device here. */
int device_open(const char *name, const struct model_shape *shape,
		const struct device_limits *limits, struct device **ret, struct err *e);
struct device *device_close(struct device *d);	/* NULL ok; waits for steps in flight */
/* w: what device_load() will be given, for a back end that keeps the formats of its weights; NULL: as if all were
 * BF16. */
void device_budget(const struct device *d, const struct weight_source *w, struct device_budget *ret);

/* A stable text of what decides bits: back end, kind of device or CPU path, numerics
 * version, load-time options.  Hashed into the numeric class.  Borrowed from d. */
const char *device_numeric_text(const struct device *d);

/* After device_load(): what was wished for at load and is not done, and why, a line for a person; "": all is
 * done.  device_numeric_text() says what is.  Borrowed from d. */
const char *device_load_note(const struct device *d);

/* After -ENODEV: what the device's own software says about it, a line for a person; "" when it says
 * nothing.  Borrowed from d until the next call. */
const char *device_lost_text(struct device *d);

/* Allocates and loads.  progress (may be NULL) is called now and then from this
 * thread; a non-zero answer stops the load and is returned. */
typedef int device_progress(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
int device_load(struct device *d, const struct weight_source *w, device_progress *progress,
		void *ctx, struct err *e);

/* ---- sampling -------------------------------------------------------------- */

struct token_bias {
	uint32_t id;
	float bias;		/* added to the logit; -INFINITY forbids the id */
};

/* Order of application: bias and mask; repetition penalty (prompt and output),
 * frequency and presence penalties (output only); temperature; min_p; top_k; top_p on
 * the renormalised rest; then arg-max of logit + Gumbel noise, which is a function of
 * (seed, choice, position of the sampled token, id): kernels/noise.h. */
struct sampling {
	float temperature;	/* 0: arg-max, lowest id on ties */
	float top_p;		/* (0, 1]; 1: off */
	float min_p;		/* [0, 1]; 0: off */
	uint32_t top_k;		/* 0: off */
	float repetition;	/* > 0; 1: off */
	float presence, frequency;	/* 0: off */
	uint64_t seed;
	uint32_t choice;	/* which of the `n` answers to one request */
	uint32_t n_top;		/* alternatives to report, <= STEP_MAX_TOP */
	bool logprob;		/* report the log-probability of the sample (of the raw logits) */
	const struct token_bias *bias;	/* n_bias entries, copied by slot_begin() */
	uint32_t n_bias;
	const uint32_t *never;	/* n_never ids that are not sampled (ignore_eos), copied */
	uint32_t n_never;
};

/* Gives the slot to a new sequence: state zeroed, counts cleared, parameters copied.
 * Takes effect in order with submitted steps.  prompt: the ids that count as prompt
 * for the repetition penalty; n_prompt may be 0. */
int slot_begin(struct device *d, uint32_t slot, const struct sampling *s,
	       const uint32_t *prompt, uint32_t n_prompt);

/* ---- plans ----------------------------------------------------------------- */

enum row_kind {
	ROW_PREFILL,	/* prompt tokens, by the prefill kernels: `pos` is a multiple of
			 * STEP_GRID, and so is `n` unless the run ends the prompt */
	ROW_DECODE,	/* one row: a new token, by the decode kernels */
	ROW_REPLAY,	/* known generated tokens through the decode kernels, 1..n of them:
			 * fail-over and preemption; the same bits as n decode steps */
};

enum row_input {
	IN_TOKENS,	/* `tokens` */
	IN_LAST_SAMPLE,	/* what this slot sampled last, known to the device before the host;
			 * ROW_DECODE only */
};

/* Consecutive positions of one sequence.  A slot is in a plan once at most. */
struct plan_run {
	uint32_t slot;
	enum row_kind kind;
	enum row_input input;
	uint32_t pos;			/* position of the first row = tokens already in the state */
	uint32_t n;			/* rows */
	const uint32_t *tokens;		/* n ids; borrowed until device_submit() returns */
	const kv_block *blocks;		/* block of positions 0..63, 64..127, ...: all that cover
					 * 0..pos+n-1; borrowed likewise */
	uint32_t n_blocks;
	bool sample;			/* sample after the last row, with the slot's parameters;
					 * counts as output for the penalties */
	bool count;			/* ROW_REPLAY: the tokens count as output for the penalties */
	bool draft;			/* with `sample`: also run the MTP layer over the rows and
					 * report the token it proposes after the sampled one.  Once
					 * true for a sequence, it must be true in all its runs. */
	float *logits;			/* NULL, or room for n * vocab_rows float32: raw logits of
					 * every row, written before device_collect() returns */
};

/* A prompt may go through the layers in *parts*, a step each, so that other slots' answers go on
 * between them: many rows share one reading of the weights, and nobody waits for all of it.  Then
 * n_parts is above 1, and the last run of the plan, the only one of kind ROW_PREFILL and of
 * STEP_PART_ROWS at most, does the layers from part * n_layers / n_parts on.  Parts 0, 1, ... are
 * submitted in order, each with the same run and whatever else; the last one samples, fills
 * `logits` and counts as the run's step.  Its results in the others mean nothing.
 *
 * A prompt that is not finished so is open.  Another one in a plan, another run of its slot or a
 * slot_begin() of it gives it up: nothing more is expected of it, and what its slot and the blocks
 * of these positions hold is worth nothing.  Meanwhile its slot's state must not be saved or
 * restored. */
struct plan {
	const struct plan_run *runs;
	uint32_t n_runs;
	uint32_t part, n_parts;		/* 0, 0: all runs are done whole */
};

/* Enqueues a step. */
int device_submit(struct device *d, const struct plan *p);

/* CRC-32C of the bytes that decide what follows; for tests of exactness. */
struct step_digest {
	uint32_t hidden;	/* the last row after the final norm */
	uint32_t logits;	/* the last row */
	uint32_t kv;		/* the KV entries that this run wrote, all layers */
	uint32_t state;		/* the slot's recurrent and convolution state, and what is kept beside it */
};

struct run_result {
	uint32_t slot;
	bool sampled;
	bool no_number;		/* with `sampled`: a NaN or an infinity was among the raw logits.  `token` is
				 * an id and nothing more; whatever the slot holds is not to be trusted */
	uint32_t token;
	bool drafted;
	uint32_t draft;		/* the MTP head's guess of the token after `token` */
	float logprob;
	uint32_t n_top;
	struct {
		uint32_t id;
		float logprob;
	} top[STEP_MAX_TOP];	/* most likely first, lower id first on ties */
	struct step_digest digest;
};

/* Waits for the oldest step in flight.  `ret` gets one result per run of its plan, in
 * the plan's order; room for n.  Answers how many, or -ENOENT when nothing is in flight. */
int device_collect(struct device *d, struct run_result *ret, uint32_t n);

/* ---- state of a slot ------------------------------------------------------- */

size_t state_bytes(const struct device *d);	/* of one slot: recurrent and convolution state */
size_t block_bytes(const struct device *d);	/* of one block */
/* Copies state out to / in from host memory of state_bytes().  Only meaningful at
 * positions that are a multiple of STEP_GRID within a prompt; elsewhere a device may answer -EINVAL. */
int state_save(struct device *d, uint32_t slot, void *ret);
int state_restore(struct device *d, uint32_t slot, const void *from);
int block_save(struct device *d, kv_block b, void *ret);
int block_restore(struct device *d, kv_block b, const void *from);

#endif
