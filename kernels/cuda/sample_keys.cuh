/* sample_keys.cuh - a row's logits as keys whose order is a total one, and what a block finds among
 * them: the largest, those above a bound, the one at which a given weight is reached.
 *
 * All threads of a block of THREADS take part in each call, of a warp where it says so.  A key holds its value and its id, so
 * that no two numbers' are equal: neither the order of threads nor of atomics decides anything.
 */
#ifndef HEARTH_KERNELS_CUDA_SAMPLE_KEYS_CUH
#define HEARTH_KERNELS_CUDA_SAMPLE_KEYS_CUH

#include "kernels/cuda/sample.h"

namespace {

typedef unsigned long long key_t64;

constexpr int WARPS = 32, THREADS = WARPS * 32;
static_assert(THREADS == SAMPLE_SEGMENTS, "a thread has a segment's key");
constexpr uint32_t LIST = 2048;		/* candidates that fit shared memory */
constexpr uint32_t BINS = 2048;
static_assert(SAMPLE_SEGMENTS <= BINS, "a list of segments lies in low");
constexpr float MASS_ONE = 268435456.0f;	/* 2^28 */

struct shared {
	key_t64 list[LIST];
	/* a bin's mass: low + high 2^14; low also segments that have candidates, then candidates' masses */
	uint32_t low[BINS], high[BINS];
	float raw[SAMPLE_MAX_BIAS];	/* logits as they were before the bias */
	key_t64 warp_key[WARPS];
	float warp_float[WARPS];
	uint32_t n_list, n_segments;
	key_t64 digit, rest;
};

__device__ bool is_number(float x)
{
	return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

/* Larger logit first, then lower id; NaN is 0, below everything. */
__device__ key_t64 order_key(float x, uint32_t id)
{
	uint32_t bits = __float_as_uint(x);

	if (x != x)
		return 0;
	bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
	return (key_t64)bits << 32 | (0xffffffffu - id);
}

__device__ uint32_t key_id(key_t64 key)
{
	return 0xffffffffu - (uint32_t)key;
}

__device__ float key_value(key_t64 key)
{
	uint32_t bits = (uint32_t)(key >> 32);

	return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

/* The lowest key of a value above -infinity: forbidden ids are below. */
__device__ key_t64 lowest_key(void)
{
	return ((key_t64)0x007fffffu + 1) << 32;
}

/* Of a warp, in all its lanes. */
__device__ key_t64 warp_max(key_t64 x)
{
	const uint32_t high = (uint32_t)(x >> 32), most = __reduce_max_sync(~0u, high);

	return (key_t64)most << 32 | __reduce_max_sync(~0u, high == most ? (uint32_t)x : 0);
}

/* Leaves the warps' largest in s.warp_key. */
__device__ key_t64 block_max(shared &s, key_t64 x)
{
	static_assert(WARPS == 32, "a lane has a warp's");
	x = warp_max(x);
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		s.warp_key[threadIdx.x / 32] = x;
	__syncthreads();
	return warp_max(s.warp_key[threadIdx.x % 32]);
}

__device__ float block_sum(shared &s, float x)
{
	for (int m = 16; m > 0; m >>= 1)
		x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, m));
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		s.warp_float[threadIdx.x / 32] = x;
	__syncthreads();
	x = s.warp_float[0];
	for (int i = 1; i < WARPS; i++)
		x = __fadd_rn(x, s.warp_float[i]);
	return x;
}

/* Where candidates come from: keys computed from the logits, or a list of keys. */
struct from_raw {
	const float *x;
	uint32_t n;

	__device__ key_t64 at(uint32_t i) const { return order_key(x[i], i); }
};

struct from_adjusted {
	const float *x;
	const uint32_t *counts;
	const sample_params *p;
	uint32_t n;

	/* Logits below it have smaller keys than a logit of x: rounding moves a value by less than 2^-20 of it,
	 * or by next to nothing.  A bound only; -infinity where it says nothing: a penalty may have turned them
	 * around, or so small a temperature made them all infinite. */
	__device__ float least_beside(float x) const
	{
		const float bound = x - fabsf(x) * 0x1p-20f - 1e-30f;
		const float value = p->temperature > 0 ? __fdiv_rn(x, p->temperature) : x;

		return p->penalise || !is_number(bound) || !is_number(value) ? -INFINITY : bound;
	}
	/* Logits below it have smaller keys than `floor`. */
	__device__ float least(key_t64 floor) const
	{
		const float v = key_value(floor);

		return least_beside(p->temperature > 0 ? __fmul_rn(v, p->temperature) : v);
	}
	__device__ key_t64 at(uint32_t i) const
	{
		float v = x[i];

		if (p->penalise) {
			uint32_t c = counts[i], times = c & ~COUNT_PROMPT;

			if (c)
				v = v > 0 ? __fdiv_rn(v, p->repetition) :
					    __fmul_rn(v, p->repetition);
			if (times)
				v = __fsub_rn(__fsub_rn(v, __fmul_rn(p->frequency, (float)times)),
					      p->presence);
		}
		if (p->temperature > 0)
			v = __fdiv_rn(v, p->temperature);
		return order_key(v, i);
	}
};

struct from_list {
	const key_t64 *keys;
	uint32_t n;

	__device__ key_t64 at(uint32_t i) const { return keys[i]; }
};

template <typename F>
__device__ key_t64 largest(shared &s, const F &from, key_t64 below, key_t64 *ret_own)
{
	key_t64 best = 0;

#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < from.n; i += THREADS) {
		key_t64 key = from.at(i);

		best = key > best && key < below ? key : best;
	}
	if (ret_own)
		*ret_own = best;
	return block_max(s, best);
}

/* exp(x - top) in units of 2^-28. */
__device__ uint32_t mass_of(key_t64 key, float top)
{
	return (uint32_t)__float2uint_rn(__fmul_rn(expf(__fsub_rn(key_value(key), top)), MASS_ONE));
}

/* Thread t has the bins 2047 - 2t and 2046 - 2t.  Finds the bin where the sum from above
 * reaches `target`: s.digit; and what of the target is left for inside the bin: s.rest. */
__device__ void find_bin(shared &s, key_t64 target)
{
	const uint32_t hi = BINS - 1 - 2 * threadIdx.x, lo = hi - 1;
	const key_t64 a = s.low[hi] + ((key_t64)s.high[hi] << 14),
		      b = s.low[lo] + ((key_t64)s.high[lo] << 14);
	key_t64 sum = a + b, before;

	for (int d = 1; d < 32; d *= 2) {
		key_t64 up = __shfl_up_sync(0xffffffffu, sum, d);

		if (threadIdx.x % 32 >= (uint32_t)d)
			sum += up;
	}
	if (threadIdx.x % 32 == 31)
		s.warp_key[threadIdx.x / 32] = sum;
	__syncthreads();
	for (uint32_t w = 0; w < threadIdx.x / 32; w++)
		sum += s.warp_key[w];
	before = sum - a - b;
	if (before < target && target <= before + a) {
		s.digit = hi;
		s.rest = target - before;
	} else if (before + a < target && target <= sum) {
		s.digit = lo;
		s.rest = target - before - a;
	}
	__syncthreads();
}

/* The largest key T such that the keys >= T (of those >= floor) weigh at least target, each 1 or,
 * with MASS, mass_of().  Their whole weight must reach target.  Five digits: 32 bits of
 * the value, then the 18 of the id that differ. */
template <bool MASS, typename F>
__device__ __noinline__ key_t64 select_key(shared &s, const F &from, key_t64 floor, key_t64 target, float top)
{
	key_t64 prefix = 0;
	int shift = 64, above;

#pragma unroll 1
	for (int round = 0; round < 5; round++) {
		const int bits = round < 2 ? 11 : round == 2 ? 10 : 9;
		const uint32_t mask = (1u << bits) - 1;

		above = shift;
		shift = round == 3 ? 9 : shift - bits;

		__syncthreads();
		for (uint32_t i = threadIdx.x; i < BINS; i += THREADS)
			s.low[i] = s.high[i] = 0;
		__syncthreads();
#pragma unroll 2
		for (uint32_t i = threadIdx.x; i < from.n; i += THREADS) {
			key_t64 key = from.at(i);
			uint32_t bin = (uint32_t)(key >> shift) & mask, m;

			if (key < floor || (round && key >> above != prefix >> above))
				continue;
			m = MASS ? mass_of(key, top) : 1;
			if (m & 0x3fff)
				atomicAdd(&s.low[bin], m & 0x3fff);
			if (m >> 14)
				atomicAdd(&s.high[bin], m >> 14);
		}
		__syncthreads();
		find_bin(s, target);
		prefix |= s.digit << shift;
		target = s.rest;
		if (round == 2)
			prefix |= 0xfffc0000u;	/* ids are below 2^18 */
	}
	return prefix;
}

template <typename F>
__device__ key_t64 total_mass(shared &s, const F &from, key_t64 floor, float top)
{
	key_t64 sum = 0;

#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < from.n; i += THREADS) {
		key_t64 key = from.at(i);

		sum += key >= floor ? mass_of(key, top) : 0;
	}
	for (int m = 16; m > 0; m >>= 1)
		sum += __shfl_xor_sync(0xffffffffu, sum, m);
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		s.warp_key[threadIdx.x / 32] = sum;
	__syncthreads();
	sum = 0;
	for (int i = 0; i < WARPS; i++)
		sum += s.warp_key[i];
	return sum;
}

/* The k-th largest of the threads' own largest keys: at least k keys are not below it. */
__device__ key_t64 kth_of_threads(shared &s, key_t64 own, uint32_t k)
{
	__syncthreads();
	s.list[threadIdx.x] = own;
	for (uint32_t size = 2; size <= THREADS; size *= 2)
		for (uint32_t d = size / 2; d > 0; d /= 2) {
			uint32_t i = threadIdx.x, j = i ^ d;

			__syncthreads();
			if (j > i) {
				key_t64 a = s.list[i], b = s.list[j];

				if ((i & size) ? a > b : a < b) {
					s.list[i] = b;
					s.list[j] = a;
				}
			}
		}
	__syncthreads();
	own = s.list[k - 1];
	__syncthreads();
	return own;
}

/* The k-th largest of the warps' largest keys, k <= WARPS, as block_max() has left them: at least k
 * keys are not below it.  For random logits about 1.6 k are not. */
__device__ key_t64 kth_of_warps(shared &s, uint32_t k)
{
	if (threadIdx.x < 32) {	/* one warp: 32 of them would wait for each other's instructions */
		const key_t64 own = s.warp_key[threadIdx.x];
		uint32_t reach = 0;

#pragma unroll 4
		for (int i = 0; i < WARPS; i++)
			reach += s.warp_key[i] >= own;
		s.digit = warp_max(reach >= k ? own : 0);
	}
	__syncthreads();
	return s.digit;
}

/* All keys >= floor into the list, in any order; how many there are, also when they do not fit. */
template <typename F> __device__ uint32_t collect(shared &s, const F &from, key_t64 floor)
{
	__syncthreads();
	if (!threadIdx.x)
		s.n_list = 0;
	__syncthreads();
#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < from.n; i += THREADS) {
		key_t64 key = from.at(i);

		if (key >= floor) {
			uint32_t to = atomicAdd(&s.n_list, 1);

			if (to < LIST)
				s.list[to] = key;
		}
	}
	__syncthreads();
	return s.n_list;
}

/* A segment of a row: neighbours, so that a warp reads it at once. */
struct segment {
	uint32_t begin, end;

	__device__ segment(uint32_t index, uint32_t n)
	{
		const uint32_t each = (n + SAMPLE_SEGMENTS - 1) / SAMPLE_SEGMENTS;

		begin = min(index * each, n);
		end = min(begin + each, n);
	}
};

/* What a lane of a warp has of a segment, all of it asked for at once: a load after the other would take a
 * row's time eight times. */
struct segment_part {
	static constexpr int N = SAMPLE_MAX_VOCAB / SAMPLE_SEGMENTS / 32;
	float x[N];
	uint32_t first, end;	/* value j is that of id first + 32 j, below end */

	__device__ __forceinline__ segment_part(const segment &g, const float *row)
		: first(g.begin + threadIdx.x % 32), end(g.end)
	{
#pragma unroll
		for (int j = 0; j < N; j++)
			x[j] = first + 32 * j < end ? row[first + 32 * j] : 0;
	}
	/* -infinity where there is none. */
	__device__ __forceinline__ float largest(void) const
	{
		float most = -INFINITY;

#pragma unroll
		for (int j = 0; j < N; j++)
			most = fmaxf(most, first + 32 * j < end ? x[j] : -INFINITY);
		return most;
	}
	/* Of the lowest bit of which(). */
	__device__ __forceinline__ uint32_t id(uint32_t bits) const
	{
		return first + 32 * (uint32_t)(__ffs((int)bits) - 1);
	}
	/* Bit j: f(value j) says so. */
	template <typename F> __device__ __forceinline__ uint32_t which(const F &f) const
	{
		uint32_t bits = 0;

#pragma unroll
		for (int j = 0; j < N; j++)
			bits |= (uint32_t)(first + 32 * j < end && f(x[j])) << j;
		return bits;
	}
};
static_assert(SAMPLE_MAX_VOCAB % (SAMPLE_SEGMENTS * 32) == 0, "a segment is whole rounds of a warp");

/* As collect(); `own` is the largest key of segment threadIdx.x, and only segments that have one
 * are read, a warp one after the other. */
__device__ uint32_t collect_segments(shared &s, const from_adjusted &from, key_t64 own,
				     key_t64 floor)
{
	const float least = from.least(floor);

	__syncthreads();
	if (!threadIdx.x)
		s.n_list = s.n_segments = 0;
	__syncthreads();
	if (own >= floor)
		s.low[atomicAdd(&s.n_segments, 1)] = threadIdx.x;
	__syncthreads();
	for (uint32_t i = threadIdx.x / 32; i < s.n_segments; i += WARPS) {
		const segment_part part(segment(s.low[i], from.n), from.x);
		uint32_t bits = part.which([&](float x) { return x >= least; });

		for (; bits; bits &= bits - 1) {
			const key_t64 key = from.at(part.id(bits));

			if (key >= floor) {
				uint32_t to = atomicAdd(&s.n_list, 1);

				if (to < LIST)
					s.list[to] = key;
			}
		}
	}
	__syncthreads();
	return s.n_list;
}

} /* namespace */

#endif
