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
 * that factor is one: for numbers up to 57344.  Where a warp has a head above, or one that may be
 * NaN, it goes over its numbers once more.
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
constexpr uint32_t NAN_LEAST = 0x970;	/* what sixteen() makes of it with the least power: 480 x 2^-117 */
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

/* What it is multiplied by, and what then once more: bits of bfloat16 twice. */
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
	return is_large(power) ? power * 0x00800080u : 0x3f803f80u;
}

/* A head whose codes may be NaN has the least power: codes_of(). */
__host__ __device__ inline bool is_plain(uint32_t power)
{
	return power > LEAST && !is_large(power);
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

/* Two codes, in the lower bytes of the halves, each placed() and multiplied.  Products with small
 * numbers instead of shifts and masks: that shares the work between the pipes. */
__device__ __forceinline__ uint32_t pair_of(uint32_t w, uint32_t factor)
{
	return mul_bf16x2(w * 16u + (w & 0x00800080u) * 240u, factor);
}

__device__ __forceinline__ uint4 eight_of(uint32_t x, uint32_t y, uint32_t factor)
{
	return make_uint4(pair_of(__byte_perm(x, 0, 0x4140), factor),
			  pair_of(__byte_perm(x, 0, 0x4342), factor),
			  pair_of(__byte_perm(y, 0, 0x4140), factor),
			  pair_of(__byte_perm(y, 0, 0x4342), factor));
}

__device__ __forceinline__ void scale(uint4 &v, uint32_t factor)
{
	v.x = mul_bf16x2(v.x, factor);
	v.y = mul_bf16x2(v.y, factor);
	v.z = mul_bf16x2(v.z, factor);
	v.w = mul_bf16x2(v.w, factor);
}

/* How a warp shares the rows of a head that it reads: two neighbouring rows at a time, 16 codes a
 * lane.  Of each eight lanes four have an even row and four the odd one, in other columns, so that
 * they meet in no bank, neither where they read rows of 256 bytes, nor where they write chunk c of a
 * row of numbers at c ^ (row & 7). */
struct share {
	int odd, piece;		/* which of the two rows; which 16 of its 256 codes */
};

__device__ __forceinline__ share share_of(void)
{
	const int lane = (int)threadIdx.x % 32, odd = lane / 4 % 2;

	return { odd, lane % 4 + (lane / 8 ^ odd) * 4 };
}

/* Of a warp's rows: lane i has row i's power and what its codes are multiplied by. */
struct factors {
	uint32_t power, first;
	bool plain;	/* the same for the whole warp: the second factors are one, nothing is NaN */
};

__device__ __forceinline__ factors factors_of(uint32_t power)
{
	return { power, factor_of(power), !__any_sync(0xffffffffu, !is_plain(power)) };
}

/* By a whole warp: 16 codes of row `row` among its rows become two chunks of bfloat16, to
 * put(0 or 1, numbers), which unless f.plain are for mend() to finish. */
template <typename F>
__device__ __forceinline__ void sixteen(const uint4 &codes, const factors &f, int row, F put)
{
	const uint32_t first = __shfl_sync(0xffffffffu, f.first, row);

	put(0, eight_of(codes.x, codes.y, first));
	put(1, eight_of(codes.z, codes.w, first));
}

/* By a whole warp, each lane where it put a chunk of row `row`. */
__device__ __forceinline__ void mend(uint4 *chunk, const factors &f, int row)
{
	const uint32_t power = __shfl_sync(0xffffffffu, f.power, row);
	uint32_t factor = second_factor_of(power);
	uint4 x = *chunk;

	/* a NaN code times the least power's factor; if one of a head is NaN, all are: codes_of() */
	if (power == LEAST && (x.x & 0x7fffu) == NAN_LEAST)
		factor = 0x7fc07fc0u;
	scale(x, factor);
	*chunk = x;
}

/* A tile of keys or values on its way from memory to bfloat16 in shared memory, by all THREADS of a
 * block: held as codes in registers meanwhile.  Rows of the tile are those of one head and block. */
template <int THREADS, int KEYS> struct tile_in {
	static constexpr int ROWS = KEYS * 32 / THREADS, EACH = ROWS / 2;	/* of a warp; pairs */
	static_assert(ROWS * THREADS == KEYS * 32 && ROWS % 2 == 0 && ROWS <= 32, "pairs of rows");
	uint4 codes[EACH];
	uint32_t power;	/* of row (lane % ROWS) of the warp's */

	static __device__ __forceinline__ uint32_t first_row(void)
	{
		return threadIdx.x / 32 * ROWS;
	}
	/* head: the codes of the block's head; from: the tile's first row there.  Rows from `valid` on
	 * are not read, and become zeros. */
	__device__ __forceinline__ void fetch(const char *head, uint32_t from, uint32_t valid)
	{
		const share mine = share_of();
		const uint32_t row = first_row() + (uint32_t)mine.odd, its = first_row() + threadIdx.x % ROWS;
		const char *at = head + (size_t)(from + row) * ATTN_DIM + mine.piece * 16;

#pragma unroll
		for (int j = 0; j < EACH; j++)
			codes[j] = row + 2 * (uint32_t)j < valid ?
					   __ldcg((const uint4 *)(at + 2 * j * ATTN_DIM)) :
					   make_uint4(0, 0, 0, 0);
		power = its < valid ? __ldcg((const unsigned char *)head + CODES + from + its) : 127;
	}
	/* place(row, chunk): where 8 numbers go */
	template <typename F> __device__ __forceinline__ void land(F place) const
	{
		const share mine = share_of();
		const factors f = factors_of(power);

#pragma unroll
		for (int j = 0; j < EACH; j++) {
			const int row = 2 * j + mine.odd;

			sixteen(codes[j], f, row, [&](int half, const uint4 &x) {
				*place((int)first_row() + row, 2 * mine.piece + half) = x;
			});
		}
		if (f.plain)
			return;
#pragma unroll 1
		for (int i = 0; i < 2 * EACH; i++) {
			const int row = i / 2 * 2 + mine.odd;

			mend(place((int)first_row() + row, 2 * mine.piece + i % 2), f, row);
		}
	}
};

#endif

} /* namespace kv */

#endif
