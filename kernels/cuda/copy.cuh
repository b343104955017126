/* copy.cuh - asynchronous copies of 16 bytes from memory to shared memory (cp.async). */
#ifndef HEARTH_KERNELS_CUDA_COPY_CUH
#define HEARTH_KERNELS_CUDA_COPY_CUH

#include <cuda_runtime.h>
#include <stdint.h>

static __device__ __forceinline__ uint32_t smem_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void copy16(void *dst, const void *src)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(smem_address(dst)), "l"(src));
}

/* Zeros when !valid (what lies beyond a length may be NaN). */
static __device__ __forceinline__ void copy16_or_zero(void *dst, const void *src, bool valid)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address(dst)),
		     "l"(src), "r"(valid ? 16 : 0));
}

static __device__ __forceinline__ void copy_commit(void)
{
	asm volatile("cp.async.commit_group;");
}

/* Until all but the last PENDING groups of this thread have landed. */
template <int PENDING> static __device__ __forceinline__ void copy_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif
