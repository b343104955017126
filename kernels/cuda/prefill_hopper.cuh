/* prefill_hopper.cuh - a warpgroup's part of a product for prompts on Hopper: 64 rows of W with the
 * rows of x that the block has, tile after tile (prefill_hopper.cu has the roles and the rings).
 *
 * Weights go from memory to registers a unit ahead, also over the end of a tile: the next tile's
 * first unit is on its way while this one's sums are stored.  Stages of x are waited for and given
 * back one by one; the two warpgroups of a block do not wait for each other.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_HOPPER_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_HOPPER_CUH

#include "kernels/cuda/prefill_place.cuh"
#include "kernels/cuda/prefill_store.cuh"
#include "kernels/cuda/ring_turn.cuh"

namespace {

constexpr int RING = 6, SLOTS = 2; /* stages of x; tiles: this one, the next */
constexpr int STAGE_BYTES = MANY * STAGE_K * 2;
constexpr int CLUSTER = 2; /* blocks that share stages of x */

/* Which rows of W and of x a tile has, as the scheduling warp found it. */
struct tile_slot {
	uint32_t n, first, row_block;	  /* n = 0: there are no more */
	float scale[WARPS * MATMUL_TILE]; /* of the rows of W, as scale_of() */
};

struct rings {
	alignas(1024) char x[RING][STAGE_BYTES];
	uint64_t full[RING], empty[RING], known[SLOTS], done[SLOTS];
	tile_slot slot[SLOTS];
};

struct dense_work {
	CUtensorMap x;
	/* of a cluster's tiles: in a row of all rows of W, times eight; along x; all */
	uint32_t group, col_tiles, n_tiles;
};

/* The next tile, known from here on. */
__device__ __forceinline__ const tile_slot &take(rings &r, turn<SLOTS> &turn)
{
	const tile_slot &slot = r.slot[turn.at];

	barrier_wait(&r.known[turn.at], turn.odd);
	turn.next();
	return slot;
}

/* The output rows of a tile. */
struct hopper_rows {
	static constexpr bool WIDE_STORES = true;
	uint32_t n, first;
};

template <int C> struct out_rows<C, hopper_rows> {
	const uint32_t first, last;

	__device__ out_rows(const hopper_rows &x, uint32_t offset)
		: first(x.first + offset), last(x.first + x.n - 1)
	{
	}
	__device__ uint32_t row(int j) const { return min(first + j * 8, last); }
};

#if HOPPER
/* This warp has read the stage; both blocks of a cluster write to it.  Nothing that this warp wrote
 * hangs on it, so no fence of the cluster's scope: that would wait for the weights on their way. */
__device__ __forceinline__ void give_back(rings &s, uint32_t at)
{
	const uint32_t lane = threadIdx.x % WARP;

	if (lane < CLUSTER)
		asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
			     "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(
				     smem_address(&s.empty[at])),
			     "r"(lane)
			     : "memory");
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

/* A warp's weights: one unit, whose parts are asked for again as soon as they are in use. */
template <enum matmul_format F> struct hopper_weights {
	static constexpr int STEPS = F == MATMUL_FP8 ? 1 : 2; /* of a set */
	struct unit<F> w;
	frags<STEPS> set[2]; /* bfloat16: multiplied now, and just before */

	/* Multiplies a stage.  When it returns, the stage before is done with. */
	template <int N>
	__device__ __forceinline__ void stage(sums<MANY> &s, fp8_scale *scale, const uint4 *next,
					      int quarter, uint32_t x)
	{
#pragma unroll
		for (int i = 0; i < 4 / STEPS; i++) {
			const int n = quarter * (4 / STEPS) + i;
			frags<STEPS> &now = set[n % 2];

			now.take(w, n * STEPS);
			if constexpr (F == MATMUL_FP8)
				if (n * STEPS % 8 == 0)
					rescale<N>(s, scale, n * STEPS / 8);
			issue<N>(s, now, x + i * STEPS * 32);
			wgmma_wait<1>();
			set[1 - n % 2].keep();
		}
		refill(quarter, next);
	}
	/* The next 128 columns have another scale.  The other warpgroup multiplies meanwhile. */
	template <int N>
	__device__ __forceinline__ void rescale(sums<MANY> &s, fp8_scale *scale, int half)
	{
		const float low = fp8_scale::change(&scale->low, w.low[half]),
			    high = fp8_scale::change(&scale->high, w.high[half]);

		wgmma_wait<0>(s.h[0]);
		wgmma_wait<0>(s.h[1]);
		fp8_scale::apply(s.h[0], low, high);
		if (N > 128)
			fp8_scale::apply(s.h[1], low, high);
	}
	__device__ __forceinline__ void refill(int quarter, const uint4 *next)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.template refill<true>(quarter * 4 + i, next, threadIdx.x % WARP, true);
		if (quarter == 3)
			w.template refill_scales<true>(next, threadIdx.x % WARP, true);
	}
	/* The tile ends; its last unit had `blocks` stages. */
	__device__ __forceinline__ void end(uint32_t blocks, const uint4 *next)
	{
#pragma unroll
		for (int quarter = 1; quarter < 4; quarter++)
			if (quarter >= (int)blocks)
				refill(quarter, next);
	}
};

template <> struct hopper_weights<MATMUL_BF16> {
	struct unit<MATMUL_BF16> w;

	/* `next` stands right behind where w came from, but for a tile's last unit. */
	template <int N>
	__device__ __forceinline__ void stage(sums<MANY> &s, fp8_scale *, const uint4 *next,
					      int quarter, uint32_t x)
	{
		frags<4> now;

		now.take(w, quarter * 4);
		issue<N>(s, now, x);
		wgmma_wait<1>(); /* the stage before is done with; its weights may go */
		if (quarter)
			refill(quarter - 1, next);
	}
	/* The first stage of a unit frees the end of the one before, whose place is this unit's. */
	__device__ __forceinline__ void begun(const uint4 *from)
	{
		refill(3, from);
	}
	__device__ __forceinline__ void refill(int quarter, const uint4 *from)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.template refill<true>(quarter * 4 + i, from, threadIdx.x % WARP, true);
	}
	__device__ __forceinline__ void end(uint32_t blocks, const uint4 *next)
	{
#pragma unroll
		for (int quarter = 0; quarter < 4; quarter++)
			if (quarter + 1 >= (int)blocks)
				refill(quarter, next);
	}
};

/* What a warp keeps from tile to tile. */
template <enum matmul_format F> struct hopper_state {
	static constexpr int UNIT = unit<F>::bytes / 16;
	hopper_weights<F> weights;
	turn<RING> ring;
	turn<SLOTS> tiles; /* behind the next tile */
	const uint4 *from; /* the unit in registers */

	static __device__ __forceinline__ uint32_t tile_of(const tile_slot &t)
	{
		return t.row_block * WARPS + threadIdx.x / WARP;
	}
	static __device__ __forceinline__ const uint4 *weights_of(const matmul_params &p,
								  const tile_slot &t)
	{
		return (const uint4 *)(p.w + (size_t)min(tile_of(t), p.n_tiles - 1) *
						     p.n_slices * unit<F>::bytes);
	}
	/* The sums of this warp's rows with N of the tile's columns. */
	template <int N>
	__device__ __forceinline__ void multiply(const matmul_params &p, rings &r,
						 const tile_slot &t, sums<MANY> &s,
						 fp8_scale *unit_scale)
	{
		const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K;
		const uint4 *following = from;
		uint32_t before = RING;

		for (uint32_t slice = 0; slice < p.n_slices; slice++) {
			from = following;
			following += UNIT;
			if (slice + 1 == p.n_slices) {
				const tile_slot &next = take(r, tiles);

				/* After the last tile the last unit comes again, for nobody. */
				following = next.n ? weights_of(p, next) : from;
			}
#pragma unroll
			for (int quarter = 0; quarter < 4; quarter++) {
				if (slice * 4 + quarter >= n_blocks)
					goto out; /* of both: the last slice may be short */
				barrier_wait(&r.full[ring.at], ring.odd);
				weights.template stage<N>(s, unit_scale, following, quarter,
							  smem_address(r.x[ring.at]));
				if constexpr (F == MATMUL_BF16)
					if (quarter == 0 && slice)
						weights.begun(from);
				if (slice || quarter)
					give_back(r, before);
				before = ring.at;
				ring.next();
			}
		}
	out:
		wgmma_wait<0>(s.h[0]);
		wgmma_wait<0>(s.h[1]);
		give_back(r, before);
		weights.end(n_blocks - (p.n_slices - 1) * 4, following);
		from = following;
	}
};

/* Of this lane's rows. */
__device__ __forceinline__ row_scales scales_of(const tile_slot &t)
{
	const float *scale = &t.scale[threadIdx.x / WARP * MATMUL_TILE + threadIdx.x % WARP / 4];

	return { scale[0], scale[8] };
}

/* All tiles of a block, for one of its multiplying warps. */
template <enum matmul_format F>
__device__ void multiply_tiles(const matmul_params &p, rings &r)
{
	hopper_state<F> h;
	sums<MANY> s;

	const tile_slot *t = &take(r, h.tiles);
	if (t->n) {
		h.from = h.weights_of(p, *t);
		h.weights.w.template load<true>(h.from, threadIdx.x % WARP);
	}
	chain_wait();
	chain_release();
	for (uint32_t n = t->n; n; n = t->n) {
		fp8_scale unit_scale;

#pragma unroll
		for (int i = 0; i < 128; i++)
			s.h[i / 64][i % 64] = 0;
		if (n > 192)
			h.template multiply<256>(p, r, *t, s, &unit_scale);
		else if (n > 128)
			h.template multiply<192>(p, r, *t, s, &unit_scale);
		else if (n > 64)
			h.template multiply<128>(p, r, *t, s, &unit_scale);
		else if (n > 32)
			h.template multiply<64>(p, r, *t, s, &unit_scale);
		else
			h.template multiply<32>(p, r, *t, s, &unit_scale);
		const hopper_rows rows = { n, t->first };
		row_scales scale = scales_of(*t);

		if (F == MATMUL_FP8)
			scale = { __fmul_rn(unit_scale.low, scale.low),
				  __fmul_rn(unit_scale.high, scale.high) };
		store_scaled<MANY>(p, rows, h.tile_of(*t), s, scale);
		/* Two slots: the next tile's is the other one. */
		static_assert(SLOTS == 2, "");
		__syncwarp();
		if (threadIdx.x % WARP == 0)
			barrier_arrive(&r.done[h.tiles.at]);
		t = &r.slot[h.tiles.at ^ 1];
	}
}
#endif

} /* namespace */

#endif
