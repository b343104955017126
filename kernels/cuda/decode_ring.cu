/* decode_ring.cu - launches of the ring form. */
#include "kernels/cuda/decode_ring_group.cuh"
#include "kernels/cuda/decode_ring_own.cuh"

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

/* ---- Hopper ----------------------------------------------------------------------------- */

template <typename Cut>
static int item_launch(void (*kernel)(struct matmul_params), const struct matmul_params *split,
		       uint32_t most_items, cudaStream_t stream)
{
	const uint32_t most_tiles = most_items * split->m_warps;
	const uint32_t blocks = min(most_tiles, (uint32_t)device_sms());
	struct matmul_params p = *split;

	static_assert(Cut::shared <= RING_HOPPER_SHARED, "fits Hopper's block");
	if (!blocks)
		return -ENODEV;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)Cut::shared) != cudaSuccess)
		return -ENODEV;
	/* An item is one tile. */
	p.groups = p.n_tiles;
	p.groups_inverse = (uint32_t)(((1ull << 32) + p.groups - 1) / p.groups);
	return chain_launch(kernel, dim3(blocks), Cut::WARPS * WARP, Cut::shared, 1, stream, p);
}

template <enum matmul_format F, int NT, int WARPS, int STAGES, int SUMS>
static int group_launch(const struct matmul_params *p, uint32_t most_items, cudaStream_t stream)
{
	using cut = group_cut<F, NT, WARPS, STAGES, SUMS, 1>;

	return item_launch<cut>(group_kernel<cut>, p, most_items, stream);
}

template <enum matmul_format F, int WARPS, int STAGES>
static int own_launch(const struct matmul_params *p, uint32_t most_items, cudaStream_t stream)
{
	using cut = own_cut<F, WARPS, STAGES>;

	return item_launch<cut>(own_kernel<cut>, p, most_items, stream);
}

/* The bulk copies want the scales of rows aligned; and for few pairs the ring form is faster (whole
 * steps: NVFP4 up to 8 rows, FP8 up to 16). */
static bool hopper_fits(const struct matmul_params *p, const struct route_args *choice,
			enum matmul_format f, uint32_t pairs)
{
	return device_major() == 9 && !choice && (uintptr_t)p->row_scale % 16 == 0 &&
	       pairs > (f == MATMUL_FP8 ? 160 : 80);
}

static int hopper_launch(const struct matmul_params *p, enum matmul_format f, bool one,
			 uint32_t items, cudaStream_t stream)
{
	const bool own = one && p->n_slices <= 2;

	if (f == MATMUL_FP8)
		return own ? own_launch<MATMUL_FP8, 12, 2>(p, items, stream) :
		       one ? group_launch<MATMUL_FP8, 1, 16, 3, 3>(p, items, stream) :
			     group_launch<MATMUL_FP8, 2, 16, 2, 3>(p, items, stream);
	return own ? own_launch<MATMUL_NVFP4, 16, 2>(p, items, stream) :
	       one ? group_launch<MATMUL_NVFP4, 1, 24, 3, 4>(p, items, stream) :
		     group_launch<MATMUL_NVFP4, 2, 16, 4, 4>(p, items, stream);
}

bool matmul_ring_fits(const struct matmul_params *p, enum matmul_format f)
{
	return f != MATMUL_BF16 && p->n_slices <= p->k_warps && p->n_tiles % p->m_warps == 0;
}

int matmul_launch_ring(const struct matmul_params *p, const struct route_args *choice,
		       enum matmul_format f, uint32_t pairs, uint32_t cols, uint32_t most_items,
		       cudaStream_t stream)
{
	const bool one = cols <= 8 || choice;

	if (!matmul_ring_fits(p, f))
		return -EINVAL;
	if (hopper_fits(p, choice, f, pairs))
		return hopper_launch(p, f, one, most_items, stream);
	if (f == MATMUL_FP8)
		return one ? ring_launch<MATMUL_FP8, 1, 2, 2>(p, choice, most_items, stream) :
			     ring_launch<MATMUL_FP8, 2, 2, 2>(p, NULL, most_items, stream);
	return one ? ring_launch<MATMUL_NVFP4, 1, 3, 3>(p, choice, most_items, stream) :
		     ring_launch<MATMUL_NVFP4, 2, 3, 2>(p, NULL, most_items, stream);
}
