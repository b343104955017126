/* gdn_scan_state.cuh - the state warps of gdn_scan.cu. */
#ifndef HEARTH_KERNELS_CUDA_GDN_SCAN_STATE_CUH
#define HEARTH_KERNELS_CUDA_GDN_SCAN_STATE_CUH

#include "kernels/cuda/gdn_scan_int.cuh"

namespace gdn {
namespace {

struct range {
	float factor[2], back[2];	/* of the rows g and g + 8 */
};

__device__ __forceinline__ bool in_range(float largest)
{
	return largest == 0 || (largest >= SMALLEST && largest <= LARGEST);
}

__device__ __forceinline__ float quad_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
	return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ __half2 max_abs(__half2 x, uint32_t y)
{
	return __hmax2(x, __habs2(*(__half2 *)&y));
}

/* Of the fragments and the chunk's values, for the whole warp. */
__device__ __forceinline__ bool fits(const uint32_t S[8][4], float v0, float v1)
{
	__half2 x = __float2half2_rn(0), y = x;
	float most0, most1;

#pragma unroll
	for (int k = 0; k < 8; k++) {
		x = max_abs(max_abs(x, S[k][0]), S[k][2]);
		y = max_abs(max_abs(y, S[k][1]), S[k][3]);
	}
	x = __halves2half2(__hmax(__low2half(x), __high2half(x)),
			   __hmax(__low2half(y), __high2half(y)));
	most0 = fmaxf(quad_max(__low2float(x)), v0);
	most1 = fmaxf(quad_max(__high2float(x)), v1);
	return !__any_sync(0xffffffffu, !in_range(most0) || !in_range(most1));
}

/* The power of two that brings the larger of both to [1, 2), where it is out of range. */
__device__ void bring_into_range(float S[16][4], range &f, float v0, float v1)
{
	float most[2] = { 0, 0 };

#pragma unroll
	for (int j = 0; j < 16; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			most[e / 2] = fmaxf(most[e / 2], fabsf(S[j][e]));
	for (int i = 0; i < 2; i++) {
		const float m = fmaxf(quad_max(most[i]), i ? v1 : v0);
		const uint32_t exponent = min(max(__float_as_uint(m) >> 23, 1u), 253u);

		f.factor[i] = in_range(m) ? 1.0f : __uint_as_float((254 - exponent) << 23);
		f.back[i] = in_range(m) ? 1.0f : __uint_as_float(exponent << 23);
	}
#pragma unroll
	for (int j = 0; j < 16; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			S[j][e] = __fmul_rn(S[j][e], f.factor[e / 2]);
}

/* X as fragments, from acc = S K^T. */
__device__ __forceinline__ void residual(uint32_t x[4][4], float acc[8][4], const unsigned char *V,
					 const float *decay, const float factor[2])
{
	const int q = threadIdx.x % 4;
	uint32_t v[8][2];

	load_turned<8>(v, V, 0);
#pragma unroll
	for (int j = 0; j < 8; j++) {
		const float2 d = *(const float2 *)(decay + 8 * j + 2 * q);

#pragma unroll
		for (int h = 0; h < 2; h++) {
			acc[j][2 * h] = __fmaf_rn(-d.x, acc[j][2 * h],
						  __fmul_rn(low_bf16(v[j][h]), factor[h]));
			acc[j][2 * h + 1] = __fmaf_rn(-d.y, acc[j][2 * h + 1],
						      __fmul_rn(high_bf16(v[j][h]), factor[h]));
		}
	}
#pragma unroll
	for (int k = 0; k < 4; k++)
		operand(x[k], acc[2 * k], acc[2 * k + 1]);
}

/* S <- last S + (V' rest) K */
__device__ __forceinline__ void update(float S[16][4], float V[8][4], const unsigned char *K,
				       const float *rest, float last)
{
	const int lane = threadIdx.x % 32, m = lane / 8, q = lane % 4, r = (m & 1) * 8 + lane % 8;
	const uint32_t at = shared_address(K);
	uint32_t x[4][4];

#pragma unroll
	for (int j = 0; j < 8; j++) {
		const float2 d = *(const float2 *)(rest + 8 * j + 2 * q);

#pragma unroll
		for (int e = 0; e < 4; e++)
			V[j][e] = __fmul_rn(V[j][e], e % 2 ? d.y : d.x);
	}
#pragma unroll
	for (int k = 0; k < 4; k++)
		operand(x[k], V[2 * k], V[2 * k + 1]);
#pragma unroll
	for (int j = 0; j < 16; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			S[j][e] = __fmul_rn(S[j][e], last);
#pragma unroll
	for (int part = 0; part < 2; part++)	/* eight tiles of keys in flight */
#pragma unroll
		for (int k = 0; k < 4; k++)
#pragma unroll
			for (int j = 4 * part; j < 4 * part + 4; j++) {
				uint32_t b[4];

				load4_trans(b, at + wide_at(16 * k + r, 2 * j + (m >> 1)));
				mma_f16(S[2 * j], x[k], b[0], b[1]);
				mma_f16(S[2 * j + 1], x[k], b[2], b[3]);
			}
}

__device__ void hand_over_state(shared &s, int pair, uint32_t turn, const uint32_t S[8][4],
				const range &f)
{
	const int lane = threadIdx.x % 32;

	wait_empty(s.s[pair], turn);
#pragma unroll
	for (int k = 0; k < 8; k++)
		s.S[pair][k][lane] = make_uint4(S[k][0], S[k][1], S[k][2], S[k][3]);
	if (lane % 4 == 0) {
		s.scale[pair][lane / 4] = __fmul_rn(Q_SCALE, f.back[0]);
		s.scale[pair][8 + lane / 4] = __fmul_rn(Q_SCALE, f.back[1]);
	}
	arrive(&s.s[pair].full);
}

__device__ void state_chunk(shared &s, int slice, int pair, uint32_t i, float S[16][4])
{
	const int at = i % 2, lane = threadIdx.x % 32, row = slice * SLICE + pair * 16 + lane / 4;
	const solve_record &solve = s.solve[at];
	range f = { { 1, 1 }, { 1, 1 } };
	uint32_t x[4][4];
	float acc[8][4];
	bool moved = false;

	wait_full(s.k[at], i / 2);
	{
		const float v0 = solve.v_max[row], v1 = solve.v_max[row + 8];
		uint32_t frag[8][4];

#pragma unroll 1
		for (;;) {
#pragma unroll
			for (int k = 0; k < 8; k++)
				operand(frag[k], S[2 * k], S[2 * k + 1]);
			times_wide<8>(acc, frag, s.K[at], 0);
			if (moved || fits(frag, v0, v1))
				break;
			bring_into_range(S, f, v0, v1);
			moved = true;
		}
		hand_over_state(s, pair, i, frag, f);
	}
	residual(x, acc, s.V[at] + pair * V_TILE, solve.decay, f.factor);
#pragma unroll
	for (int j = 0; j < 8; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = 0;
	times_triangle<8>(acc, x, solve.T, 0);
#pragma unroll
	for (int k = 0; k < 4; k++)
		operand(x[k], acc[2 * k], acc[2 * k + 1]);
	wait_empty(s.w[pair], i);
#pragma unroll
	for (int k = 0; k < 4; k++)
		s.W[pair][k][lane] = make_uint4(x[k][0], x[k][1], x[k][2], x[k][3]);
	arrive(&s.w[pair].full);
	update(S, acc, s.K[at], solve.rest, solve.decay[C - 1]);
	arrive_all(&s.k[at].empty);
	if (moved)
#pragma unroll
		for (int j = 0; j < 16; j++)
#pragma unroll
			for (int e = 0; e < 4; e++)
				S[j][e] = __fmul_rn(S[j][e], f.back[e / 2]);
}

__device__ void state_warp(shared &s, const work &o, int pair)
{
	const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
	float *state =
		o.g.a.state +
		(((size_t)o.run.slot * o.g.a.v_heads + o.head) * D + o.slice * SLICE + pair * 16 +
		 g) * D +
		2 * q;
	float S[16][4];

#pragma unroll
	for (int j = 0; j < 16; j++) {
		const float2 x = *(const float2 *)(state + 8 * j),
			     y = *(const float2 *)(state + 8 * D + 8 * j);

		S[j][0] = x.x;
		S[j][1] = x.y;
		S[j][2] = y.x;
		S[j][3] = y.y;
	}
#pragma unroll 1
	for (uint32_t i = 0; i < o.n_chunks; i++)
		state_chunk(s, o.slice, pair, i, S);
#pragma unroll
	for (int j = 0; j < 16; j++) {
		*(float2 *)(state + 8 * j) = make_float2(S[j][0], S[j][1]);
		*(float2 *)(state + 8 * D + 8 * j) = make_float2(S[j][2], S[j][3]);
	}
}

} /* namespace */
} /* namespace gdn */

#endif
