/* norm.cuh - the arithmetic of a residual and the RMS norm behind it (docs/numerics.md 2), as all who do it have it:
 * bfloat16 in pairs, eight neighbours in a uint4.
 *
 * A row's squares: a lane adds those of its eight neighbours in order, the lanes of a warp meet in a butterfly, and
 * NORM_WARPS warps, which have 256 columns each of 2,048, are added one after the other; a longer row's lane goes on
 * with its next eight 2,048 columns on. */
#ifndef HEARTH_KERNELS_CUDA_NORM_CUH
#define HEARTH_KERNELS_CUDA_NORM_CUH

#include <cuda_bf16.h>
#include <stdint.h>

#include "kernels/cuda/warp_sum.cuh"

#define NORM_WARPS 8

static __device__ __forceinline__ float bf16_low(uint32_t pair)
{
	return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float bf16_high(uint32_t pair)
{
	return __uint_as_float(pair & 0xffff0000u);
}

static __device__ __forceinline__ uint32_t bf16_pair(float lo, float hi)
{
	const __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);

	return *(const uint32_t *)&v;
}

/* sum + the squares of eight values */
static __device__ __forceinline__ float add_squares(float sum, const uint4 &x)
{
	const uint32_t words[4] = { x.x, x.y, x.z, x.w };

#pragma unroll
	for (int i = 0; i < 4; i++) {
		sum = __fmaf_rn(bf16_low(words[i]), bf16_low(words[i]), sum);
		sum = __fmaf_rn(bf16_high(words[i]), bf16_high(words[i]), sum);
	}
	return sum;
}

/* 1 / rms from the sums of the eight warps. */
static __device__ __forceinline__ float norm_scale(const float *part, uint32_t width, float eps)
{
	float sum = part[0];

#pragma unroll
	for (int i = 1; i < NORM_WARPS; i++)
		sum = __fadd_rn(sum, part[i]);
	return __frsqrt_rn(__fadd_rn(__fdiv_rn(sum, (float)width), eps));
}

static __device__ __forceinline__ uint32_t norm2(uint32_t x, uint32_t w, float scale)
{
	return bf16_pair(__fmul_rn(__fmul_rn(bf16_low(x), scale), __fadd_rn(1.0f, bf16_low(w))),
		     __fmul_rn(__fmul_rn(bf16_high(x), scale), __fadd_rn(1.0f, bf16_high(w))));
}

/* bf16((x scale) (1 + w)) */
static __device__ __forceinline__ uint4 norm8(const uint4 &x, const uint4 &w, float scale)
{
	return make_uint4(norm2(x.x, w.x, scale), norm2(x.y, w.y, scale), norm2(x.z, w.z, scale),
			  norm2(x.w, w.w, scale));
}

/* bf16(x + sum), value by value */
static __device__ __forceinline__ uint4 add8(const uint4 &x, const float (&sum)[8])
{
	return make_uint4(bf16_pair(__fadd_rn(bf16_low(x.x), sum[0]), __fadd_rn(bf16_high(x.x), sum[1])),
			  bf16_pair(__fadd_rn(bf16_low(x.y), sum[2]), __fadd_rn(bf16_high(x.y), sum[3])),
			  bf16_pair(__fadd_rn(bf16_low(x.z), sum[4]), __fadd_rn(bf16_high(x.z), sum[5])),
			  bf16_pair(__fadd_rn(bf16_low(x.w), sum[6]), __fadd_rn(bf16_high(x.w), sum[7])));
}

#endif
