/* decode_wide.cuh - the decode product for many columns: weights once, tensor core busy.
 *
 * A warp owns one or two tiles of 16 rows and walks K in order; all warps of a block multiply
 * with the same columns, which pass through shared memory in stages of 128 columns of
 * K, in fragment order (cp.async, 16 bytes a lane, no bank conflicts either way).  Weights go from
 * memory to registers as in the narrow form.
 *
 * The order of additions is that of the narrow form: each slice of K starts from zero, and its sum is
 * folded into a second set of accumulators.  Where there are too few rows to fill the
 * device, K is split over blocks: every slice's sum goes to the workspace by itself
 * and a second kernel folds them, in slice order again.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_WIDE_CUH
#define HEARTH_KERNELS_CUDA_DECODE_WIDE_CUH

#include <cuda_pipeline.h>

#include "kernels/cuda/decode_matmul_int.cuh"

#define STAGES 3
#define STAGE_K 128
#define WIDE_WARPS 8		/* at most */

template <int NT> constexpr int stage_uint4 = NT * 8 * STAGE_K * 2 / 16;

/* Columns first..first + 8 NT of x, K from k on, into one stage: [column tile][32 of K][lane]. */
template <int NT>
static __device__ __forceinline__ void stage_load(const struct matmul_params &p, uint4 *stage,
						  uint32_t first, uint32_t k)
{
	for (int i = threadIdx.x; i < stage_uint4<NT>; i += blockDim.x) {
		uint32_t q = i % 4, g = i / 4 % 8, j = i / 32 % 4, t = i / 128;
		uint32_t col = first + 8 * t + g, at = k + 32 * j + 8 * q;
		bool there = col < p.n_cols && at < p.k;
		const __nv_bfloat16 *from = p.x + (there ? (size_t)col * p.ldx + at : 0);

		/* Bytes that are not there arrive as zeros. */
		__pipeline_memcpy_async(stage + i, from, 16, there ? 0 : 16);
	}
}

struct wide_place {
	uint32_t first_col, first_slice, end_slice;
	uint32_t first_tile;	/* of this warp */
};

/* Blocks: x along columns (so that those of the same rows run together and find the weights
 * in L2), y along rows, z along K. */
static __device__ __forceinline__ struct wide_place wide_place_of(const struct matmul_params &p,
								  int tiles, int cols)
{
	struct wide_place at;

	at.first_col = blockIdx.x * cols;
	at.first_tile = (blockIdx.y * (blockDim.x / WARP) + threadIdx.x / WARP) * tiles;
	at.first_slice = p.n_slices * blockIdx.z / gridDim.z;
	at.end_slice = p.n_slices * (blockIdx.z + 1) / gridDim.z;
	return at;
}

/* Walks the slices of one warp.  done(slice, sums) gets each slice's sums. */
template <enum matmul_format F, int MT, int NT, bool FOLD, class Done>
static __device__ __forceinline__ void wide_walk(const struct matmul_params &p,
						 const struct wide_place &at, Done done)
{
	extern __shared__ uint4 stages[];	/* [STAGES][stage_uint4] */
	const int lane = threadIdx.x % WARP;
	const uint32_t n_stages = (at.end_slice - at.first_slice) * 2;
	const uint32_t k0 = at.first_slice * MATMUL_SLICE;
	struct unit<F> w[MT];
	const uint4 *from[MT];
	float sum[MT][NT][4], part[MT][NT][4];
	uint32_t stage = 0;

#pragma unroll
	for (int m = 0; m < MT; m++) {
		uint32_t tile = min(at.first_tile + m, p.n_tiles - 1);

		from[m] = (const uint4 *)(p.w + ((size_t)tile * p.n_slices + at.first_slice) *
						   unit<F>::bytes);
		w[m].load(from[m], lane);
	}
#pragma unroll
	for (int s = 0; s < STAGES - 1; s++) {
		if (s < n_stages)
			stage_load<NT>(p, stages + s * stage_uint4<NT>, at.first_col,
				       k0 + s * STAGE_K);
		__pipeline_commit();
	}

	for (uint32_t slice = at.first_slice; slice < at.end_slice; slice++) {
		const bool more = slice + 1 < at.end_slice;

#pragma unroll
		for (int m = 0; m < MT; m++) {
			from[m] += unit<F>::bytes / 16;
			w[m].begin(from[m], lane, more);
#pragma unroll
			for (int t = 0; t < NT; t++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					if (FOLD || slice == at.first_slice)
						sum[m][t][i] = 0;
		}
#pragma unroll
		for (int half = 0; half < 2; half++, stage++) {
			const uint4 *x = stages + stage % STAGES * stage_uint4<NT> + lane;
			const uint32_t ahead = stage + STAGES - 1;

			__pipeline_wait_prior(STAGES - 2);
			__syncthreads();	/* the stage is there, and the one before is free */
			if (ahead < n_stages)
				stage_load<NT>(p, stages + ahead % STAGES * stage_uint4<NT>,
					       at.first_col, k0 + ahead * STAGE_K);
			__pipeline_commit();
#pragma unroll
			for (int j = 0; j < 4; j++) {
				uint4 b[NT];

#pragma unroll
				for (int t = 0; t < NT; t++)
					b[t] = x[(t * 4 + j) * 32];
#pragma unroll
				for (int odd = 0; odd < 2; odd++) {
					const int step = half * 8 + j * 2 + odd;

#pragma unroll
					for (int m = 0; m < MT; m++) {
						struct frag f = w[m].frag_of(step);

#pragma unroll
						for (int t = 0; t < NT; t++)
							mma(sum[m][t], &f, odd ? b[t].z : b[t].x,
							    odd ? b[t].w : b[t].y);
						w[m].refill(step, from[m], lane, more);
					}
				}
			}
			if constexpr (unit<F>::scaled_halves)
#pragma unroll
				for (int m = 0; m < MT; m++)
					join_halves<4 * NT>(half, w[m].scale[half], &sum[m][0][0],
							    &part[m][0][0]);
		}
		done(slice, sum);
	}
}

/* Calls put(row, column, value index) for the lane's outputs that exist. */
template <int MT, int NT, class Put>
static __device__ __forceinline__ void wide_each(const struct matmul_params &p,
						 const struct wide_place &at, uint32_t rows, Put put)
{
	const int lane = threadIdx.x % WARP;

#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int t = 0; t < NT; t++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				uint32_t row = (at.first_tile + m) * MATMUL_TILE + lane / 4 + i / 2 * 8;
				uint32_t col = at.first_col + 8 * t + lane % 4 * 2 + i % 2;

				if (row < rows && col < p.n_cols)
					put(row, col, m, t, i);
			}
}

/* FOLD false lets the tensor core carry a sum through all of K: other bits, what a kernel
 * without slices would do.  Only the bench instantiates it, to see what slices cost. */
template <enum matmul_format F, int MT, int NT, bool FOLD>
__global__ void __launch_bounds__(WIDE_WARPS *WARP, 1)
	wide_kernel(const __grid_constant__ struct matmul_params p)
{
	const struct wide_place at = wide_place_of(p, MT, 8 * NT);
	float total[MT][NT][4];

#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int t = 0; t < NT; t++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				total[m][t][i] = -0.0f;
	wide_walk<F, MT, NT, FOLD>(p, at, [&](uint32_t, float(&sum)[MT][NT][4]) {
#pragma unroll
		for (int m = 0; m < MT; m++)
#pragma unroll
			for (int t = 0; t < NT; t++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					total[m][t][i] = FOLD ? fold(total[m][t][i], sum[m][t][i]) :
								sum[m][t][i];
	});
	wide_each<MT, NT>(p, at, p.n, [&](uint32_t row, uint32_t col, int m, int t, int i) {
		store_out(p, (size_t)col * p.ldy + row, __fmul_rn(total[m][t][i], p.scale));
	});
}

/* Every slice's sum by itself, for merge_kernel(). */
template <enum matmul_format F, int MT, int NT>
__global__ void __launch_bounds__(WIDE_WARPS *WARP, 1)
	split_kernel(const __grid_constant__ struct matmul_params p)
{
	const struct wide_place at = wide_place_of(p, MT, 8 * NT);
	const uint32_t rows = p.n_tiles * MATMUL_TILE;

	wide_walk<F, MT, NT, true>(p, at, [&](uint32_t slice, float(&sum)[MT][NT][4]) {
		float *to = p.partial + (size_t)slice * p.n_cols * rows;

		wide_each<MT, NT>(p, at, rows, [&](uint32_t row, uint32_t col, int m, int t, int i) {
			to[(size_t)col * rows + row] = sum[m][t][i];
		});
	});
}

#endif
