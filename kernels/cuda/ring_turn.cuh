/* ring_turn.cuh - where a thread is in a ring of places in shared memory, and the parity that a barrier
 * beside a place is waited for with. */
#ifndef HEARTH_KERNELS_CUDA_RING_TURN_CUH
#define HEARTH_KERNELS_CUDA_RING_TURN_CUH

#include <stdint.h>

namespace {

/* A place of a ring of N, and how often it went around: even or odd. */
template <int N> struct turn {
	uint32_t at = 0, odd = 0;

	__device__ void next()
	{
		at = at + 1 == N ? 0 : at + 1;
		odd ^= at == 0;
	}
};

} /* namespace */

#endif
