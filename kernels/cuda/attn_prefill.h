/* attn_prefill.h - attention of prompt rows over a paged KV cache, head_dim 256, grouped queries,
 * with the output gate (docs/numerics.md).
 *
 * Runs of prompt rows start at multiples of ATTN_PAGE; attn_prefill_tiles() cuts them into chunks
 * of 64 positions of the sequence.  attn_prefill_in() norms and rotates the projections and fills
 * the cache, attn_prefill() attends.  Which rows share a tile and in which order a row meets its
 * keys are functions of the row's own position, so a row's bits do not depend on where a prompt was
 * cut into steps, on the other runs, or on how many there are.
 *
 * Plain C.  Device pointers, borrowed until the stream has passed the call.  Each call enqueues
 * work on `stream` (a cudaStream_t), waits for nothing and answers 0, -EINVAL (a shape or form not
 * taken: nothing enqueued) or -ENODEV (the launch failed).
 */
#ifndef HEARTH_KERNELS_CUDA_ATTN_PREFILL_H
#define HEARTH_KERNELS_CUDA_ATTN_PREFILL_H

#include <stdint.h>

#include "kernels/cuda/attn_decode.h"
#include "kernels/cuda/rows.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Consecutive positions of one sequence in a step. */
struct attn_run {
	uint32_t row;	/* its first row in the step */
	uint32_t pos;	/* that row's position, a multiple of ATTN_PAGE */
	uint32_t n;	/* rows; no multiple of ATTN_PAGE only where the prompt ends */
	uint32_t table;	/* index of the sequence's first entry in `blocks` */
};

/* Keys of one segment: a row's keys are cut at multiples of it, counted from position 0, segments
 * are computed by themselves and merged in order.  Short steps behind a long context fill the chip
 * that way. */
#ifndef ATTN_PREFILL_SEGMENT
#define ATTN_PREFILL_SEGMENT 8192
#endif

/* The part of a run in one KV block (n <= ATTN_PAGE), against one segment of its keys. */
struct attn_tile {
	uint32_t row, pos, n, table;
	uint32_t segment;
	uint32_t slot;	/* place of the partial result, where the tile has several segments */
	uint32_t turn;	/* tiles of one turn share the scratch memory; turns follow one another */
};

static inline
#ifdef __CUDACC__
__host__ __device__
#endif
uint32_t attn_prefill_segments(uint32_t pos)
{
	return pos / ATTN_PREFILL_SEGMENT + 1;
}

/* Most tiles of n_runs runs with n_rows rows together, no position above max_context. */
static inline uint64_t attn_prefill_max_tiles(uint32_t n_rows, uint32_t n_runs,
					      uint32_t max_context)
{
	return ((uint64_t)n_rows / ATTN_PAGE + n_runs) * attn_prefill_segments(max_context);
}

/* Floats of scratch for `slots` partial results of a tile.  A step needs
 * attn_prefill_segments(max_context) slots at least where there are several segments; more make
 * fewer turns. */
uint64_t attn_prefill_slot_floats(uint32_t slots, uint32_t q_heads, uint32_t kv_heads);

/* On the host: fills `ret` (room for attn_prefill_max_tiles()), in each turn the longest work
 * first, and answers how many; 0 when a run starts off the grid or has more segments than there are
 * slots. */
uint32_t attn_prefill_tiles(const struct attn_run *runs, uint32_t n_runs, uint32_t slots,
			    struct attn_tile *ret);

/* Head norm (1 + w) and rotation of q and k in f32, one rounding; q stays in its place, k and v go
 * into the cache, in FP8 rounded once more.  The places of a last block behind its run's end become zeros (attn_prefill()
 * multiplies them by a probability of zero). */
struct attn_prefill_in_args {
	const struct attn_tile *tiles;	/* [n_tiles] in device memory */
	const struct qk_row *rows;	/* [n_rows] */
	uint32_t n_tiles, n_rows;
	uint32_t q_heads, kv_heads;
	uint32_t ld;			/* elements between rows of qg, k and v, a multiple of 8 */
	void *qg;	/* bf16 [n_rows][ld], q_heads 512 each: query 256, gate 256 */
	const void *k, *v;		/* bf16 [n_rows][ld], kv_heads 256 each */
	const void *q_norm, *k_norm;	/* bf16 [256], zero-centred */
	const void *cos, *sin;		/* bf16 [max_positions][rotary / 2] */
	/* dims rotated, pairs (j, j + rotary / 2); a multiple of 16, <= 256 */
	uint32_t rotary;
	/* frequencies of the height and width axes, interleaved T H W */
	uint32_t section_h, section_w;
	float eps;
	void *k_cache, *v_cache;	/* [n_blocks][kv_heads] of attn_head_bytes(kv) */
	enum kv_format kv;
};
int attn_prefill_in(const struct attn_prefill_in_args *a, void *stream);

/* Two kernels, each its own numeric class; the chip chooses, never the batch. */
enum attn_prefill_form {
	ATTN_FORM_CHIP,		/* wgmma on compute capability 9.x, mma elsewhere */
	ATTN_FORM_MMA,		/* mma.sync, 96 KB of shared memory: everywhere */
	ATTN_FORM_WGMMA,	/* 193 KB, compute capability 9.0 only */
};

struct attn_prefill_args {
	const struct attn_tile *tiles;	/* [n_tiles] in device memory */
	const struct attn_tile *plan;	/* the same on the host, borrowed until the call returns */
	uint32_t n_tiles;
	uint32_t q_heads, kv_heads;	/* q_heads / kv_heads <= ATTN_MAX_GROUP */
	uint32_t ld;			/* elements between rows of qg, a multiple of 8 */
	const void *qg;	/* as attn_prefill_in() left it: query 256, gate 256 for each head */
	const uint32_t *blocks;		/* block numbers, one per ATTN_PAGE positions */
	uint32_t n_blocks;		/* of the cache */
	const void *k, *v;		/* [n_blocks][kv_heads] of attn_head_bytes(kv) */
	float *scratch;	/* for the slots given to attn_prefill_tiles(); NULL: none */
	void *out;			/* bf16 [n_rows][q_heads][256]: o / l * sigmoid(gate) */
	enum attn_prefill_form form;
	enum kv_format kv;
};
int attn_prefill(const struct attn_prefill_args *a, void *stream);

#ifdef __cplusplus
}
#endif

#endif
