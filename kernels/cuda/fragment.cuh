/* fragment.cuh - one warp's piece of a packed matrix, from memory to the tensor core.
 *
 * unit<F> holds what a lane keeps of one unit (16 rows x 256 columns, pack.h): plain bfloat16
 * fragments, or codes and scales.  load() fetches all of it; frag() makes the fragment of one
 * step, refill() replaces the 16 bytes that just ran empty by the same bytes of another unit,
 * and refill_scales() does so for the scales at the end.  So a warp always has a whole unit in
 * flight, and pays for it no more registers than the unit itself.
 *
 * Quantised weights become bfloat16 exactly, so a format's only roundings are those
 * of its scales outside of the tensor core:
 *  - e2m1 has 2 significant bits, its block scale 4: the product has 6, bfloat16 holds 8.
 *    The bits of e2m1 placed in a bfloat16 are the value times 2^-126 (0.5 becomes a
 *    subnormal, which the multiplier must not flush: mul.bf16x2 does not).  The
 *    scale is read as s * 2^74, the product is w * 2^-52, and the 2^52 goes into the
 *    global factor, which is applied to the finished sum.
 *  - e4m3 has 4 significant bits: value times 2^-120 as placed, times 2^120 exactly.
 */
#ifndef HEARTH_KERNELS_CUDA_FRAGMENT_CUH
#define HEARTH_KERNELS_CUDA_FRAGMENT_CUH

#include <cuda_bf16.h>
#include <stdint.h>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/once.cuh"
#include "kernels/cuda/pack.h"

/* Sixteen bytes of weights: kept out of L1, where the activations live, and (once.cuh) the first to leave L2.  KEEP:
 * that they are not, for prompts, whose blocks read the same weights again, and where there are no registers for it. */
template <bool KEEP> static __device__ __forceinline__ uint4 load_weights(const uint4 *p)
{
	uint4 v;

	if constexpr (KEEP)
		asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
			     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
	else
		asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
			     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p), "l"(once_policy()));
	return v;
}

/* The same when `more`; otherwise v stays. No branch, so a row of them stays a row. */
template <bool KEEP> static __device__ __forceinline__ void load_weights_if(uint4 *v, const uint4 *p, bool more)
{
	if constexpr (KEEP)
		asm volatile("{ .reg .pred m; setp.ne.u32 m, %5, 0;\n"
			     "@m ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4]; }"
			     : "+r"(v->x), "+r"(v->y), "+r"(v->z), "+r"(v->w)
			     : "l"(p), "r"((uint32_t)more));
	else
		asm volatile("{ .reg .pred m; setp.ne.u32 m, %5, 0;\n"
			     "@m ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %6; }"
			     : "+r"(v->x), "+r"(v->y), "+r"(v->z), "+r"(v->w)
			     : "l"(p), "r"((uint32_t)more), "l"(once_policy()));
}

template <enum matmul_format F> struct unit;

/* ---- bfloat16: 16 loads, one a step ---------------------------------------- */

template <> struct unit<MATMUL_BF16> {
	static constexpr int bytes = MATMUL_BF16_UNIT;
	uint4 a[16];

	template <bool KEEP = false> __device__ __forceinline__ void load(const uint4 *from, int lane)
	{
#pragma unroll
		for (int i = 0; i < 16; i++)
			a[i] = load_weights<KEEP>(from + i * 32 + lane);
	}
	/* The same from shared memory. */
	__device__ __forceinline__ void take(uint32_t from, int lane)
	{
#pragma unroll
		for (int i = 0; i < 16; i++)
			a[i] = load_shared(from + i * 512 + lane * 16);
	}
	__device__ __forceinline__ struct frag frag_of(int step) const
	{
		return { a[step].x, a[step].y, a[step].z, a[step].w };
	}
	template <bool KEEP = false> __device__ __forceinline__ void refill(int step, const uint4 *next, int lane, bool more)
	{
		load_weights_if<KEEP>(&a[step], next + step * 32 + lane, more);
	}
	template <bool KEEP = false> __device__ __forceinline__ void refill_scales(const uint4 *, int, bool) {}
	static constexpr bool scaled_halves = false;
};

/* ---- FP8, blocks of 128 x 128: 8 loads, two steps each ----------------------- */

template <> struct unit<MATMUL_FP8> {
	static constexpr int bytes = MATMUL_FP8_UNIT;
	uint4 a[8];
	float low[2], high[2];	/* scales of 128 columns each, for row g and for row g + 8 */

	template <bool KEEP = false> __device__ __forceinline__ void load(const uint4 *from, int lane)
	{
#pragma unroll
		for (int i = 0; i < 8; i++)
			a[i] = load_weights<KEEP>(from + i * 32 + lane);
		uint4 t = load_weights<KEEP>(from + 256);
		low[0] = __uint_as_float(t.x);
		low[1] = __uint_as_float(t.y);
		high[0] = __uint_as_float(t.z);
		high[1] = __uint_as_float(t.w);
	}
	__device__ __forceinline__ void take(uint32_t from, int lane)
	{
#pragma unroll
		for (int i = 0; i < 8; i++)
			a[i] = load_shared(from + i * 512 + lane * 16);
		const uint4 t = load_shared(from + 4096);

		low[0] = __uint_as_float(t.x);
		low[1] = __uint_as_float(t.y);
		high[0] = __uint_as_float(t.z);
		high[1] = __uint_as_float(t.w);
	}
	/* Two pairs of one word: pack_fp8_scatter(). */
	static __device__ __forceinline__ void word(uint32_t w, uint32_t *first, uint32_t *second)
	{
		const uint32_t two_120 = 0x7b807b80;

		*first = mul_bf16x2(w & 0x87f087f0, two_120);
		*second = mul_bf16x2(masked_xor(w >> 4, w << 4, 0x87f087f0), two_120);
	}
	__device__ __forceinline__ struct frag frag_of(int step) const
	{
		const uint4 v = a[step / 2];
		struct frag f;

		word(step % 2 ? v.z : v.x, &f.r[0], &f.r[1]);
		word(step % 2 ? v.w : v.y, &f.r[2], &f.r[3]);
		return f;
	}
	template <bool KEEP = false> __device__ __forceinline__ void refill(int step, const uint4 *next, int lane, bool more)
	{
		if (step % 2)
			load_weights_if<KEEP>(&a[step / 2], next + step / 2 * 32 + lane, more);
	}
	template <bool KEEP = false> __device__ __forceinline__ void refill_scales(const uint4 *next, int, bool more)
	{
		asm volatile("{ .reg .pred m; setp.ne.u32 m, %5, 0;\n"
			     "@m ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4]; }"
			     : "+f"(low[0]), "+f"(low[1]), "+f"(high[0]), "+f"(high[1])
			     : "l"(next + 256), "r"((uint32_t)more));
	}
	static constexpr bool scaled_halves = true;	/* the unit is two blocks of 128 columns */
};

/* ---- NVFP4: 4 loads, four steps each, and one of scales ------------------------ */

template <> struct unit<MATMUL_NVFP4> {
	static constexpr int bytes = MATMUL_NVFP4_UNIT;
	uint4 a[4], scale;

	__device__ __forceinline__ const uint4 *scale_at(const uint4 *from, int lane) const
	{
		return from + 128 + lane / 2;
	}
	template <bool KEEP = false> __device__ __forceinline__ void load(const uint4 *from, int lane)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			a[i] = load_weights<KEEP>(from + i * 32 + lane);
		scale = load_weights<KEEP>(scale_at(from, lane));
	}
	__device__ __forceinline__ void take(uint32_t from, int lane)
	{
		scale = load_shared(from + 2048 + lane / 2 * 16);
#pragma unroll
		for (int i = 0; i < 4; i++)
			a[i] = load_shared(from + i * 512 + lane * 16);
	}
	template <bool KEEP = false> __device__ __forceinline__ void refill_scales(const uint4 *next, int lane, bool more)
	{
		load_weights_if<KEEP>(&scale, scale_at(next, lane), more);
	}
	/* s * 2^74 of rows g (low half) and g + 8 (high half) in 32-column block j. */
	__device__ __forceinline__ uint32_t scale_pair(int j) const
	{
		const uint32_t w = j / 2 == 0	? scale.x
				   : j / 2 == 1 ? scale.y
				   : j / 2 == 2 ? scale.z
						: scale.w;

		return __byte_perm(w, 0, j % 2 ? 0x4341 : 0x4240) * 16 + 0x60006000;
	}
	/* The bits of pack_fp4_scatter(): four masks, and four shifts of which those to the left are
	 * not the same pipe's as the masks. */
	__device__ __forceinline__ struct frag frag_of(int step) const
	{
		const uint32_t keep = 0x81c081c0; /* sign, exponent, mantissa of two bfloat16 */
		const uint4 v = a[step / 4];
		const uint32_t w = step % 4 == 0   ? v.x
				   : step % 4 == 1 ? v.y
				   : step % 4 == 2 ? v.z
						   : v.w;
		const uint32_t s = scale_pair(step / 2);
		struct frag f;

		f.r[0] = mul_bf16x2(w & keep, low_twice(s));
		f.r[1] = mul_bf16x2(__funnelshift_r(w, w, 6) & keep, high_twice(s));
		f.r[2] = mul_bf16x2(w << 6 & keep, low_twice(s));
		f.r[3] = mul_bf16x2(masked_xor(w >> 4, w << 4, keep), high_twice(s));
		return f;
	}
	template <bool KEEP = false> __device__ __forceinline__ void refill(int step, const uint4 *next, int lane, bool more)
	{
		if (step % 4 == 3)
			load_weights_if<KEEP>(&a[step / 4], next + step / 4 * 32 + lane, more);
	}
	static constexpr bool scaled_halves = false;
};

/* After the last step of a half: the first half's sums move to `part`, scaled; the second
 * half's take them up: sum = fma(scale1, sum1, scale0 * sum0).  N accumulators, four of a lane's
 * after the other. */
template <int N>
static __device__ __forceinline__ void join_halves(int half, const struct unit<MATMUL_FP8> &w,
						   float *sum, float *part)
{
#pragma unroll
	for (int i = 0; i < N; i++) {
		const float scale = i % 4 < 2 ? w.low[half] : w.high[half];

		if (half == 0) {
			part[i] = __fmul_rn(scale, sum[i]);
			sum[i] = 0;
		} else {
			sum[i] = __fmaf_rn(scale, sum[i], part[i]);
		}
	}
}

/* What a finished sum is multiplied by for what the fragments leave out: a power of two. */
template <enum matmul_format F>
constexpr float fragment_factor = F == MATMUL_NVFP4 ? 0x1p52f : 1.0f;

#endif
