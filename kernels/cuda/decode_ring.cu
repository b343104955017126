/* decode_ring.cu - launches of the ring form. */
#include "kernels/cuda/decode_ring.cuh"

template <enum matmul_format F, int NT, int STAGES, int BLOCKS>
static int ring_launch(const struct matmul_params *p, uint32_t most_items, cudaStream_t stream)
{
	auto kernel = ring_kernel<F, NT, STAGES, BLOCKS>;
	const size_t shared = ring_shared<F, NT, STAGES>;
	const uint32_t blocks = min(most_items, (uint32_t)device_sms() * BLOCKS);

	static_assert(ring_shared<F, NT, STAGES> <= SHARED_MAX, "fits every chip's block");
	if (!blocks)
		return -ENODEV;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), NARROW_WARPS * WARP, shared, 1, stream, *p);
}

bool matmul_ring_fits(const struct matmul_params *p, enum matmul_format f)
{
	return f != MATMUL_BF16 && p->n_slices <= p->k_warps && p->n_tiles % p->m_warps == 0;
}

int matmul_launch_ring(const struct matmul_params *p, enum matmul_format f, uint32_t cols,
		       uint32_t most_items, cudaStream_t stream)
{
	if (!matmul_ring_fits(p, f))
		return -EINVAL;
	if (f == MATMUL_FP8)
		return cols > 8 ? ring_launch<MATMUL_FP8, 2, 2, 2>(p, most_items, stream) :
				  ring_launch<MATMUL_FP8, 1, 2, 2>(p, most_items, stream);
	return cols > 8 ? ring_launch<MATMUL_NVFP4, 2, 3, 2>(p, most_items, stream) :
			  ring_launch<MATMUL_NVFP4, 1, 3, 3>(p, most_items, stream);
}
