/* gdn_step.cu - see gdn_step.h.
 *
 * A block owns one head of one run, or, of one run alone, SPLIT blocks of a cluster do, a part of
 * the transposed state's rows each: one multiprocessor alone is slow to bring 64 KB and to take them
 * away.  16 warps share the block's rows, a row being 128 keys = 32 lanes x float4; of many runs 8
 * do, so that three blocks have a place in a multiprocessor.  q, k and the
 * gates each block makes for itself; every block gets the outputs of all, and norms its own.  The
 * state and all else that is older than the kernel before comes while that one still runs; the state
 * is read once and written once: with p = S_v.k and s = S_v.q
 * taken from the same registers,
 *	d = beta (v - alpha p),  o = alpha s + d (k.q),  S_v <- alpha S_v + d k
 * is the recurrence of the contract with the decay multiplied out, so both products of up to four
 * rows share one shuffle reduction.
 */
#include "kernels/cuda/gdn_step.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_matmul.h"

namespace {

constexpr int WINDOW = GDN_TAPS - 1;

/* How a head is done: by how many blocks of how many warps, and how many blocks a multiprocessor has. */
template <int BLOCKS_A_HEAD, int BLOCK_WARPS, int BLOCKS_AN_SM> struct cut {
	static constexpr int SPLIT = BLOCKS_A_HEAD;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200	/* shared memory is 100 KB in all */
	static constexpr int BLOCKS = 1;
#else
	static constexpr int BLOCKS = BLOCKS_AN_SM;
#endif
	static constexpr int WARPS = BLOCK_WARPS, THREADS = WARPS * 32;
	/* of the state: a block's, a warp's */
	static constexpr int BLOCK_ROWS = GDN_DIM / SPLIT, ROWS = BLOCK_ROWS / WARPS;
	/* of the convolution, a thread's: q's and k's are the first of a thread */
	static constexpr int CHANNELS = (3 * GDN_DIM + THREADS - 1) / THREADS;
	static_assert(THREADS >= 2 * GDN_DIM && THREADS % GDN_DIM == 0, "a thread a channel of q and k");
};

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

template <class Cut> struct shared {
	/* each thread reads and writes its own places only */
	float4 S[Cut::BLOCK_ROWS][GDN_DIM / 4];
	float qk[2][GDN_DIM];		/* normalised q (scaled) and k */
	float v[Cut::BLOCK_ROWS];
	/* The whole head's, of rows in turn: another block may be a row ahead of the norm. */
	float o[2][GDN_DIM];
	uint2 z[32], norm_w[32];		 /* the first warp's, four values a lane */
	__nv_bfloat16 past[WINDOW][3 * GDN_DIM]; /* of a longer run: a thread's own */
	float part[8];
	float alpha, beta;
};

/* A channel of the convolution: q, k or v of a head, one of its 128, of v one of the block's rows.  A
 * thread has that of its place, or none, and with fewer threads than channels one at a second place.
 * What does not come from the kernel before can be asked for early. */
template <class Cut> struct channel {
	int place, part; /* 0 q, 1 k, 2 v */
	uint32_t index; /* of the run's channels */
	uint2 tap;	/* as they are in memory: a conversion would wait for them */
	__nv_bfloat16 past[WINDOW];
	float a_log, dt_bias; /* of the head */

	__device__ __forceinline__ void begin(const gdn_step_args &a, const gdn_run &run, int head,
					      int rank, int at)
	{
		const int k_head = head / (int)(a.v_heads / a.k_heads);
		int d = at % GDN_DIM;

		place = at;
		part = at / GDN_DIM;
		a_log = a.a_log[head];
		dt_bias = a.dt_bias[head];
		if (part == 2 && d >= Cut::BLOCK_ROWS)
			part = 3;
		if (part > 2)
			return;
		if (part == 2)
			d += rank * Cut::BLOCK_ROWS;
		index = (uint32_t)((part == 2 ? 2 * (int)a.k_heads + head :
						part * (int)a.k_heads + k_head) *
					   GDN_DIM +
				   d);
		tap = ((const uint2 *)a.conv_w)[index];
		for (int i = 0; i < WINDOW; i++)
			past[i] = window(a, run, run.side)[i * width(a)];
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

	/* Between rows registers belong to the state. */
	__device__ __forceinline__ void keep(shared<Cut> &s) const
	{
		for (int i = 0; part < 3 && i < WINDOW; i++)
			s.past[i][place] = past[i];
	}

	__device__ __forceinline__ void recall(const shared<Cut> &s)
	{
		for (int i = 0; part < 3 && i < WINDOW; i++)
			past[i] = s.past[i][place];
	}

	/* bf16(silu(sum of taps)) of the next row */
	__device__ __forceinline__ float next(const gdn_step_args &a, size_t row)
	{
		const __nv_bfloat16 x = ((const __nv_bfloat16 *)a.u)[row * a.ld + index];
		float sum = __fmul_rn(__uint_as_float(tap.x << 16), __bfloat162float(past[0]));

		sum = __fmaf_rn(__uint_as_float(tap.x & 0xffff0000u), __bfloat162float(past[1]),
				sum);
		sum = __fmaf_rn(__uint_as_float(tap.y << 16), __bfloat162float(past[2]), sum);
		sum = __fmaf_rn(__uint_as_float(tap.y & 0xffff0000u), __bfloat162float(x), sum);
		past[0] = past[1];
		past[1] = past[2];
		past[2] = x;
		return __bfloat162float(__float2bfloat16_rn(silu(sum)));
	}

	/* The window after the run, in the other copy; q's and k's by the first of the heads and
	 * blocks that share them. */
	__device__ __forceinline__ void store(const gdn_step_args &a, const gdn_run &run,
					      int head, int rank) const
	{
		if (part > 2 || (part < 2 && (rank || head % (int)(a.v_heads / a.k_heads))))
			return;
		for (int i = 0; i < WINDOW; i++)
			window(a, run, 1 - run.side)[i * width(a)] = past[i];
	}
};

/* By one thread: decay and step size of the head. */
template <class Cut>
__device__ void load_gates(shared<Cut> &s, const gdn_step_args &a, const channel<Cut> &c,
			   size_t row, int head)
{
	const size_t at = row * a.ld + head;
	const float x = __bfloat162float(((const __nv_bfloat16 *)a.a)[at]),
		    b = __bfloat162float(((const __nv_bfloat16 *)a.b)[at]);

	s.beta = __fdiv_rn(1.0f, 1.0f + expf(-b));
	s.alpha = expf(__fmul_rn(-expf(c.a_log), softplus(__fadd_rn(x, c.dt_bias))));
}

/* q, k and v of the head into shared memory, a channel a thread; ends with a barrier. */
template <class Cut>
__device__ void load_qkv(shared<Cut> &s, const gdn_step_args &a, channel<Cut> (&c)[Cut::CHANNELS],
			 size_t row)
{
	const int d = threadIdx.x % GDN_DIM, part = c[0].part;
	float x[Cut::CHANNELS], sum;

#pragma unroll
	for (int i = 0; i < Cut::CHANNELS; i++) {
		x[i] = c[i].part < 3 ? c[i].next(a, row) : 0;
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

/* N sums over the warp at once: of 32 / N lanes each, in order, all get that of v[i].  Each step
 * halves what a lane carries.  Lanes are added in the same order whatever N is. */
template <int N> __device__ float warp_sums(float (&v)[N])
{
	const uint32_t lane = threadIdx.x % 32;

#pragma unroll
	for (int n = N / 2; n > 0; n /= 2) {
		const int apart = 32 / N * n;
		const bool upper = lane & (uint32_t)apart;

#pragma unroll
		for (int i = 0; i < n; i++) {
			const float send = upper ? v[i] : v[i + n], keep = upper ? v[i + n] : v[i];

			v[i] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, send, apart));
		}
	}
#pragma unroll
	for (int m = 16 / N; m > 0; m /= 2)
		v[0] = __fadd_rn(v[0], __shfl_xor_sync(0xffffffffu, v[0], m));
	return v[0];
}

__device__ float dot4(float4 x, float4 y)
{
	return __fmaf_rn(x.w, y.w, __fmaf_rn(x.z, y.z, __fmaf_rn(x.y, y.y, __fmul_rn(x.x, y.x))));
}

__device__ float4 decay_add(float alpha, float4 s, float d, float4 k)
{
	return make_float4(
		__fmaf_rn(d, k.x, __fmul_rn(alpha, s.x)), __fmaf_rn(d, k.y, __fmul_rn(alpha, s.y)),
		__fmaf_rn(d, k.z, __fmul_rn(alpha, s.z)), __fmaf_rn(d, k.w, __fmul_rn(alpha, s.w)));
}

/* Gates of a row's head, four values a lane. */
__device__ __forceinline__ uint2 load_z(const gdn_step_args &a, size_t row, int head)
{
	return ((const uint2 *)((const __nv_bfloat16 *)a.z + row * a.ld +
				head * GDN_DIM))[threadIdx.x % 32];
}

/* One warp, four values a lane, after the head's outputs are in head_o; stores those of the block. */
template <class Cut>
__device__ void gated_norm(const shared<Cut> &s, const float *head_o, const gdn_step_args &a,
			   size_t row, int head, int rank)
{
	const int lane = threadIdx.x % 32;
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

/* One token through a warp's rows of the state, which stay in shared memory or, after the last one,
 * go to `out`.  head_o: the head's outputs, in this block; those of the block's rows go to all blocks
 * of the cluster. */
template <class Cut>
__device__ void step_rows(shared<Cut> &s, float *head_o, int rank, float4 *out)
{
	constexpr int N = Cut::ROWS < 4 ? Cut::ROWS : 4;	/* rows at once */
	constexpr int LANES = 32 / N;				/* that have a row's sums */
	static_assert(Cut::SPLIT <= LANES / 2, "a lane for each block that gets an output");
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const float4 q = ((const float4 *)s.qk[0])[lane], k = ((const float4 *)s.qk[1])[lane];
	const float kq = warp_sum(dot4(k, q)), alpha = s.alpha, beta = s.beta;

#pragma unroll
	for (int first = 0; first < Cut::ROWS; first += N) {
		const int row = warp * Cut::ROWS + first, mine = row + lane / LANES;
		float sums[2 * N], p, sq, d;
		float4 S[N];

#pragma unroll
		for (int r = 0; r < N; r++) {
			S[r] = s.S[row + r][lane];
			sums[2 * r] = dot4(S[r], k);
			sums[2 * r + 1] = dot4(S[r], q);
		}
		/* Of a row's lanes the first half has S.k, the others S.q. */
		p = warp_sums(sums);
		sq = __shfl_down_sync(0xffffffffu, p, LANES / 2);
		d = __fmul_rn(beta, __fsub_rn(s.v[mine], __fmul_rn(alpha, p)));
		if (lane % LANES < Cut::SPLIT) {
			float *to = head_o + rank * Cut::BLOCK_ROWS + mine;

			if constexpr (Cut::SPLIT > 1)
				to = cluster_place(to, lane % LANES);
			*to = __fmaf_rn(d, kq, __fmul_rn(alpha, sq));
		}
		/* Before the state goes to memory, which whoever gets the outputs need not wait for. */
		if constexpr (Cut::SPLIT > 1) {
			static_assert(Cut::ROWS == N, "all outputs are written");
			cluster_arrive();
		}
#pragma unroll
		for (int r = 0; r < N; r++) {
			S[r] = decay_add(alpha, S[r], __shfl_sync(0xffffffffu, d, LANES * r), k);
			if (out)
				out[(row + r) * (GDN_DIM / 4) + lane] = S[r];
			else
				s.S[row + r][lane] = S[r];
		}
	}
}

/* Each thread asks for the places that it will read. */
template <class Cut> __device__ void load_state(shared<Cut> &s, const float4 *from)
{
	for (int r = 0; r < Cut::ROWS; r++) {
		const int row = threadIdx.x / 32 * Cut::ROWS + r, lane = threadIdx.x % 32;

		copy16_begin(&s.S[row][lane], from + row * (GDN_DIM / 4) + lane);
	}
}

/* Where a run's head keeps the block's rows of its state. */
template <class Cut>
__device__ float4 *state_of(const gdn_step_args &a, const gdn_run &run, int head, int rank)
{
	const size_t row = ((size_t)run.slot * a.v_heads + head) * GDN_DIM + rank * Cut::BLOCK_ROWS;

	return (float4 *)a.state + row * (GDN_DIM / 4);
}

/* All of the head's outputs are in the block; step_rows() has come to the barrier. */
template <class Cut> __device__ void head_sync(void)
{
	if constexpr (Cut::SPLIT > 1)
		cluster_wait();
	else
		__syncthreads();
}

/* All rows of a run; the state and the channel were asked for. */
template <class Cut>
__device__ void step_head(shared<Cut> &s, const gdn_step_args &a, const gdn_run &run, int head,
			  int rank, channel<Cut> (&c)[Cut::CHANNELS])
{
	for (uint32_t t = 0; t < run.n; t++) {
		const size_t row = run.row + t;
		const uint2 z = load_z(a, row, head);

		if (threadIdx.x == Cut::THREADS - 32) /* has one channel, or none */
			load_gates(s, a, c[0], row, head);
		for (int i = 0; t > 0 && i < Cut::CHANNELS; i++)
			c[i].recall(s);
		load_qkv(s, a, c, row);
		if (threadIdx.x < 32)
			s.z[threadIdx.x] = z;
		if (t + 1 < run.n) {
			for (int i = 0; i < Cut::CHANNELS; i++)
				c[i].keep(s);
		} else {
			for (int i = 0; i < Cut::CHANNELS; i++)
				c[i].store(a, run, head, rank);
		}
		if (t == 0) {
			copies_wait();
			if constexpr (Cut::SPLIT > 1) /* all have begun */
				cluster_wait();
		}
		step_rows<Cut>(s, s.o[t % 2], rank,
			       t + 1 == run.n ? state_of<Cut>(a, run, head, rank) : NULL);
		head_sync<Cut>();
		if (threadIdx.x < 32)
			gated_norm(s, s.o[t % 2], a, row, head, rank);
	}
}

template <class Cut>
__global__ void __launch_bounds__(Cut::THREADS, Cut::BLOCKS) gdn_step_kernel(gdn_step_args a)
{
	shared<Cut> &s = *(shared<Cut> *)block_shared();
	const gdn_run run = a.runs[blockIdx.y];
	const int head = blockIdx.x / Cut::SPLIT, rank = blockIdx.x % Cut::SPLIT;

	if constexpr (Cut::SPLIT > 1)
		cluster_arrive_relaxed();
	channel<Cut> c[Cut::CHANNELS];

#pragma unroll
	for (int i = 0; i < Cut::CHANNELS; i++) /* before the 64 KB that would stand in its way */
		c[i].begin(a, run, head, rank, i * Cut::THREADS + (int)threadIdx.x);
	load_state(s, state_of<Cut>(a, run, head, rank));
	if (threadIdx.x < 32)
		s.norm_w[threadIdx.x] = ((const uint2 *)a.norm_w)[threadIdx.x];
	chain_wait(); /* state, window and runs are older than the kernel before; u is not */
	chain_release();
	step_head(s, a, run, head, rank, c);
}

template <class Cut> int launch(const gdn_step_args &a, cudaStream_t stream)
{
	auto kernel = gdn_step_kernel<Cut>;

	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 sizeof(shared<Cut>)) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(a.v_heads * Cut::SPLIT, a.n_runs), Cut::THREADS,
			    sizeof(shared<Cut>), Cut::SPLIT, stream, a);
}

/* Of one run alone as many blocks a head as leave none waiting for a place; more runs are no faster for
 * it.  Beyond FEW_RUNS small blocks keep more bytes on their way, where three have a place (measured,
 * docs/kernel-experiments.md). */
int launch_cut(const gdn_step_args &a, cudaStream_t stream)
{
	constexpr uint32_t FEW_RUNS = 24;
	const uint32_t places = (uint32_t)device_sms();

	if (a.n_runs > FEW_RUNS && device_major() == 9)
		return launch<cut<1, 8, 3>>(a, stream);
	if (a.n_runs > 1 || a.v_heads * 2 > places)
		return launch<cut<1, 16, 2>>(a, stream);
	return a.v_heads * 4 <= places ? launch<cut<4, 16, 2>>(a, stream) :
					 launch<cut<2, 16, 2>>(a, stream);
}

} /* namespace */

int gdn_step(const struct gdn_step_args *a, void *stream)
{
	if (!a->n_runs || a->n_runs > 65535 || !a->k_heads || !a->v_heads ||
	    a->v_heads % a->k_heads || a->v_heads > 4096 || a->ld < a->v_heads * GDN_DIM)
		return -EINVAL;
	return launch_cut(*a, (cudaStream_t)stream);
}
