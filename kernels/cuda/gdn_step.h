/* gdn_step.h - Gated DeltaNet, decode form: convolution, normalisation, gates, one pass over the
 * recurrent state for every row, and the gated output norm (docs/numerics.md; recurrence: Yang,
 * Kautz, Hatamizadeh, "Gated Delta Networks", 2024, eq. 10).
 *
 * A state is 64 KB a head and a token changes it by an outer product.  So it is not written at every
 * position: the key and the value's difference of up to GDN_KEPT tokens are kept beside it, a kilobyte
 * each, and go into it at the last of every GDN_PERIOD positions.  Until then rows read the state as it
 * was and add what the kept tokens have to say.
 *
 * Rows come in runs: consecutive positions of one sequence.  A decode step has runs of one row, a
 * replay has longer ones; a run of n rows gives the bits of n runs of one row, because its rows
 * are taken one after the other.  Nothing a row computes depends on other runs.
 *
 * Plain C.  Device pointers; borrowed until the stream has passed the call.  Enqueues on `stream`
 * (a cudaStream_t), waits for nothing.
 */
#ifndef HEARTH_KERNELS_CUDA_GDN_STEP_H
#define HEARTH_KERNELS_CUDA_GDN_STEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GDN_DIM 128		/* of a key and of a value head */
#define GDN_TAPS 4
#define GDN_PERIOD 8		/* positions; divides the 64 at which states are saved and prompts cut */
#define GDN_KEPT (GDN_PERIOD - 1)

/* Tokens that are not in a head's state yet, each at its position's place in the period. */
struct gdn_kept {
	float key[GDN_KEPT][GDN_DIM];		/* normalised */
	float delta[GDN_KEPT][GDN_DIM];		/* d: by value row */
	float decay[GDN_PERIOD];		/* alpha; one more than there are, for copies of 16 bytes */
};

struct gdn_run {
	uint32_t slot;		/* whose state */
	uint32_t row;		/* first row in u, a, b, o */
	uint32_t n;		/* rows, >= 1 */
	uint32_t side;		/* 0 or 1: which copy of the convolution window is the present one;
				 * the call writes the other, since blocks of one run read the old
				 * window at different times */
	uint32_t phase;		/* the first row's position in its period, < GDN_PERIOD */
	uint32_t kept;		/* tokens before it that are not in the state, <= phase: those of the
				 * places phase - kept to phase - 1 */
};

/* Tokens that are not in the state after n more, the first at position pos; `kept` before them. */
static inline uint32_t gdn_kept_after(uint32_t kept, uint32_t pos, uint32_t n)
{
	return pos % GDN_PERIOD + n < GDN_PERIOD ? kept + n : (pos + n) % GDN_PERIOD;
}

struct gdn_step_args {
	const struct gdn_run *runs;	/* [n_runs] in device memory */
	uint32_t n_runs;
	uint32_t k_heads, v_heads;	/* v_heads a multiple of k_heads */
	uint32_t ld;		/* elements between rows of u, a, b and z; a multiple of 4 */
	/* bf16 [rows][ld], (2 k_heads + v_heads) 128 each: q, k, v before the convolution */
	const void *u;
	const void *a, *b;	/* bf16 [rows][ld], v_heads each */
	const void *z;		/* bf16 [rows][ld], v_heads 128 each: the gate */
	const void *conv_w;	/* bf16 [channels][4]; tap 3 is the current token */
	const float *a_log, *dt_bias;	/* [v_heads] */
	void *window; /* bf16 [n_slots][2 sides][3][channels]: the three tokens before, oldest
				 * first; in and out */
	float *state;		/* [n_slots][v_heads][128 value][128 key]; in and out */
	struct gdn_kept *kept;	/* [n_slots][v_heads]; in and out */
	const void *norm_w;	/* bf16 [128], plain */
	float eps;
	float *o;	/* NULL, or out [rows][v_heads][128], before the gated norm: for tests */
	/* out bf16 [rows][v_heads][128]: bf16((w o r) silu(z)), r over the head's 128 */
	void *out;
	int ordered;	/* a row of out has its columns in the order of steps (prefill_matmul.h,
			 * prefill_column()) */
};

/* 0; -EINVAL: a shape that this kernel does not take, nothing enqueued; -ENODEV: launch failed. */
int gdn_step(const struct gdn_step_args *a, void *stream);

#ifdef __cplusplus
}
#endif

#endif
