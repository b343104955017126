/* prefill_pairs.cuh - a warpgroup's part of a product for prompts' experts on Hopper: 128 rows of W
 * with up to 144 pairs, tile after tile (prefill_pairs.cu has the roles and the rings).
 *
 * A warp has two neighbouring tiles of 16 rows of W.  Their packed weights come through shared
 * memory as they lie, and are read and expanded a step at a time into two sets of registers in
 * turn.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_PAIRS_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_PAIRS_CUH

#include "kernels/cuda/prefill_pairs_store.cuh"
#include "kernels/cuda/ring_turn.cuh"
#include "kernels/cuda/wgmma_widths.cuh"

namespace {

/* Of a tile of 16 rows: bytes of 64 columns, of a unit's scales, and how many stages there is room
 * for. */
template <enum matmul_format F> struct part;
template <> struct part<MATMUL_BF16> {
	static constexpr int WEIGHTS = 2048, SCALES = 0, RING = 4;
};
template <> struct part<MATMUL_FP8> {
	static constexpr int WEIGHTS = 1024, SCALES = 16, RING = 6;
};
template <> struct part<MATMUL_NVFP4> {
	static constexpr int WEIGHTS = 512, SCALES = 256, RING = 7;
};

template <enum matmul_format F> struct stage_room {
	alignas(1024) char x[PAIRS * STAGE_K * 2];
	alignas(16) char w[ROW_TILES][part<F>::WEIGHTS];
	/* a unit's, in its first stage */
	alignas(16) char scales[ROW_TILES][part<F>::SCALES ? part<F>::SCALES : 16];
};

template <enum matmul_format F> struct rings {
	static constexpr int RING = part<F>::RING;
	struct stage_room<F> stage[RING];
	uint64_t full[RING], empty[RING], known[SLOTS], done[SLOTS], told[SLOTS];
	uint32_t ticket[SLOTS];
	tile_slot slot[SLOTS];
};

/* The next tile, known from here on. */
template <enum matmul_format F>
__device__ __forceinline__ const tile_slot &take(rings<F> &r, turn<SLOTS> &turn)
{
	const tile_slot &slot = r.slot[turn.at];

	barrier_wait(&r.known[turn.at], turn.odd);
	turn.next();
	return slot;
}

#if HOPPER
/* This warp is done with it, in both blocks of a cluster.  Nothing that this warp wrote hangs on
 * it, so no fence of the cluster's scope. */
__device__ __forceinline__ void give_back(uint64_t *barrier)
{
	const uint32_t lane = threadIdx.x % WARP;

	if (lane < CLUSTER)
		asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
			     "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(
				     smem_address(barrier)),
			     "r"(lane)
			     : "memory");
}

/* A step of both tiles. */
template <int N>
__device__ __forceinline__ void issue(tile_sums<N> (&s)[2], const frags<1> (&w)[2], uint32_t x)
{
	const uint64_t rows = wgmma_rows(x);

	wgmma_fence();
#pragma unroll
	for (int m = 0; m < 2; m++) {
		if constexpr (N == 32)
			wgmma_64x32(s[m].h, w[m].f[0], rows);
		else if constexpr (N == 64)
			wgmma_64x64(s[m].h, w[m].f[0], rows);
		else if constexpr (N == 96)
			wgmma_64x96(s[m].h, w[m].f[0], rows);
		else if constexpr (N == 128)
			wgmma_64x128(s[m].h, w[m].f[0], rows);
		else
			wgmma_64x144(s[m].h, w[m].f[0], rows);
	}
	wgmma_commit();
}

/* A warp's weights: what a stage brings, and two sets of fragments of a step. */
template <enum matmul_format F> struct pair_weights {
	struct unit<F> w[2];
	frags<1> set[2][2];

	__device__ __forceinline__ void take_scales(const stage_room<F> &stage, uint32_t tile)
	{
		const uint32_t at = smem_address(stage.scales[tile]);

#pragma unroll
		for (int m = 0; m < 2; m++) {
			if constexpr (F == MATMUL_NVFP4) {
				w[m].scale = load_shared(at + m * part<F>::SCALES +
							 threadIdx.x % WARP / 2 * 16);
			} else if constexpr (F == MATMUL_FP8) {
				const uint4 t = load_shared(at + m * part<F>::SCALES);

				w[m].low[0] = __uint_as_float(t.x);
				w[m].low[1] = __uint_as_float(t.y);
				w[m].high[0] = __uint_as_float(t.z);
				w[m].high[1] = __uint_as_float(t.w);
			}
		}
	}
	/* The load that this step needs, if it is not here; as unit::load() has them. */
	__device__ __forceinline__ void take_step(const stage_room<F> &stage, uint32_t tile,
						  int quarter, int step)
	{
		constexpr int LOADS = part<F>::WEIGHTS / 512, STEPS = 4 / LOADS;
		const uint32_t at = smem_address(stage.w[tile]) + threadIdx.x % WARP * 16;

		if (step % STEPS)
			return;
#pragma unroll
		for (int m = 0; m < 2; m++)
			w[m].a[quarter * LOADS + step / STEPS] =
				load_shared(at + m * part<F>::WEIGHTS + step / STEPS * 512);
	}
	/* The next 128 columns have other scales.  The other warpgroup multiplies meanwhile. */
	template <int N>
	__device__ __forceinline__ void rescale(tile_sums<N> (&s)[2], fp8_scale (&scale)[2],
						int which)
	{
#pragma unroll
		for (int m = 0; m < 2; m++) {
			const float low = fp8_scale::change(&scale[m].low, w[m].low[which]),
				    high = fp8_scale::change(&scale[m].high, w[m].high[which]);

			wgmma_wait<0>(s[m].h);
			fp8_scale::apply(s[m].h, low, high);
		}
	}
	template <int N>
	__device__ __forceinline__ void step(tile_sums<N> (&s)[2], fp8_scale (&scale)[2],
					     const stage_room<F> &stage, uint32_t tile, int quarter,
					     int n)
	{
		take_step(stage, tile, quarter, n);
#pragma unroll
		for (int m = 0; m < 2; m++)
			set[n % 2][m].take(w[m], quarter * 4 + n);
		if constexpr (F == MATMUL_FP8)
			if (quarter % 2 == 0 && n == 0)
				rescale(s, scale, quarter / 2);
		issue(s, set[n % 2], smem_address(stage.x) + n * 32);
		wgmma_wait<1>();
		set[1 - n % 2][0].keep();
		set[1 - n % 2][1].keep();
	}
};

/* The sums of this warp's rows with N pairs. */
template <enum matmul_format F, int N>
__device__ __forceinline__ void multiply(const matmul_params &p, rings<F> &r,
					 turn<part<F>::RING> &ring, tile_sums<N> (&s)[2],
					 fp8_scale (&scale)[2])
{
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K, tile = threadIdx.x / WARP * 2;
	pair_weights<F> weights;
	uint32_t before = 0;

	for (uint32_t slice = 0; slice < p.n_slices; slice++) {
#pragma unroll
		for (int quarter = 0; quarter < 4; quarter++) {
			const stage_room<F> &stage = r.stage[ring.at];

			if (slice * 4 + quarter >= n_blocks)
				goto out; /* of both: the last slice may be short */
			barrier_wait(&r.full[ring.at], ring.odd);
			/* Nothing is on its way to this thread that it would wait for. */
			asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
			if (quarter == 0)
				weights.take_scales(stage, tile);
			weights.step(s, scale, stage, tile, quarter, 0);
			if (slice || quarter)
				give_back(&r.empty[before]);
#pragma unroll
			for (int n = 1; n < 4; n++)
				weights.step(s, scale, stage, tile, quarter, n);
			before = ring.at;
			ring.next();
		}
	}
out:
	wgmma_wait<0>(s[0].h);
	wgmma_wait<0>(s[1].h);
	give_back(&r.empty[before]);
}

/* Of this lane's rows of tile `tile` of the block. */
__device__ __forceinline__ row_scales scales_of(const tile_slot &t, uint32_t tile,
						const fp8_scale *unit)
{
	const float *scale = &t.scale[tile * MATMUL_TILE + thread_now() % WARP / 4];

	if (!unit)
		return { scale[0], scale[8] };
	return { __fmul_rn(unit->low, scale[0]), __fmul_rn(unit->high, scale[8]) };
}

/* Sums and stores a tile of at most N pairs. */
template <enum matmul_format F, int N>
__device__ __forceinline__ void do_tile(const matmul_params &p, rings<F> &r, const tile_slot &t,
					turn<part<F>::RING> &ring)
{
	tile_sums<N> s[2];
	fp8_scale unit_scale[2];

#pragma unroll
	for (int i = 0; i < N; i++)
		s[i % 2].h[i / 2] = 0;
	multiply<F>(p, r, ring, s, unit_scale);
	const uint32_t tile = thread_now() / WARP * 2;
	const row_scales scale[2] = {
		scales_of(t, tile, F == MATMUL_FP8 ? &unit_scale[0] : NULL),
		scales_of(t, tile + 1, F == MATMUL_FP8 ? &unit_scale[1] : NULL)
	};

	store_two(p, t, t.row_block * ROW_TILES + tile, s, scale);
}

/* All tiles of a block, for one of its multiplying warps. */
template <enum matmul_format F> __device__ void multiply_tiles(const matmul_params &p, rings<F> &r)
{
	turn<part<F>::RING> ring;
	turn<SLOTS> tiles;

	for (;;) {
		const uint32_t at = tiles.at;
		const tile_slot &t = take(r, tiles);
		const uint32_t n = t.n;

		if (t.last)
			break;
		if (n > 128)
			do_tile<F, 144>(p, r, t, ring);
		else if (n > 96)
			do_tile<F, 128>(p, r, t, ring);
		else if (n > 64)
			do_tile<F, 96>(p, r, t, ring);
		else if (n > 32)
			do_tile<F, 64>(p, r, t, ring);
		else
			do_tile<F, 32>(p, r, t, ring);
		__syncwarp();
		give_back(&r.done[at]);
	}
}
#endif

} /* namespace */

#endif
