/* row_words.cuh - rows of bfloat16 that the blocks of a kernel give each other through memory.
 *
 * The values are their own flags: a word is two of them with all bits turned, and 0 until it is there.  No two values
 * that are made by rounding make the word ~0, since their NaN is 0x7fff.  So a word is stored once it is known and
 * polled by who needs it: no fence, no count, no second trip.  The room has to be all zeros when the kernel begins. */
#ifndef HEARTH_KERNELS_CUDA_ROW_WORDS_CUH
#define HEARTH_KERNELS_CUDA_ROW_WORDS_CUH

#include "kernels/cuda/async.cuh"

/* A word of two values, never 0, for whoever polls it. */
static __device__ __forceinline__ void row_give(uint32_t *at, uint32_t pair)
{
	word_give(at, ~pair);
}

/* All of eight values are there. */
static __device__ __forceinline__ bool row_there(const uint4 &v)
{
	return v.x && v.y && v.z && v.w;
}

/* Eight values, when they are there, for a lane of a warp that all come here; ~0 where there are none. */
static __device__ __forceinline__ uint4 row_await(const uint32_t *at, bool has)
{
	uint4 v = make_uint4(~0u, ~0u, ~0u, ~0u);
	bool there = !has;

	do {
		if (!there)
			v = words_seen(at);
		there = row_there(v);
	} while (!__all_sync(~0u, there));
	return make_uint4(~v.x, ~v.y, ~v.z, ~v.w);
}

#endif
