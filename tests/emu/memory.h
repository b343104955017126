/* memory.h - what a test asks of CUDA's runtime, where a device's memory is the host's.  Included once a program. */
#ifndef HEARTH_TESTS_EMU_MEMORY_H
#define HEARTH_TESTS_EMU_MEMORY_H

#include <cuda_runtime.h>
#include <cstdlib>
#include <cstring>

extern "C" {
cudaError_t cudaMalloc(void **p, size_t bytes)
{
	*p = aligned_alloc(256, (bytes + 255) / 256 * 256);
	if (*p)
		memset(*p, 0xff, bytes);
	return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *p)
{
	free(p);
	return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind)
{
	memcpy(to, from, bytes);
	return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int byte, size_t bytes)
{
	memset(p, byte, bytes);
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
	*n = 1;
	return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "an error"; }
}

#endif
