/* attn_work.cuh - which splits of which rows a block of attn_split_kernel() does.
 *
 * The splits of all rows follow one another: rows, heads of a row, splits of a head.  Every block
 * gets a piece of that, as many tiles as every other as near as splits allow, and goes through it tile
 * by tile without a pause at a split's end.  Which block does a split decides no bit of it.
 *
 * Splits of fewer tiles at a row's end count as full ones: a little less even, one division less.
 */
#ifndef HEARTH_KERNELS_CUDA_ATTN_WORK_CUH
#define HEARTH_KERNELS_CUDA_ATTN_WORK_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/attn_decode.h"

namespace attn {

constexpr uint32_t TILE = ATTN_PAGE;

__device__ __forceinline__ uint32_t splits_of(uint32_t length)
{
	const uint32_t keys = attn_split_keys(length);

	return (length + keys - 1) / keys;
}

/* A place in a block's work: a tile of a split. */
struct work {
	uint32_t row, head, at;	/* at: the tile's first key */
	uint32_t keys;		/* of a split of this row, a power of two */
	int32_t left;		/* tiles, until the piece's end and from this split on; <= 0: no more */
	attn_row its;

	__device__ __forceinline__ void enter(const attn_decode_args &a)
	{
		if (row < a.n_rows)
			its = a.rows[row];
		keys = attn_split_keys(its.length);
	}
	__device__ __forceinline__ uint32_t valid(void) const { return its.length - at; }
	__device__ __forceinline__ uint32_t split(void) const { return at >> (31 - __clz((int)keys)); }
	/* Whether the tile is the first, the last of its split. */
	__device__ __forceinline__ bool begins(void) const { return (at & (keys - 1)) == 0; }
	__device__ __forceinline__ bool ends(void) const
	{
		return at + TILE >= its.length || ((at + TILE) & (keys - 1)) == 0;
	}
	/* The next tile of a piece, of a split alone. */
	template <bool PIECES> __device__ __forceinline__ void next(const attn_decode_args &a)
	{
		if (!PIECES) {
			left = ends() ? 0 : left;
			at += TILE;
			return;
		}
		if (ends())
			left -= (int32_t)(keys / TILE);
		at += TILE;
		if (at < its.length)
			return;
		at = 0;
		if (++head < a.kv_heads)
			return;
		head = 0;
		row++;
		enter(a);
	}
};

/* Of a block that does one split: (split, head, row). */
__device__ __forceinline__ work only_work(const attn_decode_args &a)
{
	work w = {};

	w.row = blockIdx.z;
	w.head = blockIdx.y;
	w.enter(a);
	w.at = blockIdx.x * w.keys;
	w.left = w.at < w.its.length;
	return w;
}

/* Tiles, splits. */
struct amount {
	uint32_t tiles, splits;
};

__device__ __forceinline__ amount amount_of(const attn_decode_args &a, uint32_t row)
{
	uint32_t length = 0, splits;

	if (row < a.n_rows)
		length = a.rows[row].length;
	splits = splits_of(length) * a.kv_heads;
	return { splits * (attn_split_keys(length) / TILE), splits };
}

/* Every warp does it for itself: where this block's piece begins. */
__device__ __forceinline__ work first_work(const attn_decode_args &a)
{
	const uint32_t lane = threadIdx.x % 32, b = blockIdx.x;
	amount all = { 0, 0 };
	uint32_t before = 0, blocks, from, to, sum, skip, splits;
	work w = {};

#pragma unroll 4
	for (uint32_t row = lane; row < a.n_rows; row += 32) {
		const amount one = amount_of(a, row);

		all.tiles += one.tiles;
		all.splits += one.splits;
	}
	all.tiles = __reduce_add_sync(0xffffffffu, all.tiles);
	all.splits = __reduce_add_sync(0xffffffffu, all.splits);
	blocks = min(gridDim.x, all.splits);
	if (b >= blocks)
		return w;
	/* all.tiles * b / blocks, without 64 bits */
	from = all.tiles / blocks * b + all.tiles % blocks * b / blocks;
	to = all.tiles / blocks * (b + 1) + all.tiles % blocks * (b + 1) / blocks;
	for (uint32_t first = 0;; first += 32) {
		const uint32_t tiles = amount_of(a, first + lane).tiles;
		uint32_t hit;

		sum = tiles;
		for (uint32_t d = 1; d < 32; d *= 2) {
			const uint32_t x = __shfl_up_sync(0xffffffffu, sum, d);

			sum += lane >= d ? x : 0;
		}
		hit = __ballot_sync(0xffffffffu, before + sum > from);
		if (hit) {
			const int it = __ffs((int)hit) - 1;

			w.row = first + (uint32_t)it;
			before += __shfl_sync(0xffffffffu, sum - tiles, it);
			break;
		}
		before += __shfl_sync(0xffffffffu, sum, 31);
	}
	w.enter(a);
	/* the first split that begins at `from` or later, be it the next row's */
	splits = splits_of(w.its.length);
	skip = (from - before + w.keys / TILE - 1) / (w.keys / TILE);
	w.left = (int32_t)(to - before - skip * (w.keys / TILE));
	w.head = skip / splits;
	w.at = skip % splits * w.keys;
	if (w.head == a.kv_heads) {
		w.head = 0;
		w.row++;
		w.enter(a);
	}
	return w;
}

} /* namespace attn */

#endif
