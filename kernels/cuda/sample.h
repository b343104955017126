/* sample.h - from a row of logits to a token, on the device (docs/numerics.md 3).
 *
 * Candidates are ordered by logit, then by lower id; an id's place in that order is a 64-bit key.
 * Every filter is then a lowest key: min_p's by value, top_k's the k-th largest, top_p's where the
 * mass of the keys above reaches its share.  Masses are integers (2^-28 of the largest), so no sum
 * of floats decides, and no order of threads does either.  What is left takes part in an arg-max of
 * logit / T + Gumbel noise.
 *
 * A block has a row; what it would have to read all logits for is done before by many, where a row
 * asks for neither biases nor log-probabilities.  Those that read all logits also see whether each
 * is a number.  Plain C; device pointers, borrowed until the stream has passed the call; enqueues
 * on `stream` (a cudaStream_t), waits for nothing.  0, -EINVAL or -ENODEV.
 */
#ifndef HEARTH_KERNELS_CUDA_SAMPLE_H
#define HEARTH_KERNELS_CUDA_SAMPLE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SAMPLE_MAX_TOP 20
#define SAMPLE_MAX_BIAS 2048	/* biased and forbidden ids of a slot together */
#define SAMPLE_SEGMENTS 1024	/* of a row: the largest of each is found first */
#define SAMPLE_MAX_VOCAB 262144	/* the integer masses of one row fit their words */

struct sample_bias {
	uint32_t id;
	float bias;
};

/* Of a slot; kernels/step.h says what each means. */
struct sample_params {
	uint64_t seed;
	float temperature, top_p, min_p, repetition, presence, frequency;
	uint32_t top_k, choice, n_top, n_bias;
	uint32_t logprob;	/* report it */
	uint32_t penalise;	/* the count table of this slot is kept */
};

struct sample_row {
	uint32_t slot;
	uint32_t position;	/* of the token to be sampled */
	uint32_t logits;	/* row of `logits` */
	uint32_t pad;
};

struct sample_out {
	uint32_t token;
	float logprob;
	uint32_t no_number;	/* a NaN or an infinity among the raw logits: `token` is 0 */
	uint32_t n_top;
	uint32_t top_id[SAMPLE_MAX_TOP];
	float top_logprob[SAMPLE_MAX_TOP];
};

/* in the count table: the id is in the prompt; below it: outputs */
#define COUNT_PROMPT 0x80000000u

struct sample_args {
	/* rows, params and *out_at were there before the kernel just before this call began (launch.cuh). */
	const struct sample_row *rows;	/* [n_rows] */
	const struct sample_params *params;	/* [slots] */
	const struct sample_bias *bias;	/* [slots][SAMPLE_MAX_BIAS], ids different within a slot */
	uint32_t *counts;		/* [slots][vocab]; the sample is counted */
	uint32_t *last_sample;		/* [slots], out */
	float *logits;			/* [..][vocab]; rows that sample are written over */
	uint64_t *keys;			/* [n_rows][SAMPLE_SEGMENTS], for the calls' own use */
	/* [n_rows], out, in the device's memory or pinned: complete when the stream has passed the call, of
	 * top_* n_top entries.  NULL: *out_at, in the device's memory, says where, read when the kernel runs,
	 * so that a graph reports elsewhere each time.  -EINVAL when both are NULL. */
	struct sample_out *out;
	struct sample_out *const *out_at;
	uint32_t n_rows, vocab;		/* vocab: the stride of logits and counts */
	uint32_t n_ids;			/* ids from here on are never sampled */
};
int sample_rows(const struct sample_args *a, void *stream);

/* counts[slot][id] += n for the tokens of a replay, or the prompt's mark. */
struct count_args {
	uint32_t *counts;	/* [vocab], of one slot */
	const uint32_t *ids;	/* [n]; ids >= vocab are left out */
	uint32_t n, vocab;
	int prompt;
};
int sample_count(const struct count_args *a, void *stream);

/* One slot's parameters and biases, by value: nothing of the caller's is read later. */
int sample_set(struct sample_params *params, const struct sample_params *value, void *stream);

#ifdef __cplusplus
}
#endif

#endif
