/* launch.cuh - launches that overlap: programmatic dependent launch (CUDA C++ Programming Guide,
 * same name).
 *
 * A chained kernel may start while the one before it in the stream still runs.  Until chain_wait()
 * it may read only weights, and what was written two or more kernels before it; everything else
 * after.  The rule that makes "two or more" true: chain_release() comes after chain_wait()
 * everywhere (but as below), so when a kernel starts, the one before it has waited, and the one before that has
 * ended.  A kernel that never releases does so by ending.
 *
 * A kernel that needs nothing of the one before it can run beside it (x_settled in decode_matmul.h):
 * it reads what was written two or more kernels before it, releases at once, and waits at its end, so
 * that whoever waits for it has waited for both.  For the next kernel the two count as one: before its
 * own chain_wait() it may read what was written three or more kernels before it.  Where B runs beside A
 * in this way, A may release before it waits (early in route.h) if B needs nothing of the kernel before A
 * either: then that kernel, A and B count as one.
 */
#ifndef HEARTH_KERNELS_CUDA_LAUNCH_CUH
#define HEARTH_KERNELS_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>
#include <errno.h>
#include <stdint.h>

/* Of the device that is current at the first call (a worker has one): its multiprocessors, and the
 * major number of its compute capability, 9 on Hopper.  0 when there is none; then asked again. */
int device_sms(void);
int device_major(void);

/* Until all kernels before this one have ended and their writes are seen. */
static __device__ __forceinline__ void chain_wait(void)
{
	asm volatile("griddepcontrol.wait;" ::: "memory");
}

/* From here on the next kernel may start, as soon as every block has come this far. */
static __device__ __forceinline__ void chain_release(void)
{
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/* cluster: blocks along x that share a cluster; 1 for none.  0 or -ENODEV. */
template <typename... Params, typename... Args>
static int chain_launch(void (*kernel)(Params...), dim3 grid, uint32_t threads, size_t shared,
			uint32_t cluster, cudaStream_t stream, const Args &...args)
{
	cudaLaunchAttribute attribute[2] = {};
	cudaLaunchConfig_t c = {};

	attribute[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
	attribute[0].val.programmaticStreamSerializationAllowed = 1;
	attribute[1].id = cudaLaunchAttributeClusterDimension;
	attribute[1].val.clusterDim.x = cluster;
	attribute[1].val.clusterDim.y = 1;
	attribute[1].val.clusterDim.z = 1;
	c.gridDim = grid;
	c.blockDim = dim3(threads);
	c.dynamicSmemBytes = shared;
	c.stream = stream;
	c.attrs = attribute;
	c.numAttrs = cluster > 1 ? 2 : 1;
	return cudaLaunchKernelEx(&c, kernel, args...) == cudaSuccess ? 0 : -ENODEV;
}

#endif
