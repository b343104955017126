/* decode_ring_own.cuh - the ring form where a tile has one or two slices, on Hopper.
 *
 * A group is one warp: both slices of its tiles are its own, two products that do not wait for each
 * other, and sums that meet in registers, in the same order.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_RING_OWN_CUH
#define HEARTH_KERNELS_CUDA_DECODE_RING_OWN_CUH

#include "kernels/cuda/decode_ring_item.cuh"

template <enum matmul_format F_, int WARPS_, int STAGES_> struct own_cut {
	static constexpr enum matmul_format F = F_;
	static constexpr int WARPS = WARPS_, STAGES = STAGES_;
	static constexpr uint32_t unit_bytes = unit<F>::bytes, units = 2 * unit_bytes;
	/* Shared memory: the count of items taken; stages as above. */
	static constexpr uint32_t stages = 16;
	static constexpr size_t shared = stages + WARPS * STAGES * (units + item_beside);
};

template <enum matmul_format F>
static __device__ __forceinline__ void own_multiply(uint32_t stage, const struct narrow_x<1> x[2],
							 int lane, float sum[2][1][4])
{
	struct unit<F> w[2];
	float part[2][4];	/* formats with scaled halves only */

#pragma unroll
	for (int i = 0; i < 2; i++) {
		w[i].take(stage + i * unit<F>::bytes, lane);
#pragma unroll
		for (int j = 0; j < 4; j++)
			sum[i][0][j] = 0;
	}
#pragma unroll
	for (int step = 0; step < 16; step++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			struct frag f = w[i].frag_of(step);
			const uint4 b = x[i].b[0][step / 2];

			mma(sum[i][0], &f, step % 2 ? b.z : b.x, step % 2 ? b.w : b.y);
			if constexpr (unit<F>::scaled_halves)
				if (step % 8 == 7)
					join_halves<4>(step / 8, w[i], sum[i][0], part[i]);
		}
}

template <typename Cut>
static __device__ __forceinline__ void own_block(const struct matmul_params &p)
{
	extern __shared__ __align__(128) char shared_ring[];
	const int lane = threadIdx.x % WARP;
	const uint32_t warp = __shfl_sync(~0u, threadIdx.x / WARP, 0);
	const uint32_t shared = (uint32_t)__cvta_generic_to_shared(shared_ring);
	const uint32_t stage_bytes = Cut::units + item_beside;
	const uint32_t stages = ring_kept(shared + Cut::stages + warp * Cut::STAGES * stage_bytes);
	struct narrow_x<1> x[2];

	if (threadIdx.x == 0)
		item_note(shared, Cut::WARPS * Cut::STAGES);
	if (lane == 0) {
#pragma unroll 1
		for (uint32_t i = 0; i < Cut::STAGES; i++)
			ring_barrier(stages + i * stage_bytes + Cut::units + ITEM_SCALES, 1);
		asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	}
	item_list(p);

	const struct item_run run = item_run_of(p, shared, Cut::units);

#pragma unroll 1
	for (int i = 0; i < Cut::STAGES; i++)
		item_bring<Cut>(p, run, warp * Cut::STAGES + i, stages + i * stage_bytes, lane);
	chain_wait();	/* the weights are on their way, x may not be there yet */
	chain_release();

	uint32_t stage = stages, come = 0;	/* where the next units are, its barrier's parity */
	uint32_t index = ~0u;			/* whose columns are in x */
	struct columns c;
	uint32_t pairs[1];			/* of the lane's columns of it */

	for (;;) {
		ring_wait(run.barrier(stage), come);

		const uint32_t item = item_noted(run.item(stage));
		const uint32_t now = item >> 16, tile = item & 0xffff;

		if (item == ITEM_END)
			break;
		if (now != index) {
			index = now;
			c = columns_of<true>(p, now);
			if (c.n <= 8) {
				x[0].load(p, c, 0, 0, lane);
				x[1].load(p, c, 0, 1, lane);
			}
			item_pairs<1>(c, 0, lane, pairs);
		}
		__syncwarp();
#pragma unroll 1
		for (uint32_t col = 0; col < c.n; col += 8) {
			const float low = item_scale(p, stage + Cut::units, lane / 4),
				    high = item_scale(p, stage + Cut::units, lane / 4 + 8);
			float sum[2][1][4], v[4];

			if (c.n > 8) {
				x[0].load(p, c, col, 0, lane);
				x[1].load(p, c, col, 1, lane);
				item_pairs<1>(c, col, lane, pairs);
			}
			own_multiply<Cut::F>(stage, x, lane, sum);
#pragma unroll
			for (int i = 0; i < 4; i++) {
				v[i] = fold(-0.0f, sum[0][0][i]);
				if (p.n_slices > 1)
					v[i] = fold(v[i], sum[1][0][i]);
				v[i] = __fmul_rn(v[i],
						 __fmul_rn(fragment_factor<Cut::F>,
							   i < 2 ? low : high));
			}
			item_write(p, tile, lane / 4, pairs[0], v);
		}
		__syncwarp();
		item_ask<Cut>(p, run, stage, lane);
		stage += stage_bytes;
		if (stage == stages + Cut::STAGES * stage_bytes) {
			stage = stages;
			come ^= 1;
		}
	}
}

template <typename Cut>
__global__ void __launch_bounds__(Cut::WARPS *WARP, 1)
	own_kernel(const __grid_constant__ struct matmul_params p)
{
	RING_HOPPER_ONLY(own_block<Cut>(p));
}

#endif
