/* decode_matmul_int.cuh - what the forms of the decode matrix kernel share.
 * Included by kernels/cuda/decode_*.cu and by the bench, by nobody else. */
#ifndef HEARTH_KERNELS_CUDA_DECODE_MATMUL_INT_CUH
#define HEARTH_KERNELS_CUDA_DECODE_MATMUL_INT_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>
#include <stdint.h>

#include "kernels/cuda/decode_matmul.h"
#include "kernels/cuda/fragment.cuh"
#include "kernels/cuda/launch.cuh"

#define SHARED_MAX 101376	/* what a block may have on sm_120 and sm_121, here as well */
#define WARP 32

struct matmul_params {
	const char *w;
	const __nv_bfloat16 *x;
	void *y, *y_swiglu;		/* rows of the plain tiles; of the tiles in turns */
	const float *row_scale;		/* [experts][n_tiles][16], or NULL: 1 */
	uint32_t n, n_swiglu;		/* rows of both; the plain tiles come first */
	uint32_t k, ldx, ldy, ldy_swiglu;
	uint32_t n_cols;		/* dense: columns of the product, the rows of x and y */
	uint32_t n_plain;		/* tiles: ceil(n / 16) */
	uint32_t n_tiles, n_slices;	/* of W: all tiles, ceil(k / 256) */
	enum matmul_out out;		/* of the plain tiles */
	uint32_t k_warps, m_warps;	/* warps along K x tiles side by side */
	uint32_t k_blocks;	/* narrow: blocks of a cluster that share the warps along K */
	uint32_t groups;		/* narrow: of m_warps tiles, ceil(n_tiles / m_warps) */
	uint32_t groups_inverse;	/* ceil(2^32 / groups): item / groups is the upper half of
					 * item * this, exact while item * groups < 2^32 */
	/* experts */
	struct expert_list list;
	uint32_t list_bytes;	/* from n_active to the last pair */
	uint32_t n_slots;
	bool x_per_slot, list_settled, without_last;
	bool x_settled, x_ordered;	/* dense; decode_matmul.h */
};

/* 0 or -ENODEV for what a launch or an attribute call answered. */
static inline int cuda_code(cudaError_t e)
{
	return e == cudaSuccess ? 0 : -ENODEV;
}

static inline bool aligned16(const void *p)
{
	return p && !((uintptr_t)p % 16);
}

/* Adds slice sums in the order of docs/numerics.md; -0 is the neutral start. */
static __device__ __forceinline__ float fold(float total, float slice)
{
	return __fadd_rn(total, slice);
}

/* Whether row r of a tile has an output of its own: the second half of a tile in turns has none. */
static __device__ __forceinline__ bool has_output(const struct matmul_params &p, uint32_t tile,
						  uint32_t r)
{
	if (tile < p.n_plain)
		return tile * MATMUL_TILE + r < p.n;
	return r < 8 && tile < p.n_tiles;
}

/* The 16 row scales of a tile; NULL: all are 1. */
template <enum matmul_format F>
static __device__ __forceinline__ const float *tile_scales(const struct matmul_params &p,
							   uint32_t expert, uint32_t tile)
{
	if (F == MATMUL_BF16 || !p.row_scale)
		return NULL;
	return p.row_scale + ((size_t)expert * p.n_tiles + tile) * MATMUL_TILE;
}

/* What the finished sum of row r is multiplied by: what the fragments leave out, times the row's
 * scale. */
template <enum matmul_format F>
static __device__ __forceinline__ float scale_of(const float *scales, uint32_t r)
{
	return scales ? __fmul_rn(fragment_factor<F>, scales[r]) : fragment_factor<F>;
}

/* silu(gate) up */
static __device__ __forceinline__ float swiglu(float gate, float up)
{
	const float sigmoid = __fdiv_rn(1.0f, 1.0f + expf(-gate));

	return __fmul_rn(__fmul_rn(gate, sigmoid), up);
}

/* Writes the output of row r of a tile, column `col` of the product; `up` counts in tiles in turns:
 * the sum eight rows further down. */
static __device__ __forceinline__ void store_out(const struct matmul_params &p, uint32_t tile,
						 uint32_t r, uint32_t col, float v, float up)
{
	const size_t row = col;

	if (tile >= p.n_plain) {
		((__nv_bfloat16 *)p.y_swiglu)[row * p.ldy_swiglu + (tile - p.n_plain) * 8 + r] =
			__float2bfloat16_rn(swiglu(v, up));
	} else if (p.out == MATMUL_OUT_BF16) {
		((__nv_bfloat16 *)p.y)[row * p.ldy + tile * MATMUL_TILE + r] =
			__float2bfloat16_rn(v);
	} else {
		((float *)p.y)[row * p.ldy + tile * MATMUL_TILE + r] = v;
	}
}

int matmul_launch_narrow(const struct decode_matmul_args *a, cudaStream_t stream);
int matmul_launch_wide(const struct decode_matmul_args *a, cudaStream_t stream);
/* The wide form laid out as said: what the choice in decode_wide.cu chooses from. */
struct wide_layout {
	int tiles, col_tiles;	/* row tiles a warp, column tiles a block: (1, 4) (1, 8); NVFP4
				 * also (2, 8) */
	int m_warps, k_warps;	/* of a block: along rows x along K, 1..7; the product is 1..12 */
};
int matmul_launch_wide_as(const struct matmul_params *p, enum matmul_format f,
			  const struct wide_layout *l, cudaStream_t stream);
/* The square form, on Hopper, for dense BF16 and FP8 matrices and at most SQUARE_MAX_ROWS rows. */
#define SQUARE_MAX_ROWS 64
struct square_layout {
	int tiles;	/* row tiles of a block, 1..8; split: of a cluster, 1..12 */
	int cluster;	/* blocks; split: 2, 4 or 8, each one or two slices; else two, whatever stands
			 * here */
	bool split;	/* the blocks of a cluster share K, not x */
	/* What follows is of those that do not. */
	int stages;	/* of x, 2..8 */
	int ring;	/* KB of weights on their way to a warp, at most; 0: what there is room for */
};
bool matmul_square_fits(const struct matmul_params *p, enum matmul_format f);
/* Whether matmul_launch_square() would take x in the order of steps. */
bool matmul_square_orders(const struct matmul_params *p);
int matmul_launch_square(const struct decode_matmul_args *a, cudaStream_t stream);
int matmul_launch_square_as(const struct matmul_params *p, enum matmul_format f,
			    const struct square_layout *l, cudaStream_t stream);
/* The ring form, for experts: p split as for the narrow form, `pairs` of row and slot in all, `cols`
 * columns at a time at least when experts have so many, `most_experts` active at most; choice: NULL, or
 * made at the kernel's head.  -EINVAL where it does not fit: BF16, more slices than a block has warps,
 * scales of rows that are not aligned, or, on Hopper, a list of more than 14 KB. */
bool matmul_ring_fits(const struct matmul_params *p, enum matmul_format f);
int matmul_launch_ring(const struct matmul_params *p, const struct route_args *choice,
		       enum matmul_format f, uint32_t pairs, uint32_t cols, uint32_t most_experts,
		       cudaStream_t stream);
struct matmul_params matmul_params_of(const struct decode_matmul_args *a);
/* list: NULL where nobody looks at one */
struct matmul_params matmul_params_of_experts(const struct decode_experts_args *a,
					      const struct expert_list *list);
bool matmul_args_ok(const struct decode_matmul_args *a, uint32_t max_rows);
bool matmul_experts_ok(const struct decode_experts_args *a, uint32_t max_rows);
/* There is a list, or a choice that is of these rows and fits. */
bool matmul_list_ok(const struct decode_experts_args *a);
/* What experts_sum_args.last may be, beside such experts. */
bool matmul_last_ok(const struct decode_matmul_args *last, const struct decode_experts_args *e);

#endif
