/* decode_square_x.cuh - the square form's blocks: who has which tiles and slices, where things lie in
 * shared memory, and how x comes there (decode_square.cuh says what for).
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_X_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_X_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/decode_matmul_int.cuh"

#define SQUARE_WARPS 8		/* that multiply */
#define SQUARE_BRINGERS 4
#define SQUARE_THREADS ((SQUARE_WARPS + SQUARE_BRINGERS) * WARP)
#define SQUARE_STAGES 8		/* of x, at most */

/* A piece of a ring: half a unit of BF16, or a unit with its scales; then its barrier. */
template <enum matmul_format F>
constexpr uint32_t piece_bytes = F == MATMUL_BF16 ? MATMUL_BF16_UNIT / 2 : unit<F>::bytes;
template <enum matmul_format F> constexpr uint32_t piece_room = piece_bytes<F> + 16;
template <enum matmul_format F> constexpr int unit_pieces = F == MATMUL_BF16 ? 2 : 1;
/* A stage of x: [64 of K][row], 128 bytes each, swizzled. */
template <int N> constexpr uint32_t x_stage = N * MATMUL_SLICE * 2;

/* A layout as the kernel needs it. */
struct square_params {
	uint32_t tiles;		/* row tiles of a block; split: of a cluster */
	uint32_t cluster;
	uint32_t k_groups;	/* warpgroups along K, the others along rows: 1 or 2 */
	uint32_t stages, ring;	/* of x; pieces of each warp's ring */
	bool ordered;		/* x comes in the order of steps */
};

/* Split: the column tiles of all row tiles of a cluster are dealt out to its blocks in turns, to be
 * added up there. */
template <int N>
static __host__ __device__ __forceinline__ uint32_t square_places(const struct square_params &q)
{
	return (q.tiles * (N / 8) + q.cluster - 1) / q.cluster;
}

/* Where things are in shared memory: addresses. */
struct square_shared {
	uint32_t x, sums, barriers, rings;
};

template <int N>
static __device__ __forceinline__ struct square_shared
square_shared_of(const struct matmul_params &p, const struct square_params &q, uint32_t base)
{
	struct square_shared s;

	s.x = (base + 1023) / 1024 * 1024;
	s.sums = s.x + q.stages * x_stage<N>;
	s.barriers = s.sums + square_places<N>(q) * p.n_slices * WARP * 16;
	s.rings = s.barriers + SQUARE_STAGES * 16;
	return s;
}

static __device__ __forceinline__ uint32_t full_barrier(const struct square_shared &s, uint32_t stage)
{
	return s.barriers + stage * 16;
}

static __device__ __forceinline__ uint32_t empty_barrier(const struct square_shared &s, uint32_t stage)
{
	return s.barriers + stage * 16 + 8;
}

/* The same address in another block of the cluster. */
static __device__ __forceinline__ uint32_t in_block(uint32_t at, uint32_t rank)
{
	uint32_t there;

	asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
	return there;
}

static __device__ __forceinline__ uint32_t square_rank(void)
{
	uint32_t rank;

	asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
	return rank;
}

/* What a block, and in it a warpgroup, walks: rounds of tiles, in each the slices of K. */
struct square_walk {
	uint32_t rank;			/* in the cluster */
	uint32_t rounds;
	uint32_t first_tile, round_tiles;	/* of the first round; from one to the next */
	uint32_t begin, end, step;	/* slices */
};

template <bool SPLIT>
static __device__ __forceinline__ struct square_walk square_walk_of(const struct matmul_params &p,
								    const struct square_params &q)
{
	const uint32_t rank = blockIdx.x % q.cluster;
	struct square_walk w;

	w.rank = rank;
	w.step = 1;
	if (SPLIT) {
		w.rounds = 1;
		w.first_tile = blockIdx.x / q.cluster * q.tiles;
		w.round_tiles = 0;
		w.begin = rank * p.n_slices / q.cluster;
		w.end = (rank + 1) * p.n_slices / q.cluster;
	} else {
		/* As many rounds as the cluster's first block has: all bring x. */
		const uint32_t passes = (p.n_tiles + q.tiles - 1) / q.tiles;

		w.rounds = (passes - (blockIdx.x - rank) + gridDim.x - 1) / gridDim.x;
		w.first_tile = blockIdx.x * q.tiles;
		w.round_tiles = gridDim.x * q.tiles;
		w.begin = 0;
		w.end = p.n_slices;
	}
	return w;
}

/* ---- x ---------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint4 load_x(const __nv_bfloat16 *from)
{
	uint4 v;

	/* Not the read-only path: x may have been written after this kernel began. */
	asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
	return v;
}

static __device__ __forceinline__ void put_word(uint32_t at, uint32_t v)
{
	asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(v) : "memory");
}

/* Eight columns of a row, from where a lane has them to where the steps have them: row % 8 is g,
 * `chunk` the first of the four pieces of 16 bytes that get a pair each. */
static __device__ __forceinline__ void square_put(uint32_t row, uint32_t chunk, uint32_t g,
						  const uint4 &v)
{
	const uint32_t at = row + threadIdx.x % 4 * 4;

	put_word(at + ((chunk ^ g) * 16), v.x);
	put_word(at + (((chunk + 1) ^ g) * 16), v.y);
	put_word(at + (((chunk + 2) ^ g) * 16), v.z);
	put_word(at + (((chunk + 3) ^ g) * 16), v.w);
}

static __device__ __forceinline__ uint4 load_shared_now(uint32_t at)
{
	uint4 v;

	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "r"(at)
		     : "memory");
	return v;
}

/* One bringing warp: 64 columns of each slice.  There are a few slices only, so registers hold what is on
 * its way. */
template <int N>
static __device__ __forceinline__ void square_bring(const struct matmul_params &p,
						    const struct square_params &q,
						    const struct square_walk &w,
						    const struct square_shared &s)
{
	constexpr int LOADS = N / 8 * 2, DEPTH = LOADS >= 8 ? 2 : 4;
	const uint32_t lane = threadIdx.x % WARP, block = threadIdx.x / WARP - SQUARE_WARPS;
	const uint32_t g = lane / 4, n = w.end - w.begin;
	const __nv_bfloat16 *from = p.x + (size_t)g * p.ldx + block * 64 + lane % 4 * 8;
	const uint32_t own_k = block * 64 + lane % 4 * 8;
	uint4 v[DEPTH][LOADS];
	uint32_t asked = w.begin, stage = 0, phase = 1;

	const auto ask = [&](uint4(&to)[LOADS]) {
#pragma unroll
		for (int i = 0; i < LOADS; i++) {
			const uint32_t row = i / 2 * 8 + g;
			const uint32_t k = asked * MATMUL_SLICE + i % 2 * 32;

			to[i] = make_uint4(0, 0, 0, 0);
			if (row < p.n_cols && own_k + k < p.k)
				to[i] = load_x(from + (size_t)(i / 2 * 8) * p.ldx + k);
		}
		asked++;
	};

#pragma unroll
	for (int d = 0; d < DEPTH; d++)
		if (d < (int)n)
			ask(v[d]);
	for (uint32_t done = 0; done < n; done += DEPTH) {
#pragma unroll
		for (int d = 0; d < DEPTH; d++) {
			if (done + d >= n)
				break;
			const uint32_t part = s.x + stage * x_stage<N> + block * (N * 128);
			const uint32_t full = full_barrier(s, stage);

			ring_wait(empty_barrier(s, stage), phase);
#pragma unroll
			for (int i = 0; i < LOADS; i++)
				square_put(part + (i / 2 * 8 + g) * 128, i % 2 * 4, g, v[d][i]);
			if (done + d + DEPTH < n)
				ask(v[d]);
			asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
			__syncwarp();
			if (lane == 0)
				ring_arrive(full);
			if (++stage == q.stages) {
				stage = 0;
				phase ^= 1;
			}
		}
	}
}

#endif
