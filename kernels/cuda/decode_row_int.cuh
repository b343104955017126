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
	return shared_at(&s.come[i]);
}

#endif
