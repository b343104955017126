/* decode_ring.cu - launches of the ring form. */
#include "kernels/cuda/decode_ring.cuh"

#define HOPPER_SM_SHARED (228u * 1024)	/* of a multiprocessor; a block takes 1 KB more than it asks for */
#define RING_LIST_MAX (14u * 1024)	/* bytes of a list that is copied to shared memory */

template <typename Cut> constexpr uint32_t ring_room = HOPPER_SM_SHARED / Cut::BLOCKS - 1024;

static bool on_hopper(void)
{
	return device_major() == 9;
}

/* more: what the kernel takes besides p. */
template <typename Cut, typename Kernel, typename... More>
static int ring_start(Kernel kernel, const struct matmul_params &p, uint32_t most_items,
		      cudaStream_t stream, const More &...more)
{
	const uint32_t shared = Cut::shared + p.list_bytes;
	const uint32_t places = (uint32_t)device_sms() * (on_hopper() ? Cut::BLOCKS : 1);
	const uint32_t blocks = min(most_items, places);

	static_assert(Cut::shared <= SHARED_MAX, "fits every chip's block");
	static_assert(Cut::shared + RING_LIST_MAX <= ring_room<Cut>, "a list fits beside it");
	if (!blocks)
		return -ENODEV;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), Cut::WARPS * WARP, shared, 1, stream, p, more...);
}

template <typename Cut>
static int ring_launch(const struct matmul_params *split, const struct route_args *choice,
		       uint32_t most_experts, cudaStream_t stream)
{
	struct matmul_params p = *split;

	while (p.k_warps > 1 && p.k_warps / 2 * Cut::SLICES >= p.n_slices)
		p.k_warps /= 2;
	/* An item is one tile. */
	p.groups = p.n_tiles;
	p.groups_inverse = (uint32_t)(((1ull << 32) + p.groups - 1) / p.groups);
	if (choice || !on_hopper())
		p.list_bytes = 0;	/* not copied */
	if (!choice)
		return ring_start<Cut>(ring_kernel<Cut>, p, most_experts * p.n_tiles, stream);
	if constexpr (Cut::CHOOSES)
		return ring_start<Cut>(ring_choice_kernel<Cut>, p,
				       most_experts * p.n_tiles + choice_teller(&p), stream, *choice);
	return -EINVAL;
}

/* Two slices a warp, where registers and shared memory have room for them: of FP8 for down alone, and of
 * few pairs one slice is faster. */
static int launch_fp8(const struct matmul_params *p, const struct route_args *choice, uint32_t pairs,
		      bool one, uint32_t most_experts, cudaStream_t stream)
{
	if (!one)
		return ring_launch<ring_cut<MATMUL_FP8, 2, 1, 8, 2, 2, 4>>(p, NULL, most_experts, stream);
	if (p->n_slices <= 2 && !choice && pairs > 40)
		return ring_launch<ring_cut<MATMUL_FP8, 1, 2, 6, 2, 2, 0>>(p, NULL, most_experts, stream);
	return ring_launch<ring_cut<MATMUL_FP8, 1, 1, 8, 2, 2, 4>>(p, choice, most_experts, stream);
}

static int launch_nvfp4(const struct matmul_params *p, const struct route_args *choice, bool one,
			uint32_t most_experts, cudaStream_t stream)
{
	if (!one)
		return ring_launch<ring_cut<MATMUL_NVFP4, 2, 1, 8, 2, 3, 4>>(p, NULL, most_experts,
									     stream);
	if (p->n_slices <= 2)
		return ring_launch<ring_cut<MATMUL_NVFP4, 1, 2, 8, 2, 2, 0>>(p, choice, most_experts,
									     stream);
	if (choice)	/* and the list that it makes has to have room */
		return ring_launch<ring_cut<MATMUL_NVFP4, 1, 2, 8, 2, 2, 2>>(p, choice, most_experts,
									     stream);
	return ring_launch<ring_cut<MATMUL_NVFP4, 1, 2, 8, 2, 2, 3>>(p, NULL, most_experts, stream);
}

/* The bulk copies want the scales of rows aligned. */
bool matmul_ring_fits(const struct matmul_params *p, enum matmul_format f)
{
	return f != MATMUL_BF16 && p->n_slices <= NARROW_WARPS &&
	       (!on_hopper() || p->list_bytes <= RING_LIST_MAX) &&
	       (uintptr_t)p->row_scale % 16 == 0;
}

int matmul_launch_ring(const struct matmul_params *p, const struct route_args *choice,
		       enum matmul_format f, uint32_t pairs, uint32_t cols, uint32_t most_experts,
		       cudaStream_t stream)
{
	const bool one = cols <= 8 || choice;

	if (!matmul_ring_fits(p, f))
		return -EINVAL;
	if (f == MATMUL_FP8)
		return launch_fp8(p, choice, pairs, one, most_experts, stream);
	return launch_nvfp4(p, choice, one, most_experts, stream);
}
