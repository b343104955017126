/* block.cc - see block.h. */
#include "tests/emu/block.h"

#include <cstdio>
#include <cstdlib>
#include <ucontext.h>
#include <vector>

namespace emu {
namespace {

constexpr size_t STACK = 128 << 10;
constexpr unsigned STUCK = 200000;	/* rounds in which nobody has ended */

struct fiber {
	ucontext_t at;
	bool done;
	unsigned parity, arrived;	/* of its words in `words`; the cluster's turn that it arrived in */
};

constexpr unsigned BARRIERS = 16;

struct block {
	std::vector<fiber> fibers;
	std::vector<unsigned> warp_waiting, warp_turn;
	std::vector<uint32_t> words;	/* [2][threads][WORDS] */
	unsigned waiting, turn;
	unsigned some_waiting[BARRIERS], some_turn[BARRIERS];
	char *shared;
};

ucontext_t scheduler;
std::vector<block> blocks;	/* the cluster's */
std::vector<char *> stacks;
unsigned rank, thread, cluster_waiting, cluster_turn;
uint3 first;			/* the cluster's first block */
unsigned blocks_along_x;
uint32_t random_state;
const std::function<void()> *work;
std::function<bool()> round_work;

block &own(void)
{
	return blocks[rank];
}

/* The last of n comes: the next turn begins. */
void arrive(unsigned &waiting, unsigned &turn, unsigned n)
{
	if (++waiting == n) {
		waiting = 0;
		turn++;
	}
}

void meet(unsigned &waiting, unsigned &turn, unsigned n)
{
	const unsigned now = turn;

	arrive(waiting, turn, n);
	while (turn == now)
		give_way();
}

void enter(void)
{
	(*work)();
	own().fibers[thread].done = true;
	give_way();
}

uint32_t random_word(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8;
}

void prepare(block &b, unsigned r, unsigned threads, size_t shared)
{
	b.fibers.resize(threads);
	b.warp_waiting.assign(threads / 32, 0);
	b.warp_turn.assign(threads / 32, 0);
	b.words.assign(2 * threads * WORDS, 0);
	b.waiting = b.turn = 0;
	memset(b.some_waiting, 0, sizeof b.some_waiting);
	memset(b.some_turn, 0, sizeof b.some_turn);
	b.shared = (char *)aligned_alloc(128, (shared + 127) / 128 * 128);
	memset(b.shared, 0xff, shared);
	for (unsigned t = 0; t < threads; t++) {
		fiber &f = b.fibers[t];

		f.done = false;
		f.parity = f.arrived = 0;
		getcontext(&f.at);
		f.at.uc_stack.ss_sp = stacks[r * threads + t];
		f.at.uc_stack.ss_size = STACK;
		f.at.uc_link = NULL;
		makecontext(&f.at, enter, 0);
	}
}

/* Everybody who may runs until it waits; answers how many have ended. */
unsigned round_of(unsigned threads)
{
	const unsigned resting = random_state ? random_word() % 4 : 0;
	unsigned ended = 0;

	for (unsigned r = 0; r < blocks.size(); r++) {
		bool rests = resting == 3 && blocks.size() > 1 && random_word() % blocks.size();

		for (unsigned t = 0; t < threads; t++) {
			fiber &f = blocks[r].fibers[t];

			if (t % 32 == 0 && resting && resting < 3)
				rests = random_word() % 4 < resting;
			if (f.done || rests)
				continue;
			rank = r;
			thread = t;
			swapcontext(&scheduler, &f.at);
			ended += f.done;
		}
	}
	return ended;
}

void run_cluster(unsigned cluster, unsigned threads, size_t shared)
{
	unsigned idle = 0;

	blocks.resize(cluster);
	cluster_waiting = cluster_turn = 0;
	for (unsigned r = 0; r < cluster; r++)
		prepare(blocks[r], r, threads, shared);
	for (unsigned left = cluster * threads; left;) {
		const unsigned ended = round_of(threads);

		left -= ended;
		idle = ended || (round_work && round_work()) ? 0 : idle + 1;
		if (idle == STUCK) {
			fprintf(stderr, "%u threads wait for each other for ever\n", left);
			exit(1);
		}
	}
	for (block &b : blocks)
		free(b.shared);
}

} /* namespace */

thread_place here(void)
{
	return { thread, make_uint3(first.x + rank, first.y, 0) };
}

unsigned grid_width(void)
{
	return blocks_along_x;
}

char *shared_memory(void)
{
	return own().shared;
}

char *shared_memory_of(unsigned r)
{
	return blocks[r].shared;
}

void block_barrier(void)
{
	meet(own().waiting, own().turn, (unsigned)own().fibers.size());
}

void warp_barrier(void)
{
	meet(own().warp_waiting[thread / 32], own().warp_turn[thread / 32], 32);
}

void give_way(void)
{
	const unsigned r = rank, t = thread;

	swapcontext(&blocks[r].fibers[t].at, &scheduler);
	rank = r;
	thread = t;
}

const uint32_t *gather(const uint32_t *words, unsigned n)
{
	block &b = own();
	uint32_t *all = &b.words[((b.fibers[thread].parity ^= 1) * b.fibers.size() + thread / 32 * 32) * WORDS];

	memcpy(all + thread % 32 * n, words, n * 4);
	warp_barrier();
	return all;
}

uint32_t exchange(uint32_t word, unsigned from)
{
	return gather(&word, 1)[from];
}

void some_meet(unsigned which, unsigned threads)
{
	meet(own().some_waiting[which], own().some_turn[which], threads);
}

void some_arrive(unsigned which, unsigned threads)
{
	arrive(own().some_waiting[which], own().some_turn[which], threads);
}

void cluster_barrier_arrive(void)
{
	own().fibers[thread].arrived = cluster_turn;
	if (++cluster_waiting == blocks.size() * own().fibers.size()) {
		cluster_waiting = 0;
		cluster_turn++;
	}
}

void cluster_barrier_wait(void)
{
	while (cluster_turn == own().fibers[thread].arrived)
		give_way();
}

void each_round(const std::function<bool()> &of)
{
	round_work = of;
}

uint32_t chance(void)
{
	return random_state ? random_word() : 0;
}

void run(dim3 grid, unsigned threads, size_t shared, unsigned cluster, const std::function<void()> &body)
{
	work = &body;
	blocks_along_x = grid.x;
	if (!cluster)
		cluster = grid.x;
	while (stacks.size() < (size_t)cluster * threads)
		stacks.push_back((char *)malloc(STACK));
	for (first.y = 0; first.y < grid.y; first.y++)
		for (first.x = 0; first.x < grid.x; first.x += cluster)
			run_cluster(cluster, threads, shared);
}

void seed(uint32_t s)
{
	random_state = s;
}

} /* namespace emu */
