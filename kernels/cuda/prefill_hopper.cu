/* prefill_hopper.cu - see prefill_hopper.h: who does what in a block, and the launches.
 *
 * One block a multiprocessor, for as long as there are tiles.  Two warpgroups multiply; a third
 * brings x: into a ring of stages, from which the others take when a stage is full, and to which
 * they give it back.  One thread asks the copy engine; the two blocks of a cluster, which have the
 * same rows of x, ask for half of a stage each, for both.
 */
#include "kernels/cuda/prefill_hopper.h"

#include "kernels/cuda/prefill_hopper.cuh"
#include "kernels/cuda/tensor_map.cuh"

namespace {

constexpr int HOPPER_THREADS = THREADS + 128;
constexpr size_t SHARED_BYTES = sizeof(rings) + 1024;
static_assert(SHARED_BYTES <= 227 * 1024, "an H200 has 227 KB");

#if HOPPER
constexpr int COPY_REGISTERS = 24, MULTIPLY_REGISTERS = 240;

__device__ void init_barriers(rings &r)
{
	for (int i = 0; i < RING; i++) {
		barrier_init(&r.full[i], 1);
		barrier_init(&r.empty[i], WARPS * CLUSTER);
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
#pragma unroll 1	/* the registers are few */
		for (uint32_t i = 0; i < n_blocks; i++, ring.next()) {
			barrier_wait(&r.empty[ring.at], ring.odd ^ 1);
			barrier_expect(&r.full[ring.at], STAGE_BYTES);
			copy_half(r, w, ring.at, i * STAGE_K, t.first);
		}
	}
}

/* What sums of the tile's rows of W are multiplied with at the end; a warp. */
template <enum matmul_format F>
__device__ void find_scales(const matmul_params &p, tile_slot &slot, uint32_t row_block)
{
	const uint32_t lane = threadIdx.x % WARP, tile = row_block * WARPS + lane / 4;
	const float *scales = tile_scales<F>(p, 0, min(tile, p.n_tiles - 1));

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
	}
	find_scales<F>(p, slot, row_block);
}

/* Takes tile after tile and tells the others of it; a warp. */
template <enum matmul_format F>
__device__ void schedule(const matmul_params &p, const dense_work &w, rings &r)
{
	turn<SLOTS> to;
	uint32_t t = blockIdx.x / CLUSTER;
	bool more;

	do {
		tile_slot &slot = r.slot[to.at];

		barrier_wait(&r.done[to.at], to.odd ^ 1);
		more = t < w.n_tiles;
		if (more)
			find<F>(p, w, t, slot);
		else if (threadIdx.x % WARP == 0)
			slot.n = 0;
		barrier_arrive(&r.known[to.at]);
		to.next();
		t += gridDim.x / CLUSTER;
	} while (more);
}

/* What the third warpgroup does.  Tiles, and so the weights, are known before x is there. */
template <enum matmul_format F>
__device__ void help(const matmul_params &p, const dense_work &w, rings &r)
{
	const uint32_t thread = threadIdx.x - THREADS;

	if (thread / WARP == 1)
		schedule<F>(p, w, r);
	chain_wait();
	chain_release();
	if (thread == 0)
		bring(p, w, r);
}

#endif

template <enum matmul_format F>
__global__ void __launch_bounds__(HOPPER_THREADS, 1)
	hopper_kernel(const __grid_constant__ matmul_params p,
		      const __grid_constant__ dense_work w)
{
#if HOPPER
	extern __shared__ char raw[];
	rings &r = *(rings *)(raw + (-smem_address(raw) & 1023));

	if (threadIdx.x == 0)
		init_barriers(r);
	cluster_sync();
	if (threadIdx.x >= THREADS) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COPY_REGISTERS));
		help<F>(p, w, r);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(MULTIPLY_REGISTERS));
		multiply_tiles<F>(p, r);
	}
	cluster_sync(); /* the other block's copies and barriers end here, too */
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

template <enum matmul_format F>
int launch(const matmul_params &p, const dense_work &w, cudaStream_t stream)
{
	const uint32_t clusters = min((uint32_t)device_sms() / CLUSTER, w.n_tiles);

	if (!clusters ||
	    cudaFuncSetAttribute(hopper_kernel<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)SHARED_BYTES) != cudaSuccess)
		return -ENODEV;
	return chain_launch(hopper_kernel<F>, dim3(clusters * CLUSTER), HOPPER_THREADS,
			    SHARED_BYTES, CLUSTER, stream, p, w);
}

} /* namespace */

bool prefill_hopper_here(void)
{
	return device_major() == 9;
}

int prefill_hopper(const struct matmul_params *p, enum matmul_format f, cudaStream_t stream)
{
	dense_work w;
	const uint32_t row_pairs = (row_blocks_of(*p) + CLUSTER - 1) / CLUSTER;

	w.col_tiles = (p->n_cols + MANY - 1) / MANY;
	w.group = 8 * row_pairs;
	w.n_tiles = row_pairs * w.col_tiles;
	const int rc = map_x(*p, &w.x);

	if (rc)
		return rc;
	switch (f) {
	case MATMUL_BF16: return launch<MATMUL_BF16>(*p, w, stream);
	case MATMUL_FP8: return launch<MATMUL_FP8>(*p, w, stream);
	case MATMUL_NVFP4: return launch<MATMUL_NVFP4>(*p, w, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}
