/* async.cuh - what a plain kernel says in PTX: copies into shared memory that go on beside the thread,
 * barriers of a cluster and of some of a block's threads, words that blocks poll, a block's dynamic shared memory.
 *
 * tests/emu has the same for blocks that are fibers on the CPU.
 */
#ifndef HEARTH_KERNELS_CUDA_ASYNC_CUH
#define HEARTH_KERNELS_CUDA_ASYNC_CUH

#include <cooperative_groups.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* A block's dynamic shared memory as an array of this name; a macro, since a pointer that a function answers makes
 * other code. */
#define BLOCK_SHARED(name) extern __shared__ __align__(128) char name[]

static __device__ __forceinline__ char *block_shared(void)
{
	extern __shared__ __align__(16) char block_shared_memory[];

	return block_shared_memory;
}

/* 16 bytes, both sides aligned to them; not through L1. */
static __device__ __forceinline__ void copy16_begin(void *shared, const void *global)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
			     (uint32_t)__cvta_generic_to_shared(shared)),
		     "l"(global));
}

/* 4 or 8 bytes, through L1. */
template <int BYTES> static __device__ __forceinline__ void copy_begin(void *shared, const void *global)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
		     "l"(global), "n"(BYTES)
		     : "memory");
}

/* The thread's copies up to here are a group. */
static __device__ __forceinline__ void copies_end(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* All but the last group that the thread has ended. */
static __device__ __forceinline__ void copies_wait_but_last(void)
{
	asm volatile("cp.async.wait_group 1;" ::: "memory");
}

/* All copies that the thread has begun. */
static __device__ __forceinline__ void copies_wait(void)
{
	asm volatile("cp.async.wait_all;" ::: "memory");
}

/* The cluster's barrier, in two steps; arriving releases what the thread has written, unless relaxed. */
static __device__ __forceinline__ void cluster_arrive_relaxed(void)
{
	asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

static __device__ __forceinline__ void cluster_arrive(void)
{
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

static __device__ __forceinline__ void cluster_wait(void)
{
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* A barrier of n of the block's threads, whole warps; 0 is that of all of them. */
static __device__ __forceinline__ void some_meet(uint32_t which, uint32_t n)
{
	asm volatile("bar.sync %0, %1;" ::"r"(which), "r"(n) : "memory");
}

/* The same for who need not wait. */
static __device__ __forceinline__ void some_arrive(uint32_t which, uint32_t n)
{
	asm volatile("bar.arrive %0, %1;" ::"r"(which), "r"(n) : "memory");
}

/* A word that other blocks poll, and four of them: seen some time, in no order with others. */
static __device__ __forceinline__ void word_give(uint32_t *at, uint32_t word)
{
	asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(word) : "memory");
}

static __device__ __forceinline__ uint4 words_seen(const uint32_t *at)
{
	uint4 v;

	asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(at)
		     : "memory");
	return v;
}

/* The same place of shared memory in block `rank` of the cluster. */
static __device__ __forceinline__ float *cluster_place(float *own, int rank)
{
	return cooperative_groups::this_cluster().map_shared_rank(own, (unsigned)rank);
}

#endif
