/* decode_square_x.cuh - the square form's blocks: who has which tiles and slices, where things lie in
 * shared memory, and how x comes there (decode_square.cuh says what for).
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_X_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_X_CUH

#include "kernels/cuda/decode_ring.cuh"

#ifdef SQUARE_TRACE
__device__ uint32_t square_trace[12 * 32 * 8];
#define TRACE(item, event)                                                                         \
	do {                                                                                       \
		if (blockIdx.x == 60 && threadIdx.x % 32 == 0 && (item) < 32) {                    \
			uint32_t c_;                                                               \
			asm volatile("mov.u32 %0, %%clock;" : "=r"(c_)::"memory");                 \
			square_trace[(threadIdx.x / 32 * 32 + (item)) * 8 + (event)] = c_;         \
		}                                                                                  \
	} while (0)
#else
#define TRACE(item, event) ((void)0)
#endif

#define SQUARE_WARPS 8		/* that multiply */
#define SQUARE_BRINGERS 4
#define SQUARE_THREADS ((SQUARE_WARPS + SQUARE_BRINGERS) * WARP)
#define SQUARE_STAGES 8		/* of x, at most */
#define SQUARE_RAW 8		/* slices of x as they lie, on their way, at most */
#define RAW_ROW (MATMUL_SLICE * 2 + 16)	/* a row there: no bank conflicts */

/* A piece of a ring: half a unit of BF16, or a unit with its scales; then its barrier. */
template <enum matmul_format F>
constexpr uint32_t piece_bytes = F == MATMUL_BF16 ? MATMUL_BF16_UNIT / 2 : unit<F>::bytes;
template <enum matmul_format F> constexpr uint32_t piece_room = piece_bytes<F> + 16;
template <enum matmul_format F> constexpr int unit_pieces = F == MATMUL_BF16 ? 2 : 1;
/* A stage of x: [64 of K][row], 128 bytes each, swizzled. */
template <int N> constexpr uint32_t x_stage = N * MATMUL_SLICE * 2;

/* A layout as the kernel needs it. */
struct square_params {
	uint32_t tiles;		/* row tiles of a block; SPLIT: of a cluster */
	uint32_t cluster;
	uint32_t k_groups;	/* warpgroups along K, the others along rows: 1 or 2 */
	uint32_t stages, raw, ring;	/* of x; places for x as it lies; pieces of each warp's ring */
	bool ordered;		/* x comes in the order of steps */
};

/* SPLIT: the column tiles of all row tiles of a cluster are dealt out to its blocks in turns, to be
 * added up there. */
template <int N>
static __host__ __device__ __forceinline__ uint32_t square_places(const struct square_params &q)
{
	return (q.tiles * (N / 8) + q.cluster - 1) / q.cluster;
}

/* Where things are in shared memory: addresses. */
struct square_shared {
	uint32_t x, sums, barriers, raw_barriers, raw, rings;
};

template <int N, int SHARE>
static __device__ __forceinline__ struct square_shared
square_shared_of(const struct matmul_params &p, const struct square_params &q, bool split,
		 uint32_t base)
{
	struct square_shared s;

	s.x = (base + 1023) / 1024 * 1024;
	s.sums = s.x + q.stages * x_stage<N>;
	s.barriers = s.sums + (split ? square_places<N>(q) * p.n_slices * WARP * 16 : 0);
	s.raw_barriers = s.barriers + SQUARE_STAGES * 16;
	s.raw = s.raw_barriers + SQUARE_RAW * 8;
	s.rings = s.raw + (split ? 0 : q.raw * (N / SHARE) * RAW_ROW);
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

/* The four warps that bring x. */
static __device__ __forceinline__ void barrier_bringers(void)
{
	asm volatile("bar.sync 1, %0;" ::"n"(SQUARE_BRINGERS * WARP) : "memory");
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

/* One bringing warp: 64 columns of each slice, N / SHARE rows of x, which come as they lie into one of
 * q.raw places by bulk copies. */
template <int N, int SHARE>
static __device__ __forceinline__ void square_bring_raw(const struct matmul_params &p,
							const struct square_params &q,
							const struct square_walk &w,
							const struct square_shared &s)
{
	constexpr uint32_t ROWS = N / SHARE, LOADS = ROWS / 8 * 2;
	constexpr uint32_t HERE = ROWS * 128;	/* bytes of a warp's part of a stage */
	const uint32_t lane = threadIdx.x % WARP, block = threadIdx.x / WARP - SQUARE_WARPS;
	const uint32_t g = lane / 4, first_row = w.rank % SHARE * ROWS;
	const uint32_t slices = w.end - w.begin, n = w.rounds * slices;
	/* The warp asks for the rows block, block + 4, ...: a lane for one of them. */
	const uint32_t own_row = block + lane * SQUARE_BRINGERS;
	const bool asks = own_row < ROWS && first_row + own_row < p.n_cols;
	const uint32_t n_asks = __popc(__ballot_sync(~0u, asks));
	const uint32_t own_k = block * 64 + lane % 4 * 8;
	uint32_t asked = w.begin, slice = w.begin, stage = 0, phase = 1, place = 0, come = 0;

	const auto ask = [&](uint32_t at) {
		const uint32_t bytes = min(p.k - asked * MATMUL_SLICE, (uint32_t)MATMUL_SLICE) * 2;
		const uint32_t barrier = s.raw_barriers + at * 8;

		if (lane == 0)
			asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
					     barrier),
				     "r"(n_asks * bytes)
				     : "memory");
		__syncwarp();
		if (asks)
			asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx"
				     "::bytes [%0], [%1], %2, [%3];" ::"r"(
					     s.raw + (at * ROWS + own_row) * RAW_ROW),
				     "l"(__cvta_generic_to_global(
					     p.x + (size_t)(first_row + own_row) * p.ldx +
					     asked * MATMUL_SLICE)),
				     "r"(bytes), "r"(barrier)
				     : "memory");
		asked = asked + 1 == w.end ? w.begin : asked + 1;
	};

	/* Copies see what the kernel before wrote. */
	asm volatile("fence.proxy.async.global;" ::: "memory");
#pragma unroll 1
	for (uint32_t i = 0; i < min(n, q.raw); i++)
		ask(i);
#pragma unroll 1
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t part = s.x + stage * x_stage<N> + block * (N * 128) + first_row * 128;
		const uint32_t full = full_barrier(s, stage);
		const uint32_t raw = s.raw + (place * ROWS + g) * RAW_ROW + own_k * 2;
		uint4 v[LOADS];

		TRACE(slice, 0);
		ring_wait(s.raw_barriers + place * 8, come);
		TRACE(slice, 1);
#pragma unroll
		for (int j = 0; j < (int)LOADS; j++) {
			v[j] = load_shared_now(raw + j / 2 * 8 * RAW_ROW + j % 2 * 64);
			if (slice * MATMUL_SLICE + own_k + j % 2 * 32 >= p.k)
				v[j] = make_uint4(0, 0, 0, 0);
		}
		ring_wait(empty_barrier(s, stage), phase);
		TRACE(slice, 2);
#pragma unroll
		for (int j = 0; j < (int)LOADS; j++)
			square_put(part + (j / 2 * 8 + g) * 128, j % 2 * 4, g, v[j]);
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		__syncwarp();
		if (lane == 0) {
			if (SHARE > 1)
				asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
						     full),
					     "r"(HERE * (SHARE - 1))
					     : "memory");
			else
				ring_arrive(full);
#pragma unroll
			for (uint32_t other = 1; other < SHARE; other++) {
				const uint32_t rank = (w.rank + other) % SHARE;

				asm volatile("cp.async.bulk.shared::cluster.shared::cta"
					     ".mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
						     in_block(part, rank)),
					     "r"(part), "r"(HERE), "r"(in_block(full, rank))
					     : "memory");
			}
		}
		/* The next copy may write into the place when all four have read it: when what was
		 * read has been used, and the fence above is behind it.  A barrier alone orders loads
		 * that are on their way before other loads and stores, not before copies. */
		TRACE(slice, 3);
		barrier_bringers();
		TRACE(slice, 4);
		if (i + q.raw < n)
			ask(place);
		TRACE(slice, 5);
		slice = slice + 1 == w.end ? w.begin : slice + 1;
		if (++stage == q.stages) {
			stage = 0;
			phase ^= 1;
		}
		if (++place == q.raw) {
			place = 0;
			come ^= 1;
		}
	}
}

/* The same when blocks share K: there is no room for x as it lies, and a few slices only, so that
 * registers hold what is on its way. */
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
