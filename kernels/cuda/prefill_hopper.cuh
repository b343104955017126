/* prefill_hopper.cuh - a warpgroup's part of a product for prompts on Hopper: 64 rows of W with the
 * rows of x that the block has, tile after tile (prefill_hopper.cu has the roles and the rings).
 *
 * Weights go from memory to registers a unit ahead, also over the end of a tile: the next tile's
 * first unit is on its way while this one's sums are stored.  Stages of x are waited for and given
 * back one by one; the two warpgroups of a block do not wait for each other.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_HOPPER_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_HOPPER_CUH

#include <type_traits>

#include "kernels/cuda/prefill_place.cuh"
#include "kernels/cuda/prefill_store.cuh"

namespace {

constexpr int RING = 6, SLOTS = 2;		/* stages of x; tiles of an expert's pairs */
constexpr int STAGE_BYTES = MANY * STAGE_K * 2;
constexpr int CLUSTER = 2;			/* dense: blocks that share stages of x */

/* A tile of an expert's pairs, as the scheduling warp found it. */
struct pairs_slot {
	uint32_t n, row_block, expert;	/* n = 0: there are no more */
	uint32_t row[MANY], pair[MANY];	/* of x, of y; row: up to the next multiple of 8 */
};

struct rings {
	alignas(1024) char x[RING][STAGE_BYTES];
	uint64_t full[RING], empty[RING], known[SLOTS], done[SLOTS];
	pairs_slot slot[SLOTS];
};

/* A place of a ring of N, and how often it went around: even or odd. */
template <int N> struct turn {
	uint32_t at = 0, odd = 0;

	__device__ void next()
	{
		at = at + 1 == N ? 0 : at + 1;
		odd ^= at == 0;
	}
};

/* What tiles a block has, one after the other.  n = 0: there are no more. */
struct hopper_tile {
	uint32_t n, first, row_block, expert, pairs;	/* pairs: shared address */
};

struct dense_work {
	CUtensorMap x;
	uint32_t row_blocks, row_pairs, n_tiles;	/* tiles of a cluster: row_pairs x tiles of x */
};

struct experts_work {
	expert_tiles tiles;
	uint32_t *ticket;	/* tiles that blocks have taken; 0 between launches */
	uint32_t row_blocks;
};

template <bool EXPERTS> struct tiles_of_block;

/* Eight tiles of x, then the next rows of W (place_dense()), two row blocks a cluster. */
template <> struct tiles_of_block<false> {
	uint32_t at = blockIdx.x / CLUSTER;

	__device__ hopper_tile take(const matmul_params &p, const dense_work &w, rings &)
	{
		const uint32_t col_tiles = (p.n_cols + MANY - 1) / MANY, group = at / (8 * w.row_pairs);
		const uint32_t in = at % (8 * w.row_pairs), wide = min(8u, col_tiles - group * 8);
		hopper_tile t = {};

		if (at >= w.n_tiles)
			return t;
		t.row_block = in / wide * CLUSTER + blockIdx.x % CLUSTER;
		t.first = (group * 8 + in % wide) * MANY;
		t.n = min((uint32_t)MANY, p.n_cols - t.first);
		at += gridDim.x / CLUSTER;
		return t;
	}
	__device__ void done(rings &) {}
};

template <> struct tiles_of_block<true> {
	turn<SLOTS> to, from;

	__device__ hopper_tile take(const matmul_params &, const experts_work &, rings &s)
	{
		const pairs_slot &slot = s.slot[to.at];
		hopper_tile t = {};

		barrier_wait(&s.known[to.at], to.odd);
		t.n = slot.n;
		t.row_block = slot.row_block;
		t.expert = slot.expert;
		t.pairs = smem_address(slot.pair);
		to.next();
		return t;
	}
	/* The oldest tile is done with. */
	__device__ void done(rings &s)
	{
		__syncwarp();
		if (threadIdx.x % WARP == 0)
			barrier_arrive(&s.done[from.at]);
		from.next();
	}
};

__device__ __forceinline__ uint32_t load_word(uint32_t shared_address)
{
	uint32_t v;

	asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(shared_address));
	return v;
}

/* The output rows of a tile: an expert's pairs, from shared memory when they are wanted. */
template <bool EXPERTS> struct hopper_rows {
	uint32_t n, first, expert, pairs;

	__device__ uint32_t row(uint32_t i) const
	{
		return EXPERTS ? load_word(pairs + i * 4) : first + i;
	}
};

template <int C, bool EXPERTS> struct out_rows<C, hopper_rows<EXPERTS>> {
	const hopper_rows<EXPERTS> &x;
	uint32_t offset;

	__device__ out_rows(const hopper_rows<EXPERTS> &x_, uint32_t offset_) : x(x_), offset(offset_) {}
	__device__ uint32_t row(int j) const { return x.row(min(j * 8 + offset, x.n - 1)); }
};

#if HOPPER
/* This warp has read the stage; both blocks of a cluster write to it. */
template <bool EXPERTS> __device__ __forceinline__ void give_back(rings &s, uint32_t at)
{
	const uint32_t lane = threadIdx.x % WARP;

	if (EXPERTS) {
		if (lane == 0)
			barrier_arrive(&s.empty[at]);
	} else if (lane < CLUSTER) {
		asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
			     "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there]; }"
			     ::"r"(smem_address(&s.empty[at])), "r"(lane) : "memory");
	}
}

template <int N, int STEPS>
__device__ __forceinline__ void issue(sums<MANY> &s, const frags<STEPS> &w, uint32_t x)
{
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		const uint64_t rows = wgmma_rows(x + i * 32);

		if constexpr (N == 32)
			wgmma_64x32(s.h[0], w.f[i], rows);
		else if constexpr (N == 64)
			wgmma_64x64(s.h[0], w.f[i], rows);
		else if constexpr (N == 128)
			wgmma_64x128(s.h[0], w.f[i], rows);
		else if constexpr (N == 192)
			wgmma_64x192(s.h[0], s.h[1], w.f[i], rows);
		else
			wgmma_64x256(s.h[0], s.h[1], w.f[i], rows);
	}
	wgmma_commit();
}

template <int STEPS>
__device__ __forceinline__ void issue_half(float (&h)[64], const frags<STEPS> &w, uint32_t x)
{
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < STEPS; i++)
		wgmma_64x128(h, w.f[i], wgmma_rows(x + i * 32));
	wgmma_commit();
}

/* A warp's weights: one unit, whose parts are asked for again as soon as they are in use. */
template <enum matmul_format F> struct hopper_weights {
	static constexpr int STEPS = 2;	/* of a set: FP8's units are larger */
	struct unit<F> w;
	frags<STEPS> set[2];	/* bfloat16: multiplied now, and just before */

	/* Multiplies a stage.  When it returns, the stage before is done with. */
	template <int N>
	__device__ __forceinline__ void stage(sums<MANY> &s, fp8_scale *scale, const uint4 *next, bool more, int quarter,
			      uint32_t x)
	{
#pragma unroll
		for (int i = 0; i < 4 / STEPS; i++) {
			const int n = quarter * (4 / STEPS) + i;
			frags<STEPS> &now = set[n % 2];

			now.take(w, n * STEPS);
			multiply<N>(s, scale, now, n * STEPS, x + i * STEPS * 32);
			set[1 - n % 2].keep();
		}
		refill(quarter, next, more);
	}
	template <int N>
	__device__ __forceinline__ void multiply(sums<MANY> &s, fp8_scale *scale, const frags<STEPS> &now, int step,
				 uint32_t x)
	{
		if (F == MATMUL_FP8 && step % 8 == 0) {
			rescale<N>(s, scale, now, step / 8, x);
		} else if (F == MATMUL_FP8 && N == 256) {
			issue_half(s.h[0], now, x);
			issue_half(s.h[1], now, x + 128 * STAGE_K * 2);
			wgmma_wait<2>();
		} else {
			issue<N>(s, now, x);
			wgmma_wait<1>();
		}
	}
	/* The next 128 columns have another scale.  Half of the sums are brought to it while the
	 * other half is multiplied. */
	template <int N>
	__device__ __forceinline__ void rescale(sums<MANY> &s, fp8_scale *scale, const frags<STEPS> &now, int half,
				uint32_t x)
	{
		if constexpr (F == MATMUL_FP8) {
			const float low = fp8_scale::change(&scale->low, w.low[half]),
				    high = fp8_scale::change(&scale->high, w.high[half]);

			if constexpr (N == 256) {
				wgmma_wait<1>(s.h[0]);
				fp8_scale::apply(s.h[0], low, high);
				issue_half(s.h[0], now, x);
				wgmma_wait<1>(s.h[1]);
				fp8_scale::apply(s.h[1], low, high);
				issue_half(s.h[1], now, x + 128 * STAGE_K * 2);
			} else {
				wgmma_wait<0>(s.h[0]);
				wgmma_wait<0>(s.h[1]);
				fp8_scale::apply(s.h[0], low, high);
				if (N > 128)
					fp8_scale::apply(s.h[1], low, high);
				issue<N>(s, now, x);
			}
		}
	}
	__device__ __forceinline__ void refill(int quarter, const uint4 *next, bool more)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.refill(quarter * 4 + i, next, threadIdx.x % WARP, more);
		if (quarter == 3)
			w.refill_scales(next, threadIdx.x % WARP, more);
	}
	/* The tile ends; its last unit had `blocks` stages. */
	__device__ __forceinline__ void end(uint32_t blocks, const uint4 *next, bool more)
	{
#pragma unroll
		for (int quarter = 1; quarter < 4; quarter++)
			if (quarter >= (int)blocks)
				refill(quarter, next, more);
	}
};

template <> struct hopper_weights<MATMUL_BF16> {
	struct unit<MATMUL_BF16> w;

	/* `next` stands right behind where w came from, but for a tile's last unit. */
	template <int N>
	__device__ __forceinline__ void stage(sums<MANY> &s, fp8_scale *, const uint4 *next, bool more, int quarter,
			      uint32_t x)
	{
		frags<4> now;

		now.take(w, quarter * 4);
		issue<N>(s, now, x);
		wgmma_wait<1>();	/* the stage before is done with; its weights may go */
		if (quarter)
			refill(quarter - 1, next, more);
	}
	/* The first stage of a unit frees the end of the one before, whose place is this unit's. */
	__device__ __forceinline__ void begun(const uint4 *from) { refill(3, from, true); }
	__device__ __forceinline__ void refill(int quarter, const uint4 *from, bool more)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.refill(quarter * 4 + i, from, threadIdx.x % WARP, more);
	}
	__device__ __forceinline__ void end(uint32_t blocks, const uint4 *next, bool more)
	{
#pragma unroll
		for (int quarter = 0; quarter < 4; quarter++)
			if (quarter + 1 >= (int)blocks)
				refill(quarter, next, more);
	}
};

/* What a warp keeps from tile to tile. */
template <enum matmul_format F, bool EXPERTS> struct hopper_state {
	using work = std::conditional_t<EXPERTS, experts_work, dense_work>;
	hopper_weights<F> weights;
	tiles_of_block<EXPERTS> tiles;
	turn<RING> ring;
	const uint4 *from;		/* the unit in registers */
	hopper_tile next;
	row_scales scale;		/* of this tile's rows */
	uint32_t lead;			/* stages until the other warpgroup may begin */

	static __device__ uint32_t tile_of(const hopper_tile &t)
	{
		return t.row_block * WARPS + threadIdx.x / WARP;
	}
	static __device__ const uint4 *weights_of(const matmul_params &p, const hopper_tile &t)
	{
		return (const uint4 *)(p.w + ((size_t)t.expert * p.n_tiles +
					      min(tile_of(t), p.n_tiles - 1)) *
						     p.n_slices * unit<F>::bytes);
	}
	__device__ void load_scales(const matmul_params &p, uint32_t expert, uint32_t tile)
	{
		const uint32_t g = threadIdx.x % WARP / 4;
		const float *scales = tile_scales<F>(p, expert, min(tile, p.n_tiles - 1));

		scale = { scale_of<F>(scales, g), scale_of<F>(scales, g + 8) };
	}
	/* The sums of this warp's rows with N of the tile's columns. */
	template <int N>
	__device__ __forceinline__ void multiply(const matmul_params &p, const work &w, rings &r, const hopper_tile &t,
				 sums<MANY> &s, fp8_scale *unit_scale)
	{
		const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K;
		const uint4 *following = from;
		uint32_t before = RING;
		bool more = true;

		for (uint32_t slice = 0; slice < p.n_slices; slice++) {
			from = following;
			following += unit<F>::bytes / 16;
			if (slice + 1 == p.n_slices) {
				load_scales(p, t.expert, tile_of(t));
				next = tiles.take(p, w, r);
				more = next.n != 0;
				following = weights_of(p, next);
			}
#pragma unroll
			for (int quarter = 0; quarter < 4; quarter++) {
				if (slice * 4 + quarter >= n_blocks)
					goto out;	/* of both: the last slice may be short */
				barrier_wait(&r.full[ring.at], ring.odd);
				if (EXPERTS)	/* copies of threads, not of the copy engine */
					asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
				weights.template stage<N>(s, unit_scale, following, more, quarter,
							  smem_address(r.x[ring.at]));
				if constexpr (F == MATMUL_BF16)
					if (quarter == 0 && slice)
						weights.begun(from);
				if (slice || quarter)
					give_back<EXPERTS>(r, before);
				before = ring.at;
				ring.next();
				if (lead && --lead == 0)
					asm volatile("bar.arrive 1, %0;" ::"n"(THREADS) : "memory");
			}
		}
out:
		wgmma_wait<0>(s.h[0]);
		wgmma_wait<0>(s.h[1]);
		give_back<EXPERTS>(r, before);
		weights.end(n_blocks - (p.n_slices - 1) * 4, following, more);
		from = following;
	}
};

/* All tiles of a block, for one of its multiplying warps. */
template <enum matmul_format F, bool EXPERTS>
__device__ void multiply_tiles(const matmul_params &p,
			       const typename hopper_state<F, EXPERTS>::work &w, rings &r, uint32_t lead)
{
	hopper_state<F, EXPERTS> h;
	sums<MANY> s;

	if (EXPERTS)
		chain_wait();
	h.next = h.tiles.take(p, w, r);
	if (h.next.n) {
		h.from = h.weights_of(p, h.next);
		h.weights.w.load(h.from, threadIdx.x % WARP);
	}
	if (!EXPERTS)
		chain_wait();
	chain_release();
	h.lead = 0;
	if (lead && h.next.n) {
		if (threadIdx.x < THREADS / 2)
			h.lead = min(lead, (p.k + STAGE_K - 1) / STAGE_K);
		else
			asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
	}
	while (h.next.n) {
		const hopper_tile t = h.next;
		fp8_scale unit_scale;

#pragma unroll
		for (int i = 0; i < 128; i++)
			s.h[i / 64][i % 64] = 0;
		if (t.n > 192)
			h.template multiply<256>(p, w, r, t, s, &unit_scale);
		else if (t.n > 128)
			h.template multiply<192>(p, w, r, t, s, &unit_scale);
		else if (t.n > 64)
			h.template multiply<128>(p, w, r, t, s, &unit_scale);
		else if (t.n > 32)
			h.template multiply<64>(p, w, r, t, s, &unit_scale);
		else
			h.template multiply<32>(p, w, r, t, s, &unit_scale);
		const hopper_rows<EXPERTS> rows = { t.n, t.first, t.expert, t.pairs };
		const row_scales scale =
			F == MATMUL_FP8 ? row_scales{ __fmul_rn(unit_scale.low, h.scale.low),
						      __fmul_rn(unit_scale.high, h.scale.high) } :
					  h.scale;

		store_scaled<MANY>(p, rows, h.tile_of(t), s, scale);
		h.tiles.done(r);
	}
}
#endif

} /* namespace */

#endif
