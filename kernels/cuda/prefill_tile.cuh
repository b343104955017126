/* prefill_tile.cuh - the sums of 16 rows of W with the rows of x that a block has: a warp's part of
 * a product for prompts (prefill_matmul.cu).
 *
 * A block of eight warps has 128 rows of W and PREFILL_COLS rows of x.  A warp has a tile of 16
 * rows of W and all columns: 128 sums a lane.  Where there are few rows, or few blocks, a block has
 * 64: 32 sums a lane, and two blocks on a multiprocessor; the same bits.  Its weights go from
 * memory to registers a unit ahead, as in the decode kernels; x passes through shared memory in
 * stages of 64 columns, swizzled by 128 bytes.  On Hopper four warps multiply together (wgmma, one
 * stage is multiplied while the next is queued); elsewhere each by itself (mma.sync), in the same
 * layout of sums.
 *
 * FP8 in blocks: the sums are kept in units of the scale of the 128 columns being added, and are
 * brought to the next scale (struct fp8_scale) where the next 128 begin.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_TILE_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_TILE_CUH

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/prefill_matmul.h"
#include "kernels/cuda/wgmma_weights.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#else
#define HOPPER 0
#endif

namespace {

constexpr int WARPS = 8, THREADS = WARPS * WARP;
constexpr int STAGE_K = 64;
constexpr int MANY = PREFILL_COLS, FEW = 64;	/* rows of x a block can have */

/* Three of many are 96 KB, what sm_12x has. */
constexpr int n_stages(int cols, bool hopper)
{
	return cols == FEW ? 5 : hopper ? 5 : 3;
}

/* A block with C rows of x. */
template <int C> struct room {
	static constexpr int HALF = C < 128 ? C : 128, HALVES = C / HALF,
			     STAGE_BYTES = C * STAGE_K * 2;
	/* On Hopper a stage is still read by the other four warps when these have finished it, so
	 * its place is filled one stage later. */
	static constexpr int STAGES = n_stages(C, HOPPER), AHEAD = HOPPER ? STAGES - 2 : STAGES - 1;
	/* 16 bytes each, a thread and stage */
	static constexpr int COPIES = C / (THREADS / 8);
	static constexpr int BLOCKS = C == FEW ? 2 : 1;	/* that a multiprocessor has at once */
};

typedef __nv_bfloat16 bf16;

template <int C> struct sums {
	/* [half][4 j + i]: column tile j of 8, i as mma's accumulator */
	float h[room<C>::HALVES][room<C>::HALF / 2];
};

/* Which pairs or rows of x a block has. */
struct tile_of_x {
	/* Eight bytes a lane give the same y from here, too, and no spills (sm_90a, sm_120a); they
	 * came with the blocks that stay (prefill_hopper.cuh), and nobody has timed them here. */
	static constexpr bool WIDE_STORES = false;
	const uint32_t *pair;	/* NULL: rows first .. first + n - 1 */
	uint32_t first, n;
	uint32_t expert, index;	/* and whose weights */

	__device__ uint32_t row(uint32_t i) const { return pair ? pair[i] : first + i; }
};

/* This thread's part of stage `k_block`: chunk tid % 8 of the rows tid / 8, tid / 8 + 32, ... */
template <int C>
__device__ void stage_load(const matmul_params &p, const uint32_t (&row)[room<C>::COPIES],
			   uint32_t n, char *stage, uint32_t k_block)
{
	const uint32_t chunk = threadIdx.x % 8, k = k_block * STAGE_K + chunk * 8;

#pragma unroll
	for (int i = 0; i < room<C>::COPIES; i++) {
		const uint32_t r = threadIdx.x / 8 + i * (THREADS / 8);

		if (i * (THREADS / 8) >= (int)n)
			break;		/* nobody multiplies these */
		const bf16 *from = p.x + (size_t)row[i] * p.ldx + k;

		/* Bytes that are not there arrive as zeros; their address is not read. */
		asm volatile(
			"cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
				smem_address(stage) + r * (STAGE_K * 2) + ((chunk ^ (r & 7)) * 16)),
			"l"(from), "r"(r < n && k < p.k ? 16 : 0)
			: "memory");
	}
}

/* What 128 columns of 8 rows are multiplied with, sums being in units of it.  A scale more than
 * 2^60 times smaller than the one before counts as 2^60 times smaller: what it scales is far below
 * the sums' last bit.  A scale of 0 has weights of 0 and changes nothing. */
struct fp8_scale {
	float low = 0, high = 0;	/* rows g and g + 8; 0: nothing was added yet */

	/* Returns what sums are multiplied with to be in units of `next`. */
	static __device__ float change(float *unit, float next)
	{
		const float least = fabsf(*unit) * 0x1p-60f, was = *unit;

		if (next == 0)
			return 1;
		*unit = fabsf(next) < least ? copysignf(least, next) : next;
		return __fdividef(was, *unit);	/* within 2 ulp */
	}
	template <int N> static __device__ void apply(float (&h)[N], float by_low, float by_high)
	{
#pragma unroll
		for (int i = 0; i < N; i++)
			h[i] = __fmul_rn(h[i], i % 4 < 2 ? by_low : by_high);
	}
	template <int C> __device__ void change(sums<C> &s, float next_low, float next_high)
	{
		const float by_low = change(&low, next_low), by_high = change(&high, next_high);

#pragma unroll
		for (int h = 0; h < room<C>::HALVES; h++)
			apply(s.h[h], by_low, by_high);
	}
};

__device__ __forceinline__ void ldmatrix4(uint32_t (&r)[4], uint32_t at)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

#if HOPPER
/* Fragments of STEPS steps.  The tensor core reads them from registers while the program goes
 * on. */
template <int STEPS> struct frags {
	struct frag f[STEPS];

	template <enum matmul_format F> __device__ void take(const struct unit<F> &w, int first)
	{
#pragma unroll
		for (int i = 0; i < STEPS; i++)
			f[i] = w.frag_of(first + i);
	}
	/* Until here they stay where they are. */
	__device__ void keep()
	{
#pragma unroll
		for (int i = 0; i < STEPS; i++)
#pragma unroll
			for (int j = 0; j < 4; j++)
				asm volatile("" : "+r"(f[i].r[j])::"memory");
	}
};

template <int N, int C, int STEPS>
__device__ void multiply_cols(sums<C> &s, const frags<STEPS> &w, uint32_t x)
{
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		const uint32_t at = x + i * 32;

		if constexpr (N == 32)
			wgmma_64x32(s.h[0], w.f[i], wgmma_rows(at));
		else if constexpr (N == 64)
			wgmma_64x64(s.h[0], w.f[i], wgmma_rows(at));
		else
			wgmma_64x128(s.h[0], w.f[i], wgmma_rows(at));
		if constexpr (N == 256)
			wgmma_64x128(s.h[1], w.f[i], wgmma_rows(at + 128 * STAGE_K * 2));
	}
	wgmma_commit();
}

/* x: shared address of the first step's columns.  No more columns than there are; n is the same for
 * the whole block. */
template <int C, int STEPS>
__device__ void multiply_steps(sums<C> &s, const frags<STEPS> &w, uint32_t x, uint32_t n)
{
	if constexpr (C == MANY) {
		if (n > 64)
			return n > 128 ? multiply_cols<256>(s, w, x) : multiply_cols<128>(s, w, x);
	}
	if (n > 32)
		multiply_cols<64>(s, w, x);
	else
		multiply_cols<32>(s, w, x);
}

/* A tile's weights on their way through the tensor core: stage after stage of a unit, then of the
 * next.  Quantised ones are expanded into two sets of registers in turn. */
template <enum matmul_format F, int C> struct tile_weights {
	static constexpr int STEPS = C == FEW ? 1 : 2;	/* of a set */
	struct unit<F> w;
	frags<STEPS> set[2];

	/* Multiplies a stage and asks for what follows: the unit at `next`, if there is `more`.
	 * When it returns, the stage before is done with. */
	__device__ void stage(sums<C> &s, fp8_scale *scale, const uint4 *next, bool more,
			      int quarter, const char *x, uint32_t n)
	{
#pragma unroll
		for (int i = 0; i < 4 / STEPS; i++) {
			frags<STEPS> &now = set[i % 2], &other = set[1 - i % 2];

			now.take(w, quarter * 4 + i * STEPS);
			if constexpr (F == MATMUL_FP8)
				if (quarter % 2 == 0 && i == 0) {
					wgmma_wait<0>();
					other.keep();
					scale->change(s, w.low[quarter / 2], w.high[quarter / 2]);
				}
			multiply_steps(s, now, smem_address(x) + i * STEPS * 32, n);
			wgmma_wait<1>();
			other.keep();
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.template refill<true>(quarter * 4 + i, next, threadIdx.x % WARP, more);
		if (quarter == 3)
			w.template refill_scales<true>(next, threadIdx.x % WARP, more);
	}
};

template <int C> struct tile_weights<MATMUL_BF16, C> {
	struct unit<MATMUL_BF16> w;
	bool begun = false;

	/* `next` stands right behind where w came from. */
	__device__ void stage(sums<C> &s, fp8_scale *, const uint4 *next, bool more, int quarter,
			      const char *x, uint32_t n)
	{
		frags<4> now;

		now.take(w, quarter * 4);
		multiply_steps(s, now, smem_address(x), n);
		wgmma_wait<1>();	/* the stage before is done with; its weights may go */
		if (quarter) {
			refill(quarter - 1, next, more);
		} else if (begun) {	/* what the last unit's end left is this one's */
			refill(3, next - unit<MATMUL_BF16>::bytes / 16, true);
		}
		begun = true;
	}
	__device__ void refill(int quarter, const uint4 *from, bool more)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.template refill<true>(quarter * 4 + i, from, threadIdx.x % WARP, more);
	}
};
#else
template <enum matmul_format F, int C>
__device__ void multiply_stage(sums<C> &s, const struct unit<F> &w, int quarter, const char *stage,
			       uint32_t n)
{
	/* Matrices of a load: chunks 2i and 2i + 1 of rows 0-7, then of rows 8-15. */
	const uint32_t lane = threadIdx.x % WARP, row = lane % 8 + lane / 16 * 8,
		       odd = lane / 8 % 2;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		const struct frag f = w.frag_of(quarter * 4 + i);

#pragma unroll
		for (int h = 0; h < room<C>::HALVES; h++) {
#pragma unroll
			for (int j = 0; j < room<C>::HALF / 16; j++) {
				if (h * room<C>::HALF + j * 16 >= (int)n)
					break;
				const uint32_t r = h * room<C>::HALF + j * 16 + row;
				uint32_t b[4];

				ldmatrix4(b, smem_address(stage) + r * (STAGE_K * 2) +
						     (((2 * i + odd) ^ (r & 7)) * 16));
				mma(&s.h[h][8 * j], &f, b[0], b[1]);
				mma(&s.h[h][8 * j + 4], &f, b[2], b[3]);
			}
		}
	}
}

template <enum matmul_format F, int C> struct tile_weights {
	struct unit<F> w;

	/* Multiplies a stage and asks for what follows: the unit at `next`, if there is `more`. */
	__device__ void stage(sums<C> &s, fp8_scale *scale, const uint4 *next, bool more,
			      int quarter, const char *x, uint32_t n)
	{
		if constexpr (F == MATMUL_FP8)
			if (quarter % 2 == 0)
				scale->change(s, w.low[quarter / 2], w.high[quarter / 2]);
		multiply_stage<F>(s, w, quarter, x, n);
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.template refill<true>(quarter * 4 + i, next, threadIdx.x % WARP, more);
		if (quarter == 3)
			w.template refill_scales<true>(next, threadIdx.x % WARP, more);
	}
};
#endif

/* The sums of 16 rows of W with all columns of the tile, in units of *scale. */
template <enum matmul_format F, int C>
__device__ void multiply_tile(const matmul_params &p, const tile_of_x &x, uint32_t tile,
			      char *stages, sums<C> &s, fp8_scale *scale)
{
	constexpr int STAGES = room<C>::STAGES, AHEAD = room<C>::AHEAD,
		      STAGE_BYTES = room<C>::STAGE_BYTES;
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K, unit_uint4 = unit<F>::bytes / 16;
	const uint4 *from =
		(const uint4 *)(p.w + ((size_t)x.expert * p.n_tiles + min(tile, p.n_tiles - 1)) *
					      p.n_slices * unit<F>::bytes);
	uint32_t row[room<C>::COPIES];
	struct tile_weights<F, C> weights;

#pragma unroll
	for (int i = 0; i < room<C>::COPIES; i++) {
		const uint32_t r = threadIdx.x / 8 + i * (THREADS / 8),
			       pair = x.row(min(r, x.n - 1));

		row[i] = x.pair && !p.x_per_slot ? pair / p.n_slots : pair;
	}
#pragma unroll
	for (int h = 0; h < room<C>::HALVES; h++)
#pragma unroll
		for (int i = 0; i < room<C>::HALF / 2; i++)
			s.h[h][i] = 0;
	weights.w.template load<true>(from, threadIdx.x % WARP);
#pragma unroll
	for (int i = 0; i < AHEAD; i++) {
		if (i < (int)n_blocks)
			stage_load<C>(p, row, x.n, stages + i * STAGE_BYTES, i);
		asm volatile("cp.async.commit_group;" ::: "memory");
	}
	uint32_t at = 0, to = AHEAD;	/* stages: multiplied now; loaded now */
	for (uint32_t slice = 0; slice < p.n_slices; slice++) {
		const bool more = slice + 1 < p.n_slices;

#pragma unroll
		for (int quarter = 0; quarter < 4; quarter++) {
			const uint32_t block = slice * 4 + quarter;

			if (block >= n_blocks)
				break;
			asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 1) : "memory");
#if HOPPER
			asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
			/* The stage is there for all, and nobody reads the place that is filled
			 * next. */
			__syncthreads();
			weights.stage(s, scale, from + unit_uint4, more, quarter,
				      stages + at * STAGE_BYTES, x.n);
			if (block + AHEAD < n_blocks)
				stage_load<C>(p, row, x.n, stages + to * STAGE_BYTES,
					      block + AHEAD);
			asm volatile("cp.async.commit_group;" ::: "memory");
			at = at + 1 == STAGES ? 0 : at + 1;
			to = to + 1 == STAGES ? 0 : to + 1;
		}
		from += unit_uint4;
	}
#if HOPPER
	wgmma_wait<0>();
#endif
}

} /* namespace */

#endif
