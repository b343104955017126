/* route_choice.cuh - a row's choice of experts by one warp, the list of a few rows by one block.
 * Included by route.cu and, for products that make the choice at their head, by decode_narrow.cuh:
 * the same code, so the same bits.  (decode_row_choice.cuh has another way to the same choice, by a block;
 * experts_row_test holds it to this one.) */
#ifndef HEARTH_KERNELS_CUDA_ROUTE_CHOICE_CUH
#define HEARTH_KERNELS_CUDA_ROUTE_CHOICE_CUH

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/route.h"

#define FEW_PAIRS (ROUTE_FEW_ROWS * (ROUTE_MAX_TOP + 1))
#define FEW_THREADS (ROUTE_FEW_ROWS * WARP)

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

/* ---- a row, by a warp ------------------------------------------------------------ */

/* What slot `lane` gets; nothing beyond the last slot. */
struct slot_choice {
	uint32_t id, key;	/* key: order_bits() of its logit; 0: there was none */
	float score;		/* the shared expert's, in all lanes */
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

/* A lane's keys, largest first, of equals the first first (neighbours change places, and only where
 * the right one is larger); which of them each was in the nibbles of what is returned.  A short
 * loop: the code is run once a kernel, and is waited for like data. */
template <int PER_LANE>
static __device__ __forceinline__ uint64_t order_lane(uint32_t key[PER_LANE])
{
	uint32_t from[PER_LANE];
	uint64_t order = 0;

#pragma unroll
	for (int i = 0; i < PER_LANE; i++)
		from[i] = (uint32_t)i;
#pragma unroll 1
	for (int round = 0; round < PER_LANE; round += 2)
#pragma unroll
		for (int step = 0; step < PER_LANE - 1; step++) {
			/* 0 2 4 ... 1 3 5 ... */
			const int i = step < PER_LANE / 2 ? 2 * step : 2 * step - PER_LANE + 1;
			const bool swap = key[i + 1] > key[i];
			const uint32_t more = swap ? key[i + 1] : key[i];
			const uint32_t more_from = swap ? from[i + 1] : from[i];

			key[i + 1] = swap ? key[i] : key[i + 1];
			from[i + 1] = swap ? from[i] : from[i + 1];
			key[i] = more;
			from[i] = more_from;
		}
#pragma unroll
	for (int i = 0; i < PER_LANE; i++)
		order |= (uint64_t)from[i] << 4 * i;
	return order;
}

/* Lane l has experts l, l + 32, ..., in order; `top` rounds take the largest of all lanes' first.
 * PER_LANE x 32 >= experts. */
template <int PER_LANE>
static __device__ __forceinline__ struct slot_choice choose_of(const struct route_args &a,
							       uint32_t row)
{
	const uint32_t lane = threadIdx.x % WARP;
	const float *logits = a.logits + (size_t)row * a.stride;
	const float score = a.shared ? logits[a.experts] : 0;
	struct slot_choice own = { 0, 0, score };
	uint32_t key[PER_LANE];
	uint64_t order;

#pragma unroll
	for (int i = 0; i < PER_LANE; i++) {
		const uint32_t id = i * WARP + lane;

		key[i] = id < a.experts ? order_bits(logits[id]) : 0;
	}
	order = order_lane<PER_LANE>(key);
#pragma unroll 1
	for (uint32_t n = 0; n < a.top; n++) {
		const uint32_t most = __reduce_max_sync(~0u, key[0]);
		const uint32_t head = (uint32_t)(order & 15) * WARP + lane;
		uint32_t who = __ballot_sync(~0u, key[0] == most);

		if (who & (who - 1)) {	/* equals: the lower id */
			const uint32_t first =
				__reduce_min_sync(~0u, key[0] == most ? head : ~0u);

			who = 1u << first % WARP;
		}
		const uint32_t id = __shfl_sync(~0u, head, __ffs((int)who) - 1);

		/* Fewer than `top` numbers (NaN logits): the row is lost, but no id is wild. */
		if (lane == n) {
			own.key = most;
			own.id = most ? id : 0;
		}
		if (who == 1u << lane) {
#pragma unroll
			for (int i = 0; i + 1 < PER_LANE; i++)
				key[i] = key[i + 1];
			key[PER_LANE - 1] = 0;
			order >>= 4;
		}
	}
	if (lane == a.top)
		own.id = a.experts;
	return own;
}

/* Softmax over the chosen ones, in the order of slots; by a whole warp. */
static __device__ __forceinline__ float choice_weight(const struct route_args &a,
						      const struct slot_choice &c)
{
	const float largest = order_value(__shfl_sync(~0u, c.key, 0));
	const float own = c.key ? expf(__fsub_rn(order_value(c.key), largest)) : 0;
	float sum = 0;

	for (uint32_t n = 0; n < a.top; n++)
		sum = __fadd_rn(sum, __shfl_sync(~0u, own, (int)n));
	return threadIdx.x % WARP == a.top ? __fdiv_rn(1.0f, 1.0f + expf(-c.score)) :
					     __fdiv_rn(own, sum);
}

static __device__ __forceinline__ struct slot_choice choose_row(const struct route_args &a,
								uint32_t row)
{
	return a.experts <= 256 ? choose_of<8>(a, row) : choose_of<16>(a, row);
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

/* ---- the list of a few rows, by a block -------------------------------------------- */

/* In shared memory, as struct expert_list has it. */
struct few_list {
	uint32_t key[FEW_PAIRS];	/* id << 8 | pair: in the order of the list; then ~0 */
	uint32_t there[MATMUL_MAX_EXPERTS / 32];	/* a bit for each listed id, of several rows */
	uint32_t n_active, active[FEW_PAIRS], offset[FEW_PAIRS + 1], pair[FEW_PAIRS];
};
static_assert(FEW_PAIRS <= 256 && FEW_PAIRS <= FEW_THREADS,
	      "a pair is a byte of its key, and has a thread");

/* Before the block's next barrier and few_choose(). */
static __device__ __forceinline__ void few_begin(struct few_list &l)
{
	if (threadIdx.x < MATMUL_MAX_EXPERTS / 32)
		l.there[threadIdx.x] = 0;
	if (threadIdx.x < FEW_PAIRS)
		l.key[threadIdx.x] = ~0u;
}

/* Listed ids below `id` that are there. */
static __device__ __forceinline__ uint32_t few_below(const struct few_list &l, uint32_t id)
{
	uint32_t n = 0;

#pragma unroll 1
	for (uint32_t i = 0; i <= id / 32; i += 4) {
		const uint4 four = *(const uint4 *)&l.there[i];
		const uint32_t word[4] = { four.x, four.y, four.z, four.w };

#pragma unroll
		for (uint32_t j = 0; j < 4; j++)
			n += i + j < id / 32  ? __popc(word[j]) :
			     i + j == id / 32 ? __popc(word[j] & ((1u << id % 32) - 1)) :
						0;
	}
	return n;
}

/* Its place is how many keys are smaller, its expert's how many ids that are there.  In a row only
 * id 0 can be there twice. */
static __device__ __forceinline__ void few_place(const struct route_args &a, struct few_list &l,
						 uint32_t n_pairs)
{
	const uint32_t pair = threadIdx.x, key = l.key[pair], id = key >> 8;
	uint32_t at = 0, first = 0, zeros = 0, index;

	if (id >= route_listed(a))
		return;
#pragma unroll 1
	for (uint32_t i = 0; i < n_pairs; i += 4) {
		const uint4 four = *(const uint4 *)&l.key[i];
		const uint32_t other[4] = { four.x, four.y, four.z, four.w };

#pragma unroll
		for (int j = 0; j < 4; j++) {
			at += other[j] < key;
			first += other[j] < id << 8;
			zeros += other[j] < 1 << 8;
		}
	}
	index = a.rows > 1 ? few_below(l, id) : zeros > 1 && id ? first + 1 - zeros : first;
	l.pair[at] = pair;
	if (at == first) {
		l.active[index] = id;
		l.offset[index] = at;
	}
	/* Only the shared expert is ever left out, once a row. */
	if (at + 1 == n_pairs - (a.shared && !a.list_shared ? a.rows : 0)) {
		l.offset[index + 1] = at + 1;
		l.n_active = index + 1;
	}
}

/* By a block, of FEW_THREADS, for at most ROUTE_FEW_ROWS rows: a warp each.  `store`: ids, weights and
 * list go to where `a` wants them as well. */
static __device__ __forceinline__ void few_choose(const struct route_args &a, struct few_list &l,
						  bool store)
{
	const uint32_t lane = threadIdx.x % WARP, row = threadIdx.x / WARP,
		       n_slots = route_slots(a), n_pairs = a.rows * n_slots;
	struct slot_choice c = {};

	if (row < a.rows) {
		c = choose_row(a, row);
		if (lane < n_slots) {
			l.key[row * n_slots + lane] = c.id << 8 | (row * n_slots + lane);
			if (a.rows > 1 && c.id < route_listed(a))
				atomicOr(&l.there[c.id / 32], 1u << c.id % 32);
		}
	}
	/* One row's pairs are those of the warp that chose. */
	if (a.rows > 1)
		__syncthreads();
	else
		__syncwarp();
	if (threadIdx.x < n_pairs)
		few_place(a, l, n_pairs);
	if (store && row < a.rows)
		choice_store(a, row, c);
	__syncthreads();
	if (!store)
		return;
	if (threadIdx.x < n_pairs - (a.shared && !a.list_shared ? a.rows : 0))
		a.list.pair[threadIdx.x] = l.pair[threadIdx.x];
	if (threadIdx.x < l.n_active) {
		a.list.active[threadIdx.x] = l.active[threadIdx.x];
		a.list.offset[threadIdx.x] = l.offset[threadIdx.x];
	}
	if (threadIdx.x == 0) {
		*a.list.n_active = l.n_active;
		a.list.offset[l.n_active] = l.offset[l.n_active];
	}
}

/* p with the block's own list for the one in memory. */
static __device__ __forceinline__ struct matmul_params few_params(const struct matmul_params &p,
								  struct few_list &l)
{
	struct matmul_params own = p;

	own.list.n_active = &l.n_active;
	own.list.active = l.active;
	own.list.offset = l.offset;
	own.list.pair = l.pair;
	own.list_settled = true;
	return own;
}

#endif
