/* gdn_step.cu - see gdn_step.h.
 *
 * A block owns one head of one run: 16 warps, each with 8 rows of the transposed state, a row being
 * 128 keys = 32 lanes x float4.  The state comes to shared memory while the kernel before still
 * runs, and is read once and written once: with p = S_v.k and s = S_v.q taken from the same
 * registers,
 *	d = beta (v - alpha p),  o = alpha s + d (k.q),  S_v <- alpha S_v + d k
 * is the recurrence of the contract with the decay multiplied out, so both products of four rows
 * share one shuffle reduction.
 */
#include "kernels/cuda/gdn_step.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"

namespace {

constexpr int WARPS = 16, ROWS = GDN_DIM / WARPS;
constexpr int THREADS = WARPS * 32;
constexpr int WINDOW = GDN_TAPS - 1;

__device__ float silu(float x)
{
	return __fdiv_rn(x, 1.0f + expf(-x));
}

__device__ float softplus(float x)
{
	return x > 20.0f ? x : log1pf(expf(x));
}

__device__ float warp_sum(float x)
{
	for (int m = 16; m > 0; m >>= 1)
		x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, m));
	return x;
}

/* What a run reads its convolution inputs from: rows of this call, before them the window.
 * Addresses are computed where they are used: registers belong to the state. */
struct inputs {
	const gdn_step_args &a;
	const gdn_run &run;
	int channels;

	__device__ size_t window(uint32_t side, int col) const
	{
		return ((run.slot * 2 + side) * WINDOW + (uint32_t)col) * (size_t)channels;
	}

	__device__ float at(int t, int ch) const
	{
		return __bfloat162float(
			t >= 0 ?
				((const __nv_bfloat16 *)
					 a.u)[(size_t)(run.row + (uint32_t)t) * a.ld + (size_t)ch] :
				((const __nv_bfloat16 *)
					 a.window)[window(run.side, t + WINDOW) + (size_t)ch]);
	}

	/* token t of the run, one channel: bf16(silu(sum of taps)) */
	__device__ float conv(int t, int ch) const
	{
		const __nv_bfloat16 *tap = (const __nv_bfloat16 *)a.conv_w + (size_t)ch * GDN_TAPS;
		float sum = __fmul_rn(__bfloat162float(tap[0]), at(t - 3, ch));

		for (int j = 1; j < GDN_TAPS; j++)
			sum = __fmaf_rn(__bfloat162float(tap[j]), at(t - 3 + j, ch), sum);
		return __bfloat162float(__float2bfloat16_rn(silu(sum)));
	}
};

struct shared {
	float4 S[GDN_DIM][GDN_DIM / 4];	/* each thread reads and writes its own places only */
	float qk[2][GDN_DIM];		/* normalised q (scaled) and k */
	float v[GDN_DIM], o[GDN_DIM];
	float part[8];
	float alpha, beta;
};

/* By one thread: decay and step size of the head. */
__device__ void load_gates(shared &s, const gdn_step_args &a, size_t row, int head)
{
	const size_t at = row * a.ld + head;
	const float x = __bfloat162float(((const __nv_bfloat16 *)a.a)[at]),
		    b = __bfloat162float(((const __nv_bfloat16 *)a.b)[at]);

	s.beta = __fdiv_rn(1.0f, 1.0f + expf(-b));
	s.alpha = expf(__fmul_rn(-expf(a.a_log[head]), softplus(__fadd_rn(x, a.dt_bias[head]))));
}

/* q, k and v of the head into shared memory, a channel a thread; ends with a barrier. */
__device__ void load_qkv(shared &s, const inputs &in, int t, int k_head, int k_heads, int head)
{
	const int part = threadIdx.x / GDN_DIM, d = threadIdx.x % GDN_DIM, warp = threadIdx.x / 32;
	float x = 0, sum;

	if (part < 3)
		x = in.conv(t,
			    (part == 2 ? 2 * k_heads + head : part * k_heads + k_head) * GDN_DIM +
				    d);
	if (part == 2)
		s.v[d] = x;
	if (part < 2) {
		sum = warp_sum(__fmul_rn(x, x));
		if (threadIdx.x % 32 == 0)
			s.part[warp] = sum;
	}
	__syncthreads();
	if (part < 2) {
		sum = s.part[part * 4];
		for (int i = 1; i < 4; i++)
			sum = __fadd_rn(sum, s.part[part * 4 + i]);
		x = __fmul_rn(x, __frsqrt_rn(__fadd_rn(sum, 1e-6f)));
		s.qk[part][d] = part ? x : __fmul_rn(x, 0.08838834764831845f);	/* 128^-0.5 */
	}
	__syncthreads();
}

/* Eight sums over the warp at once: lanes 4i .. 4i + 3 get that of v[i].  Each step halves what a
 * lane carries. */
__device__ float warp_sum8(float (&v)[8])
{
	const uint32_t lane = threadIdx.x % 32;

#pragma unroll
	for (int n = 4; n > 0; n /= 2) {
		const bool upper = lane & (uint32_t)(4 * n);

#pragma unroll
		for (int i = 0; i < n; i++) {
			const float send = upper ? v[i] : v[i + n], keep = upper ? v[i + n] : v[i];

			v[i] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, send, 4 * n));
		}
	}
	v[0] = __fadd_rn(v[0], __shfl_xor_sync(0xffffffffu, v[0], 2));
	return __fadd_rn(v[0], __shfl_xor_sync(0xffffffffu, v[0], 1));
}

__device__ float dot4(float4 x, float4 y)
{
	return __fmaf_rn(x.w, y.w, __fmaf_rn(x.z, y.z, __fmaf_rn(x.y, y.y, __fmul_rn(x.x, y.x))));
}

__device__ float4 decay_add(float alpha, float4 s, float d, float4 k)
{
	return make_float4(__fmaf_rn(d, k.x, __fmul_rn(alpha, s.x)),
			   __fmaf_rn(d, k.y, __fmul_rn(alpha, s.y)),
			   __fmaf_rn(d, k.z, __fmul_rn(alpha, s.z)),
			   __fmaf_rn(d, k.w, __fmul_rn(alpha, s.w)));
}

/* The window after the run: `count` channels from `first` on. */
__device__ void store_window(const inputs &in, int n, int first, int count)
{
	for (int i = threadIdx.x; i < count * WINDOW; i += THREADS) {
		int col = i / count, ch = first + i % count;

		((__nv_bfloat16 *)in.a.window)[in.window(1 - in.run.side, col) + (size_t)ch] =
			__float2bfloat16_rn(in.at(n - WINDOW + col, ch));
	}
}

/* One warp, four values a lane, after the head's outputs are in s.o. */
__device__ void gated_norm(const shared &s, const gdn_step_args &a, size_t row, int head)
{
	const int lane = threadIdx.x % 32, first = head * GDN_DIM + lane * 4;
	const __nv_bfloat16 *z = (const __nv_bfloat16 *)a.z + row * a.ld + first;
	const __nv_bfloat16 *w = (const __nv_bfloat16 *)a.norm_w + lane * 4;
	__nv_bfloat16 *out = (__nv_bfloat16 *)a.out + row * a.v_heads * GDN_DIM + first;
	const float4 o4 = ((const float4 *)s.o)[lane];
	const float o[4] = { o4.x, o4.y, o4.z, o4.w };
	float sum = 0, r;

	for (int i = 0; i < 4; i++)
		sum = __fmaf_rn(o[i], o[i], sum);
	r = __frsqrt_rn(__fadd_rn(__fdiv_rn(warp_sum(sum), (float)GDN_DIM), a.eps));
	for (int i = 0; i < 4; i++)
		out[i] = __float2bfloat16_rn(
			__fmul_rn(__fmul_rn(__bfloat162float(w[i]), __fmul_rn(o[i], r)),
				  silu(__bfloat162float(z[i]))));
	if (a.o)
		((float4 *)a.o)[(row * a.v_heads + head) * (GDN_DIM / 4) + lane] = o4;
}

/* One token through a warp's rows of the state, which stay in shared memory or, after the last one,
 * go to `out`. */
__device__ void step_rows(shared &s, float4 *out)
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const float4 q = ((const float4 *)s.qk[0])[lane], k = ((const float4 *)s.qk[1])[lane];
	const float kq = warp_sum(dot4(k, q)), alpha = s.alpha, beta = s.beta;

#pragma unroll
	for (int first = 0; first < ROWS; first += 4) {
		const int row = warp * ROWS + first, mine = row + lane / 8;
		float sums[8], p, sq, d;
		float4 S[4];

#pragma unroll
		for (int r = 0; r < 4; r++) {
			S[r] = s.S[row + r][lane];
			sums[2 * r] = dot4(S[r], k);
			sums[2 * r + 1] = dot4(S[r], q);
		}
		/* Of eight lanes a row, the first four have S.k, the others S.q. */
		p = warp_sum8(sums);
		sq = __shfl_down_sync(0xffffffffu, p, 4);
		d = __fmul_rn(beta, __fsub_rn(s.v[mine], __fmul_rn(alpha, p)));
		if (lane % 8 == 0)
			s.o[mine] = __fmaf_rn(d, kq, __fmul_rn(alpha, sq));
#pragma unroll
		for (int r = 0; r < 4; r++) {
			S[r] = decay_add(alpha, S[r], __shfl_sync(0xffffffffu, d, 8 * r), k);
			if (out)
				out[(row + r) * (GDN_DIM / 4) + lane] = S[r];
			else
				s.S[row + r][lane] = S[r];
		}
	}
}

/* Each thread asks for the places that it will read. */
__device__ void load_state(shared &s, const float4 *from)
{
	for (int r = 0; r < ROWS; r++) {
		const int row = threadIdx.x / 32 * ROWS + r, lane = threadIdx.x % 32;

		asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
				     (uint32_t)__cvta_generic_to_shared(&s.S[row][lane])),
			     "l"(from + row * (GDN_DIM / 4) + lane));
	}
}

__global__ void __launch_bounds__(THREADS, 2) gdn_step_kernel(gdn_step_args a)
{
	extern __shared__ __align__(16) char raw[];
	shared &s = *(shared *)raw;
	const gdn_run run = a.runs[blockIdx.y];
	const int head = blockIdx.x, k_head = head / (int)(a.v_heads / a.k_heads);
	const inputs in = { a, run, (int)(2 * a.k_heads + a.v_heads) * GDN_DIM };
	float4 *state =
		(float4 *)a.state + ((size_t)run.slot * a.v_heads + head) * GDN_DIM * (GDN_DIM / 4);

	load_state(s, state);
	chain_wait();	/* state and runs are older than the kernel before; u is not */
	chain_release();
	for (uint32_t t = 0; t < run.n; t++) {
		const size_t row = run.row + t;

		if (threadIdx.x == 3 * GDN_DIM)
			load_gates(s, a, row, head);
		load_qkv(s, in, (int)t, k_head, (int)a.k_heads, head);
		if (t == 0)
			asm volatile("cp.async.wait_all;" ::: "memory");
		step_rows(s, t + 1 == run.n ? state : NULL);
		__syncthreads();
		if (threadIdx.x < 32)
			gated_norm(s, a, row, head);
	}
	store_window(in, (int)run.n, ((int)(2 * a.k_heads) + head) * GDN_DIM, GDN_DIM);
	if (head % (int)(a.v_heads / a.k_heads) == 0) {
		store_window(in, (int)run.n, k_head * GDN_DIM, GDN_DIM);
		store_window(in, (int)run.n, ((int)a.k_heads + k_head) * GDN_DIM, GDN_DIM);
	}
}

} /* namespace */

int gdn_step(const struct gdn_step_args *a, void *stream)
{
	if (!a->n_runs || a->n_runs > 65535 || !a->k_heads || !a->v_heads ||
	    a->v_heads % a->k_heads || a->v_heads > 4096 || a->ld < a->v_heads * GDN_DIM)
		return -EINVAL;
	if (cudaFuncSetAttribute(gdn_step_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 sizeof(shared)) != cudaSuccess)
		return -ENODEV;
	return chain_launch(gdn_step_kernel, dim3(a->v_heads, a->n_runs), THREADS, sizeof(shared),
			    1, (cudaStream_t)stream, *a);
}
