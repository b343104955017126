/* gdn_step.cu - see gdn_step.h.
 *
 * A block owns one head of one run, or, of one run alone, SPLIT blocks of a cluster do, a part of
 * the transposed state's rows each: one multiprocessor alone is slow to bring 64 KB and to take them
 * away.  16 warps share the block's rows, a row being 128 keys = 32 lanes x float4; of many runs 8
 * do, so that three blocks have a place in a multiprocessor.  q, k and the
 * gates each block makes for itself; every block gets the outputs of all, and norms its own.  The
 * state and all else that is older than the kernel before comes while that one still runs.  Whatever
 * is small is asked for before the state: behind the states of three blocks it would come late.  With
 * p = S_v.k and s = S_v.q
 *	d = beta (v - alpha p),  o = alpha s + d (k.q),  S_v <- alpha S_v + d k
 * is the recurrence of the contract with the decay multiplied out, so both products of up to four
 * rows share one shuffle reduction.  The state in memory, R, is older by the tokens that are kept:
 *	S_v = A R_v + sum over e of B_e d_e[v] k_e,
 * A the product of their decays and B_e of those after e.  So p = A (R_v.k) + sum (B_e k_e.k) d_e[v],
 * and s with q for k: the brackets are the same for all rows of the state, and made once, a warp a kept
 * token.  At the end of a period S is made of the same sum, and written.
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
	/* of a warp's, how many at once, and how often; lanes that have a row's sums */
	static constexpr int AT_ONCE = ROWS < 4 ? ROWS : 4, GROUPS = ROWS / AT_ONCE, LANES = 32 / AT_ONCE;
	/* of the convolution, a thread's: q's and k's are the first of a thread */
	static constexpr int CHANNELS = (3 * GDN_DIM + THREADS - 1) / THREADS;
	static_assert(THREADS >= 2 * GDN_DIM && THREADS % GDN_DIM == 0, "a thread a channel of q and k");
	static_assert(WARPS >= GDN_PERIOD, "a warp a kept token, and one for what they decay by together");
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
	float v[Cut::BLOCK_ROWS];	/* then d, of a warp's own rows */
	/* The whole head's, of rows in turn: another block may be a row ahead of the norm. */
	float o[2][GDN_DIM];
	uint2 z[32], norm_w[32];		 /* the first warp's, four values a lane */
	float part[8];
	float alpha, beta, a_log, dt_bias;
	/* Of the kept tokens: keys; d of the block's rows; B_e k_e.k and B_e k_e.q; B_e; A. */
	float4 key[GDN_KEPT][GDN_DIM / 4];
	alignas(16) float delta[GDN_KEPT][Cut::BLOCK_ROWS];
	float weight[2][GDN_PERIOD], decay[GDN_PERIOD], decay_after[GDN_PERIOD], decay_all;
};

/* Where a run is in its period. */
struct period {
	uint32_t phase, kept;

	__device__ __forceinline__ bool has(uint32_t e) const
	{
		return e < phase && e + kept >= phase;
	}
	__device__ __forceinline__ bool ends(void) const
	{
		return phase + 1 == GDN_PERIOD;
	}
	__device__ __forceinline__ void next(void)
	{
		kept = ends() ? 0 : kept + 1;
		phase = ends() ? 0 : phase + 1;
	}
};

/* What a launch adds: how many heads share a key head, and 2^31 over it, rounded up, since to divide takes long;
 * how many blocks have a place at once. */
struct launch_args : gdn_step_args {
	uint32_t sharing, share, places;

	/* exact below 2^15 heads */
	__device__ __forceinline__ uint32_t k_head(uint32_t head) const
	{
		return (uint32_t)((uint64_t)head * share >> 31);
	}
};

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

/* Of the kept tokens' decays a lane has its own, in each warp. */
__device__ __forceinline__ float decay_of(const float *decay, const period &at)
{
	const uint32_t lane = threadIdx.x % 32;

	return at.has(lane) ? decay[lane] : 0;
}

/* Their product from token `from` to the last; by a whole warp. */
__device__ __forceinline__ float decay_since(float decay, const period &at, uint32_t from)
{
	float all = 1;

#pragma unroll 1
	for (uint32_t e = at.phase; e > from; e--)
		all = __fmul_rn(all, __shfl_sync(0xffffffffu, decay, (int)e - 1));
	return all;
}

/* What each kept token has decayed by, and all of them together, a warp each.  Needs nothing of the row. */
template <class Cut>
__device__ __forceinline__ void put_decays(shared<Cut> &s, const period &at, float decay)
{
	const uint32_t warp = threadIdx.x / 32;
	float by;

	if (!at.kept || (!at.has(warp) && warp != GDN_KEPT))
		return;
	by = decay_since(decay, at, warp == GDN_KEPT ? at.phase - at.kept : warp + 1);
	if (threadIdx.x % 32 == 0)
		*(warp == GDN_KEPT ? &s.decay_all : &s.decay_after[warp]) = by;
}

/* What the kept tokens weigh for the row's k and q, each by its warp; seen behind the next barrier. */
template <class Cut>
__device__ __forceinline__ void weigh_kept(shared<Cut> &s, const period &at)
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	if (!at.has(warp))
		return;

	const float4 key = s.key[warp][lane];
	float v[2] = { dot4(key, ((const float4 *)s.qk[1])[lane]), dot4(key, ((const float4 *)s.qk[0])[lane]) };
	const float weight = __fmul_rn(s.decay_after[warp], warp_sums(v));

	if (lane % 16 == 0)
		s.weight[lane / 16][warp] = weight;
}

__device__ float4 scaled(float4 s, float by)
{
	return make_float4(__fmul_rn(s.x, by), __fmul_rn(s.y, by), __fmul_rn(s.z, by), __fmul_rn(s.w, by));
}

__device__ float4 add_scaled(float4 s, float d, float4 k)
{
	return make_float4(__fmaf_rn(d, k.x, s.x), __fmaf_rn(d, k.y, s.y), __fmaf_rn(d, k.z, s.z),
			   __fmaf_rn(d, k.w, s.w));
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

/* R.k and R.q of a warp's rows: of a row's lanes the first half has R.k, the others R.q; a group's sums each. */
template <class Cut> __device__ __forceinline__ void state_sums(const shared<Cut> &s, float (&ret)[Cut::GROUPS])
{
	constexpr int N = Cut::AT_ONCE;
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const float4 q = ((const float4 *)s.qk[0])[lane], k = ((const float4 *)s.qk[1])[lane];

#pragma unroll
	for (int i = 0; i < Cut::GROUPS; i++) {
		float sums[2 * N];

#pragma unroll
		for (int r = 0; r < N; r++) {
			const float4 S = s.S[warp * Cut::ROWS + i * N + r][lane];

			sums[2 * r] = dot4(S, k);
			sums[2 * r + 1] = dot4(S, q);
		}
		ret[i] = warp_sums(sums);
	}
}

/* The row of the block whose sums a lane has, of the warp's first group. */
template <class Cut> __device__ __forceinline__ uint32_t own_row(void)
{
	return threadIdx.x / 32 * Cut::ROWS + threadIdx.x % 32 / Cut::LANES;
}

/* p and s: what the state as it lies gives, and the kept tokens. */
template <class Cut>
__device__ __forceinline__ void add_kept(const shared<Cut> &s, const period &at, float (&sums)[Cut::GROUPS])
{
	const float *weight = s.weight[threadIdx.x % Cut::LANES >= Cut::LANES / 2];

#pragma unroll
	for (int i = 0; i < Cut::GROUPS; i++)
		sums[i] = __fmul_rn(s.decay_all, sums[i]);
#pragma unroll 1
	for (uint32_t e = at.phase - at.kept; e < at.phase; e++) {
		const float w = weight[e], *delta = &s.delta[e][own_row<Cut>()];

#pragma unroll
		for (int i = 0; i < Cut::GROUPS; i++)
			sums[i] = __fmaf_rn(w, delta[i * Cut::AT_ONCE], sums[i]);
	}
}

/* One token through a warp's rows of the state, which stay as they are; their d go where v was.  head_o: the
 * head's outputs, in this block; those of the block's rows go to all blocks of the cluster. */
template <class Cut>
__device__ void step_rows(shared<Cut> &s, const float (&sums)[Cut::GROUPS], float *head_o, uint32_t rank)
{
	static_assert(Cut::SPLIT <= Cut::LANES / 2, "a lane for each block that gets an output");
	const uint32_t lane = threadIdx.x % 32;
	const float4 q = ((const float4 *)s.qk[0])[lane], k = ((const float4 *)s.qk[1])[lane];
	const float kq = warp_sum(dot4(k, q)), alpha = s.alpha, beta = s.beta;
	float d[Cut::GROUPS];

#pragma unroll
	for (int i = 0; i < Cut::GROUPS; i++) {
		const uint32_t row = own_row<Cut>() + i * Cut::AT_ONCE;
		const float sq = __shfl_down_sync(0xffffffffu, sums[i], Cut::LANES / 2);

		d[i] = __fmul_rn(beta, __fsub_rn(s.v[row], __fmul_rn(alpha, sums[i])));
		if (lane % Cut::LANES < Cut::SPLIT) {
			float *to = head_o + rank * Cut::BLOCK_ROWS + row;

			if constexpr (Cut::SPLIT > 1)
				to = cluster_place(to, lane % Cut::LANES);
			*to = __fmaf_rn(d[i], kq, __fmul_rn(alpha, sq));
		}
	}
	/* Before the rest goes to memory, which whoever gets the outputs need not wait for. */
	if constexpr (Cut::SPLIT > 1)
		cluster_arrive();
	__syncwarp();	/* all lanes have read v */
#pragma unroll
	for (int i = 0; i < Cut::GROUPS; i++)
		if (lane % Cut::LANES == 0)
			s.v[own_row<Cut>() + i * Cut::AT_ONCE] = d[i];
	__syncwarp();
}

/* The end of a period: a warp's rows with all that is kept and the token, to memory, and where another token
 * follows to their places. */
template <class Cut>
__device__ void settle(shared<Cut> &s, const period &at, float4 *out, bool more)
{
	constexpr int N = Cut::AT_ONCE;
	const uint32_t first = threadIdx.x / 32 * Cut::ROWS, lane = threadIdx.x % 32;
	const uint32_t begin = at.phase - at.kept;
	const float4 k = ((const float4 *)s.qk[1])[lane];
	const float alpha = s.alpha, decay = at.kept ? __fmul_rn(alpha, s.decay_all) : alpha;

	/* d of the warp's rows, decayed until now */
	for (uint32_t i = lane; i < at.kept * Cut::ROWS; i += 32) {
		float *d = &s.delta[begin + i / Cut::ROWS][first + i % Cut::ROWS];

		*d = __fmul_rn(__fmul_rn(alpha, s.decay_after[begin + i / Cut::ROWS]), *d);
	}
	__syncwarp();
#pragma unroll 1
	for (uint32_t row = first; row < first + Cut::ROWS; row += N) {
		float4 S[N];

#pragma unroll
		for (int r = 0; r < N; r++)
			S[r] = scaled(s.S[row + r][lane], decay);
#pragma unroll 2
		for (uint32_t e = begin; e < at.phase; e++) {
			const float4 key = s.key[e][lane];
			float d[N];

			memcpy(d, __builtin_assume_aligned(&s.delta[e][row], sizeof(d)), sizeof(d));
#pragma unroll
			for (int r = 0; r < N; r++)
				S[r] = add_scaled(S[r], d[r], key);
		}
#pragma unroll
		for (int r = 0; r < N; r++) {
			S[r] = add_scaled(S[r], s.v[row + r], k);
			out[(row + r) * (GDN_DIM / 4) + lane] = S[r];
			if (more)
				s.S[row + r][lane] = S[r];
		}
	}
}

/* Any other position: the token beside the state.  Blocks of a cluster write the same key and decay. */
template <class Cut>
__device__ void keep_token(shared<Cut> &s, const period &at, gdn_kept *kept, uint32_t rank)
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	if (lane < Cut::ROWS) {
		const uint32_t row = warp * Cut::ROWS + lane;

		s.delta[at.phase][row] = s.v[row];
		kept->delta[at.phase][rank * Cut::BLOCK_ROWS + row] = s.v[row];
	}
	if (warp)
		return;
	s.key[at.phase][lane] = ((const float4 *)s.qk[1])[lane];
	((float4 *)kept->key[at.phase])[lane] = s.key[at.phase][lane];
	if (lane == 0)
		s.decay[at.phase] = kept->decay[at.phase] = s.alpha;
}

/* Keys of the kept tokens, each by the warp that will weigh it, and d of the block's rows; 16 bytes a thread. */
template <class Cut>
__device__ void load_kept(shared<Cut> &s, const period &at, const gdn_kept *kept, uint32_t rank)
{
	constexpr uint32_t EACH = Cut::BLOCK_ROWS / 4;
	static_assert(GDN_KEPT * EACH <= Cut::THREADS && sizeof(gdn_kept) % 16 == 0, "a thread each");
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const uint32_t e = threadIdx.x / EACH, row = threadIdx.x % EACH * 4;

	if (at.has(warp))
		copy16_begin(&s.key[warp][lane], &kept->key[warp][lane * 4]);
	if (e < GDN_KEPT && at.has(e))
		copy16_begin(&s.delta[e][row], &kept->delta[e][rank * Cut::BLOCK_ROWS + row]);
	copies_end();
}

/* Each thread asks for the places that it will read. */
template <class Cut> __device__ void load_state(shared<Cut> &s, const float4 *from)
{
	const uint32_t first = threadIdx.x / 32 * Cut::ROWS, lane = threadIdx.x % 32;

	from += first * (GDN_DIM / 4) + lane;
	for (int r = 0; r < Cut::ROWS; r++)
		copy16_begin(&s.S[first + r][lane], from + r * (GDN_DIM / 4));
	copies_end();
}

/* Where a run's head keeps the block's rows of its state. */
template <class Cut>
__device__ float4 *state_of(const gdn_step_args &a, const gdn_run &run, uint32_t head, uint32_t rank)
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

template <class Cut>
__device__ gdn_kept *kept_of(const gdn_step_args &a, const gdn_run &run, uint32_t head)
{
	return a.kept + (size_t)run.slot * a.v_heads + head;
}

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

/* All rows of a run; the state, the first row and what is kept were asked for. */
template <class Cut>
__device__ void step_head(shared<Cut> &s, const launch_args &a, const gdn_run &run, uint32_t head, uint32_t rank,
			  channel<Cut> (&c)[Cut::CHANNELS], gates<Cut> &g, float decay)
{
	struct period at = { run.phase, run.kept };

	for (uint32_t t = 0; t < run.n; t++, at.next()) {
		const size_t row = run.row + t;
		float sums[Cut::GROUPS];

		if (t > 0) {
			load_row(s, a, run, t, head, c, g);
			for (int i = 0; i < Cut::CHANNELS; i++)
				c[i].recall(a, run, t);
			put_decays(s, at, decay_of(s.decay, at));
		}
		if (t == 0)
			copies_wait_but_last();
		g.put(s);
		make_qkv(s, c);
		for (int i = 0; t + 1 == run.n && i < Cut::CHANNELS; i++)
			c[i].store(a, run, !rank && a.k_head(head) * a.sharing == head);
		weigh_kept(s, at);
		copies_wait();
		if (t == 0) {
			if (threadIdx.x < 32 && at.has(threadIdx.x))
				s.decay[threadIdx.x] = decay;
			if constexpr (Cut::SPLIT > 1) /* all have begun */
				cluster_wait();
		}
		state_sums(s, sums);
		if (at.kept) {
			__syncthreads();	/* weights, keys, and d that other threads asked for */
			add_kept(s, at, sums);
		}
		step_rows<Cut>(s, sums, s.o[t % 2], rank);
		if (at.ends())
			settle(s, at, state_of<Cut>(a, run, head, rank), t + 1 < run.n);
		else
			keep_token(s, at, kept_of<Cut>(a, run, head), rank);
		head_sync<Cut>();
		if (threadIdx.x < 32)
			gated_norm(s, s.o[t % 2], a, row, head, rank);
		/* The cluster's barrier was arrived at before keep_token() and settle(): what they wrote (key, decay) the
		 * next row reads, and what they read (v, d, gates, decay_after, decay_all) it writes. */
		if (Cut::SPLIT > 1 && t + 1 < run.n)
			__syncthreads();
	}
}

/* A block that waits for a place begins when the kernel before has ended: what comes from there is small, too, and
 * asked for before the state. */
template <class Cut>
__global__ void __launch_bounds__(Cut::THREADS, Cut::BLOCKS) gdn_step_kernel(launch_args a)
{
	shared<Cut> &s = *(shared<Cut> *)block_shared();
	const gdn_run run = a.runs[blockIdx.y];
	const struct period at = { run.phase, run.kept };
	const uint32_t head = blockIdx.x / Cut::SPLIT, rank = blockIdx.x % Cut::SPLIT;
	const bool waited = Cut::SPLIT == 1 && blockIdx.y * a.v_heads + blockIdx.x >= a.places;

	if constexpr (Cut::SPLIT > 1)
		cluster_arrive_relaxed();
	channel<Cut> c[Cut::CHANNELS];
	gates<Cut> g;

#pragma unroll
	for (int i = 0; i < Cut::CHANNELS; i++)
		c[i].begin(a, run, head, rank, (uint32_t)i * Cut::THREADS + threadIdx.x);
	g.begin(s, a, head);
	if (threadIdx.x < 32)
		copy_begin<8>(&s.norm_w[threadIdx.x], (const uint2 *)a.norm_w + threadIdx.x);
	const float decay = decay_of(kept_of<Cut>(a, run, head)->decay, at);
	load_kept(s, at, kept_of<Cut>(a, run, head), rank);
	if (waited) {
		chain_wait();
		load_row(s, a, run, 0, head, c, g);
	}
	load_state(s, state_of<Cut>(a, run, head, rank));
	put_decays(s, at, decay);
	if (!waited) {
		chain_wait(); /* state, window and runs are older than the kernel before; u is not */
		load_row(s, a, run, 0, head, c, g);
	}
	chain_release();
	step_head(s, a, run, head, rank, c, g, decay);
}

template <class Cut> int launch(const gdn_step_args &a, cudaStream_t stream)
{
	auto kernel = gdn_step_kernel<Cut>;
	launch_args l;

	static_assert(Cut::BLOCKS * (sizeof(shared<Cut>) + 1024) <= 228 * 1024, "a multiprocessor of Hopper has room");
	(gdn_step_args &)l = a;
	l.sharing = a.v_heads / a.k_heads;
	l.share = ((1u << 31) + l.sharing - 1) / l.sharing;
	l.places = (uint32_t)device_sms() * (device_major() == 9 ? (uint32_t)Cut::BLOCKS : 1);
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 sizeof(shared<Cut>)) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(a.v_heads * Cut::SPLIT, a.n_runs), Cut::THREADS,
			    sizeof(shared<Cut>), Cut::SPLIT, stream, l);
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
					 launch<cut<2, 16, 1>>(a, stream);
}

} /* namespace */

int gdn_step(const struct gdn_step_args *a, void *stream)
{
	if (!a->n_runs || a->n_runs > 65535 || !a->k_heads || !a->v_heads ||
	    a->v_heads % a->k_heads || a->v_heads > 4096 || a->ld < a->v_heads * GDN_DIM ||
	    a->ld % 4)
		return -EINVAL;
	return launch_cut(*a, (cudaStream_t)stream);
}
