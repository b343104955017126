/* route_choice.cuh - a row's choice of experts by one warp.  Included, through route_list.cuh, by route.cu and by
 * products that make the choice at their head: the same code, so the same bits.
 * (decode_row_choice.cuh has another way to the same choice, by a block; experts_row_test holds it to
 * this one.)
 *
 * All of it is run once a kernel by few warps that everybody waits for: what counts is how many
 * instructions follow one another, and how often memory is waited for. */
#ifndef HEARTH_KERNELS_CUDA_ROUTE_CHOICE_CUH
#define HEARTH_KERNELS_CUDA_ROUTE_CHOICE_CUH

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/route.h"

static __host__ __device__ __forceinline__ uint32_t route_slots(const struct route_args &a)
{
	return a.top + (a.shared ? 1 : 0);
}

/* Ids below this are listed. */
static __host__ __device__ __forceinline__ uint32_t route_listed(const struct route_args &a)
{
	return a.experts + (a.shared && a.list_shared ? 1 : 0);
}

static inline bool route_args_ok(const struct route_args &a, uint32_t max_rows)
{
	return a.rows && a.rows <= max_rows && a.experts && a.experts < MATMUL_MAX_EXPERTS &&
	       a.top && a.top <= ROUTE_MAX_TOP && a.top <= a.experts &&
	       a.stride >= a.experts + (a.shared ? 1 : 0);
}

/* What slot `lane` gets; nothing beyond the last slot. */
struct slot_choice {
	uint32_t id;
	float logit;	/* NaN: the row had not as many numbers, and id is 0 */
	float score;	/* the shared expert's, in all lanes */
};

/* Larger numbers have larger bits; 0 is NaN, or taken already. */
static __device__ __forceinline__ uint32_t order_bits(float x)
{
	const uint32_t bits = __float_as_uint(x);

	return x != x ? 0 : bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
}

static __device__ __forceinline__ float order_value(uint32_t bits)
{
	return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

/* A lane's keys: of experts lane, lane + 32, ...; 0 where there is none.  Every load has an address, so
 * that all are on their way before the first is waited for. */
template <int PER_LANE>
static __device__ __forceinline__ void choice_keys(const float *logits, uint32_t experts,
						   uint32_t (&key)[PER_LANE])
{
	const uint32_t lane = threadIdx.x % WARP;
	float x[PER_LANE];

	asm volatile("" : "+l"(logits));	/* one address and offsets, not as many products of row and stride */
#pragma unroll
	for (uint32_t i = 0; i < PER_LANE; i++)
		x[i] = __ldcg(logits + min(i * WARP + lane, experts - 1));
#pragma unroll
	for (uint32_t i = 0; i < PER_LANE; i++)
		key[i] = i * WARP + lane < experts ? order_bits(x[i]) : 0;
}

/* Largest first: Batcher's odd-even merge sort, by its steps: runs of 2^P become runs of 2^(P + 1) through
 * exchanges 2^K apart. */
template <int N, int P = 0, int K = P> static __device__ __forceinline__ void order_keys(uint32_t (&key)[N])
{
#pragma unroll
	for (int i = 0; i + (1 << K) < N; i++) {
		const int j = i + (1 << K);

		if ((i & 1 << K) == (K < P ? 1 << K : 0) && i >> (P + 1) == j >> (P + 1)) {
			const uint32_t larger = max(key[i], key[j]);

			key[j] = min(key[i], key[j]);
			key[i] = larger;
		}
	}
	if constexpr (K > 0)
		order_keys<N, P, K - 1>(key);
	else if constexpr (2 << P < N)
		order_keys<N, P + 1, P + 1>(key);
}

/* The `top` largest by the upper bits of their keys; the lower ones say which of its lane's each was, so
 * an exchange is a minimum and a maximum.  false: that is not enough to tell them apart, or from who
 * comes next, or there are fewer numbers.  Changes the keys. */
template <int PER_LANE>
static __device__ __forceinline__ bool choose_by_upper(const struct route_args &a, uint32_t (&key)[PER_LANE],
						       uint32_t *id)
{
	constexpr uint32_t PLACE = PER_LANE - 1;
	const uint32_t lane = threadIdx.x % WARP;
	uint32_t own = 0, owners = 0;	/* of slot `lane`: the key, a bit for each lane that has it */

#pragma unroll
	for (uint32_t i = 0; i < PER_LANE; i++)
		key[i] = (key[i] & ~PLACE) | i;
	order_keys(key);
	/* One more than `top`: who comes next. */
#pragma unroll 1
	for (uint32_t n = 0; n <= a.top; n++) {
		const uint32_t most = __reduce_max_sync(~0u, key[0]);
		const bool mine = key[0] == most;
		const uint32_t who = __ballot_sync(~0u, mine);

		if (lane == n) {
			own = most;
			owners = who;
		}
#pragma unroll
		for (int i = 0; i + 1 < PER_LANE; i++)
			key[i] = mine ? key[i + 1] : key[i];
		if (mine)
			key[PER_LANE - 1] = 0;
	}

	const uint32_t before = __shfl_up_sync(~0u, own, 1);
	const bool as_before = lane && lane <= a.top && (own | PLACE) == (before | PLACE);
	const bool unclear = lane < a.top && (own <= PLACE || owners & (owners - 1));

	*id = (own & PLACE) * WARP + (uint32_t)__ffs((int)owners) - 1;
	return !__any_sync(~0u, as_before || unclear);
}

/* The same by all bits, of equals the lower id: what slot `lane` gets.  Of fewer than `top` numbers (NaN
 * logits) the row is lost, but no id is wild.  A call of its own: rarely run, it would stand between what
 * always is. */
template <int PER_LANE>
static __device__ __noinline__ uint2 choose_by_all(const float *logits, uint32_t experts, uint32_t top)
{
	const uint32_t lane = threadIdx.x % WARP;
	uint2 own = { 0, __float_as_uint(NAN) };	/* id, logit */
	uint32_t key[PER_LANE];

	choice_keys(logits, experts, key);
#pragma unroll 1
	for (uint32_t n = 0; n < top; n++) {
		uint32_t most = 0, id = ~0u;

#pragma unroll
		for (uint32_t i = 0; i < PER_LANE; i++)
			most = max(most, key[i]);
		most = __reduce_max_sync(~0u, most);
#pragma unroll
		for (uint32_t i = PER_LANE; i-- > 0;)
			id = key[i] == most ? i * WARP + lane : id;
		id = __reduce_min_sync(~0u, id);
#pragma unroll
		for (uint32_t i = 0; i < PER_LANE; i++)
			key[i] = id == i * WARP + lane ? 0 : key[i];
		if (lane == n)
			own = { most ? id : 0, __float_as_uint(order_value(most)) };
	}
	return own;
}

/* PER_LANE x 32 >= experts. */
template <int PER_LANE>
static __device__ __forceinline__ struct slot_choice choose_row(const struct route_args &a,
								uint32_t row)
{
	const uint32_t lane = threadIdx.x % WARP;
	const float *logits = a.logits + (size_t)row * a.stride;
	struct slot_choice own = { 0, NAN, a.shared ? logits[a.experts] : 0 };
	uint32_t key[PER_LANE];

	choice_keys(logits, a.experts, key);
	if (choose_by_upper(a, key, &own.id)) {
		if (lane < a.top)
			own.logit = __ldcg(logits + own.id);
	} else {
		const uint2 exact = choose_by_all<PER_LANE>(logits, a.experts, a.top);

		own.id = exact.x;
		own.logit = __uint_as_float(exact.y);
	}
	if (lane == a.top)
		own.id = a.experts;
	return own;
}

/* Softmax over the chosen ones, in the order of slots, and the shared expert's sigmoid; by a whole warp. */
static __device__ __forceinline__ float choice_weight(const struct route_args &a,
						      const struct slot_choice &c)
{
	const bool shared = threadIdx.x % WARP == a.top;
	const float largest = __shfl_sync(~0u, c.logit, 0);
	const float e = expf(shared ? -c.score : __fsub_rn(c.logit, largest));
	const float own = shared || c.logit == c.logit ? e : 0;
	float sum = 0;

	for (uint32_t n = 0; n < a.top; n++)
		sum = __fadd_rn(sum, __shfl_sync(~0u, own, (int)n));
	return __fdiv_rn(shared ? 1.0f : own, shared ? 1.0f + own : sum);
}

/* Of a row, to where it goes; by a whole warp. */
static __device__ __forceinline__ void choice_store(const struct route_args &a, uint32_t row,
						    const struct slot_choice &c)
{
	const uint32_t lane = threadIdx.x % WARP, n_slots = route_slots(a);
	const float weight = choice_weight(a, c);

	if (lane >= n_slots)
		return;
	a.ids[(size_t)row * n_slots + lane] = c.id;
	a.weights[(size_t)row * n_slots + lane] = weight;
}

#endif
