/* route.cu - see route.h.
 *
 * A warp chooses for a row (route_choice.cuh).  A few rows are chosen and listed by one block.
 * More are chosen by the blocks of a cluster, for a warp a row each where that goes; the first one
 * gets all ids into its shared memory and makes the list.  The choice is the same code, so the
 * same bits. */
#include "kernels/cuda/route.h"

#include <cooperative_groups.h>

#include "kernels/cuda/expert_list.cuh"
#include "kernels/cuda/route_choice.cuh"

namespace cg = cooperative_groups;

namespace {

constexpr int CHOOSE_WARPS = 4;

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

__global__ void __launch_bounds__(LIST_THREADS)
	many_kernel(const __grid_constant__ route_args a, const __grid_constant__ list_params list)
{
	__shared__ uint16_t ids[MATMUL_MAX_ROWS * (ROUTE_MAX_TOP + 1)];
	cg::cluster_group cluster = cg::this_cluster();
	uint16_t *to = cluster.map_shared_rank(ids, 0);
	const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP,
		       n_slots = route_slots(a);

	cluster.sync();	/* the first block has begun */
	chain_wait();
	chain_release();
	for (uint32_t row = warp * gridDim.x + blockIdx.x; row < a.rows;
	     row += LIST_WARPS * gridDim.x) {
		const slot_choice c = choose_row(a, row);

		if (lane < n_slots)
			to[row * n_slots + lane] = (uint16_t)c.id;
		choice_store(a, row, c);
	}
	cluster.sync();
	if (blockIdx.x == 0)
		list_block(list, ids);
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
	const list_params list = { a->rows * route_slots(*a), route_listed(*a), a->list };
	const uint32_t blocks = a->rows <= 16 ? 2 : a->rows <= 32 ? 4 : 8;

	if (!route_args_ok(*a, MATMUL_MAX_ROWS))
		return -EINVAL;
	if (a->rows <= ROUTE_FEW_ROWS)
		return chain_launch(few_kernel, dim3(1), FEW_THREADS, 0, 1, (cudaStream_t)stream,
				    *a);
	return chain_launch(many_kernel, dim3(blocks), LIST_THREADS, 0, blocks,
			    (cudaStream_t)stream, *a, list);
}
