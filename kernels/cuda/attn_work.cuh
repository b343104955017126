/* attn_work.cuh - which tiles of which splits a block of attn_split_kernel() does.
 *
 * A block has one split of a head of a row.  Which block does a split decides no bit of it.
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

/* A place in a block's work: a tile of a split of (head, row) = (blockIdx.y, blockIdx.z). */
struct work {
	attn_row its;
	uint32_t at;	/* the tile's first key */
	uint32_t keys;	/* of a split of this row, a power of two */

	__device__ __forceinline__ void begin(const attn_decode_args &a)
	{
		its = a.rows[blockIdx.z];
		keys = attn_split_keys(its.length);
		at = blockIdx.x * keys;
	}
	__device__ __forceinline__ bool more(void) const { return at < its.length; }
	__device__ __forceinline__ uint32_t valid(void) const { return its.length - at; }
	/* Whether the tile is the last of its split. */
	__device__ __forceinline__ bool ends(void) const
	{
		return at + TILE >= its.length || ((at + TILE) & (keys - 1)) == 0;
	}
	__device__ __forceinline__ void next(void)
	{
		at = ends() ? its.length : at + TILE;
	}
};

} /* namespace attn */

#endif
