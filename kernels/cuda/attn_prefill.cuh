/* attn_prefill.cuh - what both kernels of prefill attention share: which rows a block has, the
 * softmax of a tile of scores, and the end.
 *
 * The rows of a KV head in one chunk of 64 positions are numbered f = place * group + head of the
 * group; a block has 128 of them.  A warp has 16, and a thread of it the rows lane / 4 and lane / 4
 * + 8, in the layout of an mma accumulator: element 4 i + j is column 8 i + 2 (lane % 4) + j % 2 of
 * row j / 2.
 */
#ifndef HEARTH_KERNELS_CUDA_ATTN_PREFILL_CUH
#define HEARTH_KERNELS_CUDA_ATTN_PREFILL_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/attn_prefill.h"

namespace attn_prefill_int {

constexpr int BLOCK_ROWS = 128;
constexpr int CHUNKS = ATTN_DIM / 8;	/* 16-byte chunks of a row */
constexpr float LOG2E = 1.4426950408889634f;
constexpr float SCALE_LOG2 = 0.0625f * LOG2E;	/* 256^-0.5, base-2 exponent */

/* o of all rows; then maximum and sum of each */
constexpr int PARTIAL_FLOATS = BLOCK_ROWS * (ATTN_DIM + 2);

struct work {
	attn_tile tile;
	uint32_t kv_head, group, first;	/* f of the block's first row */
	uint32_t key0, end;		/* its keys: a segment, or what the chunk sees of it */
	bool last;			/* segment; the only one that the mask touches */
	bool whole;			/* the tile has no other segment */
};

__host__ __device__ inline uint32_t blocks_of_tile(uint32_t group)
{
	return (group * ATTN_PAGE + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

inline uint32_t blocks_of(const attn_prefill_args *a)
{
	return a->n_tiles * a->kv_heads * blocks_of_tile(a->q_heads / a->kv_heads);
}

/* Where block `part` of a tile's KV head leaves the result of the segment in `slot`. */
__device__ inline float *partial_of(const attn_prefill_args &a, uint32_t slot, uint32_t kv_head,
				    uint32_t part)
{
	const uint32_t parts = blocks_of_tile(a.q_heads / a.kv_heads);

	return a.scratch + (((size_t)slot * a.kv_heads + kv_head) * parts + part) * PARTIAL_FLOATS;
}

__device__ inline work work_of(const attn_prefill_args &a, uint32_t block)
{
	const uint32_t group = a.q_heads / a.kv_heads, parts = blocks_of_tile(group);
	work w;

	w.tile = a.tiles[block / (parts * a.kv_heads)];
	w.kv_head = block / parts % a.kv_heads;
	w.group = group;
	w.first = block % parts * BLOCK_ROWS;
	w.last = w.tile.segment + 1 == attn_prefill_segments(w.tile.pos);
	w.whole = w.last && !w.tile.segment;
	w.key0 = w.tile.segment * ATTN_PREFILL_SEGMENT;
	w.end = w.last ? w.tile.pos + ATTN_PAGE : w.key0 + ATTN_PREFILL_SEGMENT;
	return w;
}

/* Row f's place in the chunk; 64 and more where the group leaves rows of the block over. */
__device__ inline uint32_t place_of(const work &w, uint32_t f)
{
	return f / w.group;
}

__device__ inline bool row_exists(const work &w, uint32_t f)
{
	return place_of(w, f) < w.tile.n;
}

__device__ inline size_t query_at(const attn_prefill_args &a, const work &w, uint32_t f)
{
	return (size_t)(w.tile.row + place_of(w, f)) * a.ld +
	       (w.kv_head * w.group + f % w.group) * 2 * ATTN_DIM;
}

__device__ inline size_t output_at(const attn_prefill_args &a, const work &w, uint32_t f)
{
	return ((size_t)(w.tile.row + place_of(w, f)) * a.q_heads + w.kv_head * w.group +
		f % w.group) *
	       ATTN_DIM;
}

/* Asynchronous copy of 16 bytes to shared memory. */
__device__ inline void copy16(void *dst, const void *src)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
			     (uint32_t)__cvta_generic_to_shared(dst)),
		     "l"(src)
		     : "memory");
}

__device__ inline void copy_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int PENDING> __device__ inline void copy_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* Starts to copy what lies `offset` elements behind the beginning of their head, for the 16 rows of
 * this warp; f: the first of them.  `place(r, c)` is where chunk c of row r of the 16 goes; zeros
 * where there is no row. */
template <typename F>
__device__ inline void copy_rows(const attn_prefill_args &a, const work &w, uint32_t f,
				 uint32_t offset, F place)
{
	const int lane = threadIdx.x % 32;

#pragma unroll 4
	for (int r = 0; r < 16; r++) {
		if (row_exists(w, f + r))
			copy16(place(r, lane), (const __nv_bfloat16 *)a.qg + query_at(a, w, f + r) +
						       offset + lane * 8);
		else
			*place(r, lane) = make_uint4(0, 0, 0, 0);
	}
	copy_commit();
}

__device__ inline float exp2_fast(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

__device__ inline uint32_t pack_bf16(float lo, float hi)
{
	const __nv_bfloat162 p = __floats2bfloat162_rn(lo, hi);

	return *(const uint32_t *)&p;
}

/* Of a thread's two rows: the maximum so far in base-2 units, and this thread's part of the sum. */
struct running {
	float m[2], l[2];
};

/* Scores become probabilities; scale[] is what the output so far is multiplied by.  KEYS: of the
 * tile. */
template <int KEYS> __device__ inline void softmax(float (&s)[KEYS / 2], running &r, float scale[2])
{
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float top = s[2 * h], sum = 0;

#pragma unroll
		for (int i = 0; i < KEYS / 8; i++)
			top = fmaxf(top, fmaxf(s[4 * i + 2 * h], s[4 * i + 2 * h + 1]));
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
		top = fmaxf(__fmul_rn(top, SCALE_LOG2), r.m[h]);
		scale[h] = exp2_fast(__fsub_rn(r.m[h], top));
		r.m[h] = top;
#pragma unroll
		for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
			for (int j = 4 * i + 2 * h; j < 4 * i + 2 * h + 2; j++) {
				s[j] = exp2_fast(__fmaf_rn(s[j], SCALE_LOG2, -top));
				sum = __fadd_rn(sum, s[j]);
			}
		r.l[h] = __fmaf_rn(r.l[h], scale[h], sum);
	}
}

/* Keys behind a row's own place; `key0` is the tile's first key in the chunk. */
template <int KEYS>
__device__ inline void mask(float (&s)[KEYS / 2], const uint32_t place[2], uint32_t key0)
{
	const uint32_t t = threadIdx.x % 4;

#pragma unroll
	for (int i = 0; i < KEYS / 2; i++)
		if (key0 + (uint32_t)(i / 4 * 8 + i % 2) + 2 * t > place[i % 4 / 2])
			s[i] = -INFINITY;
}

/* o *= scale.  Multiplying by one changes no bit, so that warps in which no maximum rose skip
 * it. */
__device__ inline void rescale(float (&o)[ATTN_DIM / 2], const float scale[2])
{
	if (!__any_sync(0xffffffffu, scale[0] != 1.0f || scale[1] != 1.0f))
		return;
#pragma unroll
	for (int i = 0; i < ATTN_DIM / 2; i++)
		o[i] = __fmul_rn(o[i], scale[i % 4 / 2]);
}

__device__ inline float sigmoid(float x)
{
	return __fdividef(1.0f, __fadd_rn(1.0f, exp2_fast(__fmul_rn(x, -LOG2E))));
}

__device__ inline float row_sum(float l)
{
	l = __fadd_rn(l, __shfl_xor_sync(0xffffffffu, l, 1));
	return __fadd_rn(l, __shfl_xor_sync(0xffffffffu, l, 2));
}

__device__ inline float gated(float o, float inverse, float gate)
{
	return __fmul_rn(__fmul_rn(o, inverse), sigmoid(gate));
}

/* The result of one segment of several.  row: of the block, this thread's first. */
__device__ inline void leave_partial(const attn_prefill_args &a, const work &w, uint32_t row,
				     const float (&o)[ATTN_DIM / 2], const running &run)
{
	float *p = partial_of(a, w.tile.slot, w.kv_head, w.first / BLOCK_ROWS);
	const uint32_t t = threadIdx.x % 4;

#pragma unroll
	for (int h = 0; h < 2; h++) {
		const float l = row_sum(run.l[h]);
		float2 *to = (float2 *)(p + (row + 8 * h) * ATTN_DIM) + t;

#pragma unroll
		for (int i = 0; i < ATTN_DIM / 8; i++)
			to[4 * i] = make_float2(o[4 * i + 2 * h], o[4 * i + 2 * h + 1]);
		if (t == 0)
			((float2 *)(p + BLOCK_ROWS * ATTN_DIM))[row + 8 * h] =
				make_float2(run.m[h], l);
	}
}

/* Sums over the four threads of a row, gate, one rounding.  f: the warp's first row; the gates lie
 * at place(r, c), as copy_rows() put them for this warp, and are overwritten with the result on its
 * way out. */
template <typename F>
__device__ inline void finish(const attn_prefill_args &a, const work &w, uint32_t f,
			      const float (&o)[ATTN_DIM / 2], const running &run, F place)
{
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

#pragma unroll
	for (int h = 0; h < 2; h++) {
		const float inverse = __fdiv_rn(1.0f, row_sum(run.l[h]));

#pragma unroll
		for (int i = 0; i < ATTN_DIM / 8; i++) {
			__nv_bfloat162 *x = (__nv_bfloat162 *)place(g + 8 * h, i) + t;
			const float2 gate = __bfloat1622float2(*x);

			*x = __floats2bfloat162_rn(gated(o[4 * i + 2 * h], inverse, gate.x),
						   gated(o[4 * i + 2 * h + 1], inverse, gate.y));
		}
	}
	__syncwarp();
	for (int r = 0; r < 16; r++) {
		const uint32_t row = f + r;

		if (row_exists(w, row))
			((uint4 *)a.out)[output_at(a, w, row) / 8 + lane] = *place(r, lane);
	}
}

} /* namespace attn_prefill_int */

/* attn_prefill_wgmma.cu */
int attn_prefill_wgmma(const struct attn_prefill_args *a, cudaStream_t stream);

#endif
