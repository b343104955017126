/* decode_row.cuh - the experts of one row in one kernel, on Hopper: who is chosen, gate and up, SwiGLU,
 * down, and the sum over slots.
 *
 * As many blocks as the sum has tiles of 16 outputs, one a multiprocessor, all there at once.  A block
 * has, of the chosen experts, a run of gate and up's tiles that lie side by side, and of down its own
 * tile of every slot.  As soon as it knows who was chosen it asks for all of them, by bulk copies into
 * shared memory; nothing is asked for a second time.
 *
 * What blocks give each other is act, through memory (`room`), and the values are their own flags: a word
 * is two of them with all bits turned, and 0 until it is there.  No two bfloat16 of act make the word ~0,
 * since a NaN that is made by rounding is 0x7fff.  So a word is stored once it is known and polled by who
 * needs it: no fence, no count, no second trip.  The room has to be all zeros when the kernel begins.
 *
 * Blocks wait for each other, so they must all find a place: one fits beside nothing that waits for it
 * (the kernels before end by themselves, the next one begins when all of these blocks have begun).
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_ROW_CUH
#define HEARTH_KERNELS_CUDA_DECODE_ROW_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/decode_narrow.cuh"

#define ROW_WARPS 16	/* that multiply; and two beside them: */
#define ROW_FETCH ROW_WARPS	/* asks for the weights, weighs the slots */
#define ROW_LAST (ROW_WARPS + 1)	/* has the last matrix */
#define ROW_THREADS ((ROW_WARPS + 2) * WARP)
#define ROW_TOP 8u	/* chosen experts, at most */
#define ROW_TILES 16u	/* of gate and up a block, at most */
#define ROW_COPIES (ROW_TILES + ROW_TOP + 1)
#define ROW_GROUPS 2u	/* of warps, that take its tiles by turns: */
#define ROW_SLICES (ROW_WARPS / ROW_GROUPS)	/* a warp a slice of x, at most */
static_assert(ROW_WARPS * WARP == MATMUL_MAX_EXPERTS, "a thread a logit");
static_assert(ROW_WARPS / 2 == ROW_TOP, "a slot's barrier has a warp that makes it");

/* A matrix, or one of each expert; slices of K, bytes of a tile. */
struct row_matrix {
	const char *w;
	const float *scale;	/* or NULL: 1 */
	uint32_t n_tiles, n_slices, tile_bytes;
};

struct row_params {
	struct row_matrix up, down, last;	/* last.w NULL: there is none */
	const __nv_bfloat16 *x, *last_x;
	uint32_t *room;
	float *y;
	struct route_args choice;
	uint32_t k, inter, last_k, n;	/* columns of the three matrices; outputs */
	uint32_t each;		/* tiles of gate and up a block */
	bool x_settled;
};

/* Behind it: stages of gate and up's tiles, of down's, of the last one's; sums of slices. */
struct row_shared {
	uint64_t best[ROW_WARPS * ROW_TOP];	/* key << 32 | ~id: a warp's largest, in order */
	uint4 act[ROW_WARPS][WARP];
	uint32_t key[ROW_WARPS][WARP];
	uint32_t id[ROW_TOP], chosen[ROW_TOP];	/* and their keys */
	float weight[EXPERTS_SUM_SLOTS], y[EXPERTS_SUM_SLOTS][MATMUL_TILE];	/* of the slots */
	uint64_t come[ROW_COPIES];	/* barriers: of tiles, of slots, of the last matrix */
};

/* Where in shared memory what lies behind is, in bytes from its beginning. */
struct row_layout {
	uint32_t up, down, last, up_sums, down_sums, last_sums, end;
};

static __host__ __device__ __forceinline__ struct row_layout row_layout_of(const struct row_params &a)
{
	const uint32_t sum = MATMUL_TILE * 4, top = a.choice.top;
	struct row_layout l;

	l.up = (sizeof(struct row_shared) + 127) / 128 * 128;
	l.down = l.up + a.each * a.up.tile_bytes;
	l.last = l.down + top * a.down.tile_bytes;
	l.up_sums = l.last + a.last.tile_bytes;
	l.down_sums = l.up_sums + a.each * a.up.n_slices * sum;
	l.last_sums = l.down_sums + top * a.down.n_slices * sum;
	l.end = l.last_sums + a.last.n_slices * sum;
	return l;
}

/* The barrier of a copy: gate and up's tile i, down's of slot ROW_TILES + i, the last one's. */
static __device__ __forceinline__ uint32_t row_come(const struct row_shared &s, uint32_t i)
{
	return (uint32_t)__cvta_generic_to_shared(&s.come[i]);
}

/* ---- the choice -------------------------------------------------------------------------- */

/* What route_choice.cuh chooses, by the whole block: a warp orders the largest of 32 logits by counting
 * who is larger, then the warps' largest are ordered the same way. */
static __device__ __forceinline__ void row_choose(const struct route_args &a, struct row_shared &s)
{
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const uint32_t lists = (a.experts + WARP - 1) / WARP;
	const bool counts = warp < lists;

	if (counts) {
		const uint32_t id = threadIdx.x;
		const uint32_t key = id < a.experts ? order_bits(__ldcg(a.logits + id)) : 0;
		uint32_t larger[4] = {};	/* four sums that do not wait for each other */

		s.key[warp][lane] = key;
		__syncwarp();
#pragma unroll
		for (uint32_t i = 0; i < WARP; i += 4) {
			const uint4 four = *(const uint4 *)&s.key[warp][i];

			larger[0] += four.x > key;
			larger[1] += four.y > key;
			larger[2] += four.z > key;
			larger[3] += four.w > key;
		}

		/* Of equals the lower id is the first. */
		const uint32_t before = __popc(__match_any_sync(~0u, key) & ((1u << lane) - 1));
		const uint32_t rank = larger[0] + larger[1] + larger[2] + larger[3] + before;

		if (rank < ROW_TOP)
			s.best[warp * ROW_TOP + rank] = (uint64_t)key << 32 | (uint32_t)~id;
	}
	__syncthreads();
	if (counts) {	/* four threads a candidate, each a quarter of the others */
		const uint32_t part = threadIdx.x % 4;
		const uint64_t own = s.best[threadIdx.x / 4];
		uint32_t larger[2] = {};

#pragma unroll 4
		for (uint32_t i = 0; i < lists; i++) {
			const ulonglong2 two = *(const ulonglong2 *)&s.best[i * ROW_TOP + 2 * part];

			larger[0] += two.x > own;
			larger[1] += two.y > own;
		}

		uint32_t rank = larger[0] + larger[1];

		rank += __shfl_xor_sync(~0u, rank, 1);
		rank += __shfl_xor_sync(~0u, rank, 2);
		if (part == 0 && rank < a.top) {
			/* Fewer than `top` numbers: as route_choice.cuh has it. */
			s.chosen[rank] = (uint32_t)(own >> 32);
			s.id[rank] = own >> 32 ? ~(uint32_t)own : 0;
		}
	}
	__syncthreads();
}

/* Weights of the slots, by a warp; `store`: and what others want to know of the choice. */
static __device__ __forceinline__ void row_weigh(const struct route_args &a, struct row_shared &s,
						 float score, bool store)
{
	const uint32_t lane = threadIdx.x % WARP;
	struct slot_choice c = { 0, 0, score };

	if (lane < a.top)
		c = { s.id[lane], s.chosen[lane], score };
	else if (lane == a.top)
		c.id = a.experts;

	const float weight = choice_weight(a, c);

	if (lane < route_slots(a))
		s.weight[lane] = weight;
	if (!store)
		return;
	if (lane < route_slots(a)) {
		a.ids[lane] = c.id;
		a.weights[lane] = weight;
	}

	/* Only id 0 can be there twice, in place of numbers that there were not. */
	const bool slot = lane < a.top;
	const uint32_t some = __popc(__ballot_sync(~0u, slot && c.id));
	const bool zero = __any_sync(~0u, slot && !c.id);

	if (lane == 0)
		*a.list.n_active = some + zero + (a.shared && a.list_shared ? 1 : 0);
}

/* ---- weights ----------------------------------------------------------------------------- */

/* All that the block will need of the chosen ones, n tiles of gate and up from tile `first` of slot `slot`
 * on; by a warp, a lane a copy, in the order in which they will be needed. */
static __device__ __forceinline__ void row_fetch(const struct row_params &a, const struct row_shared &s,
						 const struct row_layout &l, uint32_t shared, uint32_t slot,
						 uint32_t first, uint32_t n, uint32_t lane)
{
	if (lane < n) {
		uint32_t tile = first + lane;

		for (; tile >= a.up.n_tiles; tile -= a.up.n_tiles)
			slot++;

		const size_t at = (size_t)s.id[slot] * a.up.n_tiles + tile;

		ring_copy(shared + l.up + lane * a.up.tile_bytes, a.up.w + at * a.up.tile_bytes,
			  a.up.tile_bytes, row_come(s, lane));
	}
	__syncwarp();
	if (lane < a.choice.top) {
		const size_t at = (size_t)s.id[lane] * a.down.n_tiles + blockIdx.x;

		ring_copy(shared + l.down + lane * a.down.tile_bytes, a.down.w + at * a.down.tile_bytes,
			  a.down.tile_bytes, row_come(s, ROW_TILES + lane));
	}
	__syncwarp();
}

/* What row r of a tile is multiplied by. */
template <enum matmul_format F>
static __device__ __forceinline__ float row_scale(const struct row_matrix &m, uint32_t expert,
						  uint32_t tile, uint32_t r)
{
	return scale_of<F>(m.scale ? m.scale + ((size_t)expert * m.n_tiles + tile) * MATMUL_TILE : NULL,
			   r);
}

/* ---- products ---------------------------------------------------------------------------- */

/* A slice of a row of k columns; the other columns of the tensor core's operand are zeros. */
static __device__ __forceinline__ void row_x(const __nv_bfloat16 *x, uint32_t k, uint32_t slice, int lane,
					     struct narrow_x<1> &ret)
{
	const uint32_t at = slice * MATMUL_SLICE + lane % 4 * 8;

#pragma unroll
	for (int j = 0; j < 8; j++) {
		ret.b[0][j] = make_uint4(0, 0, 0, 0);
		if (lane < 4 && at + 32 * j < k)
			ret.b[0][j] = __ldcg((const uint4 *)(x + at) + 4 * j);
	}
}

/* The only column of a slice's sum, to its place. */
static __device__ __forceinline__ void row_put(float *to, const float sum[4], int lane)
{
	if (lane % 4 == 0) {
		to[lane / 4] = sum[0];
		to[lane / 4 + 8] = sum[2];
	}
}

/* Of row r, all slices in order; those that there are not add -0, which changes nothing. */
static __device__ __forceinline__ float row_fold(const float *from, uint32_t slices, uint32_t r)
{
	float v = -0.0f;

#pragma unroll 1
	for (uint32_t i = 0; i < slices; i += ROW_SLICES) {
		float part[ROW_SLICES];

#pragma unroll
		for (uint32_t j = 0; j < ROW_SLICES; j++)
			part[j] = i + j < slices ? from[(i + j) * MATMUL_TILE + r] : -0.0f;
#pragma unroll
		for (uint32_t j = 0; j < ROW_SLICES; j++)
			v = fold(v, part[j]);
	}
	return v;
}

/* A unit in shared memory times x. */
template <enum matmul_format F>
static __device__ __forceinline__ void row_unit(uint32_t from, const struct narrow_x<1> &x, float *to,
						int lane)
{
	struct unit<F> w;
	float sum[1][4];

	w.take(from, lane);
	unit_product(w, x, sum, [](int) {});
	row_put(to, sum[0], lane);
}

/* A unit as the tensor core wants it, before there is anything to multiply it with. */
template <enum matmul_format F> struct row_ready {
	struct frag f[16];
	struct unit<F> w;

	__device__ __forceinline__ void take(uint32_t from, int lane)
	{
		w.take(from, lane);
#pragma unroll
		for (int i = 0; i < 16; i++) {
			f[i] = w.frag_of(i);
#pragma unroll
			for (int j = 0; j < 4; j++)	/* now, not where it is needed */
				asm volatile("" : "+r"(f[i].r[j]));
		}
	}
	/* x: a slice of it, in order, in shared memory. */
	__device__ __forceinline__ void multiply(const uint4 *x, float *to, int lane) const
	{
		constexpr int CHAINS = unit<F>::scaled_halves ? 2 : 1;
		float sum[CHAINS][4], part[4];
		uint4 b[8];

#pragma unroll
		for (int j = 0; j < 8; j++) {
			b[j] = make_uint4(0, 0, 0, 0);
			if (lane < 4)
				b[j] = x[4 * j + lane];
		}
#pragma unroll
		for (int i = 0; i < 4 * CHAINS; i++)
			sum[i / 4][i % 4] = 0;
#pragma unroll
		for (int i = 0; i < 16; i++) {
			const int step = i / CHAINS + i % CHAINS * 8;
			const uint4 v = b[step / 2];

			mma(sum[i % CHAINS], &f[step], step % 2 ? v.z : v.x, step % 2 ? v.w : v.y);
		}
		if constexpr (CHAINS == 2) {
			join_halves<4>(0, w, sum[0], part);
			join_halves<4>(1, w, sum[1], part);
		}
		row_put(to, sum[CHAINS - 1], lane);
	}
};

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
		asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(a.room + tile * 4 + lane / 2),
			     "r"(~(act | next << 16))
			     : "memory");
}

/* Eight of it, when they are there, for a lane of a warp that all come here. */
static __device__ __forceinline__ uint4 row_await(const uint32_t *at, bool has)
{
	uint4 v = make_uint4(~0u, ~0u, ~0u, ~0u);
	bool there = !has;

	do {
		if (!there)
			asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
				     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
				     : "l"(at)
				     : "memory");
		there = v.x && v.y && v.z && v.w;
	} while (!__all_sync(~0u, there));
	return make_uint4(~v.x, ~v.y, ~v.z, ~v.w);
}

/* ---- a block ------------------------------------------------------------------------------- */

/* A barrier of the first n threads. */
static __device__ __forceinline__ void row_meet(uint32_t which, uint32_t n)
{
	asm volatile("bar.sync %0, %1;" ::"r"(which), "r"(n) : "memory");
}

/* The block's tiles of gate and up, n from `first` on of all slots'. */
template <enum matmul_format F>
static __device__ __forceinline__ void row_up(const struct row_params &a, const struct row_shared &s,
					      char *shared, const struct row_layout &l,
					      const struct narrow_x<1> &x, uint32_t first, uint32_t n, int lane)
{
	const uint32_t warp = threadIdx.x / WARP, slice = warp % ROW_SLICES;
	float *sums = (float *)(shared + l.up_sums);
	const uint32_t units = (uint32_t)__cvta_generic_to_shared(shared) + l.up;
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
	row_meet(1, ROW_WARPS * WARP);
	if (warp < n)
		row_act(a, sums + warp * a.up.n_slices * MATMUL_TILE, first + warp, scale, lane);
}

/* Its tile of every slot. */
template <enum matmul_format F>
static __device__ __forceinline__ void row_down(const struct row_params &a, struct row_shared &s, char *shared,
						const struct row_layout &l, int lane)
{
	const uint32_t warp = threadIdx.x / WARP, words = a.inter / 2;
	const uint32_t units = (uint32_t)__cvta_generic_to_shared(shared) + l.down;
	float *sums = (float *)(shared + l.down_sums);

#pragma unroll 1
	for (uint32_t i = warp; i < a.choice.top * a.down.n_slices; i += ROW_WARPS) {
		const uint32_t slot = i / a.down.n_slices, slice = i - slot * a.down.n_slices;
		const uint32_t at = slice * MATMUL_SLICE + lane * 8;
		struct row_ready<F> w;

		ring_wait(row_come(s, ROW_TILES + slot), 0);
		w.take(units + i * unit<F>::bytes, lane);
		s.act[warp][lane] = row_await(a.room + slot * words + at / 2, at < a.inter);
		__syncwarp();
		w.multiply(s.act[warp], sums + i * MATMUL_TILE, lane);
		__syncwarp();
	}
}

/* The last slot's product, of what was there before; by a warp. */
template <enum matmul_format LAST>
static __device__ __forceinline__ void row_last(const struct row_params &a, const struct row_shared &s,
						char *shared, const struct row_layout &l, int lane)
{
	const uint32_t units = (uint32_t)__cvta_generic_to_shared(shared) + l.last;
	float *sums = (float *)(shared + l.last_sums);

	ring_wait(row_come(s, ROW_COPIES - 1), 0);
#pragma unroll 1
	for (uint32_t i = 0; i < a.last.n_slices; i++) {
		struct narrow_x<1> x;

		row_x(a.last_x, a.last_k, i, lane, x);
		row_unit<LAST>(units + i * unit<LAST>::bytes, x, sums + i * MATMUL_TILE, lane);
	}
}

/* The sum over slots, when all of their products are there; by the first threads, one for each slot's
 * output: scale is that output's. */
static __device__ __forceinline__ void row_sum(const struct row_params &a, struct row_shared &s,
					       const char *shared, const struct row_layout &l, float scale)
{
	const uint32_t slots = route_slots(a.choice), slot = threadIdx.x / MATMUL_TILE,
		       r = threadIdx.x % MATMUL_TILE;
	const bool last = slot == a.choice.top;
	const uint32_t slices = last ? a.last.n_slices : a.down.n_slices;
	const float *from = (const float *)(shared + (last ? l.last_sums : l.down_sums));
	float y[EXPERTS_SUM_SLOTS], weight[EXPERTS_SUM_SLOTS], sum;

	if (threadIdx.x >= (slots * MATMUL_TILE + WARP - 1) / WARP * WARP)
		return;
	if (slot < slots)
		s.y[slot][r] = __fmul_rn(
			row_fold(from + (last ? 0 : slot * slices * MATMUL_TILE), slices, r), scale);
	row_meet(2, (slots * MATMUL_TILE + WARP - 1) / WARP * WARP);
	if (slot || blockIdx.x * MATMUL_TILE + r >= a.n)
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
	a.y[blockIdx.x * MATMUL_TILE + r] = sum;
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
	ring_copy(shared + l.last, a.last.w + (size_t)blockIdx.x * a.last.tile_bytes, a.last.tile_bytes,
		  come);
}

template <enum matmul_format F, enum matmul_format LAST>
__global__ void __launch_bounds__(ROW_THREADS, 1)
	row_kernel(const __grid_constant__ struct row_params a)
{
	extern __shared__ __align__(128) char shared_row[];
	struct row_shared &s = *(struct row_shared *)shared_row;
	const uint32_t shared = (uint32_t)__cvta_generic_to_shared(shared_row);
	const struct row_layout l = row_layout_of(a);
	const uint32_t warp = __shfl_sync(~0u, threadIdx.x / WARP, 0), top = a.choice.top;
	const uint32_t tiles = top * a.up.n_tiles, first = min(blockIdx.x * a.each, tiles);
	const uint32_t n = min(a.each, tiles - first);
	const uint32_t slot = threadIdx.x / MATMUL_TILE, r = threadIdx.x % MATMUL_TILE;
	const int lane = threadIdx.x % WARP;
	struct narrow_x<1> x;
	uint32_t first_slot = 0;
	float score = 0, scale = 1;	/* scale: of a slot's output, for the sum */

	if (warp == ROW_FETCH) {
		first_slot = first / a.up.n_tiles;
		asm volatile("" : "+r"(first_slot));	/* now: the copies wait for it */
	} else if (warp == ROW_LAST) {
		if (lane == 0 && a.last.w)
			row_fetch_last(a, s, l, shared);
	} else {
		if (lane == 0)	/* before x: a barrier's fence would wait for it */
			row_barriers(a, s, warp);
		if (a.x_settled)
			row_x(a.x, a.k, warp % ROW_SLICES, lane, x);
	}
	chain_wait();
	chain_release();
	if (warp == ROW_FETCH && a.choice.shared)
		score = __ldcg(a.choice.logits + a.choice.experts);
	row_choose(a.choice, s);
	if (warp == ROW_FETCH) {
		row_fetch(a, s, l, shared, first_slot, first - first_slot * a.up.n_tiles, n, lane);
		row_weigh(a.choice, s, score, blockIdx.x == gridDim.x - 1);
	} else if (warp == ROW_LAST) {
		if (a.last.w)
			row_last<LAST>(a, s, shared_row, l, lane);
	} else {
		if (!a.x_settled)
			row_x(a.x, a.k, warp % ROW_SLICES, lane, x);
		if (slot < top)	/* asked for now, looked at at the end */
			scale = row_scale<F>(a.down, s.id[slot], blockIdx.x, r);
		else if (a.last.w && slot == top)
			scale = row_scale<LAST>(a.last, 0, blockIdx.x, r);
		row_up<F>(a, s, shared_row, l, x, first, n, lane);
		row_down<F>(a, s, shared_row, l, lane);
	}
	__syncthreads();
	row_sum(a, s, shared_row, l, scale);
}

#endif
