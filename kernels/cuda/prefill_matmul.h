/* prefill_matmul.h - y = x W^T for many rows: the matrix kernels of prompts.
 *
 * Weights lie as the decode kernels want them (pack.h), whatever the format; they go from memory to
 * the tensor core as its 16-row operand.  x is the other operand and comes through shared memory,
 * so its columns must stand in the order in which the fragments have them: prefill_column().  The
 * bits of a row of y are a function of that row of x and of W alone (docs/numerics.md 7): K is
 * added 16 columns at a time, in order, from zero.
 *
 * Plain C.  Device pointers, borrowed until the stream has passed the call; enqueues on `stream` (a
 * cudaStream_t), waits for nothing.  0; -EINVAL: a rule stated here is broken, nothing was
 * enqueued; -ENODEV.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_MATMUL_H
#define HEARTH_KERNELS_CUDA_PREFILL_MATMUL_H

#include "kernels/cuda/decode_matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PREFILL_MAX_ROWS 65536
#define PREFILL_COLS 256	/* rows of x that one block multiplies */
#define PREFILL_WIDE 288	/* pairs that a cluster of two blocks multiplies (prefill_pairs.h) */

/* Where column i of a row stands: inside each 32 columns pairs are transposed, 8 q + 2 p + e to 8 p
 * + 2 q + e. */
static inline
#ifdef __CUDACC__
__host__ __device__
#endif
uint32_t prefill_column(uint32_t i)
{
	return (i & ~31u) | (i >> 1 & 3) << 3 | (i >> 3 & 3) << 1 | (i & 1);
}

/* As decode_matmul(), for up to PREFILL_MAX_ROWS rows of an x in prefill order; ldx a multiple of
 * 32.  SWIGLU outputs are written in prefill order too.  `form` is not looked at. */
int prefill_matmul(const struct decode_matmul_args *a, void *stream);

/* Who goes to which expert, for up to PREFILL_MAX_ROWS rows: an expert_list, and its pairs cut into
 * tiles. */
struct prefill_list {
	struct expert_list list;
	/* [3]: of `tile`; of `wide`; how many of the latter were taken, 0 between kernels */
	uint32_t *n_tiles;
	/* [prefill_max_tiles()]: index among the active << 16 | which of its PREFILL_COLS pairs */
	uint32_t *tile;
	/* as many at most: index among the active << 16 | which of its parts, ceil(pairs /
	 * PREFILL_WIDE) of about the same size */
	uint32_t *wide;
};
uint32_t prefill_max_tiles(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts);
size_t prefill_list_bytes(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts);
struct prefill_list prefill_list_at(void *mem, uint32_t n_rows, uint32_t n_slots,
				    uint32_t n_experts);
/* ids: device, [n_rows][n_slots]; ids >= n_experts are left out. */
int prefill_list_build(const uint32_t *ids, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts,
		       const struct prefill_list *list, void *stream);

/* As decode_experts(), and `out` may be BF16; `list` of the arguments is not looked at. */
int prefill_experts(const struct decode_experts_args *a, const struct prefill_list *list,
		    void *stream);

/* rows of x, `width` each (a multiple of 32), into prefill order, in place. */
int prefill_order(void *x, uint32_t n_rows, uint32_t width, void *stream);

#ifdef __cplusplus
}
#endif

#endif
