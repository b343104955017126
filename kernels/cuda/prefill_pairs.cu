/* prefill_pairs.cu - see prefill_pairs.h: who does what in a block, and the launch.
 *
 * One block a multiprocessor, for as long as there are tiles.  A tile is 256 rows of W of an expert
 * with up to 288 of its pairs, and a cluster of two blocks has one: each has half of the pairs.
 * Two warpgroups multiply.  Of the third one warp takes tiles (the next that nobody has, for both
 * blocks), one asks the copy engine for weights (half of a stage's, for both blocks) and two copy
 * the pairs' rows of x, which lie anywhere.  All meet in a ring of stages of 64 columns.
 */
#include "kernels/cuda/prefill_pairs.h"

#include "kernels/cuda/prefill_pairs.cuh"

namespace {

constexpr int PAIRS_THREADS = THREADS + 128;
template <enum matmul_format F> constexpr size_t shared_bytes = sizeof(rings<F>) + 1024;
static_assert(shared_bytes<MATMUL_BF16> <= 227 * 1024 && shared_bytes<MATMUL_FP8> <= 227 * 1024 &&
		      shared_bytes<MATMUL_NVFP4> <= 227 * 1024,
	      "an H200 has 227 KB");

struct pairs_work {
	const uint32_t *n_tiles, *tile; /* of the list */
	uint32_t *ticket;		/* tiles taken */
	uint32_t row_blocks;
};

#if HOPPER
constexpr int COPY_REGISTERS = 40, MULTIPLY_REGISTERS = 232;
constexpr int COPY_WARPS = 2;
/* Rows of x that a copying thread has its part of: every COPY_EVERY-th. */
constexpr int COPY_EVERY = COPY_WARPS * WARP / 8, COPY_ROWS = PAIRS / COPY_EVERY;
static_assert(COPY_EVERY % 8 == 0 && PAIRS % COPY_EVERY == 0, "all of a thread's look alike");

template <enum matmul_format F> __device__ void init_barriers(rings<F> &r)
{
	for (int i = 0; i < rings<F>::RING; i++) {
		barrier_init(&r.full[i], COPY_WARPS * WARP + 1);
		barrier_init(&r.empty[i], WARPS * CLUSTER);
	}
	for (int i = 0; i < SLOTS; i++) {
		barrier_init(&r.known[i], WARP);
		barrier_init(&r.done[i], WARPS * CLUSTER);
		barrier_init(&r.told[i], 1);
	}
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* All threads of both blocks of a cluster. */
__device__ void cluster_sync(void)
{
	asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/* To both blocks; the bytes count at either's barrier. */
__device__ __forceinline__ void copy_to_both(const void *to, const char *from, uint32_t bytes,
					     const uint64_t *full)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
		     ".multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(smem_address(to)),
		     "l"(from), "r"(bytes), "r"(smem_address(full)),
		     "h"((uint16_t)((1 << CLUSTER) - 1))
		     : "memory");
}

/* A warp: a lane has a tile of 16 rows. */
template <enum matmul_format F> __device__ void bring_weights(const matmul_params &p, rings<F> &r)
{
	constexpr uint32_t WEIGHTS = part<F>::WEIGHTS, SCALES = part<F>::SCALES,
			   MINE = ROW_TILES / CLUSTER;
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K, lane = threadIdx.x % WARP,
		       tile = blockIdx.x % CLUSTER * MINE + lane % MINE;
	turn<SLOTS> tiles;
	turn<part<F>::RING> ring;

	for (;;) {
		const tile_slot &t = take(r, tiles);

		if (t.last)
			break;
		const char *from = p.w + ((size_t)t.expert * p.n_tiles +
					  min(t.row_block * ROW_TILES + tile, p.n_tiles - 1)) *
						 p.n_slices * unit<F>::bytes;
#pragma unroll 1
		for (uint32_t i = 0; i < n_blocks; i++, ring.next()) {
			const char *unit_at = from + (size_t)(i / 4) * unit<F>::bytes;

			barrier_wait(&r.empty[ring.at], ring.odd ^ 1);
			if (lane == 0)
				barrier_expect(&r.full[ring.at],
					       ROW_TILES * (WEIGHTS + (i % 4 ? 0 : SCALES)));
			if (lane < MINE)
				copy_to_both(r.stage[ring.at].w[tile], unit_at + i % 4 * WEIGHTS,
					     WEIGHTS, &r.full[ring.at]);
			if (SCALES && lane < MINE && i % 4 == 0)
				copy_to_both(r.stage[ring.at].scales[tile], unit_at + 4 * WEIGHTS,
					     SCALES, &r.full[ring.at]);
		}
	}
}

__device__ __forceinline__ uint32_t load_word(uint32_t at)
{
	uint32_t v;

	asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at));
	return v;
}

/* A copying thread has chunk % 8 of its rows.  Where rows begin stays in registers: a load
 * from shared memory between two copies waits for the first. */
template <enum matmul_format F>
__device__ void bring_rows(const matmul_params &p, rings<F> &r, uint32_t thread)
{
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K, chunk = thread % 8,
		       first = thread / 8;
	const uint32_t place = first * (STAGE_K * 2) + (chunk ^ first % 8) * 16;
	turn<SLOTS> tiles;
	turn<part<F>::RING> ring;
	uint32_t from[COPY_ROWS]; /* in units of 16 bytes */

	for (;;) {
		const tile_slot &t = take(r, tiles);
		const uint32_t n = t.n;

		if (t.last)
			break;
#pragma unroll
		for (int i = 0; i < COPY_ROWS; i++)
			from[i] = t.row[i * COPY_EVERY + first] * (p.ldx / 8) + chunk;
#pragma unroll 1
		for (uint32_t k = 0; k < n_blocks; k++, ring.next()) {
			const uint4 *x = (const uint4 *)p.x + k * (STAGE_K / 8);
			const uint32_t bytes = k * STAGE_K + chunk * 8 < p.k ? 16 : 0;
			const uint32_t to = smem_address(r.stage[ring.at].x) + place;

			barrier_wait(&r.empty[ring.at], ring.odd ^ 1);
#pragma unroll
			for (int i = 0; i < COPY_ROWS; i++) {
				if (i % 6 == 0 && i * COPY_EVERY >= (int)n)
					break;
				/* What is not there arrives as zeros; its address is not read. */
				asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
						     to + i * COPY_EVERY * (STAGE_K * 2)),
					     "l"(x + from[i]),
					     "r"(i * COPY_EVERY + first < n ? bytes : 0)
					     : "memory");
			}
			asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
					     smem_address(&r.full[ring.at]))
				     : "memory");
		}
	}
	asm volatile("cp.async.wait_all;" ::: "memory");
}

/* How many tiles there are for this product. */
__device__ uint32_t count_tiles(const matmul_params &p, const pairs_work &w)
{
	const uint32_t n = *w.n_tiles, active = *p.list.n_active;

	if (!p.without_last || !active)
		return n * w.row_blocks;
	const uint32_t last = p.list.offset[active] - p.list.offset[active - 1];

	return (n - (last + PREFILL_WIDE - 1) / PREFILL_WIDE) * w.row_blocks;
}

/* All row blocks of a tile of pairs, then the next; a warp. */
template <enum matmul_format F>
__device__ void find(const matmul_params &p, const pairs_work &w, uint32_t t, tile_slot &slot)
{
	const uint32_t lane = threadIdx.x % WARP, row_block = t % w.row_blocks,
		       entry = w.tile[t / w.row_blocks], index = entry >> 16;
	const uint32_t begin = p.list.offset[index], all = p.list.offset[index + 1] - begin,
		       parts = (all + PREFILL_WIDE - 1) / PREFILL_WIDE,
		       size = ((all + parts - 1) / parts + 15) / 16 * 16,
		       skipped = min((entry & 0xffff) * size, all), ours = min(size, all - skipped);
	/* This block's half of the part. */
	const uint32_t half = min((ours / CLUSTER + 7) / 8 * 8, ours),
		       second = blockIdx.x % CLUSTER, n = second ? ours - half : half,
		       first = begin + skipped + (second ? half : 0), expert = p.list.active[index];

	if (lane == 0) {
		slot.n = n;
		slot.row_block = row_block;
		slot.expert = expert;
		slot.last = 0;
	}
	for (uint32_t i = lane; i < (n + 7) / 8 * 8; i += WARP) {
		const uint32_t pair = p.list.pair[first + min(i, n - 1)];

		slot.pair[i] = pair;
		slot.row[i] = p.x_per_slot ? pair : pair / p.n_slots;
	}
#pragma unroll
	for (uint32_t i = 0; i < ROW_TILES * MATMUL_TILE; i += WARP) {
		const uint32_t tile = row_block * ROW_TILES + (i + lane) / MATMUL_TILE;

		slot.scale[i + lane] =
			scale_of<F>(tile_scales<F>(p, expert, min(tile, p.n_tiles - 1)),
				    (i + lane) % MATMUL_TILE);
	}
}

/* The next tile that nobody has yet: the first block of a cluster takes it and tells both. */
template <enum matmul_format F>
__device__ uint32_t ticket(const pairs_work &w, rings<F> &r, const turn<SLOTS> &to)
{
	if (threadIdx.x % WARP == 0) {
		barrier_expect(&r.told[to.at], 4);
		if (blockIdx.x % CLUSTER == 0) {
			const uint32_t t = atomicAdd(w.ticket, 1);

			for (uint32_t i = 0; i < CLUSTER; i++)
				asm volatile(
					"{ .reg .b32 word, told;\n"
					"mapa.shared::cluster.u32 word, %0, %3;\n"
					"mapa.shared::cluster.u32 told, %1, %3;\n"
					"st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 "
					"[word], %2, [told]; }" ::"r"(smem_address(&r.ticket[to.at])),
					"r"(smem_address(&r.told[to.at])), "r"(t), "r"(i)
					: "memory");
		}
	}
	barrier_wait(&r.told[to.at], to.odd);
	return load_word(smem_address(&r.ticket[to.at]));
}

/* Takes tile after tile and tells the others of it; a warp. */
template <enum matmul_format F>
__device__ void schedule(const matmul_params &p, const pairs_work &w, rings<F> &r)
{
	const uint32_t n_tiles = count_tiles(p, w);
	turn<SLOTS> to;
	uint32_t t;

	do {
		tile_slot &slot = r.slot[to.at];

		barrier_wait(&r.done[to.at], to.odd ^ 1);
		t = ticket(w, r, to);
		if (t < n_tiles) {
			find<F>(p, w, t, slot);
		} else if (threadIdx.x % WARP == 0) {
			slot.last = 1;
			/* Every cluster comes here once; the last leaves things as they were. */
			if (blockIdx.x % CLUSTER == 0 && t == n_tiles + gridDim.x / CLUSTER - 1)
				*w.ticket = 0;
		}
		barrier_arrive(&r.known[to.at]);
		to.next();
	} while (t < n_tiles);
}

/* What the third warpgroup does. */
template <enum matmul_format F>
__device__ void help(const matmul_params &p, const pairs_work &w, rings<F> &r)
{
	const uint32_t warp = threadIdx.x / WARP - WARPS;

	if (warp < COPY_WARPS)
		bring_rows(p, r, threadIdx.x - THREADS);
	else if (warp == COPY_WARPS)
		schedule(p, w, r);
	else if (warp == COPY_WARPS + 1)
		bring_weights(p, r);
}
#endif

template <enum matmul_format F>
__global__ void __launch_bounds__(PAIRS_THREADS, 1)
	pairs_kernel(const __grid_constant__ matmul_params p, const pairs_work w)
{
#if HOPPER
	extern __shared__ char raw[];
	rings<F> &r = *(rings<F> *)(raw + (-smem_address(raw) & 1023));

	if (threadIdx.x == 0)
		init_barriers(r);
	cluster_sync();
	chain_wait();
	chain_release();
	if (threadIdx.x >= THREADS) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COPY_REGISTERS));
		help(p, w, r);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(MULTIPLY_REGISTERS));
		multiply_tiles(p, r);
	}
	cluster_sync(); /* the other block's copies and barriers end here, too */
#else
	__trap(); /* never launched: prefill_hopper_here() */
#endif
}

template <enum matmul_format F>
int launch(const matmul_params &p, const pairs_work &w, cudaStream_t stream)
{
	const uint32_t clusters = (uint32_t)device_sms() / CLUSTER;

	if (!clusters ||
	    cudaFuncSetAttribute(pairs_kernel<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared_bytes<F>) != cudaSuccess)
		return -ENODEV;
	return chain_launch(pairs_kernel<F>, dim3(clusters * CLUSTER), PAIRS_THREADS,
			    shared_bytes<F>, CLUSTER, stream, p, w);
}

} /* namespace */

int prefill_pairs(const struct matmul_params *p, enum matmul_format f,
		  const struct prefill_list *list, cudaStream_t stream)
{
	const pairs_work w = { list->n_tiles + 1, list->wide, list->n_tiles + 2,
			       (p->n_tiles + ROW_TILES - 1) / ROW_TILES };

	switch (f) {
	case MATMUL_BF16: return launch<MATMUL_BF16>(*p, w, stream);
	case MATMUL_FP8: return launch<MATMUL_FP8>(*p, w, stream);
	case MATMUL_NVFP4: return launch<MATMUL_NVFP4>(*p, w, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}
