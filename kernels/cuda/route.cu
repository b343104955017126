/* route.cu - see route.h.
 *
 * A warp has a row.  A few rows are chosen and listed by one block; many are chosen by many blocks
 * and listed by a second kernel (expert_list.cuh).  The choice is the same code, so the same
 * bits. */
#include "kernels/cuda/route.h"

#include "kernels/cuda/expert_list.cuh"

namespace {

constexpr uint32_t LIST_WARPS_ = LIST_THREADS / WARP, FEW_ROWS = 2 * LIST_WARPS_;
constexpr int CHOOSE_WARPS = 4;

/* Larger numbers have larger bits; 0 is NaN, or taken already. */
__device__ uint32_t order_bits(float x)
{
	const uint32_t bits = __float_as_uint(x);

	return x != x ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ float order_value(uint32_t bits)
{
	return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

/* Lane l has experts l, l + 32, ...; `top` rounds of arg-max.  PER_LANE x 32 >= experts. */
template <int PER_LANE> __device__ void choose_row(const route_args &a, uint32_t row)
{
	const uint32_t lane = threadIdx.x % WARP, n_slots = a.top + (a.shared ? 1 : 0);
	const float *logits = a.logits + (size_t)row * a.stride;
	uint32_t key[PER_LANE], own_id = 0;
	float own = 0, sum = 0, largest = 0;

#pragma unroll
	for (int i = 0; i < PER_LANE; i++) {
		const uint32_t id = i * WARP + lane;

		key[i] = id < a.experts ? order_bits(logits[id]) : 0;
	}
	for (uint32_t n = 0; n < a.top; n++) {
		uint32_t top_key[PER_LANE], top_i[PER_LANE], best, id, most;

		/* The larger, of equals the lower id: a tree, for its depth is waited for. */
#pragma unroll
		for (int i = 0; i < PER_LANE; i++) {
			top_key[i] = key[i];
			top_i[i] = (uint32_t)i;
		}
#pragma unroll
		for (int step = 1; step < PER_LANE; step *= 2)
#pragma unroll
			for (int i = 0; i + step < PER_LANE; i += 2 * step) {
				const bool right = top_key[i + step] > top_key[i];

				top_i[i] = right ? top_i[i + step] : top_i[i];
				top_key[i] = right ? top_key[i + step] : top_key[i];
			}
		best = top_key[0];
		id = best ? top_i[0] * WARP + lane : ~0u;
		most = __reduce_max_sync(~0u, best);
		id = __reduce_min_sync(~0u, best == most ? id : ~0u);
#pragma unroll
		for (int i = 0; i < PER_LANE; i++)
			key[i] = i * WARP + lane == id ? 0 : key[i];
		if (n == 0)
			largest = order_value(most);
		/* Fewer than `top` numbers (NaN logits): the row is lost, but no id is wild. */
		if (lane == n) {
			own_id = most ? id : 0;
			own = most ? expf(__fsub_rn(order_value(most), largest)) : 0;
		}
	}
	for (uint32_t n = 0; n < a.top; n++)
		sum = __fadd_rn(sum, __shfl_sync(~0u, own, (int)n));
	if (lane < a.top) {
		a.ids[(size_t)row * n_slots + lane] = own_id;
		a.weights[(size_t)row * n_slots + lane] = __fdiv_rn(own, sum);
	}
	if (a.shared && lane == a.top) {
		a.ids[(size_t)row * n_slots + lane] = a.experts;
		a.weights[(size_t)row * n_slots + lane] =
			__fdiv_rn(1.0f, 1.0f + expf(-logits[a.experts]));
	}
}

__device__ void choose_any(const route_args &a, uint32_t row)
{
	if (a.experts <= 256)
		choose_row<8>(a, row);
	else
		choose_row<16>(a, row);
}

__global__ void __launch_bounds__(LIST_THREADS)
	route_kernel(const __grid_constant__ route_args a, const __grid_constant__ list_params list)
{
	chain_wait();
	chain_release();
	for (uint32_t row = threadIdx.x / WARP; row < a.rows; row += LIST_WARPS_)
		choose_any(a, row);
	__syncthreads();
	list_block(list);
}

__global__ void __launch_bounds__(CHOOSE_WARPS *WARP)
	choose_kernel(const __grid_constant__ route_args a)
{
	const uint32_t row = blockIdx.x * CHOOSE_WARPS + threadIdx.x / WARP;

	chain_wait();
	chain_release();
	if (row < a.rows)
		choose_any(a, row);
}

} /* namespace */

static bool args_ok(const struct route_args *a)
{
	return a->rows && a->experts && a->experts < MATMUL_MAX_EXPERTS && a->top &&
	       a->top <= ROUTE_MAX_TOP && a->top <= a->experts &&
	       a->stride >= a->experts + (a->shared ? 1 : 0);
}

int route_choose(const struct route_args *a, void *stream)
{
	if (!args_ok(a))
		return -EINVAL;
	return chain_launch(choose_kernel, dim3((a->rows + CHOOSE_WARPS - 1) / CHOOSE_WARPS),
			    CHOOSE_WARPS * WARP, 0, 1, (cudaStream_t)stream, *a);
}

int route(const struct route_args *a, void *stream)
{
	const uint32_t n_slots = a->top + (a->shared ? 1 : 0),
		       listed = a->experts + (a->shared && a->list_shared ? 1 : 0);
	const list_params list = { a->ids, a->rows * n_slots, listed, a->list };
	int rc;

	if (!args_ok(a) || a->rows > MATMUL_MAX_ROWS)
		return -EINVAL;
	if (a->rows <= FEW_ROWS)
		return chain_launch(route_kernel, dim3(1), LIST_THREADS, 0, 1, (cudaStream_t)stream,
				    *a, list);
	rc = route_choose(a, stream);
	return rc ? rc : expert_list_build(a->ids, a->rows, n_slots, listed, &a->list, stream);
}
