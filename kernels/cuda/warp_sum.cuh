/* warp_sum.cuh - sums over the lanes of a warp, in one order: a butterfly, furthest lanes first. */
#ifndef HEARTH_KERNELS_CUDA_WARP_SUM_CUH
#define HEARTH_KERNELS_CUDA_WARP_SUM_CUH

#include <stdint.h>

static __device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
	for (int m = 16; m > 0; m >>= 1)
		x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, m));
	return x;
}

/* N sums at once, a power of two: all of the 32 / N lanes from i 32 / N on get that of v[i].  Each step halves what a
 * lane carries.  Lanes are added in the same order whatever N is. */
template <int N> static __device__ __forceinline__ float warp_sums(float (&v)[N])
{
	const uint32_t lane = threadIdx.x % 32;

#pragma unroll
	for (int n = N / 2; n > 0; n /= 2) {
		const int apart = 32 / N * n;
		const bool upper = lane & (uint32_t)apart;

#pragma unroll
		for (int i = 0; i < n; i++) {
			const float send = upper ? v[i] : v[i + n], keep = upper ? v[i + n] : v[i];

			v[i] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, send, apart));
		}
	}
#pragma unroll
	for (int m = 16 / N; m > 0; m /= 2)
		v[0] = __fadd_rn(v[0], __shfl_xor_sync(0xffffffffu, v[0], m));
	return v[0];
}

#endif
