/* route.cu - see route.h.
 *
 * A warp chooses for a row (route_choice.cuh); one block for a few rows, the blocks of a cluster for
 * more, each for its own.  What was chosen goes to all of them, and each makes its part of the list
 * (route_list.cuh). */
#include "kernels/cuda/route.h"

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/route_list.cuh"

namespace {

constexpr int CHOOSE_WARPS = 4;
/* Experts of a lane, see choose_row(): as products have them at their head, or as many as there may be. */
constexpr int FEW_A_LANE = ROUTE_FEW_EXPERTS / WARP, MOST_A_LANE = MATMUL_MAX_EXPERTS / WARP;
/* Threads of a block: what counts the list, and where there is room a second warp for each row. */
constexpr uint32_t ROUTE_THREADS = MATMUL_MAX_EXPERTS, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP;
constexpr uint32_t MOST_BLOCKS = 8;
static_assert(MATMUL_MAX_ROWS <= MOST_WARPS * MOST_BLOCKS, "a warp a row");

struct route_shared {
	choice_list<MATMUL_MAX_ROWS> list;
	alignas(8) uint64_t come;	/* barrier: all rows' words are in the list */
	/* Of a row's warp: its choice, for the second one. */
	uint32_t id[MOST_WARPS][ROUTE_MAX_TOP + 1];
	float logit[MOST_WARPS][ROUTE_MAX_TOP + 1], score[MOST_WARPS];
};

__device__ __forceinline__ void cluster_arrive(void)
{
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait(void)
{
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* Adds to a word of a block of the cluster, and its bytes to those that have come there. */
__device__ __forceinline__ void choice_add_at(const choice_word &w, uint32_t barrier, uint32_t block)
{
	if (!w.is)
		return;
	asm volatile("{ .reg .b32 to, at;\n"
		     "mapa.shared::cluster.u32 to, %0, %3;\n"
		     "mapa.shared::cluster.u32 at, %2, %3;\n"
		     "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 "
		     "[to], %1, [at]; }" ::"r"(w.at), "r"(w.value), "r"(barrier), "r"(block)
		     : "memory");
}

/* A row's words to the lists of all blocks; of one block behind its next barrier. */
__device__ __forceinline__ void choice_tell(const choice_word &w, uint32_t barrier)
{
	if (gridDim.x == 1) {
		choice_add(w);
		return;
	}
#pragma unroll 1
	for (uint32_t b = 0; b < gridDim.x; b++)
		choice_add_at(w, barrier, b);
}

/* Until all rows' words are in the block's list.  (Acquired for the block: they lie in its own memory.) */
__device__ __forceinline__ void choices_wait(uint32_t barrier)
{
	if (gridDim.x == 1)
		__syncthreads();
	else
		ring_wait(barrier, 0);
}

__device__ __forceinline__ void choice_keep(route_shared &s, uint32_t warp, const slot_choice &c)
{
	const uint32_t lane = threadIdx.x % WARP;

	if (lane <= ROUTE_MAX_TOP) {
		s.id[warp][lane] = c.id;
		s.logit[warp][lane] = c.logit;
	}
	if (lane == 0)
		s.score[warp] = c.score;
}

__device__ __forceinline__ slot_choice choice_kept(const route_shared &s, uint32_t warp)
{
	const uint32_t lane = min(threadIdx.x % WARP, ROUTE_MAX_TOP);

	return { s.id[warp][lane], s.logit[warp][lane], s.score[warp] };
}

/* PER_LANE: experts of a lane, see choose_row().  rows_each: of a block, at most; where it has twice as many
 * warps the second half weighs what the first has chosen. */
template <int PER_LANE>
__global__ void __launch_bounds__(MOST_THREADS, 1)
	route_kernel(const __grid_constant__ route_args a, uint32_t rows_each)
{
	__shared__ route_shared s;
	const uint32_t warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
	const bool helped = 2 * rows_each <= warps, helps = helped && warp >= rows_each;
	const uint32_t chooser = helps ? warp - rows_each : warp;
	const uint32_t row = chooser * gridDim.x + blockIdx.x;
	const uint32_t barrier = (uint32_t)__cvta_generic_to_shared(&s.come);
	const bool has = chooser < rows_each && row < a.rows;
	slot_choice c = {};

	list_begin(s.list, a.rows);
	if (threadIdx.x == 0) {
		ring_barrier(barrier, 1);
		ring_barriers_made();
		ring_expect(barrier, a.rows * list_words(a) * 4);
	}
	cluster_arrive();
	if (a.early)	/* then the second one does nothing */
		chain_release();
	chain_wait();
	chain_release();
	if (has && !helps)
		c = choose_row<PER_LANE>(a, row);
	cluster_wait();	/* all have begun */
	if (has && !helps) {
		choice_tell(choice_word_of(a, s.list, row, c), barrier);
		choice_keep(s, warp, c);
	}
	choices_wait(barrier);
	list_count<ROUTE_THREADS>(s.list, a.rows, blockIdx.x ? nullptr : &a.list);
	if (has && !helps)
		list_place(a, s.list, row, c, a.list);
	if (has && helps == helped)
		choice_store(a, row, choice_kept(s, chooser));
}

template <int PER_LANE>
__global__ void __launch_bounds__(CHOOSE_WARPS *WARP)
	choose_kernel(const __grid_constant__ route_args a)
{
	const uint32_t row = blockIdx.x * CHOOSE_WARPS + threadIdx.x / WARP;

	chain_wait();
	chain_release();
	if (row < a.rows)
		choice_store(a, row, choose_row<PER_LANE>(a, row));
}

} /* namespace */

int route_choose(const struct route_args *a, void *stream)
{
	if (!route_args_ok(*a, UINT32_MAX))
		return -EINVAL;
	return chain_launch(a->experts <= ROUTE_FEW_EXPERTS ? choose_kernel<FEW_A_LANE> : choose_kernel<MOST_A_LANE>,
			    dim3((a->rows + CHOOSE_WARPS - 1) / CHOOSE_WARPS),
			    CHOOSE_WARPS * WARP, 0, 1, (cudaStream_t)stream, *a);
}

/* A block's shared memory of a multiprocessor's, in percent, no more: whoever follows on these multiprocessors
 * begins beside it and keeps its division into shared memory and L1.  By default the compiler's registers decide
 * for how many blocks there should be room, and BF16's experts lost 5 % of a step when they became fewer. */
#define ROUTE_CARVEOUT 14	/* 32 KB on Hopper */

int route(const struct route_args *a, void *stream)
{
	auto kernel = a->experts <= ROUTE_FEW_EXPERTS ? route_kernel<FEW_A_LANE> : route_kernel<MOST_A_LANE>;
	const uint32_t blocks = a->rows <= ROUTE_FEW_ROWS ? 1 : a->rows <= 16 ? 2 : a->rows <= 32 ? 4 : MOST_BLOCKS;
	const uint32_t rows_each = (a->rows + blocks - 1) / blocks;
	const uint32_t threads = min(max(2 * rows_each * WARP, ROUTE_THREADS), MOST_THREADS);

	if (!route_args_ok(*a, MATMUL_MAX_ROWS))
		return -EINVAL;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, ROUTE_CARVEOUT) !=
	    cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), threads, 0, blocks, (cudaStream_t)stream, *a, rows_each);
}
