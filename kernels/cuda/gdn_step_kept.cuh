/* gdn_step_kept.cuh - tokens that are kept beside a state until it is written: where a run is in its
 * period, what they weigh, what they add, and the end of a period (gdn_step.cu has the formula). */
#ifndef HEARTH_KERNELS_CUDA_GDN_STEP_KEPT_CUH
#define HEARTH_KERNELS_CUDA_GDN_STEP_KEPT_CUH

#include <string.h>

#include "kernels/cuda/gdn_step_block.cuh"

namespace {

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

template <class Cut>
__device__ gdn_kept *kept_of(const gdn_step_args &a, const gdn_run &run, uint32_t head)
{
	return a.kept + (size_t)run.slot * a.v_heads + head;
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

} /* namespace */

#endif
