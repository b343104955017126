/* prefill_matmul.cu - see prefill_matmul.h: the kernel and its launches. */
#include "kernels/cuda/prefill_matmul.h"

#include "kernels/cuda/prefill_hopper.h"
#include "kernels/cuda/prefill_pairs.h"
#include "kernels/cuda/prefill_place.cuh"
#include "kernels/cuda/prefill_store.cuh"

namespace {

template <enum matmul_format F, bool EXPERTS, int C>
__global__ void __launch_bounds__(THREADS, room<C>::BLOCKS)
	prefill_kernel(const __grid_constant__ matmul_params p, uint32_t row_blocks,
		       const expert_tiles tiles)
{
	extern __shared__ char raw[];
	char *stages = raw + (1024 - smem_address(raw) % 1024) % 1024;
	uint32_t row_block = blockIdx.x, tile;
	struct tile_of_x x;
	struct fp8_scale scale;
	struct sums<C> s;

	chain_wait();
	chain_release();
	if (EXPERTS) {
		if (!place_expert(p, tiles, &x))
			return;
	} else {
		place_dense(p, C, row_blocks, &row_block, &x);
	}
	tile = row_block * WARPS + threadIdx.x / WARP;
	multiply_tile<F>(p, x, tile, stages, s, &scale);
	store_tile<F>(p, x, tile, s,
		      F == MATMUL_FP8 ? row_scales{ scale.low, scale.high } : row_scales{ 1, 1 });
}

template <enum matmul_format F, bool EXPERTS, int C>
int launch(const matmul_params &p, const expert_tiles &tiles, uint32_t max_tiles,
	   cudaStream_t stream)
{
	auto kernel = prefill_kernel<F, EXPERTS, C>;
	const int stages = n_stages(C, prefill_hopper_here());
	const size_t shared = (size_t)stages * room<C>::STAGE_BYTES + 1024;
	const uint32_t row_blocks = row_blocks_of(p), col_tiles = (p.n_cols + C - 1) / C;
	const dim3 grid = EXPERTS ? dim3(row_blocks, max_tiles) : dim3(row_blocks * col_tiles);

	static_assert(n_stages(C, false) * room<C>::STAGE_BYTES + 1024 <= SHARED_MAX,
		      "fits every device");
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, grid, THREADS, shared, 1, stream, p, row_blocks, tiles);
}

template <enum matmul_format F> int dense_launch(const matmul_params &p, cudaStream_t stream)
{
	const expert_tiles none = {};

	if (few_is_faster(p))
		return launch<F, false, FEW>(p, none, 0, stream);
	return prefill_hopper_here() ? prefill_hopper(&p, F, stream) :
				       launch<F, false, MANY>(p, none, 0, stream);
}

/* Pairs an expert from which prefill_pairs() is used.  At 64 it is a little faster than what follows
 * here, and a little slower for gate and up of quantised experts if pairs are unevenly spread. */
constexpr uint32_t PAIRS_LEAST = 60;

/* With few pairs an expert, those that have at most 64 go first, and what is left after. */
template <enum matmul_format F>
int experts_launch(const matmul_params &p, const struct prefill_list *list, uint32_t n_rows,
		   uint32_t n_experts, cudaStream_t stream)
{
	const uint32_t most = prefill_max_tiles(n_rows, p.n_slots, n_experts);
	const bool few = n_rows * p.n_slots <= n_experts * 80;
	int rc = 0;

	if (prefill_hopper_here() && n_rows * p.n_slots >= n_experts * PAIRS_LEAST)
		return prefill_pairs(&p, F, list, stream);
	if (few)
		rc = launch<F, true, FEW>(p, { list->n_tiles, list->tile, 0, FEW }, most, stream);
	return rc ? rc :
		    launch<F, true, MANY>(p,
					  { list->n_tiles, list->tile, few ? FEW + 1u : 0, MANY },
					  most, stream);
}

} /* namespace */

int prefill_matmul(const struct decode_matmul_args *a, void *stream)
{
	const matmul_params p = matmul_params_of(a);

	if (!matmul_args_ok(a, PREFILL_MAX_ROWS) || a->ldx % 32 || a->k % 32)
		return -EINVAL;
	switch (a->format) {
	case MATMUL_BF16: return dense_launch<MATMUL_BF16>(p, (cudaStream_t)stream);
	case MATMUL_FP8: return dense_launch<MATMUL_FP8>(p, (cudaStream_t)stream);
	case MATMUL_NVFP4: return dense_launch<MATMUL_NVFP4>(p, (cudaStream_t)stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

int prefill_experts(const struct decode_experts_args *a, const struct prefill_list *list,
		    void *stream)
{
	const matmul_params p = matmul_params_of_experts(a, &list->list);

	if (!matmul_experts_ok(a, PREFILL_MAX_ROWS) || a->ldx % 32 || a->k % 32)
		return -EINVAL;
	switch (a->format) {
	case MATMUL_BF16:
		return experts_launch<MATMUL_BF16>(p, list, a->n_rows, a->n_experts,
						   (cudaStream_t)stream);
	case MATMUL_FP8:
		return experts_launch<MATMUL_FP8>(p, list, a->n_rows, a->n_experts,
						  (cudaStream_t)stream);
	case MATMUL_NVFP4:
		return experts_launch<MATMUL_NVFP4>(p, list, a->n_rows, a->n_experts,
						    (cudaStream_t)stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}
