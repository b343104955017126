/* decode_square_split.cuh - the square form's short matrices, which have no tiles for all blocks:
 * the blocks of a cluster have the same row tiles, and one or two slices of K each, as many slices
 * apart as there are blocks.
 *
 * Everything a block reads is on its way at once, since all of it has a place in shared memory: the
 * weights of all warps before x may be read, x (64 columns of K a copy) as soon as it may.  So what
 * a block fetches is its tiles' weights and a part of K of x, once.  Nobody brings x but the thread
 * that asks for the copies; if it is not in the order of steps, warps put it in that order where it
 * lies.
 *
 * A slice's sums go to the block that adds them up (the column tiles of all row tiles are dealt out
 * to the blocks in turns).  That is more bytes than anything else here, on the slowest way: so the
 * first slice's go while the second one is multiplied.  Where there is no room for them they lie
 * over the first slice's weights and x, once the whole cluster has multiplied that.
 *
 * Barriers: of x, for every 64 columns, one by the copy's bytes and one by the warp that has put
 * them in order; of weights, one for each warp and slice; of rows' scales; of sums, for the first
 * slices and the second ones, by the bytes that the cluster sends; of their room, by every warp of
 * the cluster.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_SPLIT_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_SPLIT_CUH

#include <cuda.h>

#include "kernels/cuda/decode_square.cuh"

#define SPLIT_GROUPS  3 /* warpgroups, at most */
#define SPLIT_TILES   (4 * SPLIT_GROUPS)
#define SPLIT_THREADS (SPLIT_TILES * WARP)
#define SPLIT_SLICES  2			  /* of a block, at most */
#define SPLIT_FITS    10		  /* tiles for which there is always room */
#define SPLIT_PARTS   (MATMUL_SLICE / 64) /* of a slice of x */

/* Column tiles of all row tiles of a cluster that one of its blocks adds up. */
template <int N>
static __host__ __device__ __forceinline__ uint32_t split_places(const struct square_params &q)
{
	return (q.tiles * (N / 8) + q.cluster - 1) / q.cluster;
}

/* Bytes of a slice's x and weights, and of sums. */
template <enum matmul_format F, int N>
static __host__ __device__ __forceinline__ uint32_t split_part(const struct square_params &q)
{
	return (x_stage<N> + q.tiles * unit<F>::bytes + 1023) / 1024 * 1024;
}

template <int N>
static __host__ __device__ __forceinline__ uint32_t split_sums(const struct matmul_params &p,
							       const struct square_params &q)
{
	return (split_places<N>(q) * p.n_slices * WARP * 16 + 1023) / 1024 * 1024;
}

/* From the first slice's room to the second's: sums are before the first one's, or over it. */
template <enum matmul_format F, int N>
static __host__ __device__ __forceinline__ uint32_t split_first(const struct matmul_params &p,
								const struct square_params &q)
{
	return q.apart ? split_part<F, N>(q) : max(split_part<F, N>(q), split_sums<N>(p, q));
}

/* Where things are in shared memory: addresses. */
struct split_shared {
	uint32_t barriers, scales; /* of the cluster's rows */
	uint32_t sums;
	uint32_t x[SPLIT_SLICES], w[SPLIT_SLICES];
};

#define SPLIT_FIXED 2048 /* bytes of barriers and scales */

template <enum matmul_format F, int N>
static __device__ __forceinline__ struct split_shared
split_shared_of(const struct matmul_params &p, const struct square_params &q, uint32_t base)
{
	struct split_shared s;

	s.barriers = (base + 1023) / 1024 * 1024;
	s.scales = s.barriers + SPLIT_FIXED / 2;
	s.sums = s.barriers + SPLIT_FIXED;
	s.x[0] = s.sums + (q.apart ? split_sums<N>(p, q) : 0);
	s.x[1] = s.x[0] + split_first<F, N>(p, q);
	for (int i = 0; i < SPLIT_SLICES; i++)
		s.w[i] = s.x[i] + x_stage<N>;
	return s;
}

/* Barriers: sums of the first and of the second slices, room for them, scales. */
static __device__ __forceinline__ uint32_t split_full(const struct split_shared &s, uint32_t i)
{
	return s.barriers + i * 8;
}

static __device__ __forceinline__ uint32_t split_room(const struct split_shared &s)
{
	return s.barriers + SPLIT_SLICES * 8;
}

static __device__ __forceinline__ uint32_t split_scaled(const struct split_shared &s)
{
	return split_room(s) + 8;
}

/* Of 64 columns of x, counted through both slices. */
static __device__ __forceinline__ uint32_t split_raw(const struct split_shared &s, uint32_t part)
{
	return split_scaled(s) + 8 + part * 8;
}

static __device__ __forceinline__ uint32_t split_ordered(const struct split_shared &s,
							 uint32_t part)
{
	return split_raw(s, SPLIT_SLICES * SPLIT_PARTS + part);
}

static __device__ __forceinline__ uint32_t split_weights(const struct split_shared &s,
							 uint32_t slice)
{
	return split_raw(s,
			 2 * SPLIT_SLICES * SPLIT_PARTS + slice * SPLIT_TILES + threadIdx.x / WARP);
}

/* What a block and a warp of it have. */
struct split_place {
	uint32_t rank, shift;	    /* 1 << shift: blocks of the cluster */
	uint32_t first_tile, tiles; /* of the cluster, those that are there */
	uint32_t slices;	    /* of the block, from `rank` on, `cluster` apart */
	uint32_t m;		    /* the warp's tile among the cluster's */
	bool mine;		    /* it is there */
};

static __device__ __forceinline__ struct split_place split_place_of(const struct matmul_params &p,
								    const struct square_params &q)
{
	const uint32_t warp = threadIdx.x / WARP, groups = blockDim.x / (4 * WARP);
	struct split_place at;

	at.shift = (uint32_t)__ffs((int)q.cluster) - 1;
	at.rank = blockIdx.x & (q.cluster - 1);
	at.first_tile = (blockIdx.x >> at.shift) * q.tiles;
	at.tiles = min(q.tiles, p.n_tiles - at.first_tile);
	at.slices = at.rank + q.cluster < p.n_slices ? 2 : 1;
	/* A group's warps without tiles are not all of the same scheduler. */
	at.m = (warp + warp / 4) % 4 * groups + warp / 4;
	at.mine = at.m < at.tiles;
	return at;
}

/* By one thread: barriers, and rows' scales, which are cold. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void
split_init(const struct matmul_params &p, const struct square_params &q,
	   const struct split_place &at, const struct split_shared &s)
{
	const uint32_t items = at.tiles * (N / 8),
		       each = ((items + q.cluster - 1 - at.rank) >> at.shift) * WARP * 16;

#pragma unroll 1
	for (uint32_t i = 0; i < SPLIT_SLICES; i++)
		ring_barrier(split_full(s, i), 1);
	ring_barrier(split_room(s), blockDim.x / WARP * q.cluster);
	ring_barrier(split_scaled(s), 1);
#pragma unroll 1
	for (uint32_t i = 0; i < 2 * SPLIT_SLICES * SPLIT_PARTS; i++)
		ring_barrier(split_raw(s, i), 1);
	ring_barriers_made();
	ring_expect(split_full(s, 0), each * q.cluster);
	ring_expect(split_full(s, 1), each * (p.n_slices - q.cluster));
	if (F != MATMUL_BF16 && p.row_scale)
		ring_copy_once(s.scales, tile_scales<F>(p, 0, at.first_tile), at.tiles * MATMUL_TILE * 4,
			       split_scaled(s));
}

/* A warp's own units: all that it will need. */
template <enum matmul_format F>
static __device__ __forceinline__ void
split_ask_weights(const struct matmul_params &p, const struct square_params &q,
		  const struct split_place &at, const struct split_shared &s)
{
	const char *from =
		p.w + ((size_t)(at.first_tile + at.m) * p.n_slices + at.rank) * unit<F>::bytes;

	if (!at.mine || threadIdx.x % WARP)
		return;
#pragma unroll
	for (int i = 0; i < SPLIT_SLICES; i++)
		ring_barrier(split_weights(s, i), 1);
	ring_barriers_made();
#pragma unroll
	for (int i = 0; i < SPLIT_SLICES; i++)
		if (i < (int)at.slices)
			ring_copy_once(s.w[i] + at.m * unit<F>::bytes,
				       from + i * q.cluster * unit<F>::bytes, unit<F>::bytes,
				       split_weights(s, i));
}

/* By one thread: all of the block's x. */
template <int N>
static __device__ __forceinline__ void
split_ask_x(const CUtensorMap &map, const struct square_params &q, const struct split_place &at,
	    const struct split_shared &s)
{
	/* Copies see what the kernel before wrote. */
	asm volatile("fence.proxy.async.global;" ::: "memory");
#pragma unroll
	for (uint32_t i = 0; i < SPLIT_SLICES * SPLIT_PARTS; i++) {
		if (i / SPLIT_PARTS >= at.slices)
			break;
		ring_expect(split_raw(s, i), N * 128);
		asm volatile(
			"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
			" [%0], [%1, {%2, %3}], [%4];" ::"r"(s.x[i / SPLIT_PARTS] +
							     i % SPLIT_PARTS * (N * 128)),
			"l"(&map),
			"r"((at.rank + i / SPLIT_PARTS * q.cluster) * MATMUL_SLICE +
			    i % SPLIT_PARTS * 64),
			"r"(0), "r"(split_raw(s, i))
			: "memory");
	}
}

/* Each 64 columns by one warp. */
template <int N>
static __device__ __forceinline__ void split_order(const struct split_place &at,
						   const struct split_shared &s)
{
#pragma unroll 1
	for (uint32_t i = threadIdx.x / WARP; i < at.slices * SPLIT_PARTS; i += blockDim.x / WARP) {
		ring_wait(split_raw(s, i), 0);
		square_order<N>((i < SPLIT_PARTS ? s.x[0] : s.x[1]) + i % SPLIT_PARTS * (N * 128));
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		__syncwarp();
		if (threadIdx.x % WARP == 0)
			ring_arrive(split_ordered(s, i));
	}
}

/* One slice of a warp's tile; beside(i) while the tensor core multiplies its i-th 64 columns.  It
 * wants four warps, so one without a tile is there for nothing. */
template <enum matmul_format F, int N, class Beside>
static __device__ __forceinline__ void
split_slice(const struct split_place &at, const struct split_shared &s, int slice, uint32_t x_come,
	    float (&sum)[N / 2], Beside beside)
{
	constexpr uint32_t STEPS = F == MATMUL_BF16 ? 2048 : 1024; /* bytes of four */
	const int lane = threadIdx.x % WARP;
	const uint32_t w = s.w[slice] + at.m * unit<F>::bytes;
	/* From one lane: so it is known to be one for the warp, as the instruction wants it. */
	const uint64_t x = wgmma_rows(__shfl_sync(~0u, s.x[slice], 0));
	struct frag set[2][4] = {};
	float second[N / 2]; /* FP8: the other half's */
	uint4 v = {};	     /* FP8: the unit's scales */

	if (at.mine) {
		ring_wait(split_weights(s, slice), 0);
		/* Before the loads that wgmma waits for, which come behind it: whoever is told that the
		 * unit is read may write over it at once. */
		if (F == MATMUL_FP8)
			v = load_shared(w + 4096);
	}
#pragma unroll
	for (int i = 0; i < SPLIT_PARTS; i++) {
		if (at.mine)
			square_take<F>(set[i % 2], w + i * STEPS, lane);
		ring_wait(x_come + (slice * SPLIT_PARTS + i) * 8, 0);
		if (F == MATMUL_FP8 && i == 2)
			square_mma<N, true>(second, set[i % 2], x + i * (N * 8));
		else if (F == MATMUL_FP8 && i == 3)
			square_mma<N, false>(second, set[i % 2], x + i * (N * 8));
		else if (i == 0)
			square_mma<N, true>(sum, set[i % 2], x + i * (N * 8));
		else
			square_mma<N, false>(sum, set[i % 2], x + i * (N * 8));
		beside(i);
		if (i) {
			wgmma_wait<1>();
			square_keep(set[1 - i % 2]);
		}
	}
	square_wait<0>(sum);
	square_keep(set[1]);
	if constexpr (F == MATMUL_FP8) {
		square_wait<0>(second);
#pragma unroll
		for (int i = 0; i < N / 2; i++)
			sum[i] = __fmaf_rn(
				__uint_as_float(i % 4 < 2 ? v.y : v.w), second[i],
				__fmul_rn(__uint_as_float(i % 4 < 2 ? v.x : v.z), sum[i]));
	}
}

/* A slice's sums, column tiles `first` to `end`, to the blocks that add them up. */
template <int N>
static __device__ __forceinline__ void
split_give(const struct matmul_params &p, const struct square_params &q,
	   const struct split_place &at, const struct split_shared &s, int slice,
	   const float (&sum)[N / 2], int first, int end)
{
	const uint32_t own =
		s.sums + (at.rank + slice * q.cluster) * (WARP * 16) + threadIdx.x % WARP * 16;

	if (!at.mine)
		return;
#pragma unroll
	for (int t = first; t < end; t++) {
		const uint32_t item = at.m * (N / 8) + t, to = item & (q.cluster - 1);

		asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 "
			     "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(in_block(
				     own + (item >> at.shift) * (p.n_slices * WARP * 16), to)),
			     "f"(sum[4 * t]), "f"(sum[4 * t + 1]), "f"(sum[4 * t + 2]),
			     "f"(sum[4 * t + 3]), "r"(in_block(split_full(s, slice), to))
			     : "memory");
	}
}

/* All blocks have multiplied their first slice. */
static __device__ __forceinline__ void split_wait_room(const struct square_params &q,
						       const struct split_shared &s)
{
	if (!q.apart)
		ring_wait(split_room(s), 0);
}

/* What the finished sums of row r of the cluster's tile m are multiplied by. */
template <enum matmul_format F>
static __device__ __forceinline__ float
split_scale(const struct matmul_params &p, const struct split_shared &s, uint32_t m, uint32_t r)
{
	float v;

	if (F == MATMUL_BF16 || !p.row_scale)
		return fragment_factor<F>;
	asm volatile("ld.shared.f32 %0, [%1];"
		     : "=f"(v)
		     : "r"(s.scales + (m * MATMUL_TILE + r) * 4));
	return __fmul_rn(fragment_factor<F>, v);
}

/* What this block adds up, the first slices before the second ones are there. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void
split_add_up(const struct matmul_params &p, const struct square_params &q,
	     const struct split_place &at, const struct split_shared &s)
{
	const uint32_t lane = threadIdx.x % WARP;

	if (F != MATMUL_BF16 && p.row_scale)
		ring_wait(split_scaled(s), 0);
#pragma unroll 1
	for (uint32_t i = threadIdx.x / WARP;; i += blockDim.x / WARP) {
		const uint32_t item = (i << at.shift) + at.rank, m = item / (N / 8),
			       t = item % (N / 8);
		uint32_t from = s.sums + i * (p.n_slices * WARP * 16) + lane * 16;
		float4 v = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);
		uint32_t slice = 0;

		if (m >= at.tiles)
			break;
#pragma unroll 1
		for (uint32_t of = 0; of < SPLIT_SLICES; of++) {
			const uint32_t end = of ? p.n_slices : q.cluster;

			ring_wait(split_full(s, of), 0);
#pragma unroll 8
			for (; slice < end; slice++, from += WARP * 16) {
				const float4 a = ring_get(from);

				v.x = fold(v.x, a.x);
				v.y = fold(v.y, a.y);
				v.z = fold(v.z, a.z);
				v.w = fold(v.w, a.w);
			}
		}
		square_store(p, at.first_tile + m, lane / 4, 8 * t + lane % 4 * 2, v,
			     split_scale<F>(p, s, m, lane / 4),
			     split_scale<F>(p, s, m, lane / 4 + 8));
	}
}

/* The block's slices, and their sums to where they are added up. */
template <enum matmul_format F, int N>
static __device__ __forceinline__ void
split_multiply(const struct matmul_params &p, const struct square_params &q,
	       const struct split_place &at, const struct split_shared &s)
{
	constexpr int EACH = N < 32 ? 1 : N / 8 / SPLIT_PARTS; /* column tiles beside a part */
	const uint32_t x_come = q.ordered ? split_raw(s, 0) : split_ordered(s, 0);
	float sum[SPLIT_SLICES][N / 2];

	split_slice<F, N>(at, s, 0, x_come, sum[0], [](int) {});
	if (!q.apart)
		square_release(split_room(s), q.cluster);
	if (at.slices == 1) {
		split_wait_room(q, s);
		split_give<N>(p, q, at, s, 0, sum[0], 0, N / 8);
		return;
	}
	split_slice<F, N>(at, s, 1, x_come, sum[1], [&](int i) {
		if (i == 0)
			split_wait_room(q, s);
		split_give<N>(p, q, at, s, 0, sum[0], i * EACH, min((i + 1) * EACH, N / 8));
	});
	split_give<N>(p, q, at, s, 1, sum[1], 0, N / 8);
}

template <enum matmul_format F, int N>
__global__ void __launch_bounds__(SPLIT_THREADS, 1)
	split_kernel(const __grid_constant__ struct matmul_params p,
		     const __grid_constant__ struct square_params q,
		     const __grid_constant__ CUtensorMap map)
{
#if SQUARE_HERE
	extern __shared__ __align__(1024) char shared_square[];
	const struct split_shared s =
		split_shared_of<F, N>(p, q, (uint32_t)__cvta_generic_to_shared(shared_square));
	const struct split_place at = split_place_of(p, q);

	split_ask_weights<F>(p, q, at, s);
	if (threadIdx.x == 0) {
		split_init<F, N>(p, q, at, s);
		asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
	}
	__syncwarp();
	/* Of barriers: their making has a fence of its own. */
	asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
	if (!p.x_settled)
		chain_wait(); /* the weights are on their way, x may not be there yet */
	if (threadIdx.x == 0)
		split_ask_x<N>(map, q, at, s);
	chain_release();
	__syncwarp();
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
	if (!q.ordered)
		split_order<N>(at, s);
	split_multiply<F, N>(p, q, at, s);
	split_add_up<F, N>(p, q, at, s);
	if (p.x_settled)
		chain_wait();
#endif
}

#endif
