/* prefill_hopper.cu - see prefill_hopper.h: who does what in a block, and the launches.
 *
 * One block a multiprocessor, for as long as there are tiles.  Two warpgroups multiply; a third
 * brings x: into a ring of stages, from which the others take when a stage is full, and to which
 * they give it back.  Dense: one thread asks the copy engine, and the two blocks of a cluster,
 * which have the same rows of x, ask for half of a stage each, for both.  Experts: one warp finds
 * out what the next tile is, two copy its rows.
 */
#include "kernels/cuda/prefill_hopper.h"

#include <stdlib.h>

#include "kernels/cuda/prefill_hopper.cuh"
#include "kernels/cuda/tensor_map.cuh"

namespace
{

constexpr int HOPPER_THREADS = THREADS + 128;
constexpr size_t SHARED_BYTES = sizeof(rings) + 1024;
static_assert(SHARED_BYTES <= 227 * 1024, "an H200 has 227 KB");

#if HOPPER
constexpr int COPY_REGISTERS = 24, MULTIPLY_REGISTERS = 240;
constexpr int COPY_WARPS = 2;

template <bool EXPERTS> __device__ void init_barriers(rings &r)
{
	for (int i = 0; i < RING; i++) {
		barrier_init(&r.full[i], 1);
		barrier_init(&r.copied[i], COPY_WARPS * WARP);
		barrier_init(&r.empty[i], EXPERTS ? WARPS : WARPS * CLUSTER);
	}
	for (int i = 0; i < SLOTS; i++) {
		barrier_init(&r.known[i], WARP);
		barrier_init(&r.done[i], WARPS);
	}
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* All threads of both blocks of a cluster. */
__device__ void cluster_sync(void)
{
	asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/* Half of a stage, to both blocks; its bytes count at either's barrier. */
__device__ void copy_half(rings &r, const dense_work &w, uint32_t at, uint32_t k, uint32_t row)
{
	const uint32_t half = blockIdx.x % CLUSTER;

	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
		     ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(
			     smem_address(r.x[at]) + half * (STAGE_BYTES / CLUSTER)),
		     "l"(&w.x), "r"(k), "r"(row + half * (MANY / CLUSTER)),
		     "r"(smem_address(&r.full[at])), "h"((uint16_t)((1 << CLUSTER) - 1))
		     : "memory");
}

/* One thread. */
__device__ void bring(const matmul_params &p, const dense_work &w, rings &r)
{
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K;
	turn<SLOTS> tiles;
	turn<RING> ring;

	for (;;) {
		const tile_slot &t = take(r, tiles);

		if (!t.n)
			break;
#pragma unroll 1 /* the registers are few */
		for (uint32_t i = 0; i < n_blocks; i++, ring.next()) {
			barrier_wait(&r.empty[ring.at], ring.odd ^ 1);
			barrier_expect(&r.full[ring.at], STAGE_BYTES);
			copy_half(r, w, ring.at, i * STAGE_K, t.first);
		}
	}
}

/* Stages that threads copied are there for the tensor core only after a fence.  It waits for all
 * that its thread has on its way: weights where stages are multiplied, the next stages where they
 * are copied.  So a thread with nothing else to do has it. */
__device__ void announce(const matmul_params &p, rings &r)
{
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K;
	turn<SLOTS> tiles;
	turn<RING> ring;

	while (take(r, tiles).n) {
#pragma unroll 1
		for (uint32_t i = 0; i < n_blocks; i++, ring.next()) {
			barrier_wait(&r.copied[ring.at], ring.odd);
			asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
			barrier_arrive(&r.full[ring.at]);
		}
	}
}

/* A copying thread has chunk % 8 of every eighth row. */
__device__ void bring(const matmul_params &p, rings &r, uint32_t thread)
{
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K, chunk = thread % 8,
		       first = thread / 8;
	const uint32_t place = first * (STAGE_K * 2) + (chunk ^ first) * 16;
	turn<SLOTS> tiles;
	turn<RING> ring;

	static_assert(COPY_WARPS * WARP == 64, "eight rows at a time");
	for (;;) {
		const tile_slot &t = take(r, tiles);
		const uint32_t n = t.n, rows = smem_address(t.row) + first * 4;

		if (!n)
			break;
#pragma unroll 1
		for (uint32_t i = 0; i < n_blocks; i++, ring.next()) {
			const uint32_t k = i * STAGE_K + chunk * 8, bytes = k < p.k ? 16 : 0;
			uint32_t to = smem_address(r.x[ring.at]) + place;

			barrier_wait(&r.empty[ring.at], ring.odd ^ 1);
#pragma unroll 4
			for (uint32_t row = 0; row < n; row += 8) {
				const __nv_bfloat16 *from =
					p.x + (size_t)load_word(rows + row * 4) * p.ldx + k;

				/* Columns that are not there arrive as zeros. */
				asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
						     to + row * (STAGE_K * 2)),
					     "l"(from), "r"(bytes)
					     : "memory");
			}
			asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
					     smem_address(&r.copied[ring.at]))
				     : "memory");
		}
	}
	asm volatile("cp.async.wait_all;" ::: "memory");
}

/* How many tiles there are for this product. */
__device__ uint32_t count_tiles(const matmul_params &, const dense_work &w)
{
	return w.n_tiles;
}

__device__ uint32_t count_tiles(const matmul_params &p, const experts_work &w)
{
	const uint32_t n = *w.tiles.n, active = *p.list.n_active;

	if (!p.without_last || !active)
		return n * w.row_blocks;
	const uint32_t last = p.list.offset[active] - p.list.offset[active - 1];

	return (n - (last + MANY - 1) / MANY) * w.row_blocks;
}

/* What sums of the tile's rows of W are multiplied with at the end; a warp. */
template <enum matmul_format F>
__device__ void find_scales(const matmul_params &p, tile_slot &slot, uint32_t row_block,
			    uint32_t expert)
{
	const uint32_t lane = threadIdx.x % WARP, tile = row_block * WARPS + lane / 4;
	const float *scales = tile_scales<F>(p, expert, min(tile, p.n_tiles - 1));

#pragma unroll
	for (uint32_t i = 0; i < MATMUL_TILE; i += 4)
		slot.scale[lane / 4 * MATMUL_TILE + i + lane % 4] =
			scale_of<F>(scales, i + lane % 4);
}

/* Tile `t` of a cluster: eight tiles of x, then the next rows of W (place_dense()), two row blocks
 * a cluster. */
template <enum matmul_format F>
__device__ void find(const matmul_params &p, const dense_work &w, uint32_t t, tile_slot &slot)
{
	const uint32_t group = t / w.group, in = t % w.group,
		       wide = min(8u, w.col_tiles - group * 8),
		       first = (group * 8 + in % wide) * MANY,
		       row_block = in / wide * CLUSTER + blockIdx.x % CLUSTER;

	if (threadIdx.x % WARP == 0) {
		slot.first = first;
		slot.n = min((uint32_t)MANY, p.n_cols - first);
		slot.row_block = row_block;
		slot.expert = 0;
	}
	find_scales<F>(p, slot, row_block, 0);
}

/* All row blocks of a tile of pairs, then the next. */
template <enum matmul_format F>
__device__ void find(const matmul_params &p, const experts_work &w, uint32_t t, tile_slot &slot)
{
	const uint32_t lane = threadIdx.x % WARP, row_block = t % w.row_blocks;
	const uint32_t tile = w.tiles.tile[t / w.row_blocks], index = tile >> 16,
		       expert = p.list.active[index];
	const uint32_t first = p.list.offset[index] + (tile & 0xffff) * MANY,
		       n = min((uint32_t)MANY, p.list.offset[index + 1] - first);

	if (lane == 0) {
		slot.n = n;
		slot.row_block = row_block;
		slot.expert = expert;
	}
	for (uint32_t i = lane; i < (n + 7) / 8 * 8; i += WARP) {
		const uint32_t pair = p.list.pair[first + min(i, n - 1)];

		slot.pair[i] = pair;
		slot.row[i] = p.x_per_slot ? pair : pair / p.n_slots;
	}
	find_scales<F>(p, slot, row_block, expert);
}

/* The next tile that nobody has yet.  Dense ones take the same time: every cluster its share. */
__device__ uint32_t ticket(const dense_work &, uint32_t before)
{
	return before == ~0u ? blockIdx.x / CLUSTER : before + gridDim.x / CLUSTER;
}

__device__ uint32_t ticket(const experts_work &w, uint32_t)
{
	const uint32_t t = threadIdx.x % WARP == 0 ? atomicAdd(w.ticket, 1) : 0;

	return __shfl_sync(~0u, t, 0);
}

/* Every block comes here once; the last leaves things as they were. */
__device__ void no_more(const dense_work &, uint32_t, uint32_t)
{
}

__device__ void no_more(const experts_work &w, uint32_t t, uint32_t n_tiles)
{
	if (t == n_tiles + gridDim.x - 1)
		*w.ticket = 0;
}

/* Takes tile after tile and tells the others of it; a warp. */
template <enum matmul_format F, class work>
__device__ void schedule(const matmul_params &p, const work &w, rings &r)
{
	const uint32_t n_tiles = count_tiles(p, w);
	turn<SLOTS> to;
	uint32_t t = ~0u;

	do {
		tile_slot &slot = r.slot[to.at];

		barrier_wait(&r.done[to.at], to.odd ^ 1);
		t = ticket(w, t);
		if (t < n_tiles) {
			find<F>(p, w, t, slot);
		} else if (threadIdx.x % WARP == 0) {
			slot.n = 0;
			no_more(w, t, n_tiles);
		}
		barrier_arrive(&r.known[to.at]);
		to.next();
	} while (t < n_tiles);
}

/* What the third warpgroup does.  Dense tiles, and so the weights, are known before x is there. */
template <enum matmul_format F>
__device__ void help(const matmul_params &p, const dense_work &w, rings &r)
{
	const uint32_t thread = threadIdx.x - THREADS;

	if (thread >= COPY_WARPS * WARP && thread < (COPY_WARPS + 1) * WARP)
		schedule<F>(p, w, r);
	chain_wait();
	chain_release();
	if (thread == 0)
		bring(p, w, r);
}

template <enum matmul_format F>
__device__ void help(const matmul_params &p, const experts_work &w, rings &r)
{
	const uint32_t warp = threadIdx.x / WARP - WARPS;

	chain_wait();
	chain_release();
	if (warp < COPY_WARPS)
		bring(p, r, threadIdx.x - THREADS);
	else if (warp == COPY_WARPS)
		schedule<F>(p, w, r);
	else if (threadIdx.x % WARP == 0)
		announce(p, r);
}
#endif

template <enum matmul_format F, bool EXPERTS, class work>
__global__ void __launch_bounds__(HOPPER_THREADS, 1)
	hopper_kernel(const __grid_constant__ matmul_params p, const __grid_constant__ work w,
		      uint32_t lead)
{
#if HOPPER
	extern __shared__ char raw[];
	rings &r = *(rings *)(raw + (-smem_address(raw) & 1023));

	if (threadIdx.x == 0)
		init_barriers<EXPERTS>(r);
	if (EXPERTS)
		__syncthreads();
	else
		cluster_sync();
	if (threadIdx.x >= THREADS) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COPY_REGISTERS));
		help<F>(p, w, r);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(MULTIPLY_REGISTERS));
		multiply_tiles<F, EXPERTS>(p, r, lead);
	}
	if (!EXPERTS) /* the other block's copies and barriers end here, too */
		cluster_sync();
#else
	__trap(); /* never launched: prefill_hopper_here() */
#endif
}

/* x, a box of half of a stage. */
int map_x(const matmul_params &p, CUtensorMap *ret)
{
	const cuuint64_t dims[2] = { p.k, p.n_cols }, strides[1] = { (cuuint64_t)p.ldx * 2 };
	const cuuint32_t box[2] = { STAGE_K, MANY / CLUSTER };

	return tensor_map_make(ret, p.x, 2, dims, strides, box);
}

uint32_t lead_stages(void)
{
	const char *s = getenv("HEARTH_X_LEAD");

	return s ? (uint32_t)atoi(s) : 0;
}

template <enum matmul_format F, bool EXPERTS, class work>
int launch(const matmul_params &p, const work &w, uint32_t blocks, cudaStream_t stream)
{
	auto kernel = hopper_kernel<F, EXPERTS, work>;

	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)SHARED_BYTES) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), HOPPER_THREADS, SHARED_BYTES,
			    EXPERTS ? 1 : CLUSTER, stream, p, w, lead_stages());
}

template <bool EXPERTS, class work>
int launch(enum matmul_format f, const matmul_params &p, const work &w, uint32_t blocks,
	   cudaStream_t stream)
{
	switch (f) {
	case MATMUL_BF16:
		return launch<MATMUL_BF16, EXPERTS>(p, w, blocks, stream);
	case MATMUL_FP8:
		return launch<MATMUL_FP8, EXPERTS>(p, w, blocks, stream);
	case MATMUL_NVFP4:
		return launch<MATMUL_NVFP4, EXPERTS>(p, w, blocks, stream);
	case MATMUL_N_FORMATS:
		break;
	}
	return -EINVAL;
}

} /* namespace */

bool prefill_hopper_here(void)
{
	static int major;
	int device;

	if (!major && (cudaGetDevice(&device) != cudaSuccess ||
		       cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) !=
			       cudaSuccess))
		major = 0;
	return major == 9 && device_sms() >= CLUSTER;
}

int prefill_hopper_dense(const struct matmul_params *p, enum matmul_format f, cudaStream_t stream)
{
	dense_work w;
	const uint32_t row_pairs = (row_blocks_of(*p) + CLUSTER - 1) / CLUSTER;

	w.col_tiles = (p->n_cols + MANY - 1) / MANY;
	w.group = 8 * row_pairs;
	w.n_tiles = row_pairs * w.col_tiles;
	const int rc = map_x(*p, &w.x);
	return rc ? rc :
		    launch<false>(f, *p, w,
				  CLUSTER * min((uint32_t)device_sms() / CLUSTER, w.n_tiles),
				  stream);
}

int prefill_hopper_experts(const struct matmul_params *p, enum matmul_format f,
			   const struct prefill_list *list, uint32_t max_tiles, cudaStream_t stream)
{
	const experts_work w = { { list->n_tiles, list->tile, 0, MANY },
				 list->n_tiles + 1,
				 row_blocks_of(*p) };

	return launch<true>(f, *p, w, min((uint32_t)device_sms(), max_tiles * w.row_blocks),
			    stream);
}
