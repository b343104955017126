/* gdn_step.cu - see gdn_step.h.
 *
 * A block owns 32 value dimensions of one head of one run: 8 warps, each with 4 rows of the
 * transposed state, a row being 128 keys = 32 lanes x float4, all in registers.  The state is read
 * once and written once: with p = S_v.k and s = S_v.q taken from the same registers,
 *	d = beta (v - alpha p),  o = alpha s + d (k.q),  S_v <- alpha S_v + d k
 * is the recurrence of the contract with the decay multiplied out, so both products share one shuffle
 * reduction.  Convolution and normalisation of the head's 128 q and 128 k channels are computed again by
 * each of the blocks of a head: 2 KB from L2 beside 16 KB of state.  The four blocks of a head are a cluster:
 * the output norm's sum of squares is over their 128 values.
 */
#include "kernels/cuda/gdn_step.h"

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int WARPS = 8, ROWS_PER_WARP = 4, SLICE = WARPS * ROWS_PER_WARP;
constexpr int SLICES = GDN_DIM / SLICE;
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

/* What a run reads its convolution inputs from: rows of this call, before them the window. */
struct inputs {
	const __nv_bfloat16 *u;		/* row 0 of the run */
	const __nv_bfloat16 *window;	/* [3][channels] */
	const __nv_bfloat16 *w;
	int channels, ld;

	__device__ float at(int t, int ch) const
	{
		return __bfloat162float(t >= 0 ? u[(size_t)t * ld + ch]
					       : window[(size_t)(t + WINDOW) * channels + ch]);
	}

	/* token t of the run, one channel: bf16(silu(sum of taps)) */
	__device__ float conv(int t, int ch) const
	{
		const __nv_bfloat16 *tap = w + (size_t)ch * GDN_TAPS;
		float sum = __fmul_rn(__bfloat162float(tap[0]), at(t - 3, ch));

		for (int j = 1; j < GDN_TAPS; j++)
			sum = __fmaf_rn(__bfloat162float(tap[j]), at(t - 3 + j, ch), sum);
		return __bfloat162float(__float2bfloat16_rn(silu(sum)));
	}
};

struct shared {
	float qk[2][GDN_DIM];		/* normalised q (scaled) and k */
	float v[SLICE];
	float part[WARPS];
	float o[SLICE];
	float squares[2];		/* of this block's outputs; of this token and the one before */
};

/* q and k of the head into shared memory: thread t has channel t of 256. */
__device__ void load_qk(shared &s, const inputs &in, int t, int k_head, int k_heads)
{
	int half = threadIdx.x / GDN_DIM, d = threadIdx.x % GDN_DIM;
	int warp = threadIdx.x / 32;
	float x = in.conv(t, (half * k_heads + k_head) * GDN_DIM + d);
	float sum = warp_sum(__fmul_rn(x, x));

	if (threadIdx.x % 32 == 0)
		s.part[warp] = sum;
	__syncthreads();
	sum = s.part[half * 4];
	for (int i = 1; i < 4; i++)
		sum = __fadd_rn(sum, s.part[half * 4 + i]);
	x = __fmul_rn(x, __frsqrt_rn(__fadd_rn(sum, 1e-6f)));
	s.qk[half][d] = half ? x : __fmul_rn(x, 0.08838834764831845f);	/* 128^-0.5 */
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

/* The window after the run, by the first block of each key head (q, k) and of each slice (v). */
__device__ void store_window(__nv_bfloat16 *out, const inputs &in, int n, int first, int count)
{
	for (int i = threadIdx.x; i < count * WINDOW; i += THREADS) {
		int col = i / count, ch = first + i % count;

		out[(size_t)col * in.channels + ch] = __float2bfloat16_rn(in.at(n - WINDOW + col, ch));
	}
}

/* Warp 0, after the block's outputs are in s.o: the head's mean square over the cluster, then gate and rounding. */
__device__ void gated_norm(shared &s, const gdn_step_args &a, size_t row, int head, int slice, int turn)
{
	cg::cluster_group cluster = cg::this_cluster();
	const int lane = threadIdx.x % 32, first = head * GDN_DIM + slice * SLICE + lane;
	const bool mine = threadIdx.x < SLICE;
	float o = 0, sum = -0.0f;

	if (mine) {
		o = s.o[lane];
		sum = warp_sum(__fmul_rn(o, o));
		if (!lane)
			s.squares[turn] = sum;
	}
	cluster.sync();		/* the next token writes the other place, so one barrier a token is enough */
	if (!mine)
		return;
	sum = -0.0f;
	for (unsigned i = 0; i < SLICES; i++)
		sum = __fadd_rn(sum, *cluster.map_shared_rank(&s.squares[turn], i));
	const float r = __frsqrt_rn(__fadd_rn(__fdiv_rn(sum, (float)GDN_DIM), a.eps));
	const float w = __bfloat162float(((const __nv_bfloat16 *)a.norm_w)[slice * SLICE + lane]);
	const float z = __bfloat162float(((const __nv_bfloat16 *)a.z)[row * a.ld + first]);

	((__nv_bfloat16 *)a.out)[row * a.v_heads * GDN_DIM + first] =
		__float2bfloat16_rn(__fmul_rn(__fmul_rn(w, __fmul_rn(o, r)), silu(z)));
}

__global__ void __launch_bounds__(THREADS) gdn_step_kernel(gdn_step_args a)
{
	__shared__ shared s;
	const gdn_run run = a.runs[blockIdx.y];
	const int head = blockIdx.x / SLICES, slice = blockIdx.x % SLICES;
	const int k_head = head / (int)(a.v_heads / a.k_heads);
	const int channels = (2 * a.k_heads + a.v_heads) * GDN_DIM;
	const int v_first = (2 * a.k_heads + head) * GDN_DIM + slice * SLICE;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	__nv_bfloat16 *window = (__nv_bfloat16 *)a.window + (size_t)run.slot * 2 * WINDOW * channels;
	const inputs in = { (const __nv_bfloat16 *)a.u + (size_t)run.row * a.ld,
			    window + (size_t)run.side * WINDOW * channels,
			    (const __nv_bfloat16 *)a.conv_w, channels, (int)a.ld };
	float4 *state = (float4 *)a.state +
			(((size_t)run.slot * a.v_heads + head) * GDN_DIM + slice * SLICE +
			 warp * ROWS_PER_WARP) * (GDN_DIM / 4) + lane;
	const float decay = -expf(a.a_log[head]), bias = a.dt_bias[head];
	float4 S[ROWS_PER_WARP];

#pragma unroll
	for (int r = 0; r < ROWS_PER_WARP; r++)
		S[r] = state[r * (GDN_DIM / 4)];
	chain_wait();	/* state and runs are older than the kernel before; u is not */
	chain_release();
	for (uint32_t t = 0; t < run.n; t++) {
		const size_t row = run.row + t, ab = row * a.ld + head;
		const float beta = __fdiv_rn(1.0f, 1.0f + expf(-__bfloat162float(((const __nv_bfloat16 *)a.b)[ab])));
		const float alpha = expf(__fmul_rn(decay, softplus(__fadd_rn(
				__bfloat162float(((const __nv_bfloat16 *)a.a)[ab]), bias))));
		float4 q, k;
		float kq;

		__syncthreads();	/* the last token's readers are done */
		load_qk(s, in, (int)t, k_head, (int)a.k_heads);
		if (threadIdx.x < SLICE)
			s.v[threadIdx.x] = in.conv((int)t, v_first + (int)threadIdx.x);
		__syncthreads();
		q = ((const float4 *)s.qk[0])[lane];
		k = ((const float4 *)s.qk[1])[lane];
		kq = warp_sum(dot4(k, q));
#pragma unroll
		for (int r = 0; r < ROWS_PER_WARP; r++) {
			float p = warp_sum(dot4(S[r], k));
			float sq = warp_sum(dot4(S[r], q));
			float d = __fmul_rn(beta, __fsub_rn(s.v[warp * ROWS_PER_WARP + r], __fmul_rn(alpha, p)));

			S[r] = decay_add(alpha, S[r], d, k);
			if (lane == 0)
				s.o[warp * ROWS_PER_WARP + r] = __fmaf_rn(d, kq, __fmul_rn(alpha, sq));
		}
		__syncthreads();
		if (a.o && threadIdx.x < SLICE)
			a.o[(row * a.v_heads + head) * GDN_DIM + slice * SLICE + threadIdx.x] = s.o[threadIdx.x];
		gated_norm(s, a, row, head, slice, (int)(t % 2));
	}
#pragma unroll
	for (int r = 0; r < ROWS_PER_WARP; r++)
		state[r * (GDN_DIM / 4)] = S[r];
	__nv_bfloat16 *next = window + (size_t)(1 - run.side) * WINDOW * channels;
	store_window(next, in, (int)run.n, v_first, SLICE);
	if (slice == 0 && head % (a.v_heads / a.k_heads) == 0) {
		store_window(next, in, (int)run.n, k_head * GDN_DIM, GDN_DIM);
		store_window(next, in, (int)run.n, (int)(a.k_heads + k_head) * GDN_DIM, GDN_DIM);
	}
	cg::this_cluster().sync();	/* nobody leaves while its squares are read */
}

} /* namespace */

int gdn_step(const struct gdn_step_args *a, void *stream)
{
	if (!a->n_runs || a->n_runs > 65535 || !a->k_heads || !a->v_heads || a->v_heads % a->k_heads ||
	    a->v_heads > 4096 || a->ld < a->v_heads * GDN_DIM)
		return -EINVAL;
	return chain_launch(gdn_step_kernel, dim3(a->v_heads * SLICES, a->n_runs), THREADS, 0, SLICES,
			    (cudaStream_t)stream, *a);
}
