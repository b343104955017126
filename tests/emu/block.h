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
unsigned grid_width(void);	/* blocks along x */
char *shared_memory(void);	/* the block's */
char *shared_memory_of(unsigned rank);	/* of a block of the cluster */

/* Where threads wait for each other. */
void block_barrier(void);
void warp_barrier(void);
uint32_t exchange(uint32_t word, unsigned from);	/* what lane `from` of the warp gives */
/* What all lanes of the warp give, lane after lane, n words each, at most WORDS; until the warp comes here again. */
constexpr unsigned WORDS = 6;
const uint32_t *gather(const uint32_t *words, unsigned n);
void some_meet(unsigned which, unsigned threads);	/* a barrier of some of the block's threads */
void some_arrive(unsigned which, unsigned threads);
void give_way(void);	/* for whoever polls */
void cluster_barrier_arrive(void);
void cluster_barrier_wait(void);

/* Done whenever all threads that may have had a turn; answers whether it did anything. */
void each_round(const std::function<bool()> &work);

/* Runs `body` in every thread of a grid, one cluster after the other (cluster 0: the whole grid at once).  Ends the
 * program where all wait. */
void run(dim3 grid, unsigned threads, size_t shared, unsigned cluster, const std::function<void()> &body);

/* From now on warps come in a random order; 0: in turns. */
void seed(uint32_t s);
uint32_t chance(void);	/* 24 bits; 0 while warps come in turns */

struct index {
	operator unsigned() const { return here().thread; }
};
struct block_index {
	struct { operator unsigned() const { return here().block.x; } } x;
	struct { operator unsigned() const { return here().block.y; } } y;
};

struct width {
	operator unsigned() const { return grid_width(); }
};

[[maybe_unused]] static struct { width x; } grid_size;
[[maybe_unused]] static struct { index x; } thread_index;
[[maybe_unused]] static block_index block_place;

} /* namespace emu */

#define threadIdx emu::thread_index
#define blockIdx emu::block_place
#define gridDim emu::grid_size
#undef __device__
#undef __global__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#undef __noinline__
#undef __align__
#undef __grid_constant__
#define __noinline__
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
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

template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
	const unsigned lane = threadIdx.x % 32;

	return __shfl_sync(mask, v, (int)(lane < by ? lane : lane - by));
}

static inline unsigned __ballot_sync(unsigned, int yes)
{
	const uint32_t word = yes != 0, *all = emu::gather(&word, 1);
	unsigned bits = 0;

	for (unsigned i = 0; i < 32; i++)
		bits |= all[i] << i;
	return bits;
}

static inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
static inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) == ~0u; }

static inline unsigned __match_any_sync(unsigned, uint32_t v)
{
	const uint32_t *all = emu::gather(&v, 1);
	unsigned bits = 0;

	for (unsigned i = 0; i < 32; i++)
		bits |= (unsigned)(all[i] == v) << i;
	return bits;
}

static inline unsigned __reduce_max_sync(unsigned, unsigned v)
{
	const uint32_t *all = emu::gather(&v, 1);

	return *std::max_element(all, all + 32);
}

static inline unsigned __reduce_min_sync(unsigned, unsigned v)
{
	const uint32_t *all = emu::gather(&v, 1);

	return *std::min_element(all, all + 32);
}

template <typename T> static inline T __ldcg(const T *p) { return *p; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }

static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned which)
{
	const uint64_t bytes = (uint64_t)b << 32 | a;
	unsigned v = 0;

	for (unsigned i = 0; i < 4; i++)
		v |= (unsigned)(bytes >> (which >> 4 * i & 7) * 8 & 0xff) << 8 * i;
	return v;
}

static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by)
{
	return (unsigned)(((uint64_t)hi << 32 | lo) >> (by & 31));
}

static inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max(uint32_t a, uint32_t b) { return a < b ? b : a; }

/* To be compiled with -ffp-contract=off: one rounding each. */
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __frsqrt_rn(float a) { return 1.0f / sqrtf(a); }

static inline uint32_t __float_as_uint(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

static inline float __uint_as_float(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

#endif
