/* async.cuh - of kernels/cuda, where blocks are fibers: copies land where their thread waits for them. */
#ifndef HEARTH_KERNELS_CUDA_ASYNC_CUH
#define HEARTH_KERNELS_CUDA_ASYNC_CUH

#include "tests/emu/block.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#define BLOCK_SHARED(name) char *const name = emu::shared_memory()
static inline char *block_shared(void) { return emu::shared_memory(); }

static inline void some_meet(uint32_t which, uint32_t n) { emu::some_meet(which, n); }
static inline void some_arrive(uint32_t which, uint32_t n) { emu::some_arrive(which, n); }

static inline void word_give(uint32_t *at, uint32_t word) { *at = word; }
static inline uint4 words_seen(const uint32_t *at) { return make_uint4(at[0], at[1], at[2], at[3]); }

/* A thread's copies, in the groups that it has ended; they land where it waits for them, no sooner. */
struct emu_copy {
	void *to;
	const void *from;
	size_t bytes;
};

struct emu_copies {
	std::vector<std::vector<emu_copy>> ended;
	std::vector<emu_copy> open;
};

static inline emu_copies &own_copies(void)
{
	static std::map<char *, std::vector<emu_copies>> blocks;
	static std::pair<char *, emu_copies *> last;	/* a block's threads copy one behind the other */
	char *const block = emu::shared_memory();

	if (last.first != block) {
		std::vector<emu_copies> &all = blocks[block];

		all.resize(1024);
		last = { block, all.data() };
	}
	return last.second[emu::here().thread];
}

static inline void land(const std::vector<emu_copy> &copies)
{
	for (const emu_copy &c : copies)
		memcpy(c.to, c.from, c.bytes);
}

template <int BYTES> static inline void copy_begin(void *shared, const void *global)
{
	if ((uintptr_t)shared % BYTES || (uintptr_t)global % BYTES) {
		fprintf(stderr, "%d bytes copied from or to where they are not aligned\n", BYTES);
		abort();
	}
	own_copies().open.push_back({ shared, global, BYTES });
}

static inline void copy16_begin(void *shared, const void *global) { copy_begin<16>(shared, global); }

static inline void copies_end(void)
{
	emu_copies &c = own_copies();

	c.ended.push_back(std::move(c.open));
	c.open.clear();
}

static inline void copies_wait_but_last(void)
{
	emu_copies &c = own_copies();

	for (; c.ended.size() > 1; c.ended.erase(c.ended.begin()))
		land(c.ended[0]);
}

static inline void copies_wait(void)
{
	emu_copies &c = own_copies();

	for (const auto &group : c.ended)
		land(group);
	land(c.open);
	c.ended.clear();
	c.open.clear();
}

static inline void cluster_arrive_relaxed(void) { emu::cluster_barrier_arrive(); }
static inline void cluster_arrive(void) { emu::cluster_barrier_arrive(); }
static inline void cluster_wait(void) { emu::cluster_barrier_wait(); }

static inline float *cluster_place(float *own, int rank)
{
	return (float *)(emu::shared_memory_of((unsigned)rank) + ((char *)own - emu::shared_memory()));
}

#endif
