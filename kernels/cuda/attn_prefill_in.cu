/* attn_prefill_in.cu - see attn_prefill.h.  A warp has one head of one row, a lane 8 neighbouring dims of it,
 * so everything moves in 16-byte pieces and nothing meets in shared memory.  A head's sum of squares:
 * a lane's 8 in order, then lanes in halves 16, 8, 4, 2, 1. */
#include "kernels/cuda/attn_prefill.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

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

/* Which axis turns frequency j: T H W T H W .. while the sections last (qwen3_vl's interleaving). */
__device__ int axis_of(uint32_t j, uint32_t section_h, uint32_t section_w)
{
	if (j % 3 == 1 && j < 3 * section_h)
		return 1;
	if (j % 3 == 2 && j < 3 * section_w)
		return 2;
	return 0;
}

/* This lane's 8 dims of a head: norm, rotation, one rounding. */
__device__ piece norm_rotate(const attn_prefill_in_args &a, const qk_row &row, const bf16 *head, const void *norm)
{
	const uint32_t lane = threadIdx.x % 32, half = a.rotary / 2, lanes = half / EACH;
	const piece in = load(head + lane * EACH), w = load((const bf16 *)norm + lane * EACH);
	float v[EACH], sum = 0, r;
	piece out;

#pragma unroll
	for (int i = 0; i < EACH; i++) {
		v[i] = __bfloat162float(in.x[i]);
		sum = __fmaf_rn(v[i], v[i], sum);
	}
	for (int m = 16; m > 0; m >>= 1)
		sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, m));
	r = __frsqrt_rn(__fadd_rn(__fdiv_rn(sum, ATTN_DIM), a.eps));
#pragma unroll
	for (int i = 0; i < EACH; i++)
		v[i] = __fmul_rn(__fmul_rn(v[i], r), __fadd_rn(1.0f, __bfloat162float(w.x[i])));
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		/* the pair's other half is `lanes` lanes up or down */
		const float other = __shfl_sync(0xffffffffu, v[i], (int)(lane < lanes ? lane + lanes : lane - lanes));
		float x = v[i];

		if (lane < 2 * lanes) {
			const uint32_t j = lane % lanes * EACH + i;
			const size_t at = (size_t)row.position[axis_of(j, a.section_h, a.section_w)] * half + j;
			const float c = __bfloat162float(((const bf16 *)a.cos)[at]);
			const float s = __bfloat162float(((const bf16 *)a.sin)[at]);

			x = __fmaf_rn(lane < lanes ? -other : other, s, __fmul_rn(x, c));
		}
		out.x[i] = __float2bfloat16_rn(x);
	}
	return out;
}

__device__ size_t cache_at(const attn_prefill_in_args &a, const qk_row &row, uint32_t head, uint32_t offset)
{
	return (((size_t)row.block * a.kv_heads + head) * ATTN_PAGE + offset) * ATTN_DIM + threadIdx.x % 32 * EACH;
}

/* Query heads first, then key heads. */
__device__ void row_in(const attn_prefill_in_args &a, uint32_t row)
{
	const qk_row at = a.rows[row];
	const size_t first = (size_t)row * a.ld, mine = threadIdx.x % 32 * EACH;

	for (uint32_t h = threadIdx.x / 32; h < a.q_heads + a.kv_heads; h += WARPS) {
		if (h < a.q_heads) {
			bf16 *q = (bf16 *)a.qg + first + h * 2 * ATTN_DIM;

			store(q + mine, norm_rotate(a, at, q, a.q_norm));
		} else {
			const size_t from = first + (h - a.q_heads) * ATTN_DIM, to = cache_at(a, at, h - a.q_heads, at.offset);

			store((bf16 *)a.v_cache + to, load((const bf16 *)a.v + from + mine));
			store((bf16 *)a.k_cache + to, norm_rotate(a, at, (const bf16 *)a.k + from, a.k_norm));
		}
	}
}

/* The places of a tile's block behind its last row. */
__device__ void zero_tail(const attn_prefill_in_args &a, const attn_tile &tile)
{
	const qk_row at = a.rows[tile.row];

	for (uint32_t i = tile.n * a.kv_heads + threadIdx.x / 32; i < ATTN_PAGE * a.kv_heads; i += WARPS) {
		const size_t to = cache_at(a, at, i % a.kv_heads, i / a.kv_heads);

		*(uint4 *)((bf16 *)a.k_cache + to) = make_uint4(0, 0, 0, 0);
		*(uint4 *)((bf16 *)a.v_cache + to) = make_uint4(0, 0, 0, 0);
	}
}

/* A block per row, then a block per tile. */
__global__ void __launch_bounds__(WARPS * 32) attn_prefill_in_kernel(attn_prefill_in_args a)
{
	chain_wait();
	chain_release();
	if (blockIdx.x < a.n_rows)
		row_in(a, blockIdx.x);
	else if (a.tiles[blockIdx.x - a.n_rows].n < ATTN_PAGE)
		zero_tail(a, a.tiles[blockIdx.x - a.n_rows]);
}

} /* namespace */

int attn_prefill_in(const struct attn_prefill_in_args *a, void *stream)
{
	if (!a->n_rows || !a->n_tiles || a->n_rows > INT32_MAX - a->n_tiles || !a->q_heads || !a->kv_heads || a->ld % 8 ||
	    !a->rotary || a->rotary % (2 * EACH) || a->rotary > ATTN_DIM)
		return -EINVAL;
	return chain_launch(attn_prefill_in_kernel, dim3(a->n_rows + a->n_tiles), WARPS * 32, 0, 1, (cudaStream_t)stream, *a);
}
