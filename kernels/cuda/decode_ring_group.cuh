/* decode_ring_group.cuh - the ring form where a tile has several slices.
 *
 * The warps of a group have a slice each, with their part of x in registers.  A slice's sums go to a
 * buffer of the group as the vectors of four that the tensor core left, and one warp, each in its
 * turn, adds a tile's slices in order and writes it, LATE rounds later than its own product of the
 * same tile: by then the others' sums are there.  (At once it would wait for the slowest of them, and
 * its own weights with it: that took a third of the time.)  When all sums of a tile are there, all
 * have read its weights, so the same warp also asks for the next item, into the same stage.  Its
 * scales are read a round before: what a warp reads of shared memory comes in order.
 *
 * Of each buffer one barrier is completed by every warp of the group, the other by the warp that
 * added the sums up.  A warp waits for sums of rounds before the one that it is at, and gives its own
 * before it waits for others'; so no two can wait for each other, while LATE is less than both
 * STAGES and SUMS.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_RING_GROUP_CUH
#define HEARTH_KERNELS_CUDA_DECODE_RING_GROUP_CUH

#include "kernels/cuda/decode_ring_item.cuh"

/* How a product is laid out: columns a tile's pass has by eight, warps of a block, stages and buffers
 * of sums of a group, and how many rounds later sums are added. */
template <enum matmul_format F_, int NT_, int WARPS_, int STAGES_, int SUMS_, int LATE_>
struct group_cut {
	static constexpr enum matmul_format F = F_;
	static constexpr int NT = NT_, WARPS = WARPS_, STAGES = STAGES_, SUMS = SUMS_, LATE = LATE_;
	static constexpr uint32_t unit_bytes = unit<F>::bytes;
	/* Shared memory: the count of items taken; stages; of each buffer two barriers a group; of
	 * each buffer a warp's sums, [NT][lane] of four. */
	static constexpr uint32_t stages = 16;
	static constexpr uint32_t barriers = stages + WARPS * STAGES * (unit_bytes + item_beside);
	static constexpr uint32_t sums = barriers + SUMS * WARPS * 16;
	static constexpr uint32_t slice = NT * WARP * 16;
	static constexpr size_t shared = sums + SUMS * WARPS * slice;
	static_assert(LATE >= 1 && LATE < SUMS && LATE < STAGES);
};

/* What a warp still has to add up and write. */
template <int NT> struct group_due {
	uint32_t round;		/* of the group; which buffer */
	uint32_t tile;		/* ITEM_END: nothing is due */
	uint32_t stage;		/* to be filled anew when all are there; 0: not yet */
	float low, high;	/* of the lane's rows */
	uint32_t pairs[NT];	/* item_pairs() */
};

/* Adds the slices of a tile, in order, and writes them.  `from`: the first slice's sums of this
 * lane. */
template <typename Cut>
static __device__ __forceinline__ void group_finish(const struct matmul_params &p,
						   const struct group_due<Cut::NT> &due,
						   uint32_t from, int lane)
{
	const float low = __fmul_rn(fragment_factor<Cut::F>, due.low),
		    high = __fmul_rn(fragment_factor<Cut::F>, due.high);

#pragma unroll
	for (int t = 0; t < Cut::NT; t++, from += WARP * 16) {
		float4 v = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);
		uint32_t at = from;

#pragma unroll 4
		for (uint32_t slice = 0; slice < p.n_slices; slice++, at += Cut::slice) {
			const float4 part = ring_get(at);

			v.x = fold(v.x, part.x);
			v.y = fold(v.y, part.y);
			v.z = fold(v.z, part.z);
			v.w = fold(v.w, part.w);
		}
		const float of[4] = { __fmul_rn(v.x, low), __fmul_rn(v.y, low),
				      __fmul_rn(v.z, high), __fmul_rn(v.w, high) };

		item_write(p, due.tile, lane / 4, due.pairs[t], of);
	}
}

/* By one lane of each group. */
template <typename Cut>
static __device__ __forceinline__ void group_init(const struct matmul_params &p, uint32_t stages,
						 uint32_t units, uint32_t barriers)
{
#pragma unroll 1
	for (uint32_t i = 0; i < Cut::STAGES; i++)
		ring_barrier(stages + i * (units + item_beside) + units + ITEM_SCALES, 1);
#pragma unroll 1
	for (uint32_t i = 0; i < Cut::SUMS; i++) {
		ring_barrier(barriers + i * Cut::WARPS * 16, p.n_slices);
		ring_barrier(barriers + i * Cut::WARPS * 16 + 8, 1);
	}
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

template <typename Cut>
static __device__ __forceinline__ void group_block(const struct matmul_params &p)
{
	constexpr int NT = Cut::NT;
	extern __shared__ __align__(128) char shared_ring[];
	const int lane = threadIdx.x % WARP;
	/* From one lane, so that the compiler knows that all have the same. */
	const uint32_t warp = __shfl_sync(~0u, threadIdx.x / WARP, 0);
	const uint32_t slice = warp % p.k_warps, group = warp / p.k_warps;
	const uint32_t shared = (uint32_t)__cvta_generic_to_shared(shared_ring);
	const uint32_t units = p.k_warps * Cut::unit_bytes, stage_bytes = units + item_beside;
	const uint32_t stages = ring_kept(shared + Cut::stages + group * Cut::STAGES * stage_bytes);
	const uint32_t barriers = ring_kept(shared + Cut::barriers + group * 16);
	const uint32_t own_sums = ring_kept(shared + Cut::sums + warp * Cut::slice + lane * 16);
	struct narrow_x<NT> x;

	if (threadIdx.x == 0)
		item_note(shared, Cut::WARPS / p.k_warps * Cut::STAGES);
	if (slice == 0 && lane == 0)
		group_init<Cut>(p, stages, units, barriers);

	item_list(p);

	const struct item_run run = item_run_of(p, shared, units);

	/* With 3, 5, 6 or 7 slices there are warps without one. */
	if (slice >= p.n_slices)
		return;
	if (slice == 0)
#pragma unroll 1
		for (int i = 0; i < Cut::STAGES; i++)
			item_bring<Cut>(p, run, group * Cut::STAGES + i, stages + i * stage_bytes,
					lane);
	chain_wait();	/* the weights are on their way, x may not be there yet */
	chain_release();

	const uint32_t late = min((uint32_t)Cut::LATE, p.n_slices);
	uint32_t stage = stages, come = 0;	/* where the next units are, its barrier's parity */
	uint32_t round = 0;			/* of the group's sums */
	uint32_t turn = slice;			/* rounds until this warp has one to add up */
	uint32_t index = ~0u;			/* whose columns are in x */
	struct columns c;
	uint32_t pairs[NT];			/* of the lane's columns of it */
	struct group_due<NT> due;

	due.tile = ITEM_END;

	const auto take_columns = [&](uint32_t now) {
		index = now;
		c = columns_of<true>(p, now);
		if (c.n <= 8 * NT)
			x.load(p, c, 0, slice, lane);
		item_pairs<NT>(c, 0, lane, pairs);
	};
	const auto finish = [&]() {
		const uint32_t buffer = due.round % Cut::SUMS;
		const uint32_t barrier = barriers + buffer * Cut::WARPS * 16;

		ring_wait(barrier, due.round / Cut::SUMS & 1);
		/* All have read the stage, too. */
		if (due.stage)
			item_ask<Cut>(p, run, due.stage, lane);
		group_finish<Cut>(p, due,
				 own_sums + (buffer * Cut::WARPS - slice) * Cut::slice, lane);
		__syncwarp();
		if (lane == 0)
			ring_arrive(barrier + 8);
		due.tile = ITEM_END;
	};

	/* Most likely whose the first item is. */
	if (run.n)
		take_columns(item_expert<true>(p, run.begin));
	/* Stages are filled anew by different warps, so the first that is told that there are no more
	 * can have one of the last items behind it: from there on each is looked at once.  Then comes
	 * what is still due. */
	for (uint32_t over = 0; over <= Cut::STAGES;) {
		uint32_t item = ITEM_END, col = 0;

		if (over < Cut::STAGES) {
			ring_wait(run.barrier(stage), come);
			item = item_noted(run.item(stage));
		}
		if (over || item == ITEM_END)
			over++;

		const bool more = item != ITEM_END;
		const uint32_t now = item >> 16, tile = item & 0xffff;

		if (more && now != index)
			take_columns(now);
		__syncwarp();
#pragma unroll 1
		do {
			if (more) {
				const uint32_t buffer = round % Cut::SUMS;
				const uint32_t barrier = barriers + buffer * Cut::WARPS * 16;
				float sum[NT][4];

				if (c.n > 8 * NT) {
					x.load(p, c, col, slice, lane);
					item_pairs<NT>(c, col, lane, pairs);
				}
				ring_multiply<Cut::F, NT>(stage + slice * Cut::unit_bytes, x, lane,
							  sum);
				ring_wait(barrier + 8, ~(round / Cut::SUMS) & 1);
#pragma unroll
				for (int t = 0; t < NT; t++)
					ring_put(own_sums + buffer * Cut::WARPS * Cut::slice +
							 t * WARP * 16,
						 sum[t]);
				__syncwarp();
				if (lane == 0)
					ring_arrive(barrier);
			}
			if (due.tile != ITEM_END && (!more || round - due.round == late))
				finish();
			if (!more)
				break;
			if (turn-- == 0) {
				turn = p.n_slices - 1;
				due.round = round;
				due.tile = tile;
				due.stage = col + 8 * NT < c.n ? 0 : stage;
				due.low = item_scale(p, stage + units, lane / 4);
				due.high = item_scale(p, stage + units, lane / 4 + 8);
#pragma unroll
				for (int t = 0; t < NT; t++)
					due.pairs[t] = pairs[t];
			}
			round++;
			col += 8 * NT;
		} while (col < c.n);
		stage += stage_bytes;
		if (stage == stages + Cut::STAGES * stage_bytes) {
			stage = stages;
			come ^= 1;
		}
	}
}

template <typename Cut>
__global__ void __launch_bounds__(Cut::WARPS *WARP, 1)
	group_kernel(const __grid_constant__ struct matmul_params p)
{
	RING_HOPPER_ONLY(group_block<Cut>(p));
}

#endif
