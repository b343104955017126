/* attn_decode.h - attention of single query rows over a paged KV cache, head_dim 256, grouped
 * queries, with the output gate (docs/numerics.md).
 *
 * A row's keys are cut into splits whose length is a function of the row's own length only
 * (attn_split_keys); splits are merged in order.  So a row's bits do not depend on the other rows,
 * on how many there are, or on the longest of them.  Replayed rows of one sequence are just rows.
 *
 * Plain C.  Device pointers, borrowed until the stream has passed the call.  Enqueues two kernels
 * on `stream` (a cudaStream_t), waits for nothing.
 */
#ifndef HEARTH_KERNELS_CUDA_ATTN_DECODE_H
#define HEARTH_KERNELS_CUDA_ATTN_DECODE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/step.h"

#define ATTN_DIM 256
#define ATTN_PAGE 64		/* positions of one KV block */
#define ATTN_MAX_GROUP 8	/* query heads of one KV head */

/* Bytes of one head's keys, or values, in a block: bf16 [64][256], or (KV_FP8) e4m3 codes [64][256]
 * and behind them the 64 powers of two of its positions (kernels/e4m3.h). */
static inline
#ifdef __CUDACC__
__host__ __device__
#endif
size_t attn_head_bytes(enum kv_format kv)
{
	return (size_t)ATTN_PAGE * (kv == KV_FP8 ? ATTN_DIM + 1 : 2 * ATTN_DIM);
}

struct attn_row {
	uint32_t length;	/* keys: positions 0 .. length - 1, the row's own included */
	uint32_t table;		/* index of the sequence's first entry in `blocks` */
	/* Keys of positions 0 .. old - 1 were written two kernels ago or earlier (launch.cuh), and are asked for
	 * while the kernel before still runs.  0 is never wrong. */
	uint32_t old;
};

struct attn_decode_args {
	const struct attn_row *rows;	/* [n_rows] in device memory */
	uint32_t n_rows;
	uint32_t max_length;		/* >= every length; sizes the grid, decides no bit */
	uint32_t q_heads, kv_heads;	/* q_heads / kv_heads <= ATTN_MAX_GROUP */
	const uint32_t *blocks;		/* block numbers, one per ATTN_PAGE positions */
	const void *q;		/* bf16 [n_rows][q_heads][256], normalised and rotated */
	const void *gate;	/* bf16 [n_rows][q_heads][256] */
	const void *k, *v;	/* [n_blocks][kv_heads] of attn_head_bytes(kv) */
	float *scratch;		/* attn_scratch_floats(n_rows, max_length, q_heads), 8-byte aligned */
	void *out;		/* bf16 [n_rows][q_heads][256]: o / l * sigmoid(gate) */
	enum kv_format kv;
	int ordered;	/* a row of out has its columns in the order of steps (prefill_matmul.h,
			 * prefill_column()) */
};

/* Keys of one split of a row with `length` keys. */
static inline
#ifdef __CUDACC__
__host__ __device__
#endif
uint32_t attn_split_keys(uint32_t length)
{
	return length <= 4096 ? 64 : length <= 16384 ? 128 : length <= 65536 ? 256 : 512;
}

/* Splits of the longest row possible up to `length` (the step function above is not monotonic). */
uint32_t attn_max_splits(uint32_t length);
uint64_t attn_scratch_floats(uint32_t n_rows, uint32_t max_length, uint32_t q_heads);

/* 0; -EINVAL: a shape that this kernel does not take (more than
 * 2 million positions are one), nothing enqueued; -ENODEV: launch failed. */
int attn_decode(const struct attn_decode_args *a, void *stream);

#ifdef __cplusplus
}
#endif

#endif
