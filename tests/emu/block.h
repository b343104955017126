/* block.h - blocks of CUDA threads as fibers on the CPU, for what a plain kernel computes and in which order
 * its warps may come: no GPU, no speed.
 *
 * A kernel's .cu file is included behind this header by a C++ file.  What it says in PTX it says through
 * kernels/cuda/async.cuh and launch.cuh, of which this folder has its own.  Threads of a block, and blocks of
 * a cluster, run in turns on one thread of the host and give way where they wait: at barriers and shuffles
 * (full warps only).  So a thread runs on alone from one of them to the next; with a seed whole warps and
 * blocks rest for a while, at random, and what a missing barrier lets happen does happen now and then.
 * Shared memory is NaNs when a block begins.  Not here: caches, orders of memory, one thread between
 * two instructions of another.
 */
#ifndef HEARTH_TESTS_EMU_BLOCK_H
#define HEARTH_TESTS_EMU_BLOCK_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

namespace emu {

struct thread_place {
	unsigned thread;	/* of its block */
	uint3 block;
};

thread_place here(void);
char *shared_memory(void);	/* the block's */
char *shared_memory_of(unsigned rank);	/* of a block of the cluster */

/* Where threads wait for each other. */
void block_barrier(void);
void warp_barrier(void);
uint32_t exchange(uint32_t word, unsigned from);	/* what lane `from` of the warp gives */
void cluster_barrier_arrive(void);
void cluster_barrier_wait(void);

/* Runs `body` in every thread of a grid, one cluster after the other.  Ends the program where all wait. */
void run(dim3 grid, unsigned threads, size_t shared, unsigned cluster, const std::function<void()> &body);

/* From now on warps come in a random order; 0: in turns. */
void seed(uint32_t s);

struct index {
	operator unsigned() const { return here().thread; }
};
struct block_index {
	struct { operator unsigned() const { return here().block.x; } } x;
	struct { operator unsigned() const { return here().block.y; } } y;
};

[[maybe_unused]] static struct { index x; } thread_index;
[[maybe_unused]] static block_index block_place;

} /* namespace emu */

#define threadIdx emu::thread_index
#define blockIdx emu::block_place
#undef __device__
#undef __global__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

static inline void __syncthreads(void) { emu::block_barrier(); }
static inline void __syncwarp(unsigned = ~0u) { emu::warp_barrier(); }

template <typename T> static inline T __shfl_sync(unsigned, T v, int from)
{
	uint32_t word;

	static_assert(sizeof(T) == 4, "a word");
	memcpy(&word, &v, 4);
	word = emu::exchange(word, (unsigned)from % 32);
	memcpy(&v, &word, 4);
	return v;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int with)
{
	return __shfl_sync(mask, v, (int)(threadIdx.x % 32) ^ with);
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
	const unsigned lane = threadIdx.x % 32;

	return __shfl_sync(mask, v, (int)(lane + by < 32 ? lane + by : lane));
}

/* To be compiled with -ffp-contract=off: one rounding each. */
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __frsqrt_rn(float a) { return 1.0f / sqrtf(a); }

static inline float __uint_as_float(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

#endif
