/* decode_ring.cuh - the product with experts for formats that take many instructions a byte:
 * weights come through shared memory, and no warp waits for its block.
 *
 * An item is a row tile of an expert (decode_ring_item.cuh).  The warps of a group have it between
 * them, SLICES neighbouring slices of K each, with their part of x in registers: products that do not
 * wait for each other.  Who waits for whom:
 *  - An item comes whole, all its slices lie side by side, in one bulk copy into a ring of the group,
 *    STAGES deep; the scales of its 16 rows come with it.  Whichever warp is the last to have read a
 *    stage asks for the group's next item into it: so none of them waits for another one as long as
 *    they are less than STAGES items apart.
 *  - The slices' sums go to a buffer of the group as the vectors of four that the tensor core left, and
 *    one warp, each in its turn, adds a tile's slices in order and writes it, a round later than its
 *    own product of the tile: by then the others' sums are there.  (At once it would wait for the
 *    slowest of them, and its own weights with it.)
 *  - Where one warp has all slices, sums meet in its registers, in the same order.
 *
 * Barriers lie beside what they guard: a stage's, completed by the copy's bytes; a buffer's first, by
 * every warp of the group; its second, by the warp that added the sums up.  A warp waits for sums of
 * rounds before the one that it is at, and gives its own before it waits for others': so no two can
 * wait for each other.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_RING_CUH
#define HEARTH_KERNELS_CUDA_DECODE_RING_CUH

#include "kernels/cuda/decode_ring_item.cuh"
#include "kernels/cuda/ring_turn.cuh"

/* Beside a stage's units: the 16 scales of the tile, a barrier, the item, how many warps have read it. */
#define RING_SCALES 64u
constexpr uint32_t ring_beside = RING_SCALES + 16;

/* How a product is laid out: columns a tile's pass has by eight, slices a warp, warps and how many
 * blocks a multiprocessor, stages and buffers of sums of a group (0: a warp is one, and has all
 * slices). */
template <enum matmul_format F_, int NT_, int SLICES_, int WARPS_, int BLOCKS_, int STAGES_, int SUMS_>
struct ring_cut {
	static constexpr enum matmul_format F = F_;
	static constexpr int NT = NT_, SLICES = SLICES_, WARPS = WARPS_, BLOCKS = BLOCKS_;
	static constexpr int STAGES = STAGES_;
	static constexpr bool ALONE = SUMS_ == 0;
	static constexpr int SUMS = ALONE ? 1 : SUMS_;
	static constexpr uint32_t units = SLICES * unit<F>::bytes;	/* a warp's of an item */
	static constexpr uint32_t slice = NT * WARP * 16, sums = SLICES * slice;	/* a warp's */
	/* Shared memory: the count of items taken; stages; of each buffer two barriers a group; of
	 * each buffer a warp's sums, [SLICES][NT][lane] of four. */
	static constexpr uint32_t stages_at = 16;
	static constexpr uint32_t barriers_at = stages_at + WARPS * STAGES * (units + ring_beside);
	static constexpr uint32_t sums_at = barriers_at + (ALONE ? 0 : SUMS * WARPS * 16);
	static constexpr uint32_t shared = sums_at + (ALONE ? 0 : SUMS * WARPS * sums);
	/* Whether experts can be chosen at the kernel's head. */
	static constexpr bool CHOOSES = NT == 1 && WARPS * WARP == FEW_THREADS &&
					shared + sizeof(struct few_list) <= SHARED_MAX;
	static_assert(ALONE || SUMS >= 2);
};

/* Where a warp is, and what its group has; addresses in shared memory. */
template <typename Cut> struct ring_warp {
	uint32_t stages, units;	/* the group's first; bytes of the units of one */
	uint32_t barriers, sums;	/* of the first buffer: the group's; the lane's own sums */
	uint32_t place, warps;	/* in the group; of it, those that have slices */
	uint32_t group, groups;	/* in the block */

	__device__ __forceinline__ uint32_t stage_bytes(void) const
	{
		return units + ring_beside;
	}
	__device__ __forceinline__ uint32_t barrier(uint32_t stage) const
	{
		return stage + units + RING_SCALES;
	}
	__device__ __forceinline__ uint32_t item(uint32_t stage) const
	{
		return stage + units + RING_SCALES + 8;
	}
	__device__ __forceinline__ uint32_t readers(uint32_t stage) const
	{
		return stage + units + RING_SCALES + 12;
	}
};

template <typename Cut>
static __device__ __forceinline__ struct ring_warp<Cut> ring_warp_of(const struct matmul_params &p,
								    uint32_t shared, int lane)
{
	const uint32_t k_warps = Cut::ALONE ? 1 : p.k_warps;
	/* From one lane, so that the compiler knows that all have the same. */
	const uint32_t warp = __shfl_sync(~0u, threadIdx.x / WARP, 0);
	struct ring_warp<Cut> w;

	w.place = warp % k_warps;
	w.group = warp / k_warps;
	w.warps = Cut::ALONE ? 1 : (p.n_slices + Cut::SLICES - 1) / Cut::SLICES;
	w.groups = Cut::WARPS / k_warps;
	w.units = k_warps * Cut::units;
	w.stages = ring_kept(shared + Cut::stages_at + w.group * Cut::STAGES * w.stage_bytes());
	w.barriers = ring_kept(shared + Cut::barriers_at + w.group * 16);
	w.sums = ring_kept(shared + Cut::sums_at + warp * Cut::sums + lane * 16);
	return w;
}

/* By one lane of each group. */
template <typename Cut>
static __device__ __forceinline__ void ring_init(const struct ring_warp<Cut> &w, uint32_t counter)
{
	if (w.group == 0)
		ring_note(counter, w.groups * Cut::STAGES);
#pragma unroll 1
	for (uint32_t i = 0; i < Cut::STAGES; i++) {
		const uint32_t stage = w.stages + i * w.stage_bytes();

		ring_barrier(w.barrier(stage), 1);
		ring_note(w.readers(stage), 0);
	}
	if (!Cut::ALONE)
#pragma unroll 1
		for (uint32_t i = 0; i < Cut::SUMS; i++) {
			ring_barrier(w.barriers + i * Cut::WARPS * 16, w.warps);
			ring_barrier(w.barriers + i * Cut::WARPS * 16 + 8, 1);
		}
	ring_barriers_made();
}

/* ---- weights ---------------------------------------------------------------------------- */

/* The block's item `at` into a stage that nobody reads any more.  By one lane. */
template <typename Cut>
static __device__ __forceinline__ void ring_bring(const struct matmul_params &p,
						  const struct ring_warp<Cut> &w,
						  const struct item_run &run, uint32_t at,
						  uint32_t stage)
{
	const uint32_t barrier = w.barrier(stage);

	if (at >= run.n) {
		ring_note(w.item(stage), ITEM_END);
		ring_arrive(barrier);
		return;
	}

	const uint32_t item = run.begin + at, index = item_expert<true>(p, item);
	const uint32_t tile = item - index * p.groups;
	const uint32_t of_all = p.list.active[index] * p.n_tiles + tile;
	const uint32_t bytes = p.n_slices * unit<Cut::F>::bytes;

	ring_note(w.item(stage), index << 16 | tile);
	ring_expect(barrier, bytes + (p.row_scale ? RING_SCALES : 0));
	ring_fetch_once(stage, p.w + (size_t)(of_all * (bytes / 16)) * 16, bytes, barrier);
	if (p.row_scale)
		ring_fetch_once(stage + w.units, p.row_scale + (size_t)of_all * MATMUL_TILE, RING_SCALES,
				barrier);
}

/* The first items.  Each warp asks for other stages: a copy waits for those that the same warp asked
 * for. */
template <typename Cut>
static __device__ __forceinline__ void ring_fill(const struct matmul_params &p,
						 const struct ring_warp<Cut> &w,
						 const struct item_run &run, int lane)
{
	if (lane)
		return;
#pragma unroll 1
	for (uint32_t i = w.place; i < Cut::STAGES; i += w.warps)
		ring_bring<Cut>(p, w, run, i * w.groups + w.group, w.stages + i * w.stage_bytes());
}

/* A warp has read a stage: the last one asks for the next item that nobody has taken. */
template <typename Cut>
static __device__ __forceinline__ void ring_leave(const struct matmul_params &p,
						  const struct ring_warp<Cut> &w,
						  const struct item_run &run, uint32_t stage, int lane)
{
	__syncwarp();
	if (lane == 0 &&
	    (Cut::ALONE || item_round(w.readers(stage), w.warps - 1) == w.warps - 1))
		ring_bring<Cut>(p, w, run, item_take(run), stage);
}

/* ---- the product ------------------------------------------------------------------------ */

/* The slices of a stage, in turns: products that do not wait for each other. */
template <typename Cut>
static __device__ __forceinline__ void ring_multiply(uint32_t units,
						     const struct narrow_x<Cut::NT> x[Cut::SLICES],
						     int lane, float sum[Cut::SLICES][Cut::NT][4])
{
	constexpr int NT = Cut::NT, SLICES = Cut::SLICES;
	struct unit<Cut::F> w[SLICES];
	float part[SLICES][NT][4];	/* formats with scaled halves only */

#pragma unroll
	for (int i = 0; i < SLICES; i++) {
		w[i].take(units + i * unit<Cut::F>::bytes, lane);
#pragma unroll
		for (int j = 0; j < 4 * NT; j++)
			sum[i][j / 4][j % 4] = 0;
	}
#pragma unroll
	for (int step = 0; step < 16; step++)
#pragma unroll
		for (int i = 0; i < SLICES; i++) {
			struct frag f = w[i].frag_of(step);

#pragma unroll
			for (int t = 0; t < NT; t++) {
				const uint4 b = x[i].b[t][step / 2];

				mma(sum[i][t], &f, step % 2 ? b.z : b.x, step % 2 ? b.w : b.y);
			}
			if constexpr (unit<Cut::F>::scaled_halves)
				if (step % 8 == 7)
					join_halves<4 * NT>(step / 8, w[i], &sum[i][0][0],
							    &part[i][0][0]);
		}
}

/* The scale of a row, of a stage's. */
static __device__ __forceinline__ float ring_scale(const struct matmul_params &p, uint32_t scales,
						   uint32_t r)
{
	return p.row_scale ? __uint_as_float(ring_noted(scales + r * 4)) : 1.0f;
}

/* Of a tile that a warp adds up: what it is and what it is multiplied by. */
template <typename Cut> struct ring_due {
	uint32_t tile;		/* ITEM_END: nothing is due */
	float low, high;	/* scales of the lane's rows */
	uint32_t first, n;	/* of its columns: of the list's pairs, and how many are left */
	turn<Cut::SUMS> buffer;
};

static __device__ __forceinline__ void ring_fold(float v[4], const float4 &part)
{
	v[0] = fold(v[0], part.x);
	v[1] = fold(v[1], part.y);
	v[2] = fold(v[2], part.z);
	v[3] = fold(v[3], part.w);
}

/* Adds the slices of a tile, in order, and writes them, when all are there. */
template <typename Cut>
static __device__ __forceinline__ void ring_finish(const struct matmul_params &p,
						   const struct ring_warp<Cut> &w,
						   struct ring_due<Cut> &due, int lane)
{
	const uint32_t barrier = w.barriers + due.buffer.at * Cut::WARPS * 16;
	uint32_t from = w.sums + due.buffer.at * (Cut::WARPS * Cut::sums) -
			w.place * Cut::sums;
	const float low = __fmul_rn(fragment_factor<Cut::F>, due.low),
		    high = __fmul_rn(fragment_factor<Cut::F>, due.high);

	if (due.tile == ITEM_END)
		return;
	ring_wait(barrier, due.buffer.odd);
#pragma unroll
	for (int t = 0; t < Cut::NT; t++, from += WARP * 16) {
		float v[4] = { -0.0f, -0.0f, -0.0f, -0.0f };

#pragma unroll
		for (uint32_t slice = 0; slice < NARROW_WARPS; slice++)
			if (slice < p.n_slices)
				ring_fold(v, ring_get(from + slice * Cut::slice));
		if (8 * t < due.n)
			item_write(p, due.tile, due.first + 8 * t, due.n - 8 * t, lane, v, low, high);
	}
	__syncwarp();
	if (lane == 0)
		ring_arrive(barrier + 8);
	due.tile = ITEM_END;
}

/* A warp's sums into a buffer, when the last that lay there are added up. */
template <typename Cut>
static __device__ __forceinline__ void ring_give(const struct ring_warp<Cut> &w,
						 const turn<Cut::SUMS> &buffer,
						 const float sum[Cut::SLICES][Cut::NT][4], int lane)
{
	const uint32_t barrier = w.barriers + buffer.at * Cut::WARPS * 16;
	const uint32_t to = w.sums + buffer.at * (Cut::WARPS * Cut::sums);

	ring_wait(barrier + 8, buffer.odd ^ 1);
#pragma unroll
	for (int i = 0; i < Cut::SLICES; i++)
#pragma unroll
		for (int t = 0; t < Cut::NT; t++)
			ring_put(to + i * Cut::slice + t * WARP * 16, sum[i][t]);
	__syncwarp();
	if (lane == 0)
		ring_arrive(barrier);
}

/* All slices are the warp's own. */
template <typename Cut>
static __device__ __forceinline__ void ring_write(const struct matmul_params &p,
						  const struct ring_due<Cut> &due,
						  const float sum[Cut::SLICES][Cut::NT][4], int lane)
{
#pragma unroll
	for (int t = 0; t < Cut::NT; t++) {
		float v[4] = { -0.0f, -0.0f, -0.0f, -0.0f };

#pragma unroll
		for (int i = 0; i < Cut::SLICES; i++)
			if (i < p.n_slices)
				ring_fold(v, make_float4(sum[i][t][0], sum[i][t][1], sum[i][t][2],
							 sum[i][t][3]));
		if (8 * t < due.n)
			item_write(p, due.tile, due.first + 8 * t, due.n - 8 * t, lane, v,
				   __fmul_rn(fragment_factor<Cut::F>, due.low),
				   __fmul_rn(fragment_factor<Cut::F>, due.high));
	}
}

/* ---- a block ----------------------------------------------------------------------------- */

/* The columns that a warp has in registers: of expert `index`, from `col` on. */
template <typename Cut> struct ring_columns {
	uint32_t index = ~0u, col = 0;
	uint32_t first, n;	/* of the list's pairs, those that are left from `col` on */
	struct narrow_x<Cut::NT> x[Cut::SLICES];

	__device__ __forceinline__ void want(const struct matmul_params &p, uint32_t first_slice,
					     uint32_t now, uint32_t first_col, int lane)
	{
		if (now == index && first_col == col)
			return;
		index = now;
		col = first_col;

		const struct columns c = columns_of<true>(p, now);

		first = p.list.offset[now] + col;
		n = c.n - col;
#pragma unroll
		for (int i = 0; i < Cut::SLICES; i++)
			x[i].load(p, c, col, first_slice + i, lane);
	}
};

/* One pass over a tile: the columns that a warp has, times the units of a stage.  `mine`: it adds the
 * tile up; `last`: it needs the stage no more. */
template <typename Cut>
static __device__ __forceinline__ void
ring_pass(const struct matmul_params &p, const struct ring_warp<Cut> &w, const struct item_run &run,
	  const struct ring_columns<Cut> &columns, uint32_t tile, uint32_t stage, bool mine, bool last,
	  const turn<Cut::SUMS> &buffer, struct ring_due<Cut> &due, int lane)
{
	struct ring_due<Cut> next = { tile, 1, 1, columns.first, columns.n, buffer };
	float sum[Cut::SLICES][Cut::NT][4];

	if (mine) {
		next.low = ring_scale(p, stage + w.units, lane / 4);
		next.high = ring_scale(p, stage + w.units, lane / 4 + 8);
	}
	ring_multiply<Cut>(stage + w.place * Cut::units, columns.x, lane, sum);
	/* Sums before the stage is left, since others wait for them; outputs after. */
	if constexpr (!Cut::ALONE)
		ring_give<Cut>(w, buffer, sum, lane);
	if (last)
		ring_leave<Cut>(p, w, run, stage, lane);
	if constexpr (Cut::ALONE) {
		ring_write<Cut>(p, next, sum, lane);
	} else {
		ring_finish<Cut>(p, w, due, lane);
		if (mine)
			due = next;
	}
}

/* Where shared memory is 100 KB in all there is room for one block, and for no list. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define RING_BLOCKS(hopper) 1
#define RING_LIST_NEAR 0
#else
#define RING_BLOCKS(hopper) (hopper)
#define RING_LIST_NEAR 1
#endif

/* One of `blocks` that share the product.  `listed` answers with the parameters when their list is there,
 * after a barrier of the block. */
template <typename Cut, typename Listed>
static __device__ __forceinline__ void ring_block(const struct matmul_params &split, uint32_t blocks,
						  const Listed &listed)
{
	extern __shared__ __align__(128) char shared_ring[];
	const int lane = threadIdx.x % WARP;
	const uint32_t shared = (uint32_t)__cvta_generic_to_shared(shared_ring);
	const struct ring_warp<Cut> w = ring_warp_of<Cut>(split, shared, lane);

	if (w.place == 0 && lane == 0)
		ring_init<Cut>(w, shared);

	const struct matmul_params &p = listed(split);
	const struct item_run run = item_run_of(p, blocks, shared);

	/* With 3, 5, 6 or 7 slices there can be warps without one. */
	if (blockIdx.x >= blocks || !run.n || w.place >= w.warps)
		return;
	ring_fill<Cut>(p, w, run, lane);
	chain_wait();	/* the weights are on their way, x may not be there yet */
	chain_release();

	uint32_t stage = w.stages, come = 0;	/* where the next units are, its barrier's parity */
	uint32_t until_mine = w.place;	/* items until the warp has one to add up */
	/* Most likely whose the next item is, and the first of its columns that are not done. */
	uint32_t now = item_expert<true>(p, run.begin), col = 0;
	struct ring_columns<Cut> columns;
	struct ring_due<Cut> due;
	turn<Cut::SUMS> buffer;

	due.tile = ITEM_END;
	for (;;) {
		columns.want(p, w.place * Cut::SLICES, now, col, lane);
		ring_wait(w.barrier(stage), come);

		const uint32_t item = __shfl_sync(~0u, ring_noted(w.item(stage)), 0);
		const bool mine = Cut::ALONE || until_mine == 0;

		if (item == ITEM_END)
			break;
		if (item >> 16 != now) {
			now = item >> 16;
			continue;
		}

		const bool last = columns.n <= 8 * Cut::NT;

		ring_pass<Cut>(p, w, run, columns, item & 0xffff, stage, mine, last, buffer, due,
			       lane);
		buffer.next();
		col += 8 * Cut::NT;
		if (!last)
			continue;
		col = 0;
		until_mine = mine ? w.warps - 1 : until_mine - 1;
		stage += w.stage_bytes();
		if (stage == w.stages + Cut::STAGES * w.stage_bytes()) {
			stage = w.stages;
			come ^= 1;
		}
	}
	if constexpr (!Cut::ALONE)
		ring_finish<Cut>(p, w, due, lane);
}

/* p, and where there is room for it the block's own copy of the list, behind the cut's shared memory. */
template <typename Cut>
static __device__ __forceinline__ struct matmul_params ring_list(const struct matmul_params &p)
{
	struct matmul_params q = p;

	if (!p.list_settled)
		chain_wait();
#if RING_LIST_NEAR
	extern __shared__ __align__(128) char shared_ring[];
	uint32_t *own = (uint32_t *)(shared_ring + Cut::shared);

#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < p.list_bytes / 4; i += Cut::WARPS * WARP)
		own[i] = p.list.n_active[i];
	q.list.n_active = own;
	q.list.active = own + (p.list.active - p.list.n_active);
	q.list.offset = own + (p.list.offset - p.list.n_active);
	q.list.pair = own + (p.list.pair - p.list.n_active);
#endif
	__syncthreads();
	return q;
}

template <typename Cut>
__global__ void __launch_bounds__(Cut::WARPS *WARP, RING_BLOCKS(Cut::BLOCKS))
	ring_kernel(const __grid_constant__ struct matmul_params p)
{
	ring_block<Cut>(p, gridDim.x, [](const struct matmul_params &q) { return ring_list<Cut>(q); });
}

/* Of experts that the kernel chooses at its head. */
template <typename Cut>
__global__ void __launch_bounds__(Cut::WARPS *WARP, RING_BLOCKS(Cut::BLOCKS))
	ring_choice_kernel(const __grid_constant__ struct matmul_params p,
			   const __grid_constant__ struct route_args choice)
{
	const uint32_t blocks = gridDim.x - choice_teller(&p);

	ring_block<Cut>(p, blocks, [&](const struct matmul_params &q) {
		return few_params(q, narrow_choose(q, choice, blockIdx.x >= blocks));
	});
}

#endif
