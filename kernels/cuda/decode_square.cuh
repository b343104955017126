/* decode_square.cuh - the decode product of dense matrices for 9 to 64 columns on Hopper: the four
 * warps of a group multiply together (wgmma), so that x is read from shared memory once for 64 rows of W.
 *
 *  - Weights come by bulk copies into shared memory, a warp's own, so loads stay in flight whatever
 *    the warp does.  From there they go to registers as fragments.
 *  - x comes by tensor copies, 64 columns of K at a time.  wgmma wants the 16 columns of a step side
 *    by side where a row of x has them as pack.h says: so warps put it in that order where it lies,
 *    or the kernel before has.
 *  - Each slice's sums start from zero in registers, and are added in order.
 *
 * Here is what both kinds of it share.  Tall matrices, with tiles for all blocks, are in
 * decode_square_tall.cuh, the others in decode_square_split.cuh.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_CUH

#include "kernels/cuda/decode_square_x.cuh"
#include "kernels/cuda/wgmma_weights.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SQUARE_HERE 1
#else
#define SQUARE_HERE 0
#endif

/* ---- weights ------------------------------------------------------------------------------ */

/* Four steps' fragments from a piece. */
template <enum matmul_format F>
static __device__ __forceinline__ void square_take(struct frag (&f)[4], uint32_t at, int lane)
{
	if constexpr (F == MATMUL_BF16) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const uint4 v = load_shared(at + i * 512 + lane * 16);

			f[i] = { v.x, v.y, v.z, v.w };
		}
	} else {
#pragma unroll
		for (int i = 0; i < 2; i++) {
			const uint4 v = load_shared(at + i * 512 + lane * 16);

			unit<MATMUL_FP8>::word(v.x, &f[2 * i].r[0], &f[2 * i].r[1]);
			unit<MATMUL_FP8>::word(v.y, &f[2 * i].r[2], &f[2 * i].r[3]);
			unit<MATMUL_FP8>::word(v.z, &f[2 * i + 1].r[0], &f[2 * i + 1].r[1]);
			unit<MATMUL_FP8>::word(v.w, &f[2 * i + 1].r[2], &f[2 * i + 1].r[3]);
		}
	}
}

/* The tensor core has read them: until here they stay where they are. */
static __device__ __forceinline__ void square_keep(struct frag (&f)[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			asm volatile("" : "+r"(f[i].r[j])::"memory");
}

/* ---- the product -------------------------------------------------------------------------- */

/* Four steps; FIRST: of a sum. */
template <int N, bool FIRST>
static __device__ __forceinline__ void square_mma(float (&sum)[N / 2], const struct frag (&f)[4],
						uint64_t x)
{
#if SQUARE_HERE
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const uint64_t b = x + i * 2; /* 32 bytes */

		if constexpr (N == 16) {
			if (FIRST && i == 0)
				wgmma_64x16_new(sum, f[i], b);
			else
				wgmma_64x16(sum, f[i], b);
		} else if constexpr (N == 32) {
			if (FIRST && i == 0)
				wgmma_64x32_new(sum, f[i], b);
			else
				wgmma_64x32(sum, f[i], b);
		} else {
			if (FIRST && i == 0)
				wgmma_64x64_new(sum, f[i], b);
			else
				wgmma_64x64(sum, f[i], b);
		}
	}
	wgmma_commit();
#endif
}

template <int PENDING, int N> static __device__ __forceinline__ void square_wait(float (&sum)[N])
{
#if SQUARE_HERE
	wgmma_wait<PENDING>(sum);
#endif
}

/* One column of the lane's two rows. */
static __device__ __forceinline__ void square_column(const struct matmul_params &p, uint32_t tile,
						     uint32_t r, uint32_t col, float low, float high)
{
	if (tile >= p.n_plain) {
		store_out(p, tile, r, col, low, high);
		return;
	}
	if (has_output(p, tile, r))
		store_out(p, tile, r, col, low, 0);
	if (has_output(p, tile, r + 8))
		store_out(p, tile, r + 8, col, high, 0);
}

/* Four sums of a lane: rows r and r + 8 of a tile, columns col and col + 1. */
static __device__ __forceinline__ void square_store(const struct matmul_params &p, uint32_t tile,
						    uint32_t r, uint32_t col, const float4 &v,
						    float low, float high)
{
	if (col < p.n_cols)
		square_column(p, tile, r, col, __fmul_rn(v.x, low), __fmul_rn(v.z, high));
	if (col + 1 < p.n_cols)
		square_column(p, tile, r, col + 1, __fmul_rn(v.y, low), __fmul_rn(v.w, high));
}

/* This warp has read something: so it tells the cluster's blocks, which write there. */
static __device__ __forceinline__ void square_release(uint32_t empty, uint32_t blocks)
{
	const uint32_t lane = threadIdx.x % WARP;

	/* Only reads are ordered by this, which the tensor core has ended: no .release.cluster, which
	 * would wait for everything that is on its way. */
	if (lane < blocks)
		asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(
				     in_block(empty, lane))
			     : "memory");
}

#endif
