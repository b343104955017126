/* decode_square_tall_x.cuh - the square form's tall matrices: which tiles a block has, where things
 * lie in shared memory, and how x comes there.
 *
 * x comes by tensor copies into the stages themselves, its halves from the two blocks of a cluster
 * to both. If it does not have its columns in the order of steps yet, the four warps that bring it
 * put the words of each 32 columns in that order, where they lie: a lane has 64 bytes to itself.
 *
 * Barriers of a stage: full, by the four warps that bring; empty, by every warp of the cluster that
 * multiplies; and raw, one for each bringing warp, by the bytes of its 64 columns.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_TALL_X_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_TALL_X_CUH

#include <cuda.h>

#include "kernels/cuda/decode_square_x.cuh"
#include "kernels/cuda/wgmma_weights.cuh"

#define TALL_STAGES   8 /* of x, at most */
#define TALL_SHARE    2 /* blocks of a cluster that bring x for one another */
#define TALL_BARRIERS (16 + SQUARE_BRINGERS * 8) /* bytes a stage */

/* What a block walks: rounds of tiles, in each the slices of K. */
struct tall_walk {
	uint32_t rank;			/* in the cluster */
	uint32_t rounds;
	uint32_t first_tile, round_tiles;	/* of the first round; from one to the next */
	uint32_t slices;
};

static __device__ __forceinline__ struct tall_walk tall_walk_of(const struct matmul_params &p,
								const struct square_params &q)
{
	/* As many rounds as the cluster's first block has: all bring x. */
	const uint32_t passes = (p.n_tiles + q.tiles - 1) / q.tiles;
	struct tall_walk w;

	w.rank = blockIdx.x % q.cluster;
	w.rounds = (passes - (blockIdx.x - w.rank) + gridDim.x - 1) / gridDim.x;
	w.first_tile = blockIdx.x * q.tiles;
	w.round_tiles = gridDim.x * q.tiles;
	w.slices = p.n_slices;
	return w;
}

/* Row tile of warp m in a round; n_tiles where it has none. */
static __device__ __forceinline__ uint32_t tall_tile(const struct matmul_params &p,
						     const struct square_params &q,
						     const struct tall_walk &w, uint32_t m,
						     uint32_t round)
{
	return m < q.tiles ? min(w.first_tile + round * w.round_tiles + m, p.n_tiles) : p.n_tiles;
}

struct tall_shared {
	uint32_t x, barriers, rings;
};

template <int N>
static __device__ __forceinline__ struct tall_shared tall_shared_of(const struct square_params &q,
								    uint32_t base)
{
	struct tall_shared s;

	s.x = (base + 1023) / 1024 * 1024;
	s.barriers = s.x + q.stages * x_stage<N>;
	s.rings = s.barriers + q.stages * TALL_BARRIERS;
	return s;
}

/* A stage, and the parity of its barriers. */
struct tall_stage {
	uint32_t at, phase;
};

static __device__ __forceinline__ void tall_next(const struct square_params &q,
						 struct tall_stage &t)
{
	if (++t.at == q.stages) {
		t.at = 0;
		t.phase ^= 1;
	}
}

static __device__ __forceinline__ uint32_t tall_full(const struct tall_shared &s, uint32_t stage)
{
	return s.barriers + stage * TALL_BARRIERS;
}

static __device__ __forceinline__ uint32_t tall_empty(const struct tall_shared &s, uint32_t stage)
{
	return s.barriers + stage * TALL_BARRIERS + 8;
}

static __device__ __forceinline__ uint32_t tall_raw(const struct tall_shared &s, uint32_t stage,
						    uint32_t bringer)
{
	return s.barriers + stage * TALL_BARRIERS + 16 + bringer * 8;
}

/* ---- x ---------------------------------------------------------------------------------- */

static __device__ __forceinline__ bool tall_test(uint32_t barrier, uint32_t parity)
{
	uint32_t come;

	asm volatile("{ .reg .pred p;\n"
		     "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
		     "selp.u32 %0, 1, 0, p; }"
		     : "=r"(come)
		     : "r"(barrier), "r"(parity)
		     : "memory");
	return __all_sync(~0u, come);
}

/* A bringing warp's 64 columns of a slice, this block's part of the rows, to all blocks. */
template <int N>
static __device__ __forceinline__ void tall_ask(const CUtensorMap &map, const struct tall_walk &w,
						uint32_t part, uint32_t barrier, uint32_t k)
{
	const uint32_t row = w.rank * (N / TALL_SHARE);

	if (threadIdx.x % WARP)
		return;
	ring_expect(barrier, N * 128);
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
		     ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(part + row * 128),
		     "l"(&map), "r"(k), "r"(row), "r"(barrier),
		     "h"((uint16_t)((1u << TALL_SHARE) - 1))
		     : "memory");
}

/* One bringing warp.  It asks for a slice as soon as a stage is empty, and orders what has come. */
template <int N>
static __device__ __forceinline__ void
tall_bring(const CUtensorMap &map, const struct square_params &q, const struct tall_walk &w,
	   const struct tall_shared &s)
{
	const uint32_t bringer = threadIdx.x / WARP - SQUARE_WARPS;
	const uint32_t n = w.rounds * w.slices;
	struct tall_stage ask = { 0, 1 }, bring = { 0, 0 };
	uint32_t asked = 0, slice = 0;

	/* Copies see what the kernel before wrote. */
	asm volatile("fence.proxy.async.global;" ::: "memory");
	if (q.ordered) { /* nothing is left to do for what has come */
#pragma unroll 1
		for (; asked < n; asked++) {
			ring_wait(tall_empty(s, ask.at), ask.phase);
			tall_ask<N>(map, w, s.x + ask.at * x_stage<N> + bringer * (N * 128),
				    tall_full(s, ask.at), slice * MATMUL_SLICE + bringer * 64);
			slice = slice + 1 == w.slices ? 0 : slice + 1;
			tall_next(q, ask);
		}
		return;
	}
#pragma unroll 1
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t part = s.x + bring.at * x_stage<N> + bringer * (N * 128);
		for (;;) {
			if (asked < n && tall_test(tall_empty(s, ask.at), ask.phase)) {
				tall_ask<N>(map, w, s.x + ask.at * x_stage<N> + bringer * (N * 128),
					    tall_raw(s, ask.at, bringer),
					    slice * MATMUL_SLICE + bringer * 64);
				slice = slice + 1 == w.slices ? 0 : slice + 1;
				asked++;
				tall_next(q, ask);
			} else if (tall_test(tall_raw(s, bring.at, bringer), bring.phase)) {
				break;
			}
		}
		__syncwarp();
		square_order<N>(part);
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		__syncwarp();
		if (threadIdx.x % WARP == 0)
			ring_arrive(tall_full(s, bring.at));
		tall_next(q, bring);
	}
}

#endif
