/* decode_ring.cu - launches of the ring form. */
#include "kernels/cuda/decode_ring.cuh"

/* more: what the kernel takes besides p. */
template <enum matmul_format F, int NT, int STAGES, int BLOCKS, typename Kernel, typename... More>
static int ring_start(Kernel kernel, const struct matmul_params *p, uint32_t most_items,
		      cudaStream_t stream, const More &...more)
{
	const size_t shared = ring_shared<F, NT, STAGES>;
	const uint32_t blocks = min(most_items, (uint32_t)device_sms() * BLOCKS);

	static_assert(ring_shared<F, NT, STAGES> + (sizeof...(more) ? sizeof(struct few_list) : 0) <=
			      SHARED_MAX,
		      "fits every chip's block");
	if (!blocks)
		return -ENODEV;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), NARROW_WARPS * WARP, shared, 1, stream, *p,
			    more...);
}

template <enum matmul_format F, int NT, int STAGES, int BLOCKS>
static int ring_launch(const struct matmul_params *p, const struct route_args *choice,
		       uint32_t most_items, cudaStream_t stream)
{
	if (!choice)
		return ring_start<F, NT, STAGES, BLOCKS>(ring_kernel<F, NT, STAGES, BLOCKS>, p,
							 most_items, stream);
	if constexpr (NT == 1)
		return ring_start<F, 1, STAGES, BLOCKS>(ring_choice_kernel<F, STAGES, BLOCKS>, p,
							most_items, stream, *choice);
	return -EINVAL;
}

bool matmul_ring_fits(const struct matmul_params *p, enum matmul_format f)
{
	return f != MATMUL_BF16 && p->n_slices <= p->k_warps && p->n_tiles % p->m_warps == 0;
}

int matmul_launch_ring(const struct matmul_params *p, const struct route_args *choice,
		       enum matmul_format f, uint32_t cols, uint32_t most_items,
		       cudaStream_t stream)
{
	const bool one = cols <= 8 || choice;

	if (!matmul_ring_fits(p, f))
		return -EINVAL;
	if (f == MATMUL_FP8)
		return one ? ring_launch<MATMUL_FP8, 1, 2, 2>(p, choice, most_items, stream) :
			     ring_launch<MATMUL_FP8, 2, 2, 2>(p, NULL, most_items, stream);
	return one ? ring_launch<MATMUL_NVFP4, 1, 3, 3>(p, choice, most_items, stream) :
		     ring_launch<MATMUL_NVFP4, 2, 3, 2>(p, NULL, most_items, stream);
}
