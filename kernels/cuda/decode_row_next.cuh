/* decode_row_next.cuh - what follows one row's experts, in the same kernel: the residual row, its norm and the first
 * products of the next layer.
 *
 * Each block adds its 16 outputs of the experts' sum to the residual row and gives them to all others, as act is given
 * (decode_row.cuh: the values are their own flags).  Then every block has the whole row, norms it for itself, and
 * multiplies it with its tiles of the next products.  Their weights depend on nobody: they are asked for behind the
 * experts' own, into what shared memory is left and into what is not needed any more, so memory brings them while the
 * blocks exchange act, add up and norm.  What is on its way is kept short (ROW_AHEAD), and only some is asked for before
 * the row is there (ROW_EARLY): the values that blocks give each other queue behind it.
 *
 * Blocks beyond the experts' have no part in those: they have tiles of the next products alone.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_ROW_NEXT_CUH
#define HEARTH_KERNELS_CUDA_DECODE_ROW_NEXT_CUH

#include "kernels/cuda/decode_row_product.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/row_words.cuh"

#define ROW_AHEAD 3u	/* stages on their way */
#define ROW_EARLY 6u	/* of a block's, asked for before it has the residual row */

/* Where the next products of the block are.  Blocks beyond the experts' have the second one, or share the first. */
struct row_place {
	bool experts, beside;
	uint32_t first, n;	/* tiles */
};

static __device__ __forceinline__ struct row_place row_place_of(const struct row_params &a)
{
	const bool experts = blockIdx.x < a.down.n_tiles, beside = !experts && a.next.beside.m.w;
	const struct row_product &p = beside ? a.next.beside : a.next.first;
	const uint32_t first = min((beside ? blockIdx.x - a.down.n_tiles : blockIdx.x) * p.each, p.m.n_tiles);

	return { experts, beside, first, min(p.each, p.m.n_tiles - first) };
}

/* By a warp, before anybody waits: a lane a barrier. */
static __device__ __forceinline__ void row_next_barriers(const struct row_shared &s, const struct row_product &p,
							 uint32_t lane)
{
	static_assert(ROW_NEXT_BARRIERS <= WARP, "a lane each");
	const uint32_t left = min(p.m.n_slices, 1u << p.stage_shift);	/* warps that multiply with a stage */

	if (lane < ROW_NEXT_BARRIERS)	/* they lie side by side */
		ring_barrier(shared_at(s.next_come) + lane * 8,
			     lane < ROW_PLACES	       ? 1 :
			     lane < 2 * ROW_PLACES     ? left :
			     lane == 2 * ROW_PLACES + 1 ? ROW_WARPS + 1 :	/* down_left: and the last matrix */
							 ROW_WARPS	/* up_left, row_seen */);
	ring_barriers_made();
}

/* All of a block's run, a stage a copy; by one lane.  In a block with experts the places of theirs are waited for. */
static __device__ __forceinline__ void row_next_fetch(const struct row_next &a, const struct row_place &r,
						      const struct row_shared &s, uint32_t shared)
{
	const struct row_product &p = r.beside ? a.beside : a.first;
	const char *from = p.m.w + (size_t)r.first * p.m.tile_bytes;
	uint32_t place = 0, turn = 0, old = 0, old_turn = 0, part = 0;

#pragma unroll 1
	for (uint32_t i = 0; i < r.n * p.stages; i++) {
		const uint32_t bytes = min(p.stage_bytes, p.m.tile_bytes - part * p.stage_bytes);

		if (turn)
			ring_wait(shared_at(&s.next_left[place]), (turn - 1) & 1);
		else if (r.experts && place >= a.n_free)
			ring_wait(shared_at(place < a.n_free + a.n_up ? &s.up_left : &s.down_left), 0);
		if (i >= ROW_AHEAD) {
			ring_wait(shared_at(&s.next_come[old]), old_turn);
			old++;
			if (old == a.n_places) {
				old = 0;
				old_turn ^= 1;
			}
		}
		if (i == ROW_EARLY)
			ring_wait(shared_at(&s.row_seen), 0);
		ring_copy_once(shared + a.place[place], from, bytes, shared_at(&s.next_come[place]));
		from += bytes;
		part = part + 1 < p.stages ? part + 1 : 0;
		if (++place == a.n_places) {
			place = 0;
			turn++;
		}
	}
}

/* The row with the experts' sum, normed: a warp's slice of it in `x`.  By ROW_GROUPS times NORM_WARPS warps, each of
 * which has the columns that it multiplies; norm: of the lane's eight. */
static __device__ __forceinline__ void row_next_x(const struct row_params &a, struct row_shared &s, const uint4 &norm,
						  uint32_t warp, uint32_t lane, struct narrow_x<1> &x)
{
	static_assert(NORM_WARPS == ROW_SLICES && ROW_GROUPS == 2, "a warp of the norm has a slice");
	const uint32_t slice = warp % ROW_SLICES, group = warp / ROW_SLICES, at = slice * MATMUL_SLICE + lane * 8;
	const bool has = at < a.n;
	const uint4 row = row_await(a.next.room + at / 2, has);
	if (lane == 0)
		ring_arrive(shared_at(&s.row_seen));
	const float squares = warp_sum(has ? add_squares(0, row) : 0);

	if (lane == 0)
		s.squares[group][slice] = squares;
	if (group)	/* a number that is known when compiled: else all sixteen count as used */
		some_meet(ROW_SQUARES_THERE + 1, NORM_WARPS * WARP);
	else
		some_meet(ROW_SQUARES_THERE, NORM_WARPS * WARP);
	s.own[warp].act[lane] = has ? norm8(row, norm, norm_scale(s.squares[group], a.n, a.next.eps)) : uint4();
	__syncwarp();
	row_x(s.own[warp].act, (int)lane, x);
	__syncwarp();
}

/* The norm's weights for the lane's eight columns, asked for while the experts' sum is made. */
static __device__ __forceinline__ uint4 row_next_norm(const struct row_params &a, uint32_t warp, uint32_t lane)
{
	const uint32_t at = warp % ROW_SLICES * MATMUL_SLICE + lane * 8;

	return at < a.n ? *(const uint4 *)(a.next.norm + at) : uint4();
}

/* What the sums of row `lane` of the tile are multiplied by that the warp will finish. */
template <enum matmul_format N>
static __device__ __forceinline__ float row_next_scale(const struct row_next &a, const struct row_place &r,
						       uint32_t warp, uint32_t lane)
{
	if (r.beside || warp >= r.n || lane >= MATMUL_TILE)
		return 1;
	return row_scale<N>(a.first.m, 0, r.first + warp, lane);
}

/* The sums of a block's tiles, when all are there: a warp a tile. */
static __device__ __forceinline__ void row_next_finish(const struct row_product &p, const struct row_place &r,
						       const struct row_shared &s, float scale, uint32_t warp,
						       uint32_t lane)
{
	const uint32_t out = (r.first + warp) * MATMUL_TILE + lane;
	float v = -0.0f;

	if (warp >= r.n || lane >= MATMUL_TILE)
		return;
#pragma unroll
	for (uint32_t j = 0; j < ROW_SLICES; j++) {
		const float part = s.own[warp % ROW_GROUPS * ROW_SLICES + j].sums[warp / ROW_GROUPS][lane];

		v = fold(v, j < p.m.n_slices ? part : -0.0f);
	}
	if (out < p.n)
		p.y[out] = __float2bfloat16_rn(__fmul_rn(v, scale));
}

/* A block's tiles of a product. */
template <enum matmul_format N>
static __device__ __forceinline__ void row_next_product(const struct row_next &a, const struct row_place &r,
							struct row_shared &s, uint32_t shared,
							const struct narrow_x<1> &x, float scale, uint32_t warp,
							int lane)
{
	const struct row_product &p = r.beside ? a.beside : a.first;
	const uint32_t slice = warp % ROW_SLICES, group = warp / ROW_SLICES, part = slice >> p.stage_shift;
	const uint32_t unit_bytes = p.stage_bytes >> p.stage_shift;
	const uint32_t within = (slice - (part << p.stage_shift)) * unit_bytes;
	uint32_t place = group * p.stages + part, parity = 0;

	if (slice < p.m.n_slices)
#pragma unroll 1
		for (uint32_t i = group; i < r.n; i += ROW_GROUPS) {
			const uint32_t from = shared + a.place[place] + within;
			float *to = s.own[warp].sums[i / ROW_GROUPS];

			ring_wait(shared_at(&s.next_come[place]), parity);
			if (N != MATMUL_BF16 && r.beside)
				row_unit<MATMUL_BF16>(from, x, to, lane);
			else
				row_unit<N>(from, x, to, lane);
			__syncwarp();
			if (lane == 0)
				ring_arrive(shared_at(&s.next_left[place]));
			place += ROW_GROUPS * p.stages;
			if (place >= a.n_places) {
				place -= a.n_places;
				parity ^= 1;
			}
		}
	some_meet(ROW_UP_THERE, ROW_WARPS * WARP);
	row_next_finish(p, r, s, scale, warp, lane);
}

#endif
