/* decode_ring_item.cuh - the ring form's items: which a block has, how a group's warps take them, how
 * an output is written.
 *
 * An item is a row tile of an expert.  A block has a run of items that lie side by side in memory, and
 * its groups take them one by one, whoever is ready first: so none waits for a slower one.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_RING_ITEM_CUH
#define HEARTH_KERNELS_CUDA_DECODE_RING_ITEM_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/decode_narrow.cuh"

#define ITEM_END ~0u	/* in place of an item: there are no more */
static_assert(MATMUL_MAX_EXPERTS < 1 << 16 && MATMUL_MAX_EXPERT_ROWS / MATMUL_TILE <= 1 << 16,
	      "index and tile of an item are a word");

static_assert((uint64_t)MATMUL_MAX_EXPERTS * MATMUL_MAX_EXPERT_ROWS / MATMUL_TILE * NARROW_WARPS *
			      MATMUL_FP8_UNIT / 16 <
		      1ull << 32,
	      "a 32-bit offset counts every 16 bytes");

/* A block's items. */
struct item_run {
	uint32_t begin, n;
	uint32_t counter;	/* address: how many are taken */
};

/* Of `blocks` that share the product; the first items % blocks have one more. */
static __device__ __forceinline__ struct item_run item_run_of(const struct matmul_params &p,
							      uint32_t blocks, uint32_t counter)
{
	const uint32_t items = p.groups * (*p.list.n_active - p.without_last);
	const uint32_t each = items / blocks, extra = items % blocks;

	return { blockIdx.x * each + min(blockIdx.x, extra), each + (blockIdx.x < extra), counter };
}

/* The block's next, counted from its first.  By one lane. */
static __device__ __forceinline__ uint32_t item_take(const struct item_run &run)
{
	uint32_t at;

	asm volatile("atom.shared.add.u32 %0, [%1], 1;" : "=r"(at) : "r"(run.counter) : "memory");
	return at;
}

/* Adds one at an address in shared memory, from `last` on to 0; answers with what was there. */
static __device__ __forceinline__ uint32_t item_round(uint32_t at, uint32_t last)
{
	uint32_t before;

	asm volatile("atom.acq_rel.cta.shared.inc.u32 %0, [%1], %2;"
		     : "=r"(before)
		     : "r"(at), "r"(last)
		     : "memory");
	return before;
}

/* ---- outputs ---------------------------------------------------------------------------- */

/* One column of the lane's two rows.  Where outputs of experts are not in turns, they are float32. */
static __device__ __forceinline__ void item_write_one(const struct matmul_params &p, uint32_t tile,
						      uint32_t r, uint32_t pair, float low, float high)
{
	float *to;

	if (tile >= p.n_plain) {
		store_out(p, tile, r, pair, low, high);
		return;
	}
	to = (float *)p.y + (size_t)pair * p.ldy + tile * MATMUL_TILE + r;
	if (has_output(p, tile, r))
		to[0] = low;
	if (has_output(p, tile, r + 8))
		to[8] = high;
}

/* What the tensor core leaves of eight columns, sums of all slices: two columns of the lane's two rows,
 * times the scales of the rows.  The columns are n of the list's pairs from `first` on. */
static __device__ __forceinline__ void item_write(const struct matmul_params &p, uint32_t tile,
						  uint32_t first, uint32_t n, int lane,
						  const float v[4], float low, float high)
{
	const uint32_t col = lane % 4 * 2, *pair = p.list.pair + first + col;

	if (col < n)
		item_write_one(p, tile, lane / 4, pair[0], __fmul_rn(v[0], low),
			       __fmul_rn(v[2], high));
	if (col + 1 < n)
		item_write_one(p, tile, lane / 4, pair[1], __fmul_rn(v[1], low),
			       __fmul_rn(v[3], high));
}

#endif
