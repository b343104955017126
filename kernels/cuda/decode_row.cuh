/* decode_row.cuh - the experts of one row in one kernel, on Hopper: who is chosen, gate and up, SwiGLU,
 * down, and the sum over slots; and then, where that is wanted, what follows them (decode_row_next.cuh).
 *
 * As many blocks as the sum has tiles of 16 outputs, one a multiprocessor, all there at once.  A block
 * has, of the chosen experts, a run of gate and up's tiles that lie side by side, and of down its own
 * tile of every slot.  As soon as it knows who was chosen it asks for all of them, by bulk copies into
 * shared memory; nothing is asked for a second time.
 *
 * What blocks give each other is act, through memory (row_words.cuh): the room has to be all zeros when the kernel
 * begins.
 *
 * Blocks wait for each other, so they must all find a place: one fits beside nothing that waits for it
 * (the kernels before end by themselves, the next one begins when all of these blocks have begun).
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_ROW_CUH
#define HEARTH_KERNELS_CUDA_DECODE_ROW_CUH

#include "kernels/cuda/decode_row_choice.cuh"
#include "kernels/cuda/decode_row_next.cuh"
#include "kernels/cuda/decode_row_product.cuh"

/* ---- weights ----------------------------------------------------------------------------- */

/* All that the block will need of the chosen ones, n tiles of gate and up from tile `first` of slot `slot`
 * on; by a warp, a lane a copy.  Down is asked for when the first of the others has come: everybody waits for
 * the last block's gate and up, which would be brought behind the other blocks' down. */
static __device__ __forceinline__ void row_fetch(const struct row_params &a, const struct row_shared &s,
						 const struct row_layout &l, uint32_t shared, uint32_t slot,
						 uint32_t first, uint32_t n, uint32_t lane)
{
	if (lane < n) {
		uint32_t tile = first + lane;

		for (; tile >= a.up.n_tiles; tile -= a.up.n_tiles)
			slot++;

		const size_t at = (size_t)s.id[slot] * a.up.n_tiles + tile;

		ring_copy_once(shared + l.up + lane * a.up.tile_bytes, a.up.w + at * a.up.tile_bytes,
			       a.up.tile_bytes, row_come(s, lane));
	}
	__syncwarp();
	if (n)
		ring_wait(row_come(s, 0), 0);
	if (lane < a.choice.top) {
		const size_t at = (size_t)s.id[lane] * a.down.n_tiles + blockIdx.x;

		ring_copy_once(shared + l.down + lane * a.down.tile_bytes, a.down.w + at * a.down.tile_bytes,
			       a.down.tile_bytes, row_come(s, ROW_TILES + lane));
	}
	__syncwarp();
}

/* ---- act, from block to block -------------------------------------------------------------- */

/* A tile of gate and up, its slices' sums added: eight of act.  By a warp; scale: of row `lane`. */
static __device__ __forceinline__ void row_act(const struct row_params &a, const float *sums, uint32_t tile,
					       float scale, int lane)
{
	const float v = __fmul_rn(row_fold(sums, a.up.n_slices, lane % MATMUL_TILE), scale);
	const float up = __shfl_down_sync(~0u, v, 8);
	const uint32_t act = __bfloat16_as_ushort(__float2bfloat16_rn(swiglu(v, up)));
	const uint32_t next = __shfl_down_sync(~0u, act, 1);

	if (lane < 8 && lane % 2 == 0)
		row_give(a.room + tile * 4 + lane / 2, act | next << 16);
}

/* ---- a block ------------------------------------------------------------------------------- */

/* The block's tiles of gate and up, n from `first` on of all slots'. */
template <enum matmul_format F, bool GOES_ON>
static __device__ __forceinline__ void row_up(const struct row_params &a, const struct row_shared &s,
					      char *shared, const struct row_layout &l,
					      const struct narrow_x<1> &x, uint32_t first, uint32_t n, int lane)
{
	const uint32_t warp = threadIdx.x / WARP, slice = warp % ROW_SLICES;
	float *sums = (float *)(shared + l.up_sums);
	const uint32_t units = shared_at(shared) + l.up;
	float scale = 1;

	if (warp < n && lane < MATMUL_TILE) {	/* of the tile that it will finish */
		const uint32_t tile = first + warp, slot = tile / a.up.n_tiles;

		scale = row_scale<F>(a.up, s.id[slot], tile - slot * a.up.n_tiles, lane);
	}
	if (slice < a.up.n_slices)
#pragma unroll 1
		for (uint32_t i = warp / ROW_SLICES; i < n; i += ROW_GROUPS) {
			ring_wait(row_come(s, i), 0);
			row_unit<F>(units + i * a.up.tile_bytes + slice * unit<F>::bytes, x,
				    sums + (i * a.up.n_slices + slice) * MATMUL_TILE, lane);
		}
	if constexpr (GOES_ON) {
		__syncwarp();
		if (lane == 0)
			ring_arrive(shared_at(&s.up_left));
	}
	some_meet(ROW_UP_THERE, ROW_WARPS * WARP);
	if (warp < n)
		row_act(a, sums + warp * a.up.n_slices * MATMUL_TILE, first + warp, scale, lane);
}

/* Its tile of every slot. */
template <enum matmul_format F, bool GOES_ON>
static __device__ __forceinline__ void row_down(const struct row_params &a, struct row_shared &s, char *shared,
						const struct row_layout &l, int lane)
{
	const uint32_t warp = threadIdx.x / WARP, words = a.inter / 2, n = a.choice.top * a.down.n_slices;
	const uint32_t units = shared_at(shared) + l.down;
	float *sums = (float *)(shared + l.down_sums);

	if (GOES_ON && warp >= n && lane == 0)
		ring_arrive(shared_at(&s.down_left));
#pragma unroll 1
	for (uint32_t i = warp; i < n; i += ROW_WARPS) {
		const uint32_t slot = i / a.down.n_slices, slice = i - slot * a.down.n_slices;
		const uint32_t at = slice * MATMUL_SLICE + lane * 8;
		struct row_ready<F> w;

		ring_wait(row_come(s, ROW_TILES + slot), 0);
		w.take(units + i * unit<F>::bytes, lane);
		__syncwarp();
		if (GOES_ON && i + ROW_WARPS >= n && lane == 0)
			ring_arrive(shared_at(&s.down_left));
		s.own[warp].act[lane] = row_await(a.room + slot * words + at / 2, at < a.inter);
		__syncwarp();
		w.multiply(s.own[warp].act, sums + i * MATMUL_TILE, lane);
		__syncwarp();
	}
}

/* The last slot's product, of what was there before; by a warp. */
template <enum matmul_format LAST>
static __device__ __forceinline__ void row_last(const struct row_params &a, const struct row_shared &s,
						char *shared, const struct row_layout &l, int lane)
{
	const uint32_t units = shared_at(shared) + l.last;
	float *sums = (float *)(shared + l.last_sums);

	ring_wait(row_come(s, ROW_COPIES - 1), 0);
#pragma unroll 1
	for (uint32_t i = 0; i < a.last.n_slices; i++) {
		struct narrow_x<1> x;

		row_x(a.last_x, a.last_k, i, lane, x);
		row_unit<LAST>(units + i * unit<LAST>::bytes, x, sums + i * MATMUL_TILE, lane);
	}
}

/* The sum over slots, when all of their products are there: to a.y, or, where the kernel goes on, to the residual row,
 * whose value is `old`.  By the block's multiplying warps, of which the first have a thread for each slot's output: scale
 * is that output's; old: of thread r's column. */
template <bool GOES_ON>
static __device__ __forceinline__ void row_sum(const struct row_params &a, struct row_shared &s,
					       const char *shared, const struct row_layout &l, float scale,
					       float old)
{
	const uint32_t slots = route_slots(a.choice), slot = threadIdx.x / MATMUL_TILE,
		       r = threadIdx.x % MATMUL_TILE, at = blockIdx.x * MATMUL_TILE + r;
	const uint32_t threads = (slots * MATMUL_TILE + WARP - 1) / WARP * WARP;
	const bool last = slot == a.choice.top;
	const uint32_t slices = last ? a.last.n_slices : a.down.n_slices;
	const float *from = (const float *)(shared + (last ? l.last_sums : l.down_sums));
	float y[EXPERTS_SUM_SLOTS], weight[EXPERTS_SUM_SLOTS], sum;

	if (threadIdx.x >= threads) {
		some_arrive(ROW_SUMS_THERE, ROW_THREADS);
		return;
	}
	some_meet(ROW_SUMS_THERE, ROW_THREADS);
	if (slot < slots)
		s.y[slot][r] = __fmul_rn(
			row_fold(from + (last ? 0 : slot * slices * MATMUL_TILE), slices, r), scale);
	some_meet(ROW_SLOTS_THERE, threads);
	if (threadIdx.x >= WARP)
		return;
#pragma unroll
	for (uint32_t i = 0; i < EXPERTS_SUM_SLOTS; i++) {
		y[i] = i < slots ? s.y[i][r] : 0;
		weight[i] = i < slots ? s.weight[i] : 0;
	}
	sum = __fmul_rn(weight[0], y[0]);
#pragma unroll
	for (uint32_t i = 1; i < EXPERTS_SUM_SLOTS; i++)
		if (i < slots)
			sum = __fmaf_rn(weight[i], y[i], sum);
	if constexpr (GOES_ON) {
		const float x = __fadd_rn(old, sum), beside = __shfl_down_sync(~0u, x, 1);

		if (slot || r % 2 || at >= a.n)
			return;
		const uint32_t pair = bf16_pair(x, beside);

		row_give(a.next.room + at / 2, pair);
		*(uint32_t *)(a.next.x + at) = pair;
	} else if (!slot && at < a.n) {
		a.y[at] = sum;
	}
}

/* By one lane of each warp: a barrier takes some 40 ns to make, so each makes its own few. */
static __device__ __forceinline__ void row_barriers(const struct row_params &a, const struct row_shared &s,
						    uint32_t warp)
{
	if (warp < ROW_WARPS / 2)
#pragma unroll 1
		for (uint32_t i = warp; i < a.each; i += ROW_WARPS / 2)
			ring_barrier(row_come(s, i), 1);
	else
		ring_barrier(row_come(s, ROW_TILES + warp - ROW_WARPS / 2), 1);
	ring_barriers_made();
}

/* The last matrix needs no choice. */
static __device__ __forceinline__ void row_fetch_last(const struct row_params &a, const struct row_shared &s,
						      const struct row_layout &l, uint32_t shared)
{
	const uint32_t come = row_come(s, ROW_COPIES - 1);

	ring_barrier(come, 1);
	ring_barriers_made();
	ring_copy_once(shared + l.last, a.last.w + (size_t)blockIdx.x * a.last.tile_bytes, a.last.tile_bytes,
		       come);
}

/* Until the block's last tile of gate and up has come. */
static __device__ __forceinline__ void row_await_experts(const struct row_params &a, const struct row_shared &s)
{
	const uint32_t tiles = a.choice.top * a.up.n_tiles, first = blockIdx.x * a.each;

	if (first < tiles)
		ring_wait(row_come(s, min(a.each, tiles - first) - 1), 0);
}

/* The residual row, of which the block's first warp has a column a lane. */
static __device__ __forceinline__ float row_old(const struct row_params &a, const struct row_place &place, uint32_t warp,
						uint32_t lane)
{
	const uint32_t at = blockIdx.x * MATMUL_TILE + lane;

	if (!place.experts || warp || lane >= MATMUL_TILE || at >= a.n)
		return 0;
	return __bfloat162float(__ldcg(a.next.x + at));
}

/* NEXT: the format of the next layer's first product; MATMUL_N_FORMATS: the kernel ends with the sum. */
template <enum matmul_format F, enum matmul_format LAST, enum matmul_format NEXT>
__global__ void __launch_bounds__(ROW_THREADS, 1)
	row_kernel(const __grid_constant__ struct row_params a)
{
	constexpr bool GOES_ON = NEXT != MATMUL_N_FORMATS;
	BLOCK_SHARED(shared_row);
	struct row_shared &s = *(struct row_shared *)shared_row;
	const uint32_t shared = shared_at(shared_row);
	const struct row_layout l = row_layout_of(a);
	const uint32_t warp = __shfl_sync(~0u, threadIdx.x / WARP, 0), top = a.choice.top;
	const uint32_t tiles = top * a.up.n_tiles, first = min(blockIdx.x * a.each, tiles);
	const uint32_t n = min(a.each, tiles - first);
	const uint32_t slot = threadIdx.x / MATMUL_TILE, r = threadIdx.x % MATMUL_TILE;
	const int lane = threadIdx.x % WARP;
	const struct row_place place = row_place_of(a);
	struct narrow_x<1> x;
	uint4 norm = {};
	uint32_t first_slot = 0;
	float score = 0, scale = 1, old = 0;	/* scale: of a slot's output, for the sum; old: of the residual row */

	if (warp == ROW_FETCH) {
		first_slot = first / a.up.n_tiles;
		asm volatile("" : "+r"(first_slot));	/* now: the copies wait for it */
	} else if (!place.experts) {
	} else if (warp == ROW_LAST) {
		if (lane == 0 && a.last.w)
			row_fetch_last(a, s, l, shared);
	} else {
		if (lane == 0)	/* before x: a barrier's fence would wait for it */
			row_barriers(a, s, warp);
		if (a.x_settled)
			row_x(a.x, a.k, warp % ROW_SLICES, lane, x);
	}
	if (GOES_ON && warp == ROW_FETCH)
		row_next_barriers(s, place.beside ? a.next.beside : a.next.first, lane);
	/* The residual row is as old as x. */
	if (GOES_ON && a.x_settled)
		old = row_old(a, place, warp, lane);
	chain_wait();
	chain_release();
	if (place.experts) {
		if (warp == ROW_FETCH && a.choice.shared)
			score = __ldcg(a.choice.logits + a.choice.experts);
		row_choose(a.choice, s);
		if (warp == ROW_FETCH) {
			row_fetch(a, s, l, shared, first_slot, first - first_slot * a.up.n_tiles, n, lane);
			row_weigh(a.choice, s, score, blockIdx.x == a.down.n_tiles - 1);
			some_arrive(ROW_SUMS_THERE, ROW_THREADS);
		} else if (warp == ROW_LAST) {
			if (a.last.w)
				row_last<LAST>(a, s, shared_row, l, lane);
			if constexpr (GOES_ON) {
				__syncwarp();
				if (lane == 0)
					ring_arrive(shared_at(&s.down_left));
			}
			some_arrive(ROW_SUMS_THERE, ROW_THREADS);
		} else {
			if (!a.x_settled) {
				row_x(a.x, a.k, warp % ROW_SLICES, lane, x);
				if (GOES_ON)
					old = row_old(a, place, warp, lane);
			}
			if (slot < top)	/* asked for now, looked at at the end */
				scale = row_scale<F>(a.down, s.id[slot], blockIdx.x, r);
			else if (a.last.w && slot == top)
				scale = row_scale<LAST>(a.last, 0, blockIdx.x, r);
			row_up<F, GOES_ON>(a, s, shared_row, l, x, first, n, lane);
			row_down<F, GOES_ON>(a, s, shared_row, l, lane);
			if (GOES_ON)
				norm = row_next_norm(a, warp, lane);
			row_sum<GOES_ON>(a, s, shared_row, l, scale, old);
		}
	} else {
		__syncthreads();	/* the barriers are made */
		norm = row_next_norm(a, warp, lane);
	}
	if (!GOES_ON || warp == ROW_LAST)
		return;
	if (warp == ROW_FETCH) {
		if (place.experts)
			row_await_experts(a, s);
		if (lane == 0)
			row_next_fetch(a.next, place, s, shared);
		return;
	}
	if constexpr (GOES_ON) {
		scale = row_next_scale<NEXT>(a.next, place, warp, lane);
		row_next_x(a, s, norm, warp, lane, x);
		row_next_product<NEXT>(a.next, place, s, shared, x, scale, warp, lane);
	}
}

#endif
