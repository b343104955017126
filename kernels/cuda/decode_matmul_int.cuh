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
	void *y;
	const float *scales, *scales_up;	/* experts: one each, or NULL */
	float scale;			/* format's factor included */
	uint32_t n, k, ldx, ldy;
	uint32_t n_cols;		/* dense: columns of the product, the rows of x and y */
	uint32_t n_tiles, n_slices;	/* of W: ceil(n / 16), ceil(k / 256) */
	enum matmul_out out;
	uint32_t k_warps, m_warps;	/* warps of a block: along K x tiles side by side */
	uint32_t groups;		/* narrow: of m_warps tiles, ceil(n_tiles / m_warps) */
	uint32_t groups_inverse;	/* ceil(2^32 / groups): item / groups is the upper half of
					 * item * this, exact while item * groups < 2^32 */
	/* experts */
	struct expert_list list;
	uint32_t n_slots;
	bool x_per_slot, list_settled;
};

/* 0 or -ENODEV for what a launch or an attribute call answered. */
static inline int cuda_code(cudaError_t e)
{
	return e == cudaSuccess ? 0 : -ENODEV;
}

/* Multiprocessors of the current device; 0 when there is none. */
int device_sms(void);

/* Adds slice sums in the order of docs/numerics.md; -0 is the neutral start. */
static __device__ __forceinline__ float fold(float total, float slice)
{
	return __fadd_rn(total, slice);
}

static __device__ __forceinline__ void store_out(const struct matmul_params &p, size_t at, float v)
{
	if (p.out == MATMUL_OUT_BF16)
		((__nv_bfloat16 *)p.y)[at] = __float2bfloat16_rn(v);
	else
		((float *)p.y)[at] = v;
}

/* Columns `at` of y: gate and up are finished sums. */
static __device__ __forceinline__ void store_swiglu(const struct matmul_params &p, size_t at,
						    float gate, float up)
{
	const float sigmoid = __fdiv_rn(1.0f, 1.0f + expf(-gate));

	((__nv_bfloat16 *)p.y)[at] =
		__float2bfloat16_rn(__fmul_rn(__fmul_rn(gate, sigmoid), up));
}

int matmul_launch_narrow(const struct decode_matmul_args *a, cudaStream_t stream);
int matmul_launch_wide(const struct decode_matmul_args *a, cudaStream_t stream);
/* The wide form laid out as said: what the choice in decode_wide.cu chooses from. */
struct wide_layout {
	int tiles, col_tiles;	/* row tiles a warp, column tiles a block: (1, 4) (1, 8); NVFP4
				 * also (2, 8) */
	int m_warps, k_warps;	/* of a block: along rows x along K; the product is 1..12 */
};
int matmul_launch_wide_as(const struct matmul_params *p, enum matmul_format f,
			  const struct wide_layout *l, cudaStream_t stream);
struct matmul_params matmul_params_of(const struct decode_matmul_args *a);

#endif
