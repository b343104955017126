/* prefill_pairs_store.cuh - what a tile is in the product of prompts' experts on Hopper
 * (prefill_pairs.cu), and its sums, scaled, to where they belong: two neighbouring tiles of 16 rows
 * of W a warp.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_PAIRS_STORE_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_PAIRS_STORE_CUH

#include "kernels/cuda/prefill_store.cuh"

namespace {

constexpr int CLUSTER = 2; /* blocks that share W; each has half of the pairs */
constexpr int PAIRS = PREFILL_WIDE / CLUSTER;
constexpr int ROW_TILES = 2 * WARPS; /* of a block */
constexpr int SLOTS = 2;	     /* tiles: this one, the next */

/* Which rows of W and which pairs a tile has, as the scheduling warp found it. */
struct tile_slot {
	uint32_t n, row_block, expert; /* n: this block's pairs, perhaps 0 */
	uint32_t last;		       /* there are no more */
	uint32_t pair[PAIRS], row[PAIRS];
	float scale[ROW_TILES * MATMUL_TILE]; /* of the rows of W, as scale_of() */
};

/* A lane's sums of a tile of 16 rows with N pairs: [4 j + i], as mma's accumulator i of column tile
 * j. */
template <int N> struct tile_sums {
	float h[N / 2];
};

#if HOPPER
/* This thread's number, asked for here: what is made of it takes no registers while a tile's sums
 * are added. */
__device__ __forceinline__ uint32_t thread_now(void)
{
	uint32_t v;

	asm volatile("mov.u32 %0, %%tid.x;" : "=r"(v));
	return v;
}

/* Word q of each lane of four goes to lane q. */
__device__ __forceinline__ uint4 turn_words(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	const uint32_t thread = thread_now();
	const bool odd = thread & 1, high = thread & 2;
	const uint32_t t = __shfl_xor_sync(~0u, odd ? a : b, 1),
		       u = __shfl_xor_sync(~0u, odd ? c : d, 1);
	const uint2 first = odd ? make_uint2(t, b) : make_uint2(a, t),
		    second = odd ? make_uint2(u, d) : make_uint2(c, u);
	const uint32_t v = __shfl_xor_sync(~0u, high ? first.x : second.x, 2),
		       w = __shfl_xor_sync(~0u, high ? first.y : second.y, 2);

	return high ? make_uint4(v, w, second.x, second.y) : make_uint4(first.x, first.y, v, w);
}

/* bfloat16 of two tiles: 32 neighbours of a row of y in 16 bytes a lane. */
template <int N>
__device__ __forceinline__ void store_two_bf16(const matmul_params &p, const tile_slot &t,
					       uint32_t tile, const tile_sums<N> (&s)[2],
					       const row_scales (&scale)[2])
{
	const uint32_t thread = thread_now(), g = thread % WARP / 4, q = thread % 4, n = t.n;
	bf16 *y = (bf16 *)p.y + tile * MATMUL_TILE + 8 * q;

#pragma unroll
	for (int j = 0; j < N / 8; j++) {
		uint32_t word[4];

		if (j * 8 >= (int)n)
			break;
#pragma unroll
		for (int m = 0; m < 2; m++) {
			const float *v = &s[m].h[4 * j];

			word[2 * m] = transpose(__fmul_rn(v[0], scale[m].low),
						__fmul_rn(v[1], scale[m].low));
			word[2 * m + 1] = transpose(__fmul_rn(v[2], scale[m].high),
						    __fmul_rn(v[3], scale[m].high));
		}
		const uint4 out = turn_words(word[0], word[1], word[2], word[3]);

		if (j * 8 + g < n)
			*(uint4 *)(y + (size_t)t.pair[j * 8 + g] * p.ldy) = out;
	}
}

/* SwiGLU of two tiles that are neighbours in prefill order, too. */
template <int N>
__device__ __forceinline__ void store_two_pairs(const matmul_params &p, const tile_slot &t,
						uint32_t tile, const tile_sums<N> (&s)[2],
						const row_scales (&scale)[2])
{
	const uint32_t thread = thread_now(), g = thread % WARP / 4, q = thread % 4, n = t.n;
	bf16 *y = (bf16 *)p.y_swiglu + prefill_column((tile - p.n_plain) * 8 + 2 * q);

#pragma unroll
	for (int j = 0; j < N / 8; j++) {
		uint32_t word[2];

		if (j * 8 >= (int)n)
			break;
#pragma unroll
		for (int m = 0; m < 2; m++) {
			const float *v = &s[m].h[4 * j];

			word[m] = transpose(swiglu(__fmul_rn(v[0], scale[m].low),
						   __fmul_rn(v[2], scale[m].high)),
					    swiglu(__fmul_rn(v[1], scale[m].low),
						   __fmul_rn(v[3], scale[m].high)));
		}
		if (j * 8 + g < n)
			*(uint2 *)(y + (size_t)t.pair[j * 8 + g] * p.ldy_swiglu) =
				make_uint2(word[0], word[1]);
	}
}

/* One sum of a row of W, and what it makes a pair with eight rows further down. */
__device__ __forceinline__ void store_one(const matmul_params &p, uint32_t tile, uint32_t row,
					  size_t pair, float v, float up)
{
	const uint32_t n = tile * MATMUL_TILE + row;

	if (tile >= p.n_plain) {
		if (row < 8)
			((bf16 *)p.y_swiglu)[pair * p.ldy_swiglu +
					     prefill_column((tile - p.n_plain) * 8 + row)] =
				__float2bfloat16_rn(swiglu(v, up));
	} else if (n < p.n && p.out == MATMUL_OUT_BF16) {
		((bf16 *)p.y)[pair * p.ldy + n] = __float2bfloat16_rn(v);
	} else if (n < p.n) {
		((float *)p.y)[pair * p.ldy + n] = v;
	}
}

/* A tile of any shape, in any form. */
template <int N>
__device__ __forceinline__ void store_any(const matmul_params &p, const tile_slot &t, uint32_t tile,
					  const tile_sums<N> &s, const row_scales &scale)
{
	const uint32_t thread = thread_now(), g = thread % WARP / 4, q = thread % 4, n = t.n;

	if (tile >= p.n_tiles)
		return;
#pragma unroll
	for (int i = 0; i < N / 4; i++) {
		const uint32_t column = i / 2 * 8 + 2 * q + i % 2;
		const float v = __fmul_rn(s.h[i / 2 * 4 + i % 2], scale.low),
			    up = __fmul_rn(s.h[i / 2 * 4 + i % 2 + 2], scale.high);

		if (column < n) {
			store_one(p, tile, g, t.pair[column], v, up);
			store_one(p, tile, g + 8, t.pair[column], up, up);
		}
	}
}

template <int N>
__device__ __forceinline__ void store_two(const matmul_params &p, const tile_slot &t, uint32_t tile,
					  const tile_sums<N> (&s)[2], const row_scales (&scale)[2])
{
	if (tile + 2 <= p.n_tiles && !p.n_plain && p.ldy_swiglu % 4 == 0 &&
	    (uintptr_t)p.y_swiglu % 8 == 0) {
		store_two_pairs(p, t, tile, s, scale);
	} else if (tile + 2 <= p.n_plain && (tile + 2) * MATMUL_TILE <= p.n &&
		   p.out == MATMUL_OUT_BF16 && p.ldy % 8 == 0 && (uintptr_t)p.y % 16 == 0) {
		store_two_bf16(p, t, tile, s, scale);
	} else {
		store_any(p, t, tile, s[0], scale[0]);
		store_any(p, t, tile + 1, s[1], scale[1]);
	}
}

#endif

} /* namespace */

#endif
