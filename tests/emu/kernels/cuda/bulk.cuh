/* bulk.cuh - of kernels/cuda, where blocks are fibers: a copy lands some rounds later, in any order with others; what
 * a barrier cannot be asked ends the program. */
#ifndef HEARTH_KERNELS_CUDA_BULK_CUH
#define HEARTH_KERNELS_CUDA_BULK_CUH

#include "tests/emu/block.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/once.cuh"

static inline void emu_must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static inline uint32_t shared_at(const void *p) { return (uint32_t)((const char *)p - emu::shared_memory()); }

/* In the barrier's eight bytes. */
struct emu_barrier {
	uint16_t count, pending;
	uint32_t phase : 1, made : 7, bytes : 24;
};
static_assert(sizeof(emu_barrier) == 8, "a barrier's place");
static constexpr uint32_t EMU_MADE = 0x2a;

static inline emu_barrier *emu_barrier_at(uint32_t at)
{
	emu_barrier *b = (emu_barrier *)(emu::shared_memory() + at);

	emu_must(at % 8 == 0 && b->made == EMU_MADE, "a barrier that nobody has made");
	return b;
}

static inline void emu_complete(emu_barrier *b)
{
	if (b->pending || b->bytes)
		return;
	b->phase ^= 1;
	b->pending = b->count;
}

static inline void ring_barrier(uint32_t at, uint32_t count)
{
	emu_must(at % 8 == 0 && count, "a barrier without a place, or of nobody");
	*(emu_barrier *)(emu::shared_memory() + at) = { (uint16_t)count, (uint16_t)count, 0, EMU_MADE, 0 };
}

static inline void ring_barriers_made(void) {}

static inline void ring_arrive(uint32_t at)
{
	emu_barrier *b = emu_barrier_at(at);

	emu_must(b->pending, "an arrival too many");
	b->pending--;
	emu_complete(b);
}

static inline void ring_wait(uint32_t at, uint32_t parity)
{
	const emu_barrier *b = emu_barrier_at(at);

	emu_must(parity < 2, "a parity of more than a bit");
	while (b->phase == parity)
		emu::give_way();
}

static inline void ring_expect(uint32_t at, uint32_t bytes)
{
	emu_barrier_at(at)->bytes += bytes;
	ring_arrive(at);
}

struct emu_bulk_copy {
	char *to;
	const char *from;
	uint32_t bytes;
	emu_barrier *come;
	uint32_t rounds;	/* until it lands */
};

static inline std::vector<emu_bulk_copy> &emu_on_their_way(void)
{
	static std::vector<emu_bulk_copy> copies;

	return copies;
}

/* In a random order every fourth copy is slow. */
static inline uint32_t emu_rounds(void)
{
	return emu::chance() % 4 ? emu::chance() % 8 : emu::chance() % 400;
}

/* Those whose time has come. */
static inline bool emu_land(void)
{
	std::vector<emu_bulk_copy> &all = emu_on_their_way(), left;
	const size_t n = all.size();

	for (emu_bulk_copy &c : all) {
		if (c.rounds) {
			c.rounds--;
			left.push_back(c);
			continue;
		}
		memcpy(c.to, c.from, c.bytes);
		emu_must(c.come->bytes >= c.bytes, "more bytes than were expected");
		c.come->bytes -= c.bytes;
		emu_complete(c.come);
	}
	all = left;
	return n;
}

static inline void ring_fetch_once(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier)
{
	emu_must(bytes && bytes % 16 == 0 && to % 16 == 0 && (uintptr_t)from % 16 == 0, "a copy that is not of 16 bytes each");
	emu::each_round(emu_land);
	emu_on_their_way().push_back({ emu::shared_memory() + to, (const char *)from, bytes, emu_barrier_at(barrier), emu_rounds() });
}

static inline void ring_copy_once(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier)
{
	ring_expect(barrier, bytes);
	ring_fetch_once(to, from, bytes, barrier);
}

#endif
