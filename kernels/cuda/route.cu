/* route.cu - see route.h.
 *
 * A warp chooses for a row (route_choice.cuh).  A few rows are chosen and listed by one block.
 * More are chosen by the blocks of a cluster, for a warp a row each where that goes; the first one
 * gets all ids into its shared memory, and a bit for each row and expert, from which it makes the
 * list.  The choice is the same code, so the same bits. */
#include "kernels/cuda/route.h"

#include <cooperative_groups.h>

#include "kernels/cuda/route_choice.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int CHOOSE_WARPS = 4;
constexpr uint32_t MANY_THREADS = 512, MANY_WARPS = MANY_THREADS / WARP;
static_assert(MANY_THREADS == MATMUL_MAX_EXPERTS, "a thread an expert");

__global__ void __launch_bounds__(FEW_THREADS, 1)
	few_kernel(const __grid_constant__ route_args a)
{
	__shared__ __align__(16) few_list list;

	few_begin(list);
	__syncthreads();
	chain_wait();
	chain_release();
	few_choose(a, list, true);
}

/* ---- more rows, by a cluster ----------------------------------------------------------- */

/* In the first block's shared memory. */
struct many_list {
	/* A bit for each row that has chosen the expert: row / 32 outermost. */
	uint32_t there[MATMUL_MAX_ROWS / 32][MATMUL_MAX_EXPERTS];
	uint16_t ids[MATMUL_MAX_ROWS * (ROUTE_MAX_TOP + 1)];
	uint16_t first[MATMUL_MAX_EXPERTS];	/* an expert's first place in the list */
	uint32_t warp_sum[MANY_WARPS];
	uint32_t lost;	/* some row had not enough numbers: expert 0 can be there twice in it */
};

__device__ __forceinline__ void many_begin(many_list &l, uint32_t rows)
{
	for (uint32_t w = 0; w < (rows + 31) / 32; w++)
		l.there[w][threadIdx.x] = 0;
	if (threadIdx.x == 0)
		l.lost = 0;
}

/* What a row's warp has chosen, into the first block's memory. */
__device__ __forceinline__ void many_put(const route_args &a, many_list &l, uint32_t row,
					 const slot_choice &c)
{
	const uint32_t lane = threadIdx.x % WARP, n_slots = route_slots(a);

	if (lane >= n_slots)
		return;
	l.ids[row * n_slots + lane] = (uint16_t)c.id;
	if (c.id < route_listed(a))
		atomicOr(&l.there[row / 32][c.id], 1u << row % 32);
	if (lane < a.top && !c.key)
		l.lost = 1;
}

__device__ uint32_t zeros_before(const many_list &l, uint32_t pair)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < pair; i++)
		n += l.ids[i] == 0;
	return n;
}

/* By the first block, a thread an expert, then a thread a pair: a pair's place is its expert's first
 * and how many rows before its own are there. */
__device__ __forceinline__ void many_place(const route_args &a, many_list &l)
{
	const uint32_t e = threadIdx.x, lane = e % WARP, warp = e / WARP;
	const uint32_t n_slots = route_slots(a), n_pairs = a.rows * n_slots;
	const uint32_t words = (a.rows + 31) / 32;
	uint32_t total = 0, sum, before = 0;

	for (uint32_t w = 0; w < words; w++)
		total += __popc(l.there[w][e]);
	if (e == 0 && l.lost)
		total = zeros_before(l, n_pairs);

	/* Both sums in one: active experts above bit 16, pairs below. */
	sum = total | (uint32_t)(total > 0) << 16;
#pragma unroll
	for (uint32_t d = 1; d < WARP; d *= 2) {
		const uint32_t up = __shfl_up_sync(~0u, sum, d);

		if (lane >= d)
			sum += up;
	}
	if (lane == WARP - 1)
		l.warp_sum[warp] = sum;
	__syncthreads();
#pragma unroll
	for (uint32_t w = 0; w < MANY_WARPS; w++)
		before += w < warp ? l.warp_sum[w] : 0;
	sum += before;

	const uint32_t first = (sum & 0xffff) - total, index = (sum >> 16) - (total > 0);

	l.first[e] = (uint16_t)first;
	if (total) {
		a.list.active[index] = e;
		a.list.offset[index] = first;
	}
	if (e == MANY_THREADS - 1) {
		*a.list.n_active = sum >> 16;
		a.list.offset[sum >> 16] = sum & 0xffff;
	}
	__syncthreads();
	for (uint32_t pair = threadIdx.x; pair < n_pairs; pair += MANY_THREADS) {
		const uint32_t id = l.ids[pair], row = pair / n_slots;
		uint32_t at;

		if (id >= route_listed(a))
			continue;
		at = __popc(l.there[row / 32][id] & ((1u << row % 32) - 1));
		for (uint32_t w = 0; w < row / 32; w++)
			at += __popc(l.there[w][id]);
		if (id == 0 && l.lost)
			at = zeros_before(l, pair);
		a.list.pair[l.first[id] + at] = pair;
	}
}

__global__ void __launch_bounds__(MANY_THREADS, 1)
	many_kernel(const __grid_constant__ route_args a)
{
	__shared__ many_list list;
	cg::cluster_group cluster = cg::this_cluster();
	many_list &to = *cluster.map_shared_rank(&list, 0);
	const uint32_t step = MANY_WARPS * gridDim.x;
	uint32_t row = threadIdx.x / WARP * gridDim.x + blockIdx.x;
	bool begun = false;
	slot_choice c = {};

	if (blockIdx.x == 0)
		many_begin(list, a.rows);
	cluster.barrier_arrive();
	if (a.early)	/* then the second one does nothing */
		chain_release();
	chain_wait();
	chain_release();
#pragma unroll 1
	for (; row < a.rows; row += step) {
		if (begun)
			choice_store(a, row - step, c);
		c = choose_row(a, row);
		if (!begun)
			cluster.barrier_wait();	/* the first block has begun */
		many_put(a, to, row, c);
		begun = true;
	}
	if (!begun)
		cluster.barrier_wait();
	cluster.barrier_arrive();
	if (blockIdx.x == 0) {
		cluster.barrier_wait();
		many_place(a, list);
	}
	/* A row's weights are waited for by nobody yet. */
	if (begun)
		choice_store(a, row - step, c);
	if (blockIdx.x)
		cluster.barrier_wait();
}

__global__ void __launch_bounds__(CHOOSE_WARPS *WARP)
	choose_kernel(const __grid_constant__ route_args a)
{
	const uint32_t row = blockIdx.x * CHOOSE_WARPS + threadIdx.x / WARP;

	chain_wait();
	chain_release();
	if (row < a.rows)
		choice_store(a, row, choose_row(a, row));
}

} /* namespace */

int route_choose(const struct route_args *a, void *stream)
{
	if (!route_args_ok(*a, UINT32_MAX))
		return -EINVAL;
	return chain_launch(choose_kernel, dim3((a->rows + CHOOSE_WARPS - 1) / CHOOSE_WARPS),
			    CHOOSE_WARPS * WARP, 0, 1, (cudaStream_t)stream, *a);
}

int route(const struct route_args *a, void *stream)
{
	const uint32_t blocks = a->rows <= 16 ? 2 : a->rows <= 32 ? 4 : 8;

	if (!route_args_ok(*a, MATMUL_MAX_ROWS))
		return -EINVAL;
	if (a->rows <= ROUTE_FEW_ROWS)
		return chain_launch(few_kernel, dim3(1), FEW_THREADS, 0, 1, (cudaStream_t)stream,
				    *a);
	return chain_launch(many_kernel, dim3(blocks), MANY_THREADS, 0, blocks,
			    (cudaStream_t)stream, *a);
}
