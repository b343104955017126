/* prefill_place.cuh - which rows of W and which rows of x a block of a prompt's product has
 * (prefill_matmul.cu, prefill_fp4.cu).
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_PLACE_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_PLACE_CUH

#include "kernels/cuda/prefill_tile.cuh"

namespace {

/* Blocks that run together should share what they read: eight tiles of x, then the next rows of
 * W. */
__device__ __forceinline__ void place_dense(const matmul_params &p, uint32_t cols,
					    uint32_t row_blocks, uint32_t *ret_row, tile_of_x *ret)
{
	const uint32_t col_tiles = (p.n_cols + cols - 1) / cols,
		       group = blockIdx.x / (8 * row_blocks);
	const uint32_t in = blockIdx.x % (8 * row_blocks), wide = min(8u, col_tiles - group * 8);

	*ret_row = in / wide;
	ret->pair = NULL;
	ret->expert = ret->index = 0;
	ret->first = (group * 8 + in % wide) * cols;
	ret->n = min(cols, p.n_cols - ret->first);
}

/* The tiles of an expert's pairs on the list. */
struct expert_tiles {
	const uint32_t *n, *tile;
	uint32_t least, most; /* pairs: the others are another launch's */
};

__device__ __forceinline__ bool place_expert(const matmul_params &p, const expert_tiles &tiles,
					     tile_of_x *ret)
{
	if (blockIdx.y >= *tiles.n)
		return false;
	const uint32_t t = tiles.tile[blockIdx.y], index = t >> 16,
		       first = p.list.offset[index] + (t & 0xffff) * PREFILL_COLS;

	if (p.without_last && index + 1 == *p.list.n_active)
		return false;
	ret->pair = p.list.pair + first;
	ret->first = 0;
	ret->n = min((uint32_t)PREFILL_COLS, p.list.offset[index + 1] - first);
	ret->expert = p.list.active[index];
	ret->index = index;
	return ret->n >= tiles.least && ret->n <= tiles.most;
}

inline uint32_t row_blocks_of(const matmul_params &p)
{
	return (p.n_tiles + WARPS - 1) / WARPS;
}

/* Blocks of 64 rows are more, and take a little over half the time of one of 256: both wait for
 * memory most of the time. */
inline bool few_is_faster(const matmul_params &p)
{
	const uint32_t sms = (uint32_t)device_sms(), blocks = row_blocks_of(p);
	const uint32_t few = blocks * ((p.n_cols + FEW - 1) / FEW),
		       many = blocks * ((p.n_cols + MANY - 1) / MANY);

	return sms && 55 * ((few + 2 * sms - 1) / (2 * sms)) < 100 * ((many + sms - 1) / sms);
}

} /* namespace */

#endif
