/* gdn_scan_output.cuh - the output warps of gdn_scan.cu. */
#ifndef HEARTH_KERNELS_CUDA_GDN_SCAN_OUTPUT_CUH
#define HEARTH_KERNELS_CUDA_GDN_SCAN_OUTPUT_CUH

#include "kernels/cuda/gdn_scan_int.cuh"

namespace gdn {
namespace {

struct part {
	int pair, half;
};

__device__ __forceinline__ void outputs(shared &s, const work &o, part p, uint32_t i,
					float acc[TILES][4])
{
	const int lane = threadIdx.x % 32, q = lane % 4;
	float f0, f1;

	{
		uint32_t S[8][4];

		wait_full(s.s[p.pair], i);
#pragma unroll
		for (int k = 0; k < 8; k++)
			*(uint4 *)S[k] = s.S[p.pair][k][lane];
		f0 = s.scale[p.pair][lane / 4];
		f1 = s.scale[p.pair][8 + lane / 4];
		arrive(&s.s[p.pair].empty);
		/* the state warps are in chunk i, so the other place for K is free, or soon in
		 * another block */
		if (p.pair == 0 && p.half == 0 && lane == 0)
			copy_keys(s, o, i + 1);
		__syncwarp();
		wait_full(s.q, i);
		times_wide<TILES>(acc, S, s.Q, HALF * p.half);
		arrive_all(&s.q.empty);
	}
	uint32_t W[4][4];

	wait_full(s.p[i % 2], i / 2);
#pragma unroll
	for (int j = 0; j < TILES; j++) {
		const float2 d =
			*(const float2 *)(s.score[i % 2].decay + HALF * p.half + 8 * j + 2 * q);

#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = __fmul_rn(acc[j][e], e % 2 ? d.y : d.x);
	}
	wait_full(s.w[p.pair], i);
#pragma unroll
	for (int k = 0; k < 4; k++)
		*(uint4 *)W[k] = s.W[p.pair][k][lane];
	arrive(&s.w[p.pair].empty);
	times_triangle<TILES>(acc, W, s.score[i % 2].P, TILES / 2 * p.half);
	arrive_all(&s.p[i % 2].empty);
	if (p.pair == 1 && p.half == 0 && lane == 0)
		copy_queries(s, o, i + 1);
	__syncwarp();
#pragma unroll
	for (int j = 0; j < TILES; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = __fmul_rn(acc[j][e], e < 2 ? f0 : f1);
}

/* The sums of squares over this warp's 16 values: lane l gets those of the tokens 8 (l / 8) + 2 (l
 * % 4) and the next. */
__device__ __forceinline__ float2 squares(const float o[TILES][4])
{
	const int lane = threadIdx.x % 32;
	float x[TILES][2];

#pragma unroll
	for (int j = 0; j < TILES; j++)
#pragma unroll
		for (int e = 0; e < 2; e++)
			x[j][e] = __fmaf_rn(o[j][2 + e], o[j][2 + e], __fmul_rn(o[j][e], o[j][e]));
#pragma unroll
	/* keep the half of the tiles that the lane's bit names, give the other */
	for (int n = TILES / 2; n; n /= 2) {
		const bool upper = lane & 8 * n;

#pragma unroll
		for (int j = 0; j < n; j++)
#pragma unroll
			for (int e = 0; e < 2; e++) {
				const float give = upper ? x[j][e] : x[j + n][e],
					    keep = upper ? x[j + n][e] : x[j][e];

				x[j][e] =
					__fadd_rn(keep, __shfl_xor_sync(0xffffffffu, give, 8 * n));
			}
	}
	return make_float2(__fadd_rn(x[0][0], __shfl_xor_sync(0xffffffffu, x[0][0], 4)),
			   __fadd_rn(x[0][1], __shfl_xor_sync(0xffffffffu, x[0][1], 4)));
}

/* To all blocks of the head, as bytes that their barriers count.  A warp sends for chunk i when it
 * has received all of i - 1, so whatever arrives for i + 2 comes after everyone here has waited for
 * i: two places are enough. */
__device__ __forceinline__ void send(shared &s, const work &o, part p, uint32_t i, float2 sum)
{
	const int lane = threadIdx.x % 32, token = HALF * p.half + 8 * (lane / 8) + 2 * (lane % 4);
	const uint32_t at = shared_address(&s.squares[i % 2][o.slice * PAIRS + p.pair][token]);
	const uint32_t b = shared_address(&s.norm[i % 2]);

	if (p.pair == 0 && p.half == 0 && lane == 0)
		expect(&s.norm[i % 2], sizeof(s.squares[0]));
	if (lane & 4)
		return;
#pragma unroll
	for (uint32_t rank = 0; rank < SLICES; rank++)
		asm volatile(
			"st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 "
			"[%0], {%1, %2}, [%3];" ::
				"r"(in_block(at, rank)),
			"f"(sum.x), "f"(sum.y), "r"(in_block(b, rank))
			: "memory");
}

/* 1 / rms of the half's token l. */
__device__ __forceinline__ float receive(shared &s, const work &o, part p, uint32_t i)
{
	float sum = 0;

	wait(&s.norm[i % 2], i / 2 & 1);
#pragma unroll
	for (int w = 0; w < HEAD_PAIRS; w++)
		sum = __fadd_rn(sum, s.squares[i % 2][w][HALF * p.half + threadIdx.x % 32]);
	return rsqrtf(__fmaf_rn(sum, 1.0f / D, o.g.a.eps));
}

/* Two lanes have a row of the warp's 16 values. */
struct rows {
	size_t first;		/* row of the chunk in the call */
	int n, column;		/* rows of the chunk; place in the head's part of a row */
	int at[2];		/* this lane's rows */

	__device__ rows(const work &o, part p, uint32_t i)
		: first(o.run.row + (size_t)i * C), n((int)min((uint32_t)C, o.run.n - i * C)),
		  column(o.head * D + o.slice * SLICE + p.pair * 16 + threadIdx.x % 2 * 8)
	{
		at[0] = HALF * p.half + threadIdx.x % 32 / 2;
		at[1] = at[0] + 16;
	}
};

/* Straight into the turning tile; rows past the end are zeros. */
__device__ __forceinline__ void load_gate(unsigned char *turn, const work &o, const rows &rows)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		const bool valid = rows.at[i] < rows.n;
		const __nv_bfloat16 *from = (const __nv_bfloat16 *)o.g.a.z +
					    (rows.first + (valid ? rows.at[i] : 0)) * o.g.a.ld +
					    rows.column;

		asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
				     shared_address(turn) + narrow_at(rows.at[i], threadIdx.x % 2)),
			     "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
			     : "memory");
	}
}

/* bf16((w o r) silu(z)), through the turning tile. */
__device__ __forceinline__ void finish(unsigned char *turn, const work &o, part p, const rows &rows,
				       const float acc[TILES][4], float r, const float w[2])
{
	const int lane = threadIdx.x % 32, m = lane / 8, q = lane % 4;
	uint32_t x[TILES][2];

	asm volatile("cp.async.wait_all;" ::: "memory");
	__syncwarp();
	load_turned<TILES>(x, turn, HALF * p.half);
	__syncwarp();
#pragma unroll
	for (int j = 0; j < TILES; j++) {
		const float r0 = __shfl_sync(0xffffffffu, r, 8 * j + 2 * q),
			    r1 = __shfl_sync(0xffffffffu, r, 8 * j + 2 * q + 1);

#pragma unroll
		for (int h = 0; h < 2; h++) {
			const float y0 = __fmul_rn(w[h], __fmul_rn(acc[j][2 * h], r0));
			const float y1 = __fmul_rn(w[h], __fmul_rn(acc[j][2 * h + 1], r1));

			x[j][h] = pack_bf16(__fmul_rn(y0, fast_silu(low_bf16(x[j][h]))),
					    __fmul_rn(y1, fast_silu(high_bf16(x[j][h]))));
		}
	}
#pragma unroll
	for (int c = 0; c < TILES / 2; c++)
		store4_trans(
			shared_address(turn) +
				narrow_at(HALF * p.half + 16 * c + (m >> 1) * 8 + lane % 8, m & 1),
			x[2 * c][0], x[2 * c][1], x[2 * c + 1][0], x[2 * c + 1][1]);
	__syncwarp();
#pragma unroll
	for (int i = 0; i < 2; i++) {
		const uint4 y = *(const uint4 *)(turn + narrow_at(rows.at[i], lane % 2));

		if (rows.at[i] < rows.n)
			*(uint4 *)((__nv_bfloat16 *)o.g.a.out +
				   (rows.first + rows.at[i]) * o.g.a.v_heads * D + rows.column) = y;
	}
	__syncwarp();
}

/* The plain o, for tests. */
__device__ void store_plain(const work &o, part p, uint32_t i, const float acc[TILES][4])
{
	const int lane = threadIdx.x % 32;
	const rows rows(o, p, i);

#pragma unroll
	for (int j = 0; j < TILES; j++)
#pragma unroll
		for (int e = 0; e < 4; e++) {
			const int t = HALF * p.half + 8 * j + 2 * (lane % 4) + e % 2;

			if (t < rows.n)
				o.g.a.o[(rows.first + t) * o.g.a.v_heads * D + o.head * D +
					o.slice * SLICE + p.pair * 16 + e / 2 * 8 + lane / 4] =
					acc[j][e];
		}
}

/* A chunk's norm is taken up when the next chunk's products are on their way. */
__device__ void output_warp(shared &s, const work &o, part p)
{
	const __nv_bfloat16 *norm = (const __nv_bfloat16 *)o.g.a.norm_w + o.slice * SLICE +
				    p.pair * 16 + threadIdx.x % 32 / 4;
	const float w[2] = { __bfloat162float(norm[0]), __bfloat162float(norm[8]) };
	float last[TILES][4];

	if (threadIdx.x % 32 == 0 && p.half == 0) {
		if (p.pair == 0)
			copy_keys(s, o, 0);
		else
			copy_queries(s, o, 0);
	}
	__syncwarp();
#pragma unroll 1
	for (uint32_t i = 0; i <= o.n_chunks; i++) {
		float acc[TILES][4];
		float r = 0;

		if (i < o.n_chunks)
			outputs(s, o, p, i, acc);
		if (i)
			r = receive(s, o, p, i - 1);
		if (i < o.n_chunks)
			send(s, o, p, i, squares(acc));
		if (i)
			finish(s.turn[p.pair], o, p, rows(o, p, i - 1), last, r, w);
		if (i == o.n_chunks)
			break;
		load_gate(s.turn[p.pair], o, rows(o, p, i));
		if (o.g.a.o)
			store_plain(o, p, i, acc);
#pragma unroll
		for (int j = 0; j < TILES; j++)
#pragma unroll
			for (int e = 0; e < 4; e++)
				last[j][e] = acc[j][e];
	}
}

} /* namespace */
} /* namespace gdn */

#endif
