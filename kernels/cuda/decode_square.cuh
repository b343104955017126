/* decode_square.cuh - the decode product of dense matrices for 9 to 64 columns on Hopper: four
 * warps multiply together (wgmma), so that x is read from shared memory once for 64 rows of W.
 *
 * A block has two warpgroups that multiply and one that brings x; it is alone on its multiprocessor.
 *  - Weights come by bulk copies into a ring of each warp's own, as in the ring form: loads stay in
 *    flight whatever the warp does.  From there they go to registers as fragments.
 *  - x comes a slice of 256 columns at a time, in stages.  wgmma wants the 16 columns of a step side
 *    by side where a row of x has them as pack.h says: so the third warpgroup puts it in that order,
 *    or the kernel before has.
 *  - Each slice's sums start from zero in registers, and are added in order.
 *
 * Tall matrices, with tiles for all blocks, are in decode_square_tall.cuh.  Here are the others, where
 * the blocks of a cluster have the same tiles and each a part of the slices of K; a slice's sums go to
 * the blocks that add them up when all are there, each some column tiles.
 *
 * Barriers: full[stage], by the four warps that bring x; empty[stage], by every warp that multiplies
 * with it; one beside each piece of a ring.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_CUH

#include "kernels/cuda/decode_square_x.cuh"
#include "kernels/cuda/wgmma_weights.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SQUARE_HERE 1
#else
#define SQUARE_HERE 0
#endif

/* ---- weights ------------------------------------------------------------------------------ */

/* One warp's ring: which piece is next, its barrier's parity; and what to ask for behind it. */
struct square_ring {
	uint32_t first, at, come;
	uint32_t m;		/* the warp's tile among those of its round, the first of MG */
	uint32_t round, slice, part;	/* of the piece to ask for; part: mg, and half of the unit */
};

/* Row tile `mg` of a warp in a round; n_tiles where it has none. */
static __device__ __forceinline__ uint32_t square_tile(const struct matmul_params &p,
						       const struct square_params &q,
						       const struct square_walk &w, uint32_t m,
						       uint32_t round, uint32_t mg)
{
	const uint32_t in = m + mg * SQUARE_WARPS;

	return in < q.tiles ? min(w.first_tile + round * w.round_tiles + in, p.n_tiles) :
			      p.n_tiles;
}

/* The next piece that this warp has, into a place that nobody reads any more. */
template <enum matmul_format F, int MG>
static __device__ __forceinline__ void
square_ask(const struct matmul_params &p, const struct square_params &q, const struct square_walk &w,
	   struct square_ring &ring, uint32_t place)
{
	constexpr uint32_t PIECES = unit_pieces<F>;

	while (ring.round < w.rounds) {
		const uint32_t tile =
			square_tile(p, q, w, ring.m, ring.round, ring.part / PIECES);
		const size_t index = (size_t)tile * p.n_slices + ring.slice;
		const uint32_t piece = ring.part % PIECES;

		if (++ring.part == MG * PIECES) {
			ring.part = 0;
			ring.slice += w.step;
			if (ring.slice >= w.end) {
				ring.slice = w.begin;
				ring.round++;
			}
		}
		if (tile == p.n_tiles)
			continue;
		if (threadIdx.x % WARP == 0)
			ring_copy(place, p.w + index * unit<F>::bytes + piece * piece_bytes<F>,
				  piece_bytes<F>, place + piece_bytes<F>);
		return;
	}
}

/* Four steps' fragments from a piece. */
template <enum matmul_format F>
static __device__ __forceinline__ void square_take(struct frag (&f)[4], uint32_t at, int lane)
{
	if constexpr (F == MATMUL_BF16) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const uint4 v = load_shared(at + i * 512 + lane * 16);

			f[i] = { v.x, v.y, v.z, v.w };
		}
	} else {
#pragma unroll
		for (int i = 0; i < 2; i++) {
			const uint4 v = load_shared(at + i * 512 + lane * 16);

			unit<MATMUL_FP8>::word(v.x, &f[2 * i].r[0], &f[2 * i].r[1]);
			unit<MATMUL_FP8>::word(v.y, &f[2 * i].r[2], &f[2 * i].r[3]);
			unit<MATMUL_FP8>::word(v.z, &f[2 * i + 1].r[0], &f[2 * i + 1].r[1]);
			unit<MATMUL_FP8>::word(v.w, &f[2 * i + 1].r[2], &f[2 * i + 1].r[3]);
		}
	}
}

/* The tensor core has read them: until here they stay where they are. */
static __device__ __forceinline__ void square_keep(struct frag (&f)[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			asm volatile("" : "+r"(f[i].r[j])::"memory");
}

/* ---- the product -------------------------------------------------------------------------- */

template <int N>
static __device__ __forceinline__ void square_mma(float (&sum)[N / 2], const struct frag (&f)[4],
						  uint64_t x)
{
#if SQUARE_HERE
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if constexpr (N == 16)
			wgmma_64x16(sum, f[i], x + i * 2);
		else if constexpr (N == 32)
			wgmma_64x32(sum, f[i], x + i * 2);
		else
			wgmma_64x64(sum, f[i], x + i * 2);
	}
	wgmma_commit();
#endif
}

template <int PENDING, int N> static __device__ __forceinline__ void square_wait(float (&sum)[N])
{
#if SQUARE_HERE
	wgmma_wait<PENDING>(sum);
#endif
}

/* One unit times the N columns of a stage.  mine: whether this warp has a tile; the tensor core wants
 * four warps in any case. */
template <enum matmul_format F, int N, int MG>
static __device__ __forceinline__ void square_unit(const struct matmul_params &p,
						   const struct square_params &q,
						   const struct square_walk &w,
						   struct square_ring &ring, bool mine, uint64_t x,
						   float (&sum)[N / 2])
{
	const int lane = threadIdx.x % WARP;
	struct unit<MATMUL_FP8> scales;
	struct frag set[2][4] = {};
	float part[N / 2];	/* FP8 only */

#pragma unroll
	for (int i = 0; i < N / 2; i++)
		sum[i] = 0;
#pragma unroll
	for (int quarter = 0; quarter < 4; quarter++) {
		const int in_piece = F == MATMUL_BF16 ? quarter % 2 : quarter;
		const bool last = in_piece == (F == MATMUL_BF16 ? 1 : 3);

		if (mine) {
			if (in_piece == 0)
				ring_wait(ring.at + piece_bytes<F>, ring.come);
			square_take<F>(set[quarter % 2],
				       ring.at + in_piece * (F == MATMUL_BF16 ? 2048 : 1024), lane);
			if (F == MATMUL_FP8 && quarter == 0) {
				const uint4 t = load_shared(ring.at + 4096);

				scales.low[0] = __uint_as_float(t.x);
				scales.low[1] = __uint_as_float(t.y);
				scales.high[0] = __uint_as_float(t.z);
				scales.high[1] = __uint_as_float(t.w);
			}
		}
		if constexpr (F == MATMUL_FP8)
			if (quarter == 2) {
				square_wait<0>(sum);
				square_keep(set[1]);
				join_halves<N / 2>(0, scales, sum, part);
			}
		square_mma<N>(sum, set[quarter % 2], x + quarter * (N * 8));
		square_wait<1>(sum);
		square_keep(set[1 - quarter % 2]);
		if (last && mine) {
			/* The fragments are in registers: the tensor core has begun with them. */
			__syncwarp();
			square_ask<F, MG>(p, q, w, ring, ring.at);
			ring.at += piece_room<F>;
			if (ring.at == ring.first + q.ring * piece_room<F>) {
				ring.at = ring.first;
				ring.come ^= 1;
			}
		}
	}
	square_wait<0>(sum);
	square_keep(set[1]);
	if constexpr (F == MATMUL_FP8)
		join_halves<N / 2>(1, scales, sum, part);
}

/* One column of the lane's two rows. */
static __device__ __forceinline__ void square_column(const struct matmul_params &p, uint32_t tile,
						     uint32_t r, uint32_t col, float low, float high)
{
	if (tile >= p.n_plain) {
		store_out(p, tile, r, col, low, high);
		return;
	}
	if (has_output(p, tile, r))
		store_out(p, tile, r, col, low, 0);
	if (has_output(p, tile, r + 8))
		store_out(p, tile, r + 8, col, high, 0);
}

/* Four sums of a lane: rows r and r + 8 of a tile, columns col and col + 1. */
static __device__ __forceinline__ void square_store(const struct matmul_params &p, uint32_t tile,
						    uint32_t r, uint32_t col, const float4 &v,
						    float low, float high)
{
	if (col < p.n_cols)
		square_column(p, tile, r, col, __fmul_rn(v.x, low), __fmul_rn(v.z, high));
	if (col + 1 < p.n_cols)
		square_column(p, tile, r, col + 1, __fmul_rn(v.y, low), __fmul_rn(v.w, high));
}

/* A slice's sums of the cluster's row tile m to the blocks that add them up. */
template <int N>
static __device__ __forceinline__ void square_give(const struct matmul_params &p,
						   const struct square_params &q,
						   const struct square_shared &s, uint32_t m,
						   uint32_t slice, const float (&sum)[N / 2])
{
	const uint32_t own = s.sums + slice * (WARP * 16) + threadIdx.x % WARP * 16;

#pragma unroll
	for (int t = 0; t < N / 8; t++) {
		const uint32_t item = m * (N / 8) + t;
		const uint32_t at = in_block(own + item / q.cluster * (p.n_slices * WARP * 16),
					     item % q.cluster);

		asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at),
			     "f"(sum[4 * t]), "f"(sum[4 * t + 1]), "f"(sum[4 * t + 2]),
			     "f"(sum[4 * t + 3])
			     : "memory");
	}
}

/* What square_add_up() will ask for: rows' scales are cold. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void square_call_scales(const struct matmul_params &p,
							  const struct square_params &q,
							  const struct square_walk &w)
{
	const uint32_t item = threadIdx.x * q.cluster + w.rank, tile = w.first_tile + item / (N / 8);

	if (F != MATMUL_BF16 && p.row_scale && threadIdx.x < square_places<N>(q) && tile < p.n_tiles)
		asm volatile("prefetch.global.L1 [%0];" ::"l"(tile_scales<F>(p, 0, tile)));
}

/* All slices of what this block adds up are there. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void square_add_up(const struct matmul_params &p,
						     const struct square_params &q,
						     const struct square_walk &w,
						     const struct square_shared &s)
{
	for (uint32_t i = threadIdx.x; i < square_places<N>(q) * WARP; i += SQUARE_THREADS) {
		const uint32_t lane = i % WARP, item = i / WARP * q.cluster + w.rank;
		const uint32_t tile = w.first_tile + item / (N / 8), t = item % (N / 8);
		uint32_t at = s.sums + i / WARP * (p.n_slices * WARP * 16) + lane * 16;
		float4 v = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);

		if (item >= q.tiles * (N / 8) || tile >= p.n_tiles)
			continue;
		const float *scales = tile_scales<F>(p, 0, tile);
		const float low = scale_of<F>(scales, lane / 4),
			    high = scale_of<F>(scales, lane / 4 + 8);

#pragma unroll 8
		for (uint32_t slice = 0; slice < p.n_slices; slice++, at += WARP * 16) {
			const float4 a = ring_get(at);

			v.x = fold(v.x, a.x);
			v.y = fold(v.y, a.y);
			v.z = fold(v.z, a.z);
			v.w = fold(v.w, a.w);
		}
		square_store(p, tile, lane / 4, 8 * t + lane % 4 * 2, v, low, high);
	}
}

/* This warp has read a stage: so it tells the blocks that write into it. */
static __device__ __forceinline__ void square_release(uint32_t empty, uint32_t blocks)
{
	const uint32_t lane = threadIdx.x % WARP;

	/* Only reads are ordered by this, which the tensor core has ended: no .release.cluster, which
	 * would wait for everything that is on its way. */
	if (lane < blocks)
		asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(
				     in_block(empty, blocks == 1 ? square_rank() : lane))
			     : "memory");
}

/* One warp that multiplies. */
template <enum matmul_format F, int N, int MG>
static __device__ __forceinline__ void square_multiply(const struct matmul_params &p,
						       const struct square_params &q,
						       const struct square_walk &w,
						       const struct square_shared &s,
						       struct square_ring &ring, uint32_t k_group)
{
	uint32_t stage = k_group, phase = 0;

	for (uint32_t slice = w.begin; slice < w.end; slice += w.step) {
		/* From one lane: so it is known to be one for the warp, as the instruction wants it. */
		const uint64_t x = wgmma_rows(__shfl_sync(~0u, s.x + stage * x_stage<N>, 0));

		ring_wait(full_barrier(s, stage), phase);
#pragma unroll 1
		for (int mg = 0; mg < MG; mg++) {
			const bool mine = square_tile(p, q, w, ring.m, 0, mg) < p.n_tiles;
			float sum[N / 2];

			square_unit<F, N, MG>(p, q, w, ring, mine, x, sum);
			if (mine)
				square_give<N>(p, q, s, ring.m + mg * SQUARE_WARPS, slice, sum);
		}
		square_release(empty_barrier(s, stage), 1);
		stage += w.step;
		if (stage >= q.stages) {
			stage -= q.stages;
			phase ^= 1;
		}
	}
}

/* Barriers are there for the whole cluster. */
static __device__ __forceinline__ void square_init(const struct square_params &q, const struct square_shared &s)
{
#pragma unroll 1
	for (uint32_t i = 0; i < q.stages; i++) {
		ring_barrier(full_barrier(s, i), SQUARE_BRINGERS);
		ring_barrier(empty_barrier(s, i), SQUARE_WARPS / q.k_groups);
	}
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* MG: row tiles of a warp. */
template <enum matmul_format F, int N, int MG>
__global__ void __launch_bounds__(SQUARE_THREADS, 1)
	square_kernel(const __grid_constant__ struct matmul_params p,
		      const __grid_constant__ struct square_params q)
{
#if SQUARE_HERE
	extern __shared__ __align__(1024) char shared_square[];
	const struct square_shared s =
		square_shared_of<N>(p, q, (uint32_t)__cvta_generic_to_shared(shared_square));
	const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
	const bool multiplies = warp < SQUARE_WARPS;
	const uint32_t k_group = q.k_groups == 2 ? warp / 4 : 0;
	struct square_walk w = square_walk_of<true>(p, q);
	struct square_ring ring;

	square_call_scales<F, N>(p, q, w);
	if (threadIdx.x == SQUARE_WARPS * WARP)
		square_init(q, s);
	__syncwarp();
	/* Not sync(): nothing else is to be waited for. */
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
	if (multiplies) {
		ring.m = q.k_groups == 2 ? warp % 4 : warp;
		ring.first = ring.at = s.rings + warp * q.ring * piece_room<F>;
		ring.come = ring.round = ring.part = 0;
		w.begin += k_group;
		w.step = q.k_groups;
		if (w.begin >= w.end)
			w.rounds = 0;
		ring.slice = w.begin;
		if (ring.m < q.tiles) {
			if (lane == 0) {
#pragma unroll 1
				for (uint32_t i = 0; i < q.ring; i++)
					ring_barrier(ring.first + i * piece_room<F> + piece_bytes<F>,
						     1);
				asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
			}
			__syncwarp();
#pragma unroll 1
			for (uint32_t i = 0; i < q.ring; i++)
				square_ask<F, MG>(p, q, w, ring, ring.first + i * piece_room<F>);
		}
	}
	chain_wait();	/* the weights are on their way, x may not be there yet */
	chain_release();
	__syncwarp();
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
	if (multiplies)
		square_multiply<F, N, MG>(p, q, w, s, ring, k_group);
	else
		square_bring<N>(p, q, w, s);
	__syncwarp();	/* sums are there */
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
	square_add_up<F, N>(p, q, w, s);
#endif
}

#endif
