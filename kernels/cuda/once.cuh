/* once.cuh - what a step of answers reads once, its weights and their rows' scales, leaves L2 before all else, so that
 * activations, partial sums and lists, which are written and read again soon, stay in it.
 *
 * Not states, keys and values (measured: slower), and not what prompts read: their blocks share weights through L2.
 */
#ifndef HEARTH_KERNELS_CUDA_ONCE_CUH
#define HEARTH_KERNELS_CUDA_ONCE_CUH

#include <stdint.h>

/* For the operand of .L2::cache_hint. */
static __device__ __forceinline__ uint64_t once_policy(void)
{
	uint64_t policy;

	asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

#endif
