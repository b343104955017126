/* kv.cuh - keys and values in FP8 on the device: e4m3_head() (kernels/e4m3.h) and the way back.
 *
 * What is stored is, bit for bit, what the CPU back end stores for the same bfloat16 numbers: a code
 * each, and for the 256 of a head one power of two that decides from the largest of them alone.  Who
 * writes (a decode row, a prompt's row) and who else writes beside it makes no difference.
 *
 * Reading gives bfloat16 numbers, exactly (4 significant bits times a power of two), before the
 * tensor core: a kernel that reads FP8 computes what it would from a BF16 cache of these numbers.
 * The bits of a code placed in a bfloat16 are its value times 2^-120 (codes below 2^-6 become
 * subnormal; mul.bf16x2 keeps those), so one product with 2^(power + 120) makes the number, where
 * that factor is one: for numbers up to 57344.  Above, there are two products.
 */
#ifndef HEARTH_KERNELS_CUDA_KV_CUH
#define HEARTH_KERNELS_CUDA_KV_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/attn_decode.h"
#include "kernels/cuda/fragment.cuh"

namespace kv {

constexpr uint32_t LEAST = 10;		/* 2^-117, as e4m3.c has it */
constexpr uint32_t NO_NUMBER = 0x7f80;	/* |x| from here on, as bits of a bfloat16 */
constexpr uint32_t NAN_CODE = 0x7f;
constexpr size_t CODES = (size_t)ATTN_PAGE * ATTN_DIM;	/* of a head in a block; its powers follow */

/* ---- in -------------------------------------------------------------------------- */

__host__ __device__ inline uint32_t size_of(__nv_bfloat16 x)
{
	uint16_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits & 0x7fffu;
}

/* The power of a head (UE8M0) whose largest |x| has these bits: the least that keeps it at 448 =
 * 1.75 x 2^8 or below. */
__host__ __device__ inline uint32_t power_for(uint32_t most)
{
	const uint32_t e = (most >> 7) + ((most & 0x7fu) > 0x60u);

	return most < NO_NUMBER && e > LEAST + 8 ? e - 8 : LEAST;
}

/* What its numbers are multiplied by; exact, but for what is far too small to be anything but
 * zero. */
__host__ __device__ inline float inverse_of(uint32_t power)
{
	const uint32_t bits = (254u - power) << 23;
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* A code times 2^-120, as the bits of a bfloat16. */
__host__ __device__ inline uint32_t placed(uint32_t code)
{
	return (code & 0x80u) << 8 | (code & 0x7fu) << 4;
}

/* What it is multiplied by, and, when is_large(), once more: bits of bfloat16 twice. */
__host__ __device__ inline bool is_large(uint32_t power)
{
	return power > 134;	/* 2^(power - 7) is no bfloat16 */
}

__host__ __device__ inline uint32_t factor_of(uint32_t power)
{
	return is_large(power) ? 0x7b807b80u : (power + 120) * 0x00800080u;
}

__host__ __device__ inline uint32_t second_factor_of(uint32_t power)
{
	return power * 0x00800080u;
}

#ifdef __CUDACC__

/* The codes of two numbers of a head, `lo` in the lower byte.  One that is no number makes all codes
 * of its head NaN. */
__device__ inline uint32_t codes_of(__nv_bfloat16 lo, __nv_bfloat16 hi, uint32_t most)
{
	const float inverse = inverse_of(power_for(most));
	uint16_t codes;

	asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
	    : "=h"(codes)
	    : "f"(__fmul_rn(__bfloat162float(hi), inverse)),
	      "f"(__fmul_rn(__bfloat162float(lo), inverse)));
	return most < NO_NUMBER ? codes : NAN_CODE << 8 | NAN_CODE;
}

/* ---- out ------------------------------------------------------------------------- */

/* Two codes, in the upper bytes of the halves, each placed() and multiplied. */
__device__ __forceinline__ uint32_t pair_of(uint32_t w, uint32_t factor)
{
	return mul_bf16x2((w & 0x80008000u) | (w >> 4 & 0x07f007f0u), factor);
}

__device__ __forceinline__ uint4 eight_of(uint32_t x, uint32_t y, uint32_t factor)
{
	return make_uint4(pair_of(__byte_perm(x, 0, 0x1404), factor),
			  pair_of(__byte_perm(x, 0, 0x3424), factor),
			  pair_of(__byte_perm(y, 0, 0x1404), factor),
			  pair_of(__byte_perm(y, 0, 0x3424), factor));
}

__device__ __forceinline__ void scale(uint4 &v, uint32_t factor)
{
	v.x = mul_bf16x2(v.x, factor);
	v.y = mul_bf16x2(v.y, factor);
	v.z = mul_bf16x2(v.z, factor);
	v.w = mul_bf16x2(v.w, factor);
}

/* Sixteen codes of one head as bfloat16: two chunks of eight, to put(chunk, numbers).  `piece`: which
 * 16 of the 256.  Lanes of neighbouring pieces begin with different halves, so that eight of them
 * that store chunks of a swizzled row meet in no bank. */
template <typename F>
__device__ __forceinline__ void sixteen(const uint4 &codes, uint32_t power, int piece, F put)
{
	const int odd = piece / 4 & 1;
	uint32_t factor = factor_of(power);
	const uint2 a = odd ? make_uint2(codes.z, codes.w) : make_uint2(codes.x, codes.y),
		    b = odd ? make_uint2(codes.x, codes.y) : make_uint2(codes.z, codes.w);
	uint4 first, second;

	if ((codes.x & NAN_CODE) == NAN_CODE)	/* then all are: codes_of() */
		factor = 0x7fc07fc0u;
	first = eight_of(a.x, a.y, factor);
	second = eight_of(b.x, b.y, factor);
	if (is_large(power)) {
		scale(first, second_factor_of(power));
		scale(second, second_factor_of(power));
	}
	put(2 * piece + odd, first);
	put(2 * piece + 1 - odd, second);
}

/* A tile of keys or values on its way from memory to bfloat16 in shared memory, by all THREADS of a
 * block: held as codes in registers meanwhile.  Rows of the tile are those of one head and block. */
template <int THREADS, int KEYS> struct tile_in {
	static constexpr int PIECES = ATTN_DIM / 16, EACH = KEYS * PIECES / THREADS;
	static_assert(EACH * THREADS == KEYS * PIECES && EACH <= PIECES, "whole rows, all alike");
	uint4 codes[EACH];
	uint32_t power;	/* of this thread's row number (lane % PIECES) */

	static __device__ __forceinline__ int first_row(void)
	{
		return (int)threadIdx.x / PIECES * EACH;
	}
	/* head: the codes of the block's head; from: the tile's first row there.  Rows from `valid` on
	 * are not read, and become zeros. */
	__device__ __forceinline__ void fetch(const char *head, uint32_t from, uint32_t valid)
	{
		const uint32_t first = (uint32_t)first_row(), piece = threadIdx.x % PIECES;
		const uint32_t mine = first + piece % EACH;
		const char *at = head + (size_t)(from + first) * ATTN_DIM + piece * 16;

#pragma unroll
		for (int j = 0; j < EACH; j++)
			codes[j] = first + (uint32_t)j < valid ?
					   __ldcg((const uint4 *)(at + j * ATTN_DIM)) :
					   make_uint4(0, 0, 0, 0);
		power = mine < valid ? __ldcg((const unsigned char *)head + CODES + from + mine) : 0;
	}
	/* place(row, chunk): where 8 numbers go */
	template <typename F> __device__ __forceinline__ void land(F place) const
	{
		const int piece = (int)threadIdx.x % PIECES;

#pragma unroll
		for (int j = 0; j < EACH; j++) {
			const uint32_t b = __shfl_sync(0xffffffffu, power,
						       (int)(threadIdx.x & PIECES) + j);
			const int row = first_row() + j;

			sixteen(codes[j], b, piece,
				[&](int chunk, const uint4 &x) { *place(row, chunk) = x; });
		}
	}
};

#endif

} /* namespace kv */

#endif
