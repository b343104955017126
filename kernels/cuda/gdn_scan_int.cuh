/* gdn_scan_int.cuh - what both kinds of warp of gdn_scan.cu use: the block's shared memory and its
 * barriers, the copies, the products.  Included by that one file. */
#ifndef HEARTH_KERNELS_CUDA_GDN_SCAN_INT_CUH
#define HEARTH_KERNELS_CUDA_GDN_SCAN_INT_CUH

#include "kernels/cuda/gdn_prefill.cuh"

/* Others have 100 KB a multiprocessor, so one block, and no copy engine that serves several. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 1000
#define HOPPER 1
#else
#define HOPPER 0
#endif

namespace gdn {
namespace {

constexpr int SLICE = 32, SLICES = D / SLICE;	/* value dimensions of a block; blocks of a head */
constexpr int PAIRS = 2;			/* of 16 value dimensions: a state warp each, */
constexpr int HALVES = 2;			/* and two output warps */
/* six warps: three on a scheduler with two blocks, 168 registers */
constexpr int THREADS = PAIRS * (1 + HALVES) * 32;
constexpr int AHEAD = 4;				/* chunks, into L2 */
constexpr int HEAD_PAIRS = PAIRS * SLICES;
constexpr int HALF = C / HALVES, TILES = HALF / 8;
constexpr int WIDE_PART = WIDE / SLICES;
constexpr int SOLVE_PART = sizeof(solve_record) / SLICES,
	      SCORE_PART = sizeof(score_record) / SLICES;
constexpr float Q_SCALE = 0.08838834764831845f;	/* 128^-0.5 */
constexpr float SMALLEST = 1.0f / 1024, LARGEST = 512;

struct gate {		/* a place filled by one side and emptied by the other */
	uint64_t full, empty;
};

struct shared {
	unsigned char K[2][WIDE], Q[WIDE];
	solve_record solve[2];
	score_record score[2];
	unsigned char V[2][PAIRS * V_TILE];
	uint4 S[PAIRS][8][32], W[PAIRS][4][32];	/* fragments of S and V' for the output warp */
	unsigned char turn[PAIRS][V_TILE];		/* z and out, between rows and fragments */
	float squares[2][HEAD_PAIRS][C];
	float scale[PAIRS][16];
	gate k[2], q, p[2], s[PAIRS], w[PAIRS];
	uint64_t norm[2];
};

struct scan_args {
	gdn_prefill_args a;
	bool together;		/* a block fetches its quarter for all four */
};

struct work {
	const scan_args &g;
	gdn_prefill_run run;
	uint32_t n_chunks;
	int head, slice;
};

/* ---- barriers ------------------------------------------------------------------ */

/* turn: how often this place was used before. */
__device__ __forceinline__ void wait_full(gate &g, uint32_t turn)
{
	wait(&g.full, turn & 1);
}

__device__ __forceinline__ void wait_empty(gate &g, uint32_t turn)
{
	wait(&g.empty, ~turn & 1);	/* passes at once the first time */
}

/* The whole warp is done with what came before. */
__device__ __forceinline__ void arrive(uint64_t *b)
{
	__syncwarp();
	if (threadIdx.x % 32 == 0)
		asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b))
			     : "memory");
}

__device__ __forceinline__ uint32_t in_block(uint32_t at, uint32_t rank)
{
	uint32_t to;

	asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank));
	return to;
}

/* ... in every block of the cluster.  It hands back room that was read, no data, so the default
 * scope does: a release at cluster scope would be a fence of the whole GPU, about a microsecond,
 * three times a chunk. */
__device__ __forceinline__ void arrive_all(uint64_t *b)
{
	const uint32_t lane = threadIdx.x % 32;

	__syncwarp();
	if (lane < SLICES)
		asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];"
			     :: "r"(in_block(shared_address(b), lane)) : "memory");
}

/* ---- the copies ---------------------------------------------------------- */

/* What all four blocks need, `part` the quarter of each. */
__device__ void fetch(const work &o, void *to, const void *from, uint32_t part, uint64_t *b)
{
	if (!HOPPER || !o.g.together) {
		fetch_own(to, from, part * SLICES, b);
		return;
	}
#if HOPPER
	const uint32_t skip = part * (uint32_t)o.slice;

	asm volatile(
		"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
		".multicast::cluster "
		"[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to) + skip),
		"l"(__cvta_generic_to_global((const char *)from + skip)), "r"(part),
		"r"(shared_address(b)), "h"((uint16_t)((1 << SLICES) - 1))
		: "memory");
#endif
}

/* Memory is further away than a chunk is long: it is asked for AHEAD chunks early, to be in L2. */
__device__ void announce(const void *from, uint32_t bytes)
{
	asm volatile(
		"cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)),
		"r"(bytes)
		: "memory");
}

__device__ const unsigned char *part_of(const void *p, uint32_t part, const work &o)
{
	return (const unsigned char *)p + part * (uint32_t)o.slice;
}

__device__ __forceinline__ room room_of(const work &o)
{
	return { (unsigned char *)o.g.a.room, o.g.a.n_chunks, o.g.a.k_heads, o.g.a.v_heads };
}

/* Chunk i's K, T and V, for the state warps.  One lane. */
__device__ void copy_keys(shared &s, const work &o, uint32_t i)
{
	const room room = room_of(o);
	const size_t k_head = o.head / (room.v_heads / room.k_heads), chunk = o.run.first_chunk + i;
	const uint32_t skip = (uint32_t)o.slice * PAIRS * V_TILE;
	const int at = i % 2;

	if (i >= o.n_chunks)
		return;
	wait_empty(s.k[at], i / 2);
	expect(&s.k[at].full, WIDE + sizeof(solve_record) + PAIRS * V_TILE);
	fetch(o, s.K[at], room.qk(chunk, k_head, 1), WIDE_PART, &s.k[at].full);
	fetch(o, &s.solve[at], room.solve(chunk, o.head), SOLVE_PART, &s.k[at].full);
	fetch_own(s.V[at], room.v(chunk, o.head) + skip, PAIRS * V_TILE, &s.k[at].full);
	if (i + AHEAD >= o.n_chunks)
		return;
	announce(part_of(room.qk(chunk + AHEAD, k_head, 1), WIDE_PART, o), WIDE_PART);
	announce(part_of(room.solve(chunk + AHEAD, o.head), SOLVE_PART, o), SOLVE_PART);
	announce(room.v(chunk + AHEAD, o.head) + skip, PAIRS * V_TILE);
}

/* Q and P, for the output warps. */
__device__ void copy_queries(shared &s, const work &o, uint32_t i)
{
	const room room = room_of(o);
	const size_t k_head = o.head / (room.v_heads / room.k_heads), chunk = o.run.first_chunk + i;

	if (i >= o.n_chunks)
		return;
	wait_empty(s.q, i);
	expect(&s.q.full, WIDE);
	fetch(o, s.Q, room.qk(chunk, k_head, 0), WIDE_PART, &s.q.full);
	wait_empty(s.p[i % 2], i / 2);
	expect(&s.p[i % 2].full, sizeof(score_record));
	fetch(o, &s.score[i % 2], room.score(chunk, o.head), SCORE_PART, &s.p[i % 2].full);
	if (i + AHEAD >= o.n_chunks)
		return;
	announce(part_of(room.qk(chunk + AHEAD, k_head, 0), WIDE_PART, o), WIDE_PART);
	announce(part_of(room.score(chunk + AHEAD, o.head), SCORE_PART, o), SCORE_PART);
}

/* ---- products ------------------------------------------------------------------ */

/* acc = S (fragments) times N tiles of 8 tokens, from `first` on, of a wide tile [token][key],
 * transposed. */
template <int N>
__device__ __forceinline__ void times_wide(float acc[N][4], const uint32_t S[8][4],
					   const unsigned char *tile, int first)
{
	const int lane = threadIdx.x % 32, m = lane / 8, r = first + (m >> 1) * 8 + lane % 8;
	const uint32_t at = shared_address(tile);

#pragma unroll
	for (int j = 0; j < N; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = 0;
#pragma unroll
	for (int k = 0; k < 8; k++)
#pragma unroll
		for (int c = 0; c < N / 2; c++) {
			uint32_t b[4];

			load4(b, at + wide_at(16 * c + r, 2 * k + (m & 1)));
			mma_f16(acc[2 * c], S[k], b[0], b[1]);
			mma_f16(acc[2 * c + 1], S[k], b[2], b[3]);
		}
}

/* acc += x (fragments, values x tokens) times N / 2 rows of blocks, from `first` on, of a lower
 * triangle, transposed. */
template <int N>
__device__ __forceinline__ void times_triangle(float acc[N][4], const uint32_t x[4][4],
					       const unsigned char *triangle, int first)
{
	const int lane = threadIdx.x % 32, m = lane / 8;
	const uint32_t at = shared_address(triangle) + narrow_at((m >> 1) * 8 + lane % 8, m & 1);

#pragma unroll
	for (int j = 0; j < 4; j++)
#pragma unroll
		for (int i = 0; i < N / 2; i++) {
			uint32_t b[4];

			if (j > first + i)
				continue;
			load4(b, at + triangle_at(first + i, j));
			mma_f16(acc[2 * i], x[j], b[0], b[1]);
			mma_f16(acc[2 * i + 1], x[j], b[2], b[3]);
		}
}

/* N tiles of 8 tokens, from `first` on, of a narrow tile [64][16] as accumulators lie, values x
 * tokens: pairs of bf16, [tile][half of values]. */
template <int N>
__device__ __forceinline__ void load_turned(uint32_t x[N][2], const unsigned char *tile, int first)
{
	const int lane = threadIdx.x % 32, m = lane / 8, r = first + (m >> 1) * 8 + lane % 8;

#pragma unroll
	for (int c = 0; c < N / 2; c++) {
		uint32_t b[4];

		load4_trans(b, shared_address(tile) + narrow_at(16 * c + r, m & 1));
		x[2 * c][0] = b[0];
		x[2 * c][1] = b[1];
		x[2 * c + 1][0] = b[2];
		x[2 * c + 1][1] = b[3];
	}
}

} /* namespace */
} /* namespace gdn */

#endif
