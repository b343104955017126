/* attn_tile.cuh - a tile of decode attention: how 64 keys or values come to shared memory, the scores of
 * the queries of a group, their probabilities, and what they make of the values.
 */
#ifndef HEARTH_KERNELS_CUDA_ATTN_TILE_CUH
#define HEARTH_KERNELS_CUDA_ATTN_TILE_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/attn_work.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/kv.cuh"

namespace attn {

constexpr int WARPS = 4, THREADS = WARPS * 32;
constexpr int CHUNKS = ATTN_DIM / 8;	/* 16-byte chunks of a key */
constexpr float SCALE_LOG2 = 0.0625f * 1.4426950408889634f;	/* 256^-0.5, base-2 exponent */

struct shared {
	uint4 tile[2][TILE][CHUNKS];	/* keys, values; chunk c of row r lies at c ^ (r & 7): no bank conflicts */
	__nv_bfloat16 q[ATTN_MAX_GROUP][ATTN_DIM + 8];
	float s[ATTN_MAX_GROUP][TILE];
	__nv_bfloat16 p[ATTN_MAX_GROUP][TILE + 8];
	float rescale[ATTN_MAX_GROUP];
};

/* A tile's keys or values between memory and their place: fetch() begins to load, land() ends it
 * before the barrier behind which they are read.  Rows from `valid` on become zeros.  What is fetched
 * lands in the same order; skip() is a fetch of nothing. */
template <enum kv_format F> struct tile_in {
	__device__ __forceinline__ void fetch(uint4 (*dst)[CHUNKS], const char *head, uint32_t valid)
	{
		/* a warp has every fourth row, a lane a chunk: two addresses, the rest are constants */
		const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
		const uint4 *src = (const uint4 *)head + threadIdx.x;
		uint4 *const even = &dst[warp][lane ^ warp], *const odd = &dst[warp + 4][lane ^ (warp + 4)];

#pragma unroll
		for (int j = 0; j < (int)TILE / WARPS; j++)
			copy16_or_zero((j % 2 ? odd : even) + j / 2 * 2 * WARPS * CHUNKS, src + j * WARPS * CHUNKS,
				       (uint32_t)(warp + j * WARPS) < valid);
		copy_commit();
	}
	__device__ __forceinline__ void skip(void) { copy_commit(); }
	__device__ __forceinline__ void land(uint4 (*)[CHUNKS]) { copy_wait<1>(); }
};

template <> struct tile_in<KV_FP8> {
	kv::tile_in<THREADS, TILE> in;

	__device__ __forceinline__ void fetch(uint4 (*)[CHUNKS], const char *head, uint32_t valid)
	{
		in.fetch(head, 0, valid);
	}
	__device__ __forceinline__ void skip(void) {}
	__device__ __forceinline__ void land(uint4 (*dst)[CHUNKS])
	{
		in.land([&](int r, int c) { return &dst[r][c ^ (r & 7)]; });
	}
};

__device__ __forceinline__ void ldmatrix4(uint32_t r[4], const void *p)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem_address(p)));
}

__device__ __forceinline__ void ldmatrix4_trans(uint32_t r[4], const void *p)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem_address(p)));
}

/* c [16][8] += a [16][16] b [16][8] */
__device__ __forceinline__ void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
		     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* This warp's 16 keys against the 8 queries; scores in base-2 units to s.s. */
__device__ __forceinline__ void scores(shared &s, const uint4 (*keys)[CHUNKS], uint32_t valid)
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int row = warp * 16 + lane % 16, g = lane / 4, t = lane % 4;
	float c[4] = { 0, 0, 0, 0 };

#pragma unroll
	for (int step = 0; step < ATTN_DIM / 16; step++) {
		uint32_t a[4];
		const uint32_t *b = (const uint32_t *)&s.q[g][step * 16];

		ldmatrix4(a, &keys[row][(step * 2 + lane / 16) ^ (row & 7)]);
		mma(c, a, b[t], b[t + 4]);
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t key = (uint32_t)(warp * 16 + g + (i / 2) * 8);

		s.s[2 * t + i % 2][key] = key < valid ? __fmul_rn(c[i], SCALE_LOG2) : -INFINITY;
	}
}

/* One warp has two queries of the group: new maximum, probabilities, sums. */
__device__ __forceinline__ void softmax(shared &s, float m[2], float l[2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		const int h = warp * 2 + i;
		const float x0 = s.s[h][lane], x1 = s.s[h][lane + 32];
		float top = fmaxf(x0, x1), p0, p1, sum, scale;

		for (int d = 16; d > 0; d >>= 1)
			top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
		top = fmaxf(top, m[i]);
		p0 = exp2f(x0 - top);
		p1 = exp2f(x1 - top);
		sum = __fadd_rn(p0, p1);
		for (int d = 16; d > 0; d >>= 1)
			sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, d));
		scale = exp2f(m[i] - top);
		l[i] = __fmaf_rn(l[i], scale, sum);
		m[i] = top;
		s.p[h][lane] = __float2bfloat16_rn(p0);
		s.p[h][lane + 32] = __float2bfloat16_rn(p1);
		if (lane == 0)
			s.rescale[h] = scale;
	}
}

/* This warp's 64 dims: o = o * rescale + V^T P^T. */
__device__ __forceinline__ void accumulate(const shared &s, const uint4 (*values)[CHUNKS], float o[4][4])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const float r0 = s.rescale[2 * t], r1 = s.rescale[2 * t + 1];

#pragma unroll
	for (int i = 0; i < 4; i++) {
		o[i][0] *= r0;
		o[i][1] *= r1;
		o[i][2] *= r0;
		o[i][3] *= r1;
	}
#pragma unroll
	for (int step = 0; step < TILE / 16; step++) {
		const uint32_t *b = (const uint32_t *)&s.p[g][step * 16];
		/* matrices of the trans load: keys 0-7 | 0-7 | 8-15 | 8-15, dims 0-7 | 8-15 | 0-7 |
		 * 8-15 */
		const int key = step * 16 + lane % 8 + lane / 16 * 8;

#pragma unroll
		for (int i = 0; i < 4; i++) {
			uint32_t a[4];
			int chunk = warp * 8 + i * 2 + lane / 8 % 2;

			ldmatrix4_trans(a, &values[key][chunk ^ (key & 7)]);
			mma(o[i], a, b[t], b[t + 4]);
		}
	}
}

} /* namespace attn */

#endif
