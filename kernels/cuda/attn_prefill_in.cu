/* attn_prefill_in.cu - see attn_prefill.h.  A warp has one head of one row, a lane 8 neighbouring
 * dims of it, so everything moves in 16-byte pieces and nothing meets in shared memory.  A head's
 * sum of squares: a lane's 8 in order, then lanes in halves 16, 8, 4, 2, 1. */
#include "kernels/cuda/attn_prefill.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

typedef __nv_bfloat16 bf16;

constexpr int WARPS = 4, EACH = ATTN_DIM / 32;
static_assert(EACH * sizeof(bf16) == sizeof(uint4), "a lane's share is one load");

struct piece {
	bf16 x[EACH];
};

__device__ piece load(const void *p)
{
	const uint4 u = *(const uint4 *)p;
	piece x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

__device__ void store(void *p, const piece &x)
{
	uint4 u;

	memcpy(&u, &x, sizeof(u));
	*(uint4 *)p = u;
}

/* Which axis turns frequency j: T H W T H W .. while the sections last (qwen3_vl's
 * interleaving). */
__device__ int axis_of(uint32_t j, uint32_t section_h, uint32_t section_w)
{
	if (j % 3 == 1 && j < 3 * section_h)
		return 1;
	if (j % 3 == 2 && j < 3 * section_w)
		return 2;
	return 0;
}

/* What a lane multiplies with in every head of a row. */
struct rotation {
	float cos[EACH], sin[EACH];	/* sin with the pair's sign; only where rotated */
	int from;			/* the lane with the pair's other half */
	bool turns;
};

__device__ rotation rotation_of(const attn_prefill_in_args &a, const qk_row &row)
{
	const uint32_t lane = threadIdx.x % 32, half = a.rotary / 2, lanes = half / EACH;
	rotation t;

	t.turns = lane < 2 * lanes;
	t.from = (int)(lane < lanes ? lane + lanes : t.turns ? lane - lanes : lane);
	if (!t.turns)
		return t;
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		const uint32_t j = lane % lanes * EACH + i;
		const size_t at =
			(size_t)row.position[axis_of(j, a.section_h, a.section_w)] * half + j;
		const float s = __bfloat162float(((const bf16 *)a.sin)[at]);

		t.cos[i] = __bfloat162float(((const bf16 *)a.cos)[at]);
		t.sin[i] = lane < lanes ? -s : s;
	}
	return t;
}

/* This lane's 8 dims of a head: norm, rotation, one rounding. */
__device__ piece norm_rotate(const attn_prefill_in_args &a, const rotation &t, const piece &in,
			     const piece &w)
{
	float v[EACH], sum = 0, r;
	piece out;

#pragma unroll
	for (int i = 0; i < EACH; i++) {
		v[i] = __bfloat162float(in.x[i]);
		sum = __fmaf_rn(v[i], v[i], sum);
	}
#pragma unroll
	for (int m = 16; m > 0; m >>= 1)
		sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, m));
	r = __frsqrt_rn(__fadd_rn(__fdiv_rn(sum, ATTN_DIM), a.eps));
#pragma unroll
	for (int i = 0; i < EACH; i++)
		v[i] = __fmul_rn(__fmul_rn(v[i], r), __fadd_rn(1.0f, __bfloat162float(w.x[i])));
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		const float other = __shfl_sync(0xffffffffu, v[i], t.from);

		out.x[i] = __float2bfloat16_rn(
			t.turns ? __fmaf_rn(other, t.sin[i], __fmul_rn(v[i], t.cos[i])) : v[i]);
	}
	return out;
}

/* The head of a row's block in the cache. */
template <enum kv_format F>
__device__ char *head_at(const attn_prefill_in_args &a, void *cache, const qk_row &row,
			 uint32_t head)
{
	return (char *)cache + ((size_t)row.block * a.kv_heads + head) * attn_head_bytes(F);
}

/* A row of it: this lane's 8 dims. */
template <enum kv_format F> __device__ void append(char *head, uint32_t offset, const piece &x)
{
	const uint32_t lane = threadIdx.x % 32;

	if constexpr (F == KV_FP8) {
		uint32_t most = 0, codes[EACH / 2];

#pragma unroll
		for (int i = 0; i < EACH; i++)
			most = max(most, kv::size_of(x.x[i]));
		most = __reduce_max_sync(0xffffffffu, most);
#pragma unroll
		for (int i = 0; i < EACH / 2; i++)
			codes[i] = kv::codes_of(x.x[2 * i], x.x[2 * i + 1], most);
		((uint2 *)(head + offset * ATTN_DIM))[lane] = make_uint2(
			codes[0] | codes[1] << 16, codes[2] | codes[3] << 16);
		if (lane == 0)
			head[kv::CODES + offset] = (char)kv::power_for(most);
	} else {
		store(head + (offset * ATTN_DIM + lane * EACH) * sizeof(bf16), x);
	}
}

/* A warp's heads: every WARPS-th of the queries, then of the keys; the next is loaded before this
 * one is worked on. */
template <enum kv_format F> __device__ void row_in(const attn_prefill_in_args &a, uint32_t row)
{
	const uint32_t warp = threadIdx.x / 32, mine = threadIdx.x % 32 * EACH;
	const qk_row at = a.rows[row];
	const rotation t = rotation_of(a, at);
	const size_t first = (size_t)row * a.ld + mine;
	bf16 *q = (bf16 *)a.qg + first;
	const bf16 *k = (const bf16 *)a.k + first, *v = (const bf16 *)a.v + first;
	piece w = load((const bf16 *)a.q_norm + mine),
	      next = load(q + (warp < a.q_heads ? warp : 0) * 2 * ATTN_DIM);

	for (uint32_t h = warp; h < a.q_heads; h += WARPS) {
		const piece x = next;

		if (h + WARPS < a.q_heads)
			next = load(q + (h + WARPS) * 2 * ATTN_DIM);
		store(q + h * 2 * ATTN_DIM, norm_rotate(a, t, x, w));
	}
	w = load((const bf16 *)a.k_norm + mine);
	for (uint32_t h = warp; h < a.kv_heads; h += WARPS) {
		const piece x = load(k + h * ATTN_DIM), y = load(v + h * ATTN_DIM);

		append<F>(head_at<F>(a, a.k_cache, at, h), at.offset, norm_rotate(a, t, x, w));
		append<F>(head_at<F>(a, a.v_cache, at, h), at.offset, y);
	}
}

/* The places of a tile's block behind its last row. */
template <enum kv_format F> __device__ void zero_tail(const attn_prefill_in_args &a, const attn_tile &tile)
{
	const qk_row at = a.rows[tile.row];

	for (uint32_t i = tile.n * a.kv_heads + threadIdx.x / 32; i < ATTN_PAGE * a.kv_heads;
	     i += WARPS) {
		const uint32_t head = i % a.kv_heads, offset = i / a.kv_heads;
		const piece zero = {};

		append<F>(head_at<F>(a, a.k_cache, at, head), offset, zero);
		append<F>(head_at<F>(a, a.v_cache, at, head), offset, zero);
	}
}

/* A block per row, then a block per tile. */
template <enum kv_format F>
__global__ void __launch_bounds__(WARPS * 32) attn_prefill_in_kernel(attn_prefill_in_args a)
{
	chain_wait();
	chain_release();
	if (blockIdx.x < a.n_rows)
		row_in<F>(a, blockIdx.x);
	else if (a.tiles[blockIdx.x - a.n_rows].n < ATTN_PAGE)
		zero_tail<F>(a, a.tiles[blockIdx.x - a.n_rows]);
}

} /* namespace */

int attn_prefill_in(const struct attn_prefill_in_args *a, void *stream)
{
	if (!a->n_rows || !a->n_tiles || a->n_rows > INT32_MAX - a->n_tiles || !a->q_heads ||
	    !a->kv_heads || a->ld % 8 || !a->rotary || a->rotary % (2 * EACH) ||
	    a->rotary > ATTN_DIM)
		return -EINVAL;
	return chain_launch(a->kv == KV_FP8 ? attn_prefill_in_kernel<KV_FP8> :
					      attn_prefill_in_kernel<KV_BF16>,
			    dim3(a->n_rows + a->n_tiles), WARPS * 32, 0, 1,
			    (cudaStream_t)stream, *a);
}
