/* decode_row_int.cuh - what the parts of one row's experts (decode_row.cuh) share: the kernel's arguments,
 * who has which warp, and a block's shared memory. */
#ifndef HEARTH_KERNELS_CUDA_DECODE_ROW_INT_CUH
#define HEARTH_KERNELS_CUDA_DECODE_ROW_INT_CUH

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/decode_unit.cuh"
#include "kernels/cuda/route_choice.cuh"

#define ROW_WARPS 16	/* that multiply; and two beside them: */
#define ROW_FETCH ROW_WARPS	/* asks for the weights, weighs the slots */
#define ROW_LAST (ROW_WARPS + 1)	/* has the last matrix */
#define ROW_THREADS ((ROW_WARPS + 2) * WARP)
#define ROW_TOP 8u	/* chosen experts, at most */
#define ROW_TILES 16u	/* of gate and up a block, at most */
#define ROW_COPIES (ROW_TILES + ROW_TOP + 1)
#define ROW_GROUPS 2u	/* of warps, that take its tiles by turns: */
#define ROW_SLICES (ROW_WARPS / ROW_GROUPS)	/* a warp a slice of x, at most */
#define ROW_PLACE (4u * MATMUL_FP8_UNIT)	/* bytes of a stage of the next products, at most */
#define ROW_PLACES 14u	/* for them, at most */
static_assert(ROW_WARPS * WARP == MATMUL_MAX_EXPERTS, "a thread a logit");
static_assert(ROW_WARPS / 2 == ROW_TOP, "a slot's barrier has a warp that makes it");

/* A matrix, or one of each expert; slices of K, bytes of a tile. */
struct row_matrix {
	const char *w;
	const float *scale;	/* or NULL: 1 */
	uint32_t n_tiles, n_slices, tile_bytes;
};

static inline struct row_matrix row_matrix_of(const struct matmul_params &p, enum matmul_format f)
{
	return { p.w, p.row_scale, p.n_tiles, p.n_slices,
		 (uint32_t)(p.n_slices * matmul_unit_bytes(f)) };
}

/* A product of the normed row: rows of bfloat16 out. */
struct row_product {
	struct row_matrix m;	/* w NULL: there is none */
	__nv_bfloat16 *y;
	uint32_t n, each;	/* outputs; tiles a block */
	/* A tile comes in stages of 2^stage_shift slices, the last of them maybe fewer; their bytes. */
	uint32_t stages, stage_shift, stage_bytes;
};

/* What follows the experts (decode_row_next.cuh). */
struct row_next {
	struct row_product first, beside;
	__nv_bfloat16 *x;	/* the residual row */
	const __nv_bfloat16 *norm;
	uint32_t *room;		/* where blocks give it to each other */
	float eps;
	/* Where stages lie, from the block's beginning: n_free of them from the start, then some when gate and up
	 * have been multiplied (behind n_up), the others when down has. */
	uint32_t n_places, n_free, n_up, place[ROW_PLACES];
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
	struct row_next next;
};

/* Behind it: sums of slices; stages of down's tiles, of the last one's, of gate and up's. */
struct row_shared {
	uint64_t best[ROW_WARPS * ROW_TOP];	/* key << 32 | ~id: a warp's largest, in order */
	union {	/* a warp's own, one after the other */
		uint32_t key[WARP];	/* of logits */
		uint4 act[WARP];	/* a slice of act, or of the next products' x */
		float sums[ROW_TILES / ROW_GROUPS][MATMUL_TILE];	/* a slice's, of its tiles of the next product */
	} own[ROW_WARPS];
	uint32_t id[ROW_TOP], chosen[ROW_TOP];	/* and their keys */
	float weight[EXPERTS_SUM_SLOTS], y[EXPERTS_SUM_SLOTS][MATMUL_TILE];	/* of the slots */
	float squares[ROW_GROUPS][ROW_SLICES];
	uint64_t come[ROW_COPIES];	/* barriers: of tiles, of slots, of the last matrix */
	uint64_t next_come[ROW_PLACES], next_left[ROW_PLACES], up_left, down_left, row_seen;
};
#define ROW_NEXT_BARRIERS (2 * ROW_PLACES + 3)

/* Where in shared memory what lies behind is, in bytes from its beginning. */
struct row_layout {
	uint32_t up, down, last, up_sums, down_sums, last_sums, end;
};

static __host__ __device__ __forceinline__ struct row_layout row_layout_of(const struct row_params &a)
{
	const uint32_t sum = MATMUL_TILE * 4, top = a.choice.top;
	struct row_layout l;

	l.up_sums = sizeof(struct row_shared);
	l.down_sums = l.up_sums + a.each * a.up.n_slices * sum;
	l.last_sums = l.down_sums + top * a.down.n_slices * sum;
	l.down = (l.last_sums + a.last.n_slices * sum + 127) / 128 * 128;
	l.last = l.down + top * a.down.tile_bytes;
	l.up = l.last + a.last.tile_bytes;
	l.end = l.up + a.each * a.up.tile_bytes;
	return l;
}

/* Barriers of some of a block's threads; 0 is all of them. */
enum { ROW_UP_THERE = 1, ROW_SUMS_THERE, ROW_SLOTS_THERE, ROW_SQUARES_THERE /* of a group */ };

/* The barrier of a copy: gate and up's tile i, down's of slot ROW_TILES + i, the last one's. */
static __device__ __forceinline__ uint32_t row_come(const struct row_shared &s, uint32_t i)
{
	return shared_at(&s.come[i]);
}

#endif
