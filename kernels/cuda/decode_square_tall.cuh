/* decode_square_tall.cuh - the square form's tall matrices: every block has row tiles of its own
 * and all of K.
 *
 * A warp stands still while the tensor core takes its fragments, one product after the other: what
 * a slice costs is its products and all that the warp does besides, and only what follows the
 * products' last one is free.  So the fragments of a slice's first half are there before the slice
 * before has ended; its second half has sums of its own (FP8); and the slice before is scaled and
 * added behind the first half. The compiler must see a wait for everything between one turn of the
 * loop and the next, or it waits after every product by itself.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_TALL_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_TALL_CUH

#include "kernels/cuda/decode_square.cuh"
#include "kernels/cuda/decode_square_tall_x.cuh"

/* Of a thread.  One warpgroup gives them to two. */
#define TALL_MULTIPLY_REGISTERS 224
#define TALL_BRING_REGISTERS	56

/* ---- the product -------------------------------------------------------------------------- */

/* What a warp keeps from one slice to the next. */
template <int N> struct tall_sums {
	float sum[2][N / 2]; /* FP8: of each half */
	float part[N / 2];   /* FP8: of the first half, scaled; then the slice's */
	float total[N / 2];
	struct frag f[4][4];
	struct unit<MATMUL_FP8> scales;
};

/* The slice before: to the total. */
template <int N> static __device__ __forceinline__ void tall_add(struct tall_sums<N> &t)
{
#pragma unroll
	for (int i = 0; i < N / 2; i++) {
		asm volatile("" : "+f"(t.part[i])); /* not before what stands before this */
		t.total[i] = fold(t.total[i], t.part[i]);
	}
}

/* -0, and a slice of -0 before the first: the neutral start. */
template <int N> static __device__ __forceinline__ void tall_clear(struct tall_sums<N> &t)
{
#pragma unroll
	for (int i = 0; i < N / 2; i++)
		t.total[i] = t.part[i] = -0.0f;
}

/* One warp's ring: which piece is next, its barrier's parity; and what to ask for behind it.  The
 * pieces of a tile lie one after the other. */
struct tall_ring {
	uint32_t first, end, at, come;
	uint32_t from; /* 16 bytes each, from W on */
	uint32_t left; /* of this tile */
	uint32_t round;
};

template <enum matmul_format F>
static __device__ __forceinline__ void
tall_ring_tile(const struct matmul_params &p, const struct square_params &q,
	       const struct tall_walk &w, struct tall_ring &ring)
{
	const uint32_t tile = ring.round < w.rounds ?
				      tall_tile(p, q, w, threadIdx.x / WARP, ring.round) :
				      p.n_tiles;

	ring.round++;
	ring.from = tile * p.n_slices * (unit<F>::bytes / 16);
	ring.left = tile < p.n_tiles ? p.n_slices * unit_pieces<F> : 0;
}

/* The next piece, into a place that nobody reads any more. */
template <enum matmul_format F>
static __device__ __forceinline__ void
tall_ring_ask(const struct matmul_params &p, const struct square_params &q,
	      const struct tall_walk &w, struct tall_ring &ring, uint32_t place)
{
	if (!ring.left)
		return;
	if (threadIdx.x % WARP == 0)
		ring_copy_once(place, p.w + (size_t)ring.from * 16, piece_bytes<F>,
			       place + piece_bytes<F>);
	ring.from += piece_bytes<F> / 16;
	if (!--ring.left)
		tall_ring_tile<F>(p, q, w, ring);
}

/* The piece at hand has been used. */
template <enum matmul_format F>
static __device__ __forceinline__ void
tall_ring_next(const struct matmul_params &p, const struct square_params &q,
	       const struct tall_walk &w, struct tall_ring &ring)
{
	__syncwarp();
	tall_ring_ask<F>(p, q, w, ring, ring.at);
	ring.at += piece_room<F>;
	if (ring.at == ring.end) {
		ring.at = ring.first;
		ring.come ^= 1;
	}
}

/* Where a warp is. */
struct tall_place {
	struct tall_stage stage;
	uint32_t before; /* the stage that it has not given back */
	uint32_t slice;
	bool mine; /* has a tile, now */
};

/* The first half's fragments of the next slice, and x is there. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void
tall_start(const struct tall_shared &s, const struct tall_ring &ring, struct tall_sums<N> &t,
	   const struct tall_place &at)
{
	const int lane = threadIdx.x % WARP;

	if (at.mine)
		ring_wait(ring.at + piece_bytes<F>, ring.come);
	square_take<F>(t.f[0], ring.at, lane);
	square_take<F>(t.f[1], ring.at + (F == MATMUL_BF16 ? 2048 : 1024), lane);
	ring_wait(tall_full(s, at.stage.at), at.stage.phase);
}

/* One slice.  Its first half's fragments are made, and nothing is in the tensor core; so it leaves
 * things for the next.  The slice before is added behind the first half. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void
tall_slice(const struct matmul_params &p, const struct square_params &q,
	   const struct tall_walk &w, const struct tall_shared &s, struct tall_ring &ring,
	   struct tall_sums<N> &t, struct tall_place &at)
{
	constexpr int SECOND = F == MATMUL_FP8; /* its sums */
	const int lane = threadIdx.x % WARP;
	const uint64_t x = wgmma_rows(__shfl_sync(~0u, s.x + at.stage.at * x_stage<N>, 0));

	square_mma<N, true>(t.sum[0], t.f[0], x);
	square_mma<N, false>(t.sum[0], t.f[1], x + N * 8);
	if (at.slice != 0)
		square_release(tall_empty(s, at.before), TALL_SHARE);
	tall_add<N>(t);
	if (F == MATMUL_FP8) {
		const uint4 v = load_shared(ring.at + 4096);

		t.scales.low[0] = __uint_as_float(v.x);
		t.scales.low[1] = __uint_as_float(v.y);
		t.scales.high[0] = __uint_as_float(v.z);
		t.scales.high[1] = __uint_as_float(v.w);
	} else if (at.mine) {
		tall_ring_next<F>(p, q, w, ring);
		ring_wait(ring.at + piece_bytes<F>, ring.come);
	}
	square_take<F>(t.f[2], ring.at + (F == MATMUL_BF16 ? 0 : 2048), lane);
	square_mma<N, SECOND>(t.sum[SECOND], t.f[2], x + 2 * N * 8);
	square_take<F>(t.f[3], ring.at + (F == MATMUL_BF16 ? 2048 : 3072), lane);
	square_mma<N, false>(t.sum[SECOND], t.f[3], x + 3 * N * 8);
	if constexpr (F == MATMUL_FP8) {
		square_wait<2>(t.sum[0]);
#pragma unroll
		for (int i = 0; i < N / 2; i++)
			t.part[i] = __fmul_rn(i % 4 < 2 ? t.scales.low[0] : t.scales.high[0],
					      t.sum[0][i]);
	} else {
		wgmma_wait<2>();
	}
	square_keep(t.f[0]);
	square_keep(t.f[1]);
	/* The last fragments of this piece have been used, and what a warp loads from shared memory
	 * comes in the order in which it was asked for: nothing of it is read any more. */
	if (at.mine)
		tall_ring_next<F>(p, q, w, ring);
	at.before = at.stage.at;
	tall_next(q, at.stage);
	at.slice++;
	if (at.slice < w.slices)
		tall_start<F, N>(s, ring, t, at);
	square_wait<0>(t.sum[SECOND]);
	square_keep(t.f[2]);
	square_keep(t.f[3]);
#pragma unroll
	for (int i = 0; i < N / 2; i++)
		t.part[i] = F == MATMUL_BF16 ?
				    t.sum[0][i] :
				    __fmaf_rn(i % 4 < 2 ? t.scales.low[1] : t.scales.high[1],
					      t.sum[SECOND][i], t.part[i]);
}

/* The totals of a tile in turns. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void tall_finish_turns(const struct matmul_params &p,
							 uint32_t tile, const float (&total)[N / 2])
{
	const uint32_t lane = threadIdx.x % WARP;
	const float *scales = tile_scales<F>(p, 0, tile);
	const float low = scale_of<F>(scales, lane / 4), high = scale_of<F>(scales, lane / 4 + 8);

#pragma unroll
	for (int t = 0; t < N / 8; t++)
		square_store(p, tile, lane / 4, 8 * t + lane % 4 * 2,
			     make_float4(total[4 * t], total[4 * t + 1], total[4 * t + 2],
					 total[4 * t + 3]),
			     low, high);
}

/* The totals of one tile.  Plain ones are asked once what they are: there are 64 stores. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void tall_finish(const struct matmul_params &p, uint32_t tile,
						   const float (&total)[N / 2])
{
	const uint32_t lane = threadIdx.x % WARP, row = tile * MATMUL_TILE + lane / 4;
	const float *scales = tile_scales<F>(p, 0, tile);
	const float low = scale_of<F>(scales, lane / 4), high = scale_of<F>(scales, lane / 4 + 8);
	const bool first = row < p.n, second = row + 8 < p.n;
	uint32_t col = lane % 4 * 2;
	const size_t at = (size_t)col * p.ldy + row;

	if (tile >= p.n_plain) {
		tall_finish_turns<F, N>(p, tile, total);
	} else if (p.out == MATMUL_OUT_BF16) {
		__nv_bfloat16 *y = (__nv_bfloat16 *)p.y + at;

#pragma unroll
		for (int t = 0; t < N / 8; t++, col += 8, y += (size_t)8 * p.ldy)
#pragma unroll
			for (uint32_t c = 0; c < 2; c++) {
				if (first && col + c < p.n_cols)
					y[c * p.ldy] = __float2bfloat16_rn(
						__fmul_rn(total[4 * t + c], low));
				if (second && col + c < p.n_cols)
					y[c * p.ldy + 8] = __float2bfloat16_rn(
						__fmul_rn(total[4 * t + 2 + c], high));
			}
	} else {
		float *y = (float *)p.y + at;

#pragma unroll
		for (int t = 0; t < N / 8; t++, col += 8, y += (size_t)8 * p.ldy)
#pragma unroll
			for (uint32_t c = 0; c < 2; c++) {
				if (first && col + c < p.n_cols)
					y[c * p.ldy] = __fmul_rn(total[4 * t + c], low);
				if (second && col + c < p.n_cols)
					y[c * p.ldy + 8] = __fmul_rn(total[4 * t + 2 + c], high);
			}
	}
}

/* One warp that multiplies. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void
tall_multiply(const struct matmul_params &p, const struct square_params &q,
	      const struct tall_walk &w, const struct tall_shared &s, struct tall_ring &ring)
{
	struct tall_place at = {};
	struct tall_sums<N> t;

#pragma unroll 1
	for (uint32_t round = 0; round < w.rounds; round++) {
		const uint32_t tile = tall_tile(p, q, w, threadIdx.x / WARP, round);

		at.mine = tile < p.n_tiles;
		at.slice = 0;
		tall_clear<N>(t);
		if (F != MATMUL_BF16 && p.row_scale && at.mine) /* cold, and wanted at the end */
			asm volatile("prefetch.global.L1 [%0];" ::"l"(tile_scales<F>(p, 0, tile)));
		tall_start<F, N>(s, ring, t, at);
#pragma unroll 1
		while (at.slice < w.slices)
			tall_slice<F, N>(p, q, w, s, ring, t, at);
		square_release(tall_empty(s, at.before), TALL_SHARE);
		tall_add<N>(t);
		if (at.mine)
			tall_finish<F, N>(p, tile, t.total);
	}
}

template <int N>
static __device__ __forceinline__ void tall_init(const struct square_params &q,
						 const struct tall_shared &s)
{
#pragma unroll 1
	for (uint32_t i = 0; i < q.stages; i++) {
		ring_barrier(tall_full(s, i), SQUARE_BRINGERS);
		ring_barrier(tall_empty(s, i), SQUARE_WARPS * TALL_SHARE);
#pragma unroll
		for (uint32_t b = 0; b < SQUARE_BRINGERS; b++)
			ring_barrier(tall_raw(s, i, b), 1);
	}
	ring_barriers_made();
}

/* Weights are on their way; x may not be there yet, nor the other block. */
static __device__ __forceinline__ void tall_begin(void)
{
	chain_wait();
	chain_release();
	__syncwarp();
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

template <enum matmul_format F, int N>
__global__ void __launch_bounds__(SQUARE_THREADS, 1)
	tall_kernel(const __grid_constant__ struct matmul_params p,
		    const __grid_constant__ struct square_params q,
		    const __grid_constant__ CUtensorMap map)
{
#if SQUARE_HERE
	extern __shared__ __align__(1024) char shared_square[];
	const struct tall_shared s =
		tall_shared_of<N>(q, (uint32_t)__cvta_generic_to_shared(shared_square));
	const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
	const struct tall_walk w = tall_walk_of(p, q);
	struct tall_ring ring = {};
	if (threadIdx.x == SQUARE_WARPS * WARP)
		tall_init<N>(q, s);
	if (threadIdx.x == (SQUARE_WARPS + 1) * WARP)
		asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
	__syncwarp();
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
	if (warp < SQUARE_WARPS) {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(TALL_MULTIPLY_REGISTERS));
		/* One without tiles takes what it finds in the first's, for nothing. */
		ring.first = ring.at =
			s.rings + (warp < q.tiles ? warp : 0) * q.ring * piece_room<F>;
		ring.end = ring.first + q.ring * piece_room<F>;
		tall_ring_tile<F>(p, q, w, ring);
		if (warp < q.tiles) {
			if (lane == 0) {
#pragma unroll 1
				for (uint32_t i = 0; i < q.ring; i++)
					ring_barrier(
						ring.first + i * piece_room<F> + piece_bytes<F>, 1);
				ring_barriers_made();
			}
			__syncwarp();
#pragma unroll 1
			for (uint32_t i = 0; i < q.ring; i++)
				tall_ring_ask<F>(p, q, w, ring, ring.first + i * piece_room<F>);
		}
		tall_begin();
		tall_multiply<F, N>(p, q, w, s, ring);
	} else {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(TALL_BRING_REGISTERS));
		tall_begin();
		tall_bring<N>(map, q, w, s);
	}
	/* Nobody leaves whose barriers others arrive at. */
	__syncwarp();
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

#endif
