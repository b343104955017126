/* decode_ring.cuh - the product with experts for formats that take many instructions a byte:
 * weights come through shared memory, and no warp waits for its block.
 *
 * Tiles and slices are cut as in the narrow form: the warps of a group have a tile of 16 rows
 * between them, one slice of K each, with their part of x in registers.  What differs is who waits
 * for whom:
 *  - A warp's units come by bulk copies into a ring of its own, STAGES deep, asked for by one lane:
 *    loads stay in flight whatever the warp does, and cost neither registers nor addresses.
 *  - A slice's sums go to a buffer of the group as the vectors of four that the tensor core left,
 *    and one warp, each in its turn, adds a tile's slices in order and writes it.  The others may
 *    be RING_SUMS tiles ahead by then.
 *
 * Barriers lie beside what they guard: a stage's, completed by the copy's bytes; a buffer's first,
 * by every warp of the group; its second, by the warp that added the sums up.  A warp waits for
 * sums of the tile that it is at or of earlier ones, and gives its own before it waits for others':
 * so no two can wait for each other.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_RING_CUH
#define HEARTH_KERNELS_CUDA_DECODE_RING_CUH

#include "kernels/cuda/decode_narrow.cuh"

#define RING_SUMS 4	/* buffers of sums a group */

/* A stage: the unit, its barrier, 8 bytes of nothing.  Buffers of all groups lie side by side: two
 * barriers for each group, then a warp's sums for each warp, [NT][lane] of four. */
template <enum matmul_format F> constexpr uint32_t ring_stage = unit<F>::bytes + 16;
constexpr uint32_t ring_barriers = NARROW_WARPS * 16;
template <int NT> constexpr uint32_t ring_slice = NT * WARP * 16;
template <int NT> constexpr uint32_t ring_buffer = ring_barriers + NARROW_WARPS * ring_slice<NT>;
/* A block's: the stages of every warp, then the buffers. */
template <enum matmul_format F, int NT, int STAGES>
constexpr size_t ring_shared = NARROW_WARPS * STAGES * ring_stage<F> + RING_SUMS * ring_buffer<NT>;

/* ---- barriers and copies, by address in shared memory -------------------------------- */

static __device__ __forceinline__ void ring_barrier(uint32_t at, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

static __device__ __forceinline__ void ring_arrive(uint32_t at)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

static __device__ __forceinline__ void ring_wait(uint32_t at, uint32_t parity)
{
	asm volatile("{ .reg .pred come;\n"
		     "again: mbarrier.try_wait.parity.shared::cta.b64 come, [%0], %1;\n"
		     "@!come bra again; }" ::"r"(at), "r"(parity) : "memory");
}

/* Bytes on their way, and the barrier's only arrival. */
static __device__ __forceinline__ void ring_copy(uint32_t to, const void *from, uint32_t bytes,
						 uint32_t barrier)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
		     "r"(bytes)
		     : "memory");
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1], %2, [%3];" ::"r"(to),
		     "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
		     : "memory");
}

static __device__ __forceinline__ void ring_put(uint32_t at, const float v[4])
{
	asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at), "f"(v[0]), "f"(v[1]),
		     "f"(v[2]), "f"(v[3])
		     : "memory");
}

static __device__ __forceinline__ float4 ring_get(uint32_t at)
{
	float4 v;

	asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
		     : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
		     : "r"(at));
	return v;
}

/* An address that the compiler keeps instead of making it again. */
static __device__ __forceinline__ uint32_t ring_kept(uint32_t at)
{
	asm volatile("" : "+r"(at));
	return at;
}

/* ---- the walk -------------------------------------------------------------------------- */

/* The last item of a block's run: the active expert, the group of its row tiles. */
struct ring_end {
	uint32_t index, group;
};

/* Items of active expert `index` from `group` on. */
static __device__ __forceinline__ uint32_t ring_here(const struct matmul_params &p,
						     const struct ring_end &end, uint32_t index,
						     uint32_t group)
{
	return (index == end.index ? end.group + 1 : p.groups) - group;
}

/* What a warp asks for next: its unit of an item, the first of `here` of this expert.  16 bytes are
 * counted: of all experts there are fewer than 2^32, with at most NARROW_WARPS slices. */
struct ring_ahead {
	uint32_t from;
	uint32_t index, here;
};
static_assert((uint64_t)MATMUL_MAX_EXPERTS * MATMUL_MAX_EXPERT_ROWS / MATMUL_TILE * NARROW_WARPS *
			      MATMUL_FP8_UNIT / 16 <
		      1ull << 32,
	      "a 32-bit offset reaches every unit");

template <enum matmul_format F>
static __device__ __forceinline__ uint32_t ring_first_unit(const struct matmul_params &p,
							   uint32_t index, uint32_t group,
							   uint32_t m, uint32_t slice)
{
	const uint32_t tile = p.list.active[index] * p.n_tiles + group * p.m_warps + m;

	return (tile * p.n_slices + slice) * (unit<F>::bytes / 16);
}

/* Into a stage that nobody reads any more. */
template <enum matmul_format F>
static __device__ __forceinline__ void
ring_ask(const struct matmul_params &p, const struct ring_end &end, uint32_t stage, uint32_t m,
	 uint32_t slice, struct ring_ahead *ahead)
{
	if (!ahead->here)
		return;
	if (threadIdx.x % WARP == 0)
		ring_copy(stage, p.w + (size_t)ahead->from * 16, unit<F>::bytes,
			  stage + unit<F>::bytes);
	ahead->from += p.m_warps * p.n_slices * (unit<F>::bytes / 16);
	if (--ahead->here || ahead->index == end.index)
		return;
	ahead->from = ring_first_unit<F>(p, ++ahead->index, 0, m, slice);
	ahead->here = ring_here(p, end, ahead->index, 0);
}

/* ---- the product ------------------------------------------------------------------------ */

template <enum matmul_format F, int NT>
static __device__ __forceinline__ void ring_multiply(uint32_t stage, const struct narrow_x<NT> &x,
						     int lane, float sum[NT][4])
{
	struct unit<F> w;

	w.take(stage, lane);
	unit_product(w, x, sum, [](int) {});
}

/* One column of the lane's two rows. */
static __device__ __forceinline__ void ring_store(const struct matmul_params &p, uint32_t tile,
						  uint32_t r, uint32_t pair, float low, float high)
{
	if (tile >= p.n_plain) {
		store_out(p, tile, r, pair, low, high);
		return;
	}
	if (has_output(p, tile, r))
		store_out(p, tile, r, pair, low, 0);
	if (has_output(p, tile, r + 8))
		store_out(p, tile, r + 8, pair, high, 0);
}

/* What ring_finish() will ask for, on its way while the tile is multiplied. */
template <enum matmul_format F>
static __device__ __forceinline__ void ring_call_scales(const struct matmul_params &p,
							uint32_t index, uint32_t tile, int lane)
{
	const float *scales = tile_scales<F>(p, p.list.active[index], tile);

	if (scales && lane == 0)
		asm volatile("prefetch.global.L1 [%0];" ::"l"(scales));
}

/* Adds the slices of one tile, in order, when all are there, and writes them.  `from` is the first
 * slice's sums of this lane, `full` the barrier. */
template <enum matmul_format F, int NT>
static __device__ __forceinline__ void ring_finish(const struct matmul_params &p,
						   const struct columns &c, uint32_t index,
						   uint32_t tile, uint32_t first_col, uint32_t from,
						   uint32_t full, uint32_t parity, int lane)
{
	const float *scales = tile_scales<F>(p, p.list.active[index], tile);
	const float low = scale_of<F>(scales, lane / 4), high = scale_of<F>(scales, lane / 4 + 8);

	ring_wait(full, parity);
#pragma unroll
	for (int t = 0; t < NT; t++, from += WARP * 16) {
		const uint32_t col = first_col + 8 * t + lane % 4 * 2;
		float4 v = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);
		uint32_t at = from;

#pragma unroll 4
		for (uint32_t slice = 0; slice < p.n_slices; slice++, at += ring_slice<NT>) {
			const float4 part = ring_get(at);

			v.x = fold(v.x, part.x);
			v.y = fold(v.y, part.y);
			v.z = fold(v.z, part.z);
			v.w = fold(v.w, part.w);
		}
		if (col < c.n)
			ring_store(p, tile, lane / 4, c.pair[col], __fmul_rn(v.x, low),
				   __fmul_rn(v.z, high));
		if (col + 1 < c.n)
			ring_store(p, tile, lane / 4, c.pair[col + 1], __fmul_rn(v.y, low),
				   __fmul_rn(v.w, high));
	}
}

/* One lane of each warp: its own stages' barriers, and of each buffer one group's. */
template <enum matmul_format F, int NT, int STAGES>
static __device__ __forceinline__ void ring_init(const struct matmul_params &p, uint32_t stages,
						 uint32_t buffers, uint32_t group)
{
#pragma unroll 1
	for (uint32_t i = 0; i < STAGES; i++)
		ring_barrier(stages + i * ring_stage<F> + unit<F>::bytes, 1);
#pragma unroll 1
	for (uint32_t i = 0; i < RING_SUMS; i++) {
		ring_barrier(buffers + i * ring_buffer<NT> + group * 16, p.n_slices);
		ring_barrier(buffers + i * ring_buffer<NT> + group * 16 + 8, 1);
	}
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Blocks a multiprocessor: where shared memory is 100 KB in all there is room for one. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define RING_BLOCKS(hopper) 1
#else
#define RING_BLOCKS(hopper) (hopper)
#endif

/* `listed` answers with the parameters when their list is there, after a barrier of the block. */
template <enum matmul_format F, int NT, int STAGES, typename Listed>
static __device__ __forceinline__ void ring_block(const struct matmul_params &split,
						  const Listed &listed)
{
	extern __shared__ __align__(128) char shared_ring[];
	const int lane = threadIdx.x % WARP;
	const uint32_t warp = threadIdx.x / WARP, slice = warp % split.k_warps;
	const uint32_t m = warp / split.k_warps;
	const uint32_t shared = (uint32_t)__cvta_generic_to_shared(shared_ring);
	const uint32_t stages = ring_kept(shared + warp * STAGES * ring_stage<F>);
	const uint32_t buffers = ring_kept(shared + NARROW_WARPS * STAGES * ring_stage<F>);
	/* From a buffer's beginning to where the warp's sums are. */
	const uint32_t own_sums = ring_kept(ring_barriers + warp * ring_slice<NT> + lane * 16);
	struct narrow_x<NT> x;

	if (lane == 0)
		ring_init<F, NT, STAGES>(split, stages, buffers, warp);

	const struct matmul_params &p = listed(split);

	/* The first items % blocks blocks have one more. */
	const uint32_t items = p.groups * (*p.list.n_active - p.without_last);
	const uint32_t each = items / gridDim.x, extra = items % gridDim.x;
	const uint32_t begin = blockIdx.x * each + min(blockIdx.x, extra);
	const uint32_t n_items = each + (blockIdx.x < extra), last = begin + n_items - 1;

	/* With 3, 5, 6 or 7 slices there are warps without one. */
	if (!n_items || slice >= p.n_slices)
		return;

	const struct ring_end end = { item_expert<true>(p, last), item_group<true>(p, last) };
	uint32_t index = item_expert<true>(p, begin), group = item_group<true>(p, begin);
	struct ring_ahead ahead = { ring_first_unit<F>(p, index, group, m, slice), index,
				    ring_here(p, end, index, group) };

#pragma unroll 1
	for (int i = 0; i < STAGES; i++)
		ring_ask<F>(p, end, stages + i * ring_stage<F>, m, slice, &ahead);
	chain_wait();	/* the weights are on their way, x may not be there yet */
	chain_release();

	uint32_t stage = stages, come = 0;	/* where the next unit is, its barrier's parity */
	uint32_t buffer = buffers, lap = 0;	/* the same of the sums' */
	uint32_t turn = slice;			/* tiles until this warp adds one up */

	for (; index <= end.index; index++, group = 0) {
		const uint32_t first = p.list.offset[index];
		const struct columns c = { p.list.pair + first, p.list.offset[index + 1] - first };
		uint32_t tile = group * p.m_warps + m;

		if (c.n <= 8 * NT)
			x.load(p, c, 0, slice, lane);
		for (uint32_t here = ring_here(p, end, index, group); here;
		     here--, tile += p.m_warps) {
			ring_wait(stage + unit<F>::bytes, come);
			__syncwarp();
#pragma unroll 1
			for (uint32_t col = 0; col < c.n; col += 8 * NT) {
				float sum[NT][4];

				if (c.n > 8 * NT)
					x.load(p, c, col, slice, lane);
				if (turn == 0)
					ring_call_scales<F>(p, index, ring_kept(tile), lane);
				ring_multiply<F, NT>(stage, x, lane, sum);
				ring_wait(buffer + m * 16 + 8, lap ^ 1);
#pragma unroll
				for (int t = 0; t < NT; t++)
					ring_put(buffer + own_sums + t * WARP * 16, sum[t]);
				__syncwarp();
				if (lane == 0)
					ring_arrive(buffer + m * 16);
				if (turn-- == 0) {
					turn = p.n_slices - 1;
					ring_finish<F, NT>(
						p, c, index, ring_kept(tile), col,
						buffer + own_sums - slice * ring_slice<NT>,
						buffer + m * 16, lap, lane);
					__syncwarp();
					if (lane == 0)
						ring_arrive(buffer + m * 16 + 8);
				}
				buffer += ring_buffer<NT>;
				if (buffer == buffers + RING_SUMS * ring_buffer<NT>) {
					buffer = buffers;
					lap ^= 1;
				}
			}
			/* Every lane has read the stage: they have met since. */
			ring_ask<F>(p, end, stage, m, slice, &ahead);
			stage += ring_stage<F>;
			if (stage == stages + STAGES * ring_stage<F>) {
				stage = stages;
				come ^= 1;
			}
		}
	}
}

template <enum matmul_format F, int NT, int STAGES, int BLOCKS>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, RING_BLOCKS(BLOCKS))
	ring_kernel(const __grid_constant__ struct matmul_params p)
{
	ring_block<F, NT, STAGES>(
		p, [](const struct matmul_params &q) -> const struct matmul_params & {
			__syncthreads();
			if (!q.list_settled)
				chain_wait();
			return q;
		});
}

/* Of experts that the kernel chooses at its head. */
template <enum matmul_format F, int STAGES, int BLOCKS>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, RING_BLOCKS(BLOCKS))
	ring_choice_kernel(const __grid_constant__ struct matmul_params p,
			   const __grid_constant__ struct route_args choice)
{
	ring_block<F, 1, STAGES>(p, [&](const struct matmul_params &q) {
		return few_params(q, narrow_choose(q, choice, blockIdx.x, gridDim.x));
	});
}

#endif
