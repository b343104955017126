/* route_list.cuh - from the choices of rows to the list of who goes where (struct expert_list), by a block
 * or by the blocks of a cluster, each for its own rows.
 *
 * Every block has a bit for each row and expert in its shared memory, from every row's warp.  A pair's
 * place is its expert's first, one prefix sum over experts (list_count()), and how many rows before its
 * own have chosen it too (list_place()).
 */
#ifndef HEARTH_KERNELS_CUDA_ROUTE_LIST_CUH
#define HEARTH_KERNELS_CUDA_ROUTE_LIST_CUH

#include "kernels/cuda/route_choice.cuh"

/* In shared memory, of at most ROWS rows. */
template <int ROWS> struct choice_list {
	static constexpr int WORDS = (ROWS + 31) / 32;
	uint32_t there[WORDS][MATMUL_MAX_EXPERTS];	/* bit row % 32: the row has chosen the expert */
	/* A row of too few numbers has expert 0 for each that it lacks: how often beside the once that a bit
	 * can say, and of all rows together. */
	uint32_t more[ROWS], all_more;
	uint32_t first[MATMUL_MAX_EXPERTS];	/* its first pair; above bit 16 its place among the active */
	uint32_t warp_sum[WARP];
};

/* By a block, before its next barrier and what choice_word_of() says. */
template <int ROWS>
static __device__ __forceinline__ void list_begin(struct choice_list<ROWS> &l, uint32_t rows)
{
	for (uint32_t w = 0; w < (rows + 31) / 32; w++)
		for (uint32_t i = threadIdx.x; i < MATMUL_MAX_EXPERTS; i += blockDim.x)
			l.there[w][i] = 0;
	for (uint32_t i = threadIdx.x; i < rows; i += blockDim.x)
		l.more[i] = 0;
	if (threadIdx.x == 0)
		l.all_more = 0;
}

/* How many lanes of each row's warp have a word for the list: always as many, so that a block knows when all
 * have come.  Those of the slots that are listed, and two more for the numbers that a row may lack. */
static __device__ __forceinline__ uint32_t list_words(const struct route_args &a)
{
	return a.top + (a.shared && a.list_shared ? 1 : 0) + 2;
}

/* What a lane of a row's warp adds to a word of each block's list, if it does; the word by its address in
 * the own block's shared memory. */
struct choice_word {
	bool is;
	uint32_t at, value;
};

static __device__ __forceinline__ void choice_add(const struct choice_word &w)
{
	if (w.is)
		asm volatile("red.relaxed.cta.shared::cta.add.u32 [%0], %1;" ::"r"(w.at), "r"(w.value) : "memory");
}

/* A slot's bit (of a row's repeated zeros the first one's alone), and by lanes without a slot how often beside it
 * the row has expert 0. */
template <int ROWS>
static __device__ __forceinline__ struct choice_word choice_word_of(const struct route_args &a,
								    struct choice_list<ROWS> &l, uint32_t row,
								    const struct slot_choice &c)
{
	constexpr uint32_t MORE = ROUTE_MAX_TOP + 1, ALL_MORE = MORE + 1;	/* lanes without a slot */
	const uint32_t lane = threadIdx.x % WARP;
	const bool listed = lane < route_slots(a) && c.id < route_listed(a);
	const uint32_t zeros = __ballot_sync(~0u, listed && c.id == 0);
	const bool again = c.id == 0 && zeros & ((1u << lane) - 1);
	const uint32_t *to = listed	  ? &l.there[row / 32][c.id] :
			     lane == MORE ? &l.more[row] :
					    &l.all_more;
	const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);

	static_assert(ALL_MORE < WARP);
	if (listed)
		return { true, at, again ? 0 : 1u << row % 32 };
	return { lane == MORE || lane == ALL_MORE, at, zeros ? __popc(zeros) - 1u : 0 };
}

/* How many rows below `row` have chosen an expert. */
template <int ROWS>
static __device__ __forceinline__ uint32_t list_below(const struct choice_list<ROWS> &l, uint32_t id, uint32_t row)
{
	uint32_t n = __popc(l.there[row / 32][id] & ((1u << row % 32) - 1));

	if constexpr (ROWS > 32)
#pragma unroll 1
		for (uint32_t w = 0; w < row / 32; w++)
			n += __popc(l.there[w][id]);
	if (id == 0 && l.all_more)
#pragma unroll 1
		for (uint32_t r = 0; r < row; r++)
			n += l.more[r];
	return n;
}

/* By a block of THREADS or more, when all choices are there: each expert's first pair, and for whoever has
 * `to` how many experts there are.  Ends with a barrier. */
template <int THREADS, int ROWS>
static __device__ __forceinline__ void list_count(struct choice_list<ROWS> &l, uint32_t rows,
						  const struct expert_list *to)
{
	constexpr uint32_t EACH = MATMUL_MAX_EXPERTS / THREADS, WARPS = THREADS / WARP;
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const bool counts = threadIdx.x < THREADS;
	uint32_t total[EACH], sum = 0, own;

	static_assert(MATMUL_MAX_EXPERTS % THREADS == 0 && WARPS <= WARP);
	/* Both sums in one: active experts above bit 16, pairs below. */
#pragma unroll
	for (uint32_t e = 0; e < EACH; e++) {
		const uint32_t id = threadIdx.x * EACH + e;

		total[e] = 0;
		if (counts) {
			total[e] = __popc(l.there[0][id]);
			if constexpr (ROWS > 32)
#pragma unroll 1
				for (uint32_t w = 1; w < (rows + 31) / 32; w++)
					total[e] += __popc(l.there[w][id]);
			if (id == 0)
				total[e] += l.all_more;
		}
		total[e] |= (uint32_t)(total[e] > 0) << 16;
		sum += total[e];
	}
	own = sum;
#pragma unroll
	for (uint32_t d = 1; d < WARP; d *= 2) {
		const uint32_t up = __shfl_up_sync(~0u, sum, d);

		sum += lane >= d ? up : 0;
	}
	if (counts && lane == WARP - 1)
		l.warp_sum[warp] = sum;
	__syncthreads();
	sum += __reduce_add_sync(~0u, lane < min(warp, WARPS) ? l.warp_sum[lane] : 0);
	if (to && threadIdx.x == THREADS - 1) {
		*to->n_active = sum >> 16;
		to->offset[sum >> 16] = sum & 0xffff;
	}
	sum -= own;
#pragma unroll
	for (uint32_t e = 0; e < EACH; e++) {
		if (counts)
			l.first[threadIdx.x * EACH + e] = sum;
		sum += total[e];
	}
	__syncthreads();
}

/* A row's pairs, by its warp, behind list_count(). */
template <int ROWS>
static __device__ __forceinline__ void list_place(const struct route_args &a, const struct choice_list<ROWS> &l,
						  uint32_t row, const struct slot_choice &c,
						  const struct expert_list &to)
{
	const uint32_t lane = threadIdx.x % WARP;
	const bool listed = lane < route_slots(a) && c.id < route_listed(a);
	const uint32_t zeros = __ballot_sync(~0u, listed && c.id == 0);

	if (!listed)
		return;

	const uint32_t first = l.first[c.id];
	uint32_t below = list_below(l, c.id, row);

	if (c.id == 0)
		below += __popc(zeros & ((1u << lane) - 1));
	to.pair[(first & 0xffff) + below] = row * route_slots(a) + lane;
	if (below == 0) {
		to.active[first >> 16] = c.id;
		to.offset[first >> 16] = first & 0xffff;
	}
}

/* ---- the list of a few rows, by a block that needs it itself ------------------------ */

#define FEW_PAIRS (ROUTE_FEW_ROWS * (ROUTE_MAX_TOP + 1))
#define FEW_THREADS (ROUTE_FEW_ROWS * WARP)

/* In shared memory. */
struct few_list {
	struct choice_list<ROUTE_FEW_ROWS> choices;
	uint32_t n_active, active[FEW_PAIRS], offset[FEW_PAIRS + 1], pair[FEW_PAIRS];

	__device__ __forceinline__ struct expert_list list(void)
	{
		return { &n_active, active, offset, pair };
	}
};

/* Before the block's next barrier and few_choose(). */
static __device__ __forceinline__ void few_begin(struct few_list &l)
{
	list_begin(l.choices, ROUTE_FEW_ROWS);
}

/* By a block, of FEW_THREADS, for at most ROUTE_FEW_ROWS rows and ROUTE_FEW_EXPERTS experts: a warp a row.
 * `store`: ids, weights and list go to where `a` wants them as well. */
static __device__ __forceinline__ void few_choose(const struct route_args &a, struct few_list &l,
						  bool store)
{
	const uint32_t row = threadIdx.x / WARP;
	const struct expert_list own = l.list();
	struct slot_choice c = {};

	if (row < a.rows) {
		c = choose_row<ROUTE_FEW_EXPERTS / WARP>(a, row);
		choice_add(choice_word_of(a, l.choices, row, c));
	}
	__syncthreads();
	list_count<FEW_THREADS>(l.choices, a.rows, &own);
	if (row < a.rows) {
		list_place(a, l.choices, row, c, own);
		if (store) {
			list_place(a, l.choices, row, c, a.list);
			choice_store(a, row, c);
		}
	}
	__syncthreads();
	if (store && threadIdx.x == 0) {
		*a.list.n_active = l.n_active;
		a.list.offset[l.n_active] = l.offset[l.n_active];
	}
}

/* p with the block's own list for the one in memory. */
static __device__ __forceinline__ struct matmul_params few_params(const struct matmul_params &p,
								  struct few_list &l)
{
	struct matmul_params own = p;

	own.list = l.list();
	own.list_settled = true;
	return own;
}

#endif
