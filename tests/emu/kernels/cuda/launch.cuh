/* launch.cuh - of kernels/cuda, where blocks are fibers: a kernel has ended when it is launched. */
#ifndef HEARTH_KERNELS_CUDA_LAUNCH_CUH
#define HEARTH_KERNELS_CUDA_LAUNCH_CUH

#include "tests/emu/block.h"

#include <errno.h>

static int emu_sms = 132;	/* an H200's forms */
static bool emu_at_once;	/* blocks wait for each other: all of them have a place */

static inline int device_sms(void) { return emu_sms; }
static inline int device_major(void) { return 9; }
static inline void chain_wait(void) {}
static inline void chain_release(void) {}

template <typename... Params>
static cudaError_t cudaFuncSetAttribute(void (*)(Params...), enum cudaFuncAttribute, size_t)
{
	return cudaSuccess;
}

template <typename... Params, typename... Args>
static int chain_launch(void (*kernel)(Params...), dim3 grid, uint32_t threads, size_t shared, uint32_t cluster,
			cudaStream_t, const Args &...args)
{
	emu::run(grid, threads, shared, emu_at_once ? 0 : cluster, [&] { kernel(args...); });
	return 0;
}

#endif
