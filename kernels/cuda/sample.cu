/* sample.cu - see sample.h: the draw, what is reported of it, the kernels. */
#include "kernels/cuda/sample.h"

#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample_keys.cuh"
#include "kernels/noise.h"

namespace {

constexpr int SCAN_WARPS = 8;
constexpr uint32_t MOST_QUICK = 512;	/* top_k up to here looks at few candidates only */
constexpr uint32_t MOST_COUNTED = 512;	/* so many candidates are compared each with each */
/* Lanes that share a candidate, of few, and of as many as there may be. */
constexpr uint32_t LANES_OF_FEW = 8, LANES_OF_MOST = THREADS / MOST_COUNTED;
static_assert(LANES_OF_MOST * MOST_COUNTED == THREADS && 32 % LANES_OF_MOST == 0 && MOST_COUNTED <= BINS,
	      "lanes of a warp, a mass a candidate");

/* In place of a segment's largest key: a raw logit there is NaN or infinite.  Above every key of a
 * number. */
constexpr key_t64 NO_NUMBER = ~0ull;

/* top_k, top_p, noise; keys below floor are out already.  A call of its own: 64 registers are what
 * 1,024 threads have, and all phases inlined into one need more. */
template <typename F>
__device__ __noinline__ uint32_t draw(shared &s, const F &from, const sample_params &p,
				      uint32_t position, key_t64 floor, float top)
{
	key_t64 best = 0;

	if (p.top_k && p.top_k < from.n) {
		float n = 0;	/* whole numbers below 2^24: exact */

		for (uint32_t i = threadIdx.x; i < from.n; i += THREADS)
			n += from.at(i) >= floor;
		if ((uint32_t)block_sum(s, n) > p.top_k)
			floor = select_key<false>(s, from, floor, p.top_k, top);
	}
	if (p.top_p < 1) {
		const double total = (double)total_mass(s, from, floor, top);
		key_t64 target = (key_t64)ceil((double)p.top_p * total);

		floor = select_key<true>(s, from, floor, target ? target : 1, top);
	}
#pragma unroll 1
	for (uint32_t i = threadIdx.x; i < from.n; i += THREADS) {
		key_t64 key = from.at(i);

		if (key >= floor) {
			uint32_t id = key_id(key);
			float g = -logf(-logf(noise_uniform(p.seed, p.choice, position, id)));

			key = order_key(__fadd_rn(key_value(key), g), id);
			best = key > best ? key : best;
		}
	}
	return key_id(block_max(s, best));
}

/* The sum over the lanes of a candidate, `lanes` neighbours. */
template <typename T> __device__ T lanes_sum(T x, uint32_t lanes)
{
#pragma unroll 1
	for (uint32_t d = 1; d < lanes; d *= 2)
		x += __shfl_xor_sync(0xffffffffu, x, d);
	return x;
}

/* The same among s.list's few: each is compared with all, by some lanes that share them, which takes
 * three barriers where draw() takes sixty. */
__device__ __noinline__ uint32_t draw_list(shared &s, const sample_params &p, uint32_t position,
					   key_t64 floor, float top)
{
	const uint32_t n = s.n_list, lanes = n <= THREADS / LANES_OF_FEW ? LANES_OF_FEW : LANES_OF_MOST;
	const uint32_t me = threadIdx.x / lanes, part = threadIdx.x % lanes;
	const key_t64 key = me < n ? s.list[me] : 0;
	bool kept = me < n && key >= floor;
	key_t64 best = 0;

	if (p.top_k) {
		uint32_t above = 0;

#pragma unroll 4
		for (uint32_t i = part; i < n; i += lanes)
			above += s.list[i] > key;
		above = lanes_sum(above, lanes);
		kept = kept && above < p.top_k;
	}
	if (p.top_p < 1) {
		key_t64 total = 0, above = 0, target;

		if (me < n && !part)
			s.low[me] = kept ? mass_of(key, top) : 0;
		__syncthreads();
#pragma unroll 4
		for (uint32_t i = part; i < n; i += lanes) {
			total += s.low[i];
			above += s.list[i] > key ? s.low[i] : 0;
		}
		total = lanes_sum(total, lanes);
		above = lanes_sum(above, lanes);
		target = (key_t64)ceil((double)p.top_p * (double)total);
		kept = kept && above < (target ? target : 1);
	}
	if (kept && !part) {
		const uint32_t id = key_id(key);
		const float g = -logf(-logf(noise_uniform(p.seed, p.choice, position, id)));

		best = order_key(__fadd_rn(key_value(key), g), id);
	}
	return key_id(block_max(s, best));
}

/* keys: the segments' largest, or NULL. */
__device__ uint32_t choose(shared &s, const from_adjusted &from, const sample_params &p,
			   uint32_t position, const uint64_t *keys)
{
	key_t64 own, max_key, floor = lowest_key();
	float top;

	if (keys) {
		own = keys[threadIdx.x];
		max_key = block_max(s, own);
	} else {
		max_key = largest(s, from, ~0ull, &own);
	}
	if (max_key < floor)
		return 0;	/* nothing is allowed, or all is NaN */
	if (p.temperature <= 0)
		return key_id(max_key);
	top = key_value(max_key);
	if (p.min_p > 0) {
		key_t64 least = order_key(__fadd_rn(top, logf(p.min_p)), 0xffffffffu);

		floor = least > floor ? least : floor;
	}
	if (p.top_k && p.top_k <= MOST_QUICK) {
		key_t64 quick = p.top_k <= WARPS ? kth_of_warps(s, p.top_k) :
						   kth_of_threads(s, own, p.top_k);
		uint32_t n;

		quick = quick > floor ? quick : floor;
		n = keys ? collect_segments(s, from, own, quick) : collect(s, from, quick);
		if (n <= MOST_COUNTED)
			return draw_list(s, p, position, floor, top);
		if (n <= LIST)
			return draw(s, from_list{ s.list, s.n_list }, p, position, floor, top);
	}
	return draw(s, from, p, position, floor, top);
}

/* log(sum of exp) of the raw logits, and the n most likely of them. */
__device__ __noinline__ float report(shared &s, const from_raw &from, const sample_params &p,
				     sample_out *out)
{
	key_t64 own, last, max_key = largest(s, from, ~0ull, &own);
	const float top = key_value(max_key);
	const uint32_t n = min(p.n_top, (uint32_t)SAMPLE_MAX_TOP);
	float sum = 0, log_sum;
	bool listed;

#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < from.n; i += THREADS)
		sum = __fadd_rn(sum, expf(__fsub_rn(from.x[i], top)));
	log_sum = __fadd_rn(top, logf(block_sum(s, sum)));
	if (!n || n > from.n)
		return log_sum;
	listed = collect(s, from, kth_of_threads(s, own, n)) <= LIST;
	last = ~0ull;
	for (uint32_t i = 0; i < n; i++) {
		last = listed ? largest(s, from_list{ s.list, s.n_list }, last, nullptr) :
				largest(s, from, last, nullptr);
		if (!threadIdx.x) {
			out->top_id[i] = min(key_id(last), from.n - 1);
			out->top_logprob[i] = __fsub_rn(key_value(last), log_sum);
		}
	}
	if (!threadIdx.x)
		out->n_top = n;
	return log_sum;
}

__device__ bool scanned(const sample_params &p)
{
	return !p.logprob && !p.n_top && !p.n_bias;
}

/* Block x, warp w: segment x * SCAN_WARPS + w of row y.  Of a row that is not `scanned` only
 * NO_NUMBER counts. */
__global__ void __launch_bounds__(SCAN_WARPS * 32) scan_kernel(sample_args a)
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const uint32_t index = blockIdx.x * SCAN_WARPS + warp;
	const segment g(index, a.n_ids);
	const sample_row row = a.rows[blockIdx.y];
	const sample_params p = a.params[row.slot];
	const from_adjusted from = { a.logits + (size_t)row.logits * a.vocab,
				     a.counts + (size_t)row.slot * a.vocab, &p, a.n_ids };
	key_t64 best = 0;

	chain_wait();
	chain_release();
	const segment_part part(g, from.x);
	const bool bad = __any_sync(0xffffffffu, part.which([](float x) { return !is_number(x); }));
	/* Keys are made of those alone that are next to the largest logit of all lanes. */
	const float least = from.least_beside(key_value(warp_max(order_key(part.largest(), 0))));
	uint32_t bits = part.which([&](float x) { return x >= least; });

	for (; bits; bits &= bits - 1) {
		const key_t64 key = from.at(part.id(bits));

		best = key > best ? key : best;
	}
	best = warp_max(best);
	if (lane == 0)
		a.keys[(size_t)blockIdx.y * SAMPLE_SEGMENTS + index] = bad ? NO_NUMBER : best;
}

__global__ void __launch_bounds__(THREADS) sample_kernel(sample_args a)
{
	__shared__ shared s;
	const sample_row row = a.rows[blockIdx.x];
	const sample_params p = a.params[row.slot];
	sample_out *out = (a.out ? a.out : *a.out_at) + blockIdx.x;
	const sample_bias *bias = a.bias + (size_t)row.slot * SAMPLE_MAX_BIAS;
	uint32_t *counts = a.counts + (size_t)row.slot * a.vocab;
	float *x = a.logits + (size_t)row.logits * a.vocab;
	const uint64_t *keys = a.keys + (size_t)blockIdx.x * SAMPLE_SEGMENTS;

	chain_wait();
	chain_release();
	const bool bad = __syncthreads_or(keys[threadIdx.x] == NO_NUMBER);
	float log_sum = 0, logit;
	uint32_t token;

	if (!threadIdx.x) {
		out->n_top = 0;
		out->no_number = bad;
	}
	__syncthreads();
	if (bad) {	/* the whole block: nothing of this row is worth a word */
		if (!threadIdx.x) {
			out->token = 0;
			out->logprob = 0;
			a.last_sample[row.slot] = 0;
		}
		return;
	}
	if (p.logprob || p.n_top)
		log_sum = report(s, from_raw{ x, a.n_ids }, p, out);
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < p.n_bias; i += THREADS) {
		s.raw[i] = x[bias[i].id];
		x[bias[i].id] = __fadd_rn(s.raw[i], bias[i].bias);
	}
	__syncthreads();
	token = choose(s, from_adjusted{ x, counts, &p, a.n_ids }, p, row.position,
		       scanned(p) ? keys : nullptr);
	token = token < a.n_ids ? token : 0;
	if (threadIdx.x)
		return;
	logit = x[token];
	for (uint32_t i = 0; i < p.n_bias; i++)
		if (bias[i].id == token)
			logit = s.raw[i];
	out->token = token;
	out->logprob = p.logprob || p.n_top ? __fsub_rn(logit, log_sum) : 0;
	a.last_sample[row.slot] = token;
	if (p.penalise)
		counts[token]++;
}

__global__ void count_kernel(count_args a)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i >= a.n || a.ids[i] >= a.vocab)
		return;
	if (a.prompt)
		atomicOr(&a.counts[a.ids[i]], COUNT_PROMPT);
	else
		atomicAdd(&a.counts[a.ids[i]], 1u);
}

__global__ void set_kernel(sample_params *to, sample_params value)
{
	*to = value;
}

int launched(void)
{
	return cudaGetLastError() == cudaSuccess ? 0 : -ENODEV;
}

} /* namespace */

int sample_rows(const struct sample_args *a, void *stream)
{
	int rc;

	if (!a->n_rows || a->n_rows > 65535 || !a->vocab || a->vocab > SAMPLE_MAX_VOCAB ||
	    !a->n_ids || a->n_ids > a->vocab || (!a->out && !a->out_at))
		return -EINVAL;
	rc = chain_launch(scan_kernel, dim3(SAMPLE_SEGMENTS / SCAN_WARPS, a->n_rows),
			  SCAN_WARPS * 32, 0, 1, (cudaStream_t)stream, *a);
	return rc ? rc :
		    chain_launch(sample_kernel, dim3(a->n_rows), THREADS, 0, 1,
				 (cudaStream_t)stream, *a);
}

int sample_count(const struct count_args *a, void *stream)
{
	if (!a->n)
		return 0;
	count_kernel<<<(a->n + 255) / 256, 256, 0, (cudaStream_t)stream>>>(*a);
	return launched();
}

int sample_set(struct sample_params *params, const struct sample_params *value, void *stream)
{
	set_kernel<<<1, 1, 0, (cudaStream_t)stream>>>(params, *value);
	return launched();
}
