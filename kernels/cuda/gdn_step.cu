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

#include <errno.h>

#include "kernels/cuda/gdn_step_kept.cuh"
#include "kernels/cuda/gdn_step_row.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

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
