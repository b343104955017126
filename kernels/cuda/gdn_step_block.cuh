/* gdn_step_block.cuh - how gdn_step.cu's blocks share a head, what one has in shared memory, and the sums
 * that all of them make in the same order. */
#ifndef HEARTH_KERNELS_CUDA_GDN_STEP_BLOCK_CUH
#define HEARTH_KERNELS_CUDA_GDN_STEP_BLOCK_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/gdn_step.h"
#include "kernels/cuda/warp_sum.cuh"

namespace {

/* How a head is done: by how many blocks of how many warps, and how many blocks a multiprocessor has. */
template <int BLOCKS_A_HEAD, int BLOCK_WARPS, int BLOCKS_AN_SM> struct cut {
	static constexpr int SPLIT = BLOCKS_A_HEAD;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200	/* shared memory is 100 KB in all */
	static constexpr int BLOCKS = 1;
#else
	static constexpr int BLOCKS = BLOCKS_AN_SM;
#endif
	static constexpr int WARPS = BLOCK_WARPS, THREADS = WARPS * 32;
	/* of the state: a block's, a warp's */
	static constexpr int BLOCK_ROWS = GDN_DIM / SPLIT, ROWS = BLOCK_ROWS / WARPS;
	/* of a warp's, how many at once, and how often; lanes that have a row's sums */
	static constexpr int AT_ONCE = ROWS < 4 ? ROWS : 4, GROUPS = ROWS / AT_ONCE, LANES = 32 / AT_ONCE;
	/* of the convolution, a thread's: q's and k's are the first of a thread */
	static constexpr int CHANNELS = (3 * GDN_DIM + THREADS - 1) / THREADS;
	static_assert(THREADS >= 2 * GDN_DIM && THREADS % GDN_DIM == 0, "a thread a channel of q and k");
	static_assert(WARPS >= GDN_PERIOD, "a warp a kept token, and one for what they decay by together");
};

template <class Cut> struct shared {
	/* each thread reads and writes its own places only */
	float4 S[Cut::BLOCK_ROWS][GDN_DIM / 4];
	float qk[2][GDN_DIM];		/* normalised q (scaled) and k */
	float v[Cut::BLOCK_ROWS];	/* then d, of a warp's own rows */
	/* The whole head's, of rows in turn: another block may be a row ahead of the norm. */
	float o[2][GDN_DIM];
	uint2 z[32], norm_w[32];		 /* the first warp's, four values a lane */
	float part[8];
	float alpha, beta, a_log, dt_bias;
	/* Of the kept tokens: keys; d of the block's rows; B_e k_e.k and B_e k_e.q; B_e; A. */
	float4 key[GDN_KEPT][GDN_DIM / 4];
	alignas(16) float delta[GDN_KEPT][Cut::BLOCK_ROWS];
	float weight[2][GDN_PERIOD], decay[GDN_PERIOD], decay_after[GDN_PERIOD], decay_all;
};

/* What a launch adds: how many heads share a key head, and 2^31 over it, rounded up, since to divide takes long;
 * how many blocks have a place at once. */
struct launch_args : gdn_step_args {
	uint32_t sharing, share, places;

	/* exact below 2^15 heads */
	__device__ __forceinline__ uint32_t k_head(uint32_t head) const
	{
		return (uint32_t)((uint64_t)head * share >> 31);
	}
};

__device__ float dot4(float4 x, float4 y)
{
	return __fmaf_rn(x.w, y.w, __fmaf_rn(x.z, y.z, __fmaf_rn(x.y, y.y, __fmul_rn(x.x, y.x))));
}

__device__ float4 scaled(float4 s, float by)
{
	return make_float4(__fmul_rn(s.x, by), __fmul_rn(s.y, by), __fmul_rn(s.z, by), __fmul_rn(s.w, by));
}

__device__ float4 add_scaled(float4 s, float d, float4 k)
{
	return make_float4(__fmaf_rn(d, k.x, s.x), __fmaf_rn(d, k.y, s.y), __fmaf_rn(d, k.z, s.z),
			   __fmaf_rn(d, k.w, s.w));
}

/* The row of the block whose sums a lane has, of the warp's first group. */
template <class Cut> __device__ __forceinline__ uint32_t own_row(void)
{
	return threadIdx.x / 32 * Cut::ROWS + threadIdx.x % 32 / Cut::LANES;
}

} /* namespace */

#endif
