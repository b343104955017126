/* decode_ring_item.cuh - the ring form on Hopper, what its two kinds share: items, which the warps of
 * a block take one by one.
 *
 * An item is a row tile of an expert.  A block has its multiprocessor to itself and a run of items,
 * and groups of warps take them, whoever is ready first (a count in shared memory): so no group waits
 * for a slower one, and a multiprocessor reads one long piece of memory.  One lane asks for a whole
 * item: all its slices, which lie side by side, and the 16 scales of its rows, by bulk copies into a
 * stage of the group, on whose barrier the bytes arrive; beside the barrier lies which item it is.
 *
 * decode_ring_group.cuh: a warp a slice, sums through shared memory.  decode_ring_own.cuh: up to two
 * slices, both in one warp.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_RING_ITEM_CUH
#define HEARTH_KERNELS_CUDA_DECODE_RING_ITEM_CUH

#include "kernels/cuda/decode_ring.cuh"

#define RING_HOPPER_SHARED (227u * 1024)

/* These kernels are never launched elsewhere. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ != 900
#define RING_HOPPER_ONLY(call) do { } while (0)
#else
#define RING_HOPPER_ONLY(call) call
#endif

/* The barrier's only arrival, and how many bytes will come. */
static __device__ __forceinline__ void item_expect(uint32_t barrier, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
		     "r"(bytes)
		     : "memory");
}

/* Bytes on their way, of those that are expected. */
static __device__ __forceinline__ void item_fetch(uint32_t to, const void *from, uint32_t bytes,
						  uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1], %2, [%3];" ::"r"(to),
		     "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
		     : "memory");
}

/* An item beside a barrier: written before an arrival, read after the wait. */
static __device__ __forceinline__ void item_note(uint32_t at, uint32_t word)
{
	asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(word) : "memory");
}

static __device__ __forceinline__ uint32_t item_noted(uint32_t at)
{
	uint32_t word;

	asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
	return __shfl_sync(~0u, word, 0);
}

/* ---- items ------------------------------------------------------------------------------ */

/* A stage: units, then the tile's 16 scales, a barrier, the item. */
#define ITEM_SCALES 64u
constexpr uint32_t item_beside = ITEM_SCALES + 16;

#define ITEM_END ~0u	/* in place of an item: there are no more */

static_assert((uint64_t)MATMUL_MAX_EXPERTS * MATMUL_MAX_EXPERT_ROWS / MATMUL_TILE * NARROW_WARPS *
			      MATMUL_FP8_UNIT / 16 <
		      1ull << 32,
	      "a 32-bit offset counts every 16 bytes");

/* A block's items, and what all of a group know. */
struct item_run {
	uint32_t begin, n;
	uint32_t counter;	/* address: items taken by the block's groups */
	uint32_t units;		/* bytes of a stage before its scales */

	__device__ __forceinline__ uint32_t barrier(uint32_t stage) const
	{
		return stage + units + ITEM_SCALES;
	}
	__device__ __forceinline__ uint32_t item(uint32_t stage) const
	{
		return stage + units + ITEM_SCALES + 8;
	}
	__device__ __forceinline__ uint32_t stage_bytes(void) const
	{
		return units + item_beside;
	}
};

/* The same for every block: the first items % blocks have one more. */
static __device__ __forceinline__ struct item_run item_run_of(const struct matmul_params &p,
							      uint32_t counter, uint32_t units)
{
	const uint32_t items = p.groups * (*p.list.n_active - p.without_last);
	const uint32_t each = items / gridDim.x, extra = items % gridDim.x;

	return { blockIdx.x * each + min(blockIdx.x, extra), each + (blockIdx.x < extra), counter,
		 units };
}

/* The run's item `at` into a stage that nobody reads any more.  By all of one warp. */
template <typename Cut>
static __device__ __forceinline__ void item_bring(const struct matmul_params &p,
						  const struct item_run &run, uint32_t at,
						  uint32_t stage, int lane)
{
	if (at >= run.n) {
		if (lane == 0) {
			item_note(run.item(stage), ITEM_END);
			ring_arrive(run.barrier(stage));
		}
		return;
	}

	const uint32_t item = run.begin + at, index = item_expert<true>(p, item);
	const uint32_t tile = item - index * p.groups;
	const uint32_t unit = p.list.active[index] * p.n_tiles + tile;
	const uint32_t bytes = p.n_slices * Cut::unit_bytes;

	if (lane == 0) {
		item_note(run.item(stage), index << 16 | tile);
		item_expect(run.barrier(stage), bytes + (p.row_scale ? ITEM_SCALES : 0));
		item_fetch(stage, p.w + (size_t)(unit * (bytes / 16)) * 16, bytes,
			   run.barrier(stage));
		if (p.row_scale)
			item_fetch(stage + run.units, p.row_scale + (size_t)unit * MATMUL_TILE,
				   ITEM_SCALES, run.barrier(stage));
	}
}

/* The next of the block's items that nobody has taken. */
template <typename Cut>
static __device__ __forceinline__ void item_ask(const struct matmul_params &p,
						const struct item_run &run, uint32_t stage, int lane)
{
	uint32_t at = 0;

	if (lane == 0)
		asm volatile("atom.shared.add.u32 %0, [%1], 1;"
			     : "=r"(at)
			     : "r"(run.counter)
			     : "memory");
	item_bring<Cut>(p, run, __shfl_sync(~0u, at, 0), stage, lane);
}

/* Until the list is there, with a barrier of the block. */
static __device__ __forceinline__ void item_list(const struct matmul_params &p)
{
	const uint32_t at = threadIdx.x * 128;

	if (!p.list_settled)
		chain_wait();
	/* What is read next, one thing after the other. */
	if (at < p.list_bytes)
		asm volatile("prefetch.global.L1 [%0];" ::"l"((const char *)p.list.n_active + at));
	__syncthreads();
}

/* ---- outputs ---------------------------------------------------------------------------- */

#define ITEM_NO_PAIR 0xffffu
static_assert(MATMUL_MAX_ROWS * 16 <= ITEM_NO_PAIR, "16 bits are enough for a pair");

/* Which pairs the lane's columns are, two in a word. */
template <int NT>
static __device__ __forceinline__ void item_pairs(const struct columns &c, uint32_t first_col,
						  int lane, uint32_t pairs[NT])
{
#pragma unroll
	for (int t = 0; t < NT; t++) {
		const uint32_t col = first_col + t * 8 + lane % 4 * 2;
		uint32_t pair[2] = { ITEM_NO_PAIR, ITEM_NO_PAIR };

#pragma unroll
		for (int i = 0; i < 2; i++)
			if (col + i < c.n)
				pair[i] = c.pair[col + i];
		pairs[t] = pair[1] << 16 | pair[0];
	}
}

/* The scale of a row, of a stage's. */
static __device__ __forceinline__ float item_scale(const struct matmul_params &p, uint32_t scales,
						   uint32_t r)
{
	float v = 1;

	if (p.row_scale)
		asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(scales + r * 4));
	return v;
}

/* One column of the lane's two rows.  Where outputs of experts are not in turns, they are float32. */
static __device__ __forceinline__ void item_write_one(const struct matmul_params &p, uint32_t tile,
						      uint32_t r, uint32_t pair, float low, float high)
{
	float *to;

	if (tile >= p.n_plain) {
		store_out(p, tile, r, pair, low, high);
		return;
	}
	to = (float *)p.y + (size_t)pair * p.ldy + tile * MATMUL_TILE + r;
	if (has_output(p, tile, r))
		to[0] = low;
	if (has_output(p, tile, r + 8))
		to[8] = high;
}

/* What the tensor core left of two columns, finished. */
static __device__ __forceinline__ void item_write(const struct matmul_params &p, uint32_t tile,
						  uint32_t r, uint32_t pairs, const float v[4])
{
	if ((pairs & 0xffff) != ITEM_NO_PAIR)
		item_write_one(p, tile, r, pairs & 0xffff, v[0], v[2]);
	if (pairs >> 16 != ITEM_NO_PAIR)
		item_write_one(p, tile, r, pairs >> 16, v[1], v[3]);
}

#endif
