/* async.cuh - of kernels/cuda, where blocks are fibers: copies are there at once. */
#ifndef HEARTH_KERNELS_CUDA_ASYNC_CUH
#define HEARTH_KERNELS_CUDA_ASYNC_CUH

#include "tests/emu/block.h"

static inline char *block_shared(void) { return emu::shared_memory(); }
static inline void copy16_begin(void *shared, const void *global) { memcpy(shared, global, 16); }
template <int BYTES> static inline void copy_begin(void *shared, const void *global) { memcpy(shared, global, BYTES); }
static inline void copies_end(void) {}
static inline void copies_wait_but_last(void) {}
static inline void copies_wait(void) {}
static inline void cluster_arrive_relaxed(void) { emu::cluster_barrier_arrive(); }
static inline void cluster_arrive(void) { emu::cluster_barrier_arrive(); }
static inline void cluster_wait(void) { emu::cluster_barrier_wait(); }

static inline float *cluster_place(float *own, int rank)
{
	return (float *)(emu::shared_memory_of((unsigned)rank) + ((char *)own - emu::shared_memory()));
}

#endif
