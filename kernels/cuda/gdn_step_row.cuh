/* gdn_step_row.cuh - what a row brings to gdn_step.cu before the state, and the norm behind it: a head's
 * channels of the convolution, its gates, q, k and v. */
#ifndef HEARTH_KERNELS_CUDA_GDN_STEP_ROW_CUH
#define HEARTH_KERNELS_CUDA_GDN_STEP_ROW_CUH

#include "kernels/cuda/gdn_step_block.cuh"
#include "kernels/cuda/prefill_matmul.h"

namespace {

constexpr int WINDOW = GDN_TAPS - 1;

__device__ float silu(float x)
{
	return __fdiv_rn(x, 1.0f + expf(-x));
}

__device__ float softplus(float x)
{
	return x > 20.0f ? x : log1pf(expf(x));
}

/* A channel of the convolution: q, k or v of a head, one of its 128, of v one of the block's rows.  A
 * thread has that of its place, or none, and with fewer threads than channels one at a second place. */
template <class Cut> struct channel {
	uint32_t part;	/* 0 q, 1 k, 2 v */
	uint32_t index; /* of the run's channels */
	uint2 tap;	/* as they are in memory: a conversion would wait for them */
	__nv_bfloat16 past[WINDOW], now;

	/* What does not come from the kernel before. */
	__device__ __forceinline__ void begin(const launch_args &a, const gdn_run &run, uint32_t head, uint32_t rank,
					      uint32_t at)
	{
		uint32_t d = at % GDN_DIM;

		part = at / GDN_DIM;
		if (part == 2 && d >= Cut::BLOCK_ROWS)
			part = 3;
		if (part > 2)
			return;
		if (part == 2)
			d += rank * Cut::BLOCK_ROWS;
		index = (part == 2 ? 2 * a.k_heads + head : part * a.k_heads + a.k_head(head)) * GDN_DIM + d;
		tap = ((const uint2 *)a.conv_w)[index];
		for (int i = 0; i < WINDOW; i++)
			past[i] = window(a, run, run.side)[i * width(a)];
	}

	__device__ __forceinline__ void load(const gdn_step_args &a, size_t row)
	{
		if (part < 3)
			now = input(a, row);
	}

	static __device__ __forceinline__ size_t width(const gdn_step_args &a)
	{
		return (2 * a.k_heads + a.v_heads) * GDN_DIM;
	}

	/* The oldest of the three in a copy of the window. */
	__device__ __forceinline__ __nv_bfloat16 *window(const gdn_step_args &a, const gdn_run &run,
							 uint32_t side) const
	{
		return (__nv_bfloat16 *)a.window +
		       ((size_t)run.slot * 2 + side) * WINDOW * width(a) + index;
	}

	__device__ __forceinline__ __nv_bfloat16 input(const gdn_step_args &a, size_t row) const
	{
		return ((const __nv_bfloat16 *)a.u)[row * a.ld + index];
	}

	/* Those before the run's row t, once more: between rows registers belong to the state. */
	__device__ __forceinline__ void recall(const gdn_step_args &a, const gdn_run &run, uint32_t t)
	{
		for (uint32_t i = 0; part < 3 && i < WINDOW; i++)
			past[i] = t + i < WINDOW ? window(a, run, run.side)[(t + i) * width(a)] :
						   input(a, run.row + t + i - WINDOW);
	}

	/* bf16(silu(sum of taps)) of the row that was loaded */
	__device__ __forceinline__ float next(void) const
	{
		float sum = __fmul_rn(__uint_as_float(tap.x << 16), __bfloat162float(past[0]));

		sum = __fmaf_rn(__uint_as_float(tap.x & 0xffff0000u), __bfloat162float(past[1]),
				sum);
		sum = __fmaf_rn(__uint_as_float(tap.y << 16), __bfloat162float(past[2]), sum);
		sum = __fmaf_rn(__uint_as_float(tap.y & 0xffff0000u), __bfloat162float(now), sum);
		return __bfloat162float(__float2bfloat16_rn(silu(sum)));
	}

	/* The window after the run, in the other copy; q's and k's by the first of the heads and
	 * blocks that share them. */
	__device__ __forceinline__ void store(const gdn_step_args &a, const gdn_run &run, bool first) const
	{
		__nv_bfloat16 *to = window(a, run, 1 - run.side);

		if (part > 2 || (part < 2 && !first))
			return;
		to[0] = past[1];
		to[width(a)] = past[2];
		to[2 * width(a)] = now;
	}
};

/* By one thread, which has one channel or none: what a row's decay and step size are made of. */
template <class Cut> struct gates {
	__nv_bfloat16 a, b;

	static __device__ __forceinline__ bool mine(void)
	{
		return threadIdx.x == Cut::THREADS - 32;
	}
	/* Of the head. */
	static __device__ __forceinline__ void begin(shared<Cut> &s, const gdn_step_args &g, uint32_t head)
	{
		if (!mine())
			return;
		copy_begin<4>(&s.a_log, g.a_log + head);
		copy_begin<4>(&s.dt_bias, g.dt_bias + head);
	}
	__device__ __forceinline__ void load(const gdn_step_args &g, size_t row, uint32_t head)
	{
		if (!mine())
			return;
		a = ((const __nv_bfloat16 *)g.a)[row * g.ld + head];
		b = ((const __nv_bfloat16 *)g.b)[row * g.ld + head];
	}
	__device__ __forceinline__ void put(shared<Cut> &s) const
	{
		if (!mine())
			return;
		s.beta = __fdiv_rn(1.0f, 1.0f + expf(-__bfloat162float(b)));
		s.alpha = expf(__fmul_rn(-expf(s.a_log), softplus(__fadd_rn(__bfloat162float(a), s.dt_bias))));
	}
};

/* What comes from the kernel before. */
template <class Cut>
__device__ __forceinline__ void load_row(shared<Cut> &s, const gdn_step_args &a, const gdn_run &run, uint32_t t,
					 uint32_t head, channel<Cut> (&c)[Cut::CHANNELS], gates<Cut> &g)
{
	const size_t row = run.row + t;
	const __nv_bfloat16 *z = (const __nv_bfloat16 *)a.z + row * a.ld + head * GDN_DIM;

	for (int i = 0; i < Cut::CHANNELS; i++)
		c[i].load(a, row);
	g.load(a, row, head);
	if (threadIdx.x < 32)
		copy_begin<8>(&s.z[threadIdx.x], z + threadIdx.x * 4);
}

/* q, k and v of the head into shared memory, a channel a thread; ends with a barrier. */
template <class Cut>
__device__ void make_qkv(shared<Cut> &s, const channel<Cut> (&c)[Cut::CHANNELS])
{
	const uint32_t d = threadIdx.x % GDN_DIM, part = c[0].part;
	float x[Cut::CHANNELS], sum;

#pragma unroll
	for (int i = 0; i < Cut::CHANNELS; i++) {
		x[i] = c[i].part < 3 ? c[i].next() : 0;
		if (c[i].part == 2)
			s.v[d] = x[i];
	}
	if (part < 2) {
		sum = warp_sum(__fmul_rn(x[0], x[0]));
		if (threadIdx.x % 32 == 0)
			s.part[threadIdx.x / 32] = sum;
	}
	__syncthreads();
	if (part < 2) {
		sum = s.part[part * 4];
		for (int i = 1; i < 4; i++)
			sum = __fadd_rn(sum, s.part[part * 4 + i]);
		x[0] = __fmul_rn(x[0], __frsqrt_rn(__fadd_rn(sum, 1e-6f)));
		/* 128^-0.5 */
		s.qk[part][d] = part ? x[0] : __fmul_rn(x[0], 0.08838834764831845f);
	}
	__syncthreads();
}

/* One warp, four values a lane, after the head's outputs are in head_o; stores those of the block. */
template <class Cut>
__device__ void gated_norm(const shared<Cut> &s, const float *head_o, const gdn_step_args &a,
			   size_t row, uint32_t head, uint32_t rank)
{
	const uint32_t lane = threadIdx.x % 32;
	const float4 o4 = ((const float4 *)head_o)[lane];
	const float o[4] = { o4.x, o4.y, o4.z, o4.w };
	const uint32_t z[2] = { s.z[lane].x, s.z[lane].y },
		       w[2] = { s.norm_w[lane].x, s.norm_w[lane].y };
	/* Two pairs: side by side, or as far apart as the order of steps has them. */
	const uint32_t at = head * GDN_DIM + lane * 4;
	__nv_bfloat16 *out = (__nv_bfloat16 *)a.out + row * a.v_heads * GDN_DIM +
			     (a.ordered ? prefill_column(at) : at);
	const uint32_t apart = a.ordered ? prefill_column(2) : 2;
	float sum = 0, r;

	for (int i = 0; i < 4; i++)
		sum = __fmaf_rn(o[i], o[i], sum);
	r = __frsqrt_rn(__fadd_rn(__fdiv_rn(warp_sum(sum), (float)GDN_DIM), a.eps));
	if (lane / (32 / Cut::SPLIT) != rank)
		return;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const float zi = __uint_as_float(i % 2 ? z[i / 2] & 0xffff0000u : z[i / 2] << 16),
			    wi = __uint_as_float(i % 2 ? w[i / 2] & 0xffff0000u : w[i / 2] << 16);

		out[i / 2 * apart + i % 2] =
			__float2bfloat16_rn(__fmul_rn(__fmul_rn(wi, __fmul_rn(o[i], r)), silu(zi)));
	}
	if (a.o)
		((float4 *)a.o)[(row * a.v_heads + head) * (GDN_DIM / 4) + lane] = o4;
}

} /* namespace */

#endif
