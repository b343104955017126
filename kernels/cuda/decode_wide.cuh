/* decode_wide.cuh - the decode product for many columns: weights once, tensor core busy.
 *
 * A block owns m_warps x MT tiles of 16 rows and 8 NT columns.  Its warps form k_warps groups;
 * group g multiplies the slices g, g + k_warps, ... of K, all warps of a group with the same
 * columns, which pass through shared memory in stages of 64 of K, in fragment order (cp.async;
 * no bank conflicts either way).  Weights go from memory to registers as in the narrow form.
 *
 * The order of additions is that of the narrow form: each slice starts from zero, and its sum is
 * added to a total in shared memory when its turn comes: the groups take turns by
 * named barriers, so they run about a group's turn apart and seldom wait.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_WIDE_CUH
#define HEARTH_KERNELS_CUDA_DECODE_WIDE_CUH

#include <cuda_pipeline.h>

#include "kernels/cuda/decode_matmul_int.cuh"

#define WIDE_STAGES                                                                                \
	4 /* of WIDE_STAGE_K columns: one slice, so that a stage's place is a constant */
#define WIDE_STAGE_K (MATMUL_SLICE / WIDE_STAGES)
#define WIDE_WARPS 12		/* at most: wide_warps */
#define WIDE_GROUPS 7		/* at most: each has two barriers, of 15 beside __syncthreads() */

/* What the registers allow: MT's and NT's sums, and FP8's second set of them. */
template <enum matmul_format F, int MT, int NT>
constexpr int wide_warps = MT == 2 || (F == MATMUL_FP8 && NT == 8) ? 8 : WIDE_WARPS;
template <int NT> constexpr int stage_uint4 = NT * 8 * WIDE_STAGE_K * 2 / 16;

template <int MT, int NT> static inline size_t wide_shared(int m_warps, int k_warps)
{
	return k_warps * WIDE_STAGES * stage_uint4<NT> * 16 + (size_t)m_warps * MT * NT * WARP * 16;
}

/* One warp's place in the product. */
struct wide_place {
	uint32_t first_col, first_tile;
	uint32_t slice;			/* its first; then every k_warps-th */
	uint32_t group, m;		/* along K, along rows */
	uint32_t group_threads;
};

/* Blocks: x along columns (so that those of the same rows run together and find the weights
 * in L2), y along rows. */
static __device__ __forceinline__ struct wide_place wide_place_of(const struct matmul_params &p,
								  int tiles, int cols)
{
	const uint32_t warp = threadIdx.x / WARP;
	struct wide_place at;

	at.group = warp / p.m_warps;
	at.m = warp % p.m_warps;
	at.group_threads = p.m_warps * WARP;
	at.first_col = blockIdx.x * cols;
	at.first_tile = (blockIdx.y * p.m_warps + at.m) * tiles;
	at.slice = at.group;
	return at;
}

static __device__ __forceinline__ void barrier_sync(uint32_t id, uint32_t threads)
{
	asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

static __device__ __forceinline__ void barrier_arrive(uint32_t id, uint32_t threads)
{
	asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Loads stay behind this: hoisting them all to the front costs registers that are not there. */
static __device__ __forceinline__ void keep_order(void)
{
	asm volatile("" ::: "memory");
}

static __device__ __forceinline__ void stage_copy(uint4 *to, const void *from, uint32_t bytes)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::
		     "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) : "memory");
}

/* The group's columns of x, K from k on, into one stage: [column tile][32 of K][lane].  A warp
 * brings 512 bytes at a time, and its lanes always the same columns of a tile and of K: `from` is
 * theirs for column tile 0 and k 0. */
template <int NT>
static __device__ __forceinline__ void
stage_load(const struct matmul_params &p, const struct wide_place &at, const __nv_bfloat16 *from,
	   uint4 *stage, uint32_t k)
{
	const uint32_t lane = threadIdx.x % WARP;
	const uint32_t col = at.first_col + lane / 4, own_k = k + lane % 4 * 8;

#pragma unroll 1
	for (uint32_t piece = at.m; piece < 2 * NT; piece += p.m_warps) {
		const uint32_t t = piece / 2, j = piece % 2;
		const bool there = col + 8 * t < p.n_cols && own_k + 32 * j < p.k;

		/* Bytes that are not there arrive as zeros; their address is not read. */
		stage_copy(stage + piece * WARP + lane, from + (size_t)(8 * t * p.ldx) + k + 32 * j,
			   there ? 16 : 0);
	}
}

/* Adds a stage of x times the units' steps of it; what a unit has done with is asked for anew, for
 * the slice at `from`, where there is `more`. */
template <enum matmul_format F, int MT, int NT>
static __device__ __forceinline__ void
wide_multiply(struct unit<F> (&w)[MT], const uint4 *stage, int quarter, const uint4 *const (&from)[MT],
	      int lane, bool more, float (&sum)[MT][NT][4])
{
#pragma unroll
	for (int j = 0; j < 2; j++) {
		uint4 b[NT];

		keep_order();
#pragma unroll
		for (int t = 0; t < NT; t++)
			b[t] = stage[lane + (t * 2 + j) * 32];
#pragma unroll
		for (int odd = 0; odd < 2; odd++) {
			const int step = quarter * 4 + j * 2 + odd;

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
}

/* Walks the slices of one warp.  done(slice, sums) gets each slice's sums.  FOLD false lets the
 * tensor core carry one sum through all of them. */
template <enum matmul_format F, int MT, int NT, bool FOLD, class Done>
static __device__ __forceinline__ void
wide_walk(const struct matmul_params &p, const struct wide_place &at, uint4 *stages, Done done)
{
	const int lane = threadIdx.x % WARP;
	struct unit<F> w[MT];
	const uint4 *from[MT];
	float sum[MT][NT][4], part[MT][NT][4];
	const __nv_bfloat16 *x_lane =
		p.x + (size_t)(at.first_col + lane / 4) * p.ldx + lane % 4 * 8;

	if (at.slice >= p.n_slices) {
		if (!p.x_settled)
			chain_wait();
		return;
	}
#pragma unroll
	for (int m = 0; m < MT; m++) {
		uint32_t tile = min(at.first_tile + m, p.n_tiles - 1);

		from[m] = (const uint4 *)(p.w +
					  ((size_t)tile * p.n_slices + at.slice) * unit<F>::bytes);
		w[m].load(from[m], lane);
	}
	if (!p.x_settled)
		chain_wait(); /* the weights are on their way, x may not be there yet */
	chain_release();
#pragma unroll
	for (int i = 0; i < WIDE_STAGES - 1; i++) {
		stage_load<NT>(p, at, x_lane, stages + i * stage_uint4<NT>,
			       at.slice * MATMUL_SLICE + i * WIDE_STAGE_K);
		__pipeline_commit();
	}

	for (uint32_t slice = at.slice; slice < p.n_slices; slice += p.k_warps) {
		const bool more = slice + p.k_warps < p.n_slices;

#pragma unroll
		for (int m = 0; m < MT; m++) {
			from[m] += p.k_warps * (unit<F>::bytes / 16);
#pragma unroll
			for (int t = 0; t < NT; t++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					if (FOLD || slice == at.slice)
						sum[m][t][i] = 0;
		}
#pragma unroll
		for (int quarter = 0; quarter < WIDE_STAGES; quarter++) {
			/* Three ahead: the last of this slice, or the ones before of the next. */
			const int to = (quarter + WIDE_STAGES - 1) % WIDE_STAGES;

			__pipeline_wait_prior(WIDE_STAGES - 2);
			/* Now the stage is there, and the one before is free. */
			barrier_sync(1 + at.group, at.group_threads);
			if (!quarter || more)
				stage_load<NT>(p, at, x_lane, stages + to * stage_uint4<NT>,
					       (quarter ? slice + p.k_warps : slice) *
							       MATMUL_SLICE +
						       to * WIDE_STAGE_K);
			__pipeline_commit();
			wide_multiply(w, stages + quarter * stage_uint4<NT>, quarter, from,
				      lane, more, sum);
			if constexpr (unit<F>::scaled_halves)
				if (quarter % 2)
#pragma unroll
					for (int m = 0; m < MT; m++)
						join_halves<4 * NT>(quarter / 2, w[m],
								    &sum[m][0][0], &part[m][0][0]);
		}
#pragma unroll
		for (int m = 0; m < MT; m++)
			w[m].refill_scales(from[m], lane, more);
		done(slice, sum);
	}
}

/* The groups' turns at the total: group g waits for g - 1, and says so to g + 1. */
static __device__ __forceinline__ void turn_wait(const struct matmul_params &p,
						 const struct wide_place &at, uint32_t slice)
{
	if (p.k_warps > 1 && slice)
		barrier_sync(1 + p.k_warps + at.group, 2 * at.group_threads);
}

static __device__ __forceinline__ void turn_pass(const struct matmul_params &p,
						 const struct wide_place &at, uint32_t slice)
{
	if (p.k_warps > 1 && slice + 1 < p.n_slices)
		barrier_arrive(1 + p.k_warps + (at.group + 1) % p.k_warps, 2 * at.group_threads);
}

/* What wide_finish() will ask for, on its way: it was last read a step ago. */
template <enum matmul_format F>
static __device__ __forceinline__ void wide_call_scales(const struct matmul_params &p,
							uint32_t tiles)
{
	const uint32_t tile = blockIdx.y * tiles + threadIdx.x;

	if (F != MATMUL_BF16 && p.row_scale && threadIdx.x < tiles && tile < p.n_tiles)
		asm volatile("prefetch.global.L1 [%0];" ::"l"(tile_scales<F>(p, 0, tile)));
}

/* Writes the block's totals, neighbours in a row of y side by side. */
template <enum matmul_format F, int MT, int NT>
static __device__ __forceinline__ void wide_finish(const struct matmul_params &p,
						   const uint4 *total)
{
	const uint32_t rows = p.m_warps * MT * MATMUL_TILE;

#pragma unroll 1
	for (uint32_t i = threadIdx.x; i < rows * 8 * NT; i += blockDim.x) {
		const uint32_t m = i % rows / 16, r = i % 16, c = i / rows;
		const uint32_t tile = blockIdx.y * p.m_warps * MT + m,
			       col = blockIdx.x * 8 * NT + c;
		/* As wide_walk()'s lanes hold it: [row tile][column tile][lane][4]. */
		const uint32_t at = ((m * NT + c / 8) * WARP + r % 8 * 4 + c % 8 / 2) * 4 + c % 2;
		const float *from = (const float *)total + at;

		if (has_output(p, tile, r) && col < p.n_cols) {
			const float *scales = tile_scales<F>(p, 0, tile);

			store_out(p, tile, r, col,
				  __fmul_rn(from[r / 8 * 2], scale_of<F>(scales, r)),
				  __fmul_rn(from[2], scale_of<F>(scales, r % 8 + 8)));
		}
	}
}

/* FOLD false gives other bits, and with k_warps > 1 no product at all: it shows the bench what
 * the order of sums costs. */
template <enum matmul_format F, int MT, int NT, bool FOLD>
__global__ void __launch_bounds__(wide_warps<F, MT, NT> *WARP, 1)
	wide_kernel(const __grid_constant__ struct matmul_params p)
{
	extern __shared__ uint4 shared[];	/* stages of each group, then the total */
	const struct wide_place at = wide_place_of(p, MT, 8 * NT);
	uint4 *stages = shared + at.group * WIDE_STAGES * stage_uint4<NT>;
	float4 *total = (float4 *)(shared + p.k_warps * WIDE_STAGES * stage_uint4<NT>) +
			at.m * MT * NT * WARP + threadIdx.x % WARP;

	wide_call_scales<F>(p, p.m_warps * MT);
	wide_walk<F, MT, NT, FOLD>(p, at, stages, [&](uint32_t slice, float(&sum)[MT][NT][4]) {
		if (!FOLD && slice + p.k_warps < p.n_slices)
			return;
		if (FOLD)
			turn_wait(p, at, slice);
#pragma unroll
		for (int m = 0; m < MT; m++)
#pragma unroll
			for (int t = 0; t < NT; t++) {
				float4 v = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);

				if (FOLD && slice)
					v = total[(m * NT + t) * WARP];
				v.x = fold(v.x, sum[m][t][0]);
				v.y = fold(v.y, sum[m][t][1]);
				v.z = fold(v.z, sum[m][t][2]);
				v.w = fold(v.w, sum[m][t][3]);
				total[(m * NT + t) * WARP] = v;
				keep_order();
			}
		if (FOLD)
			turn_pass(p, at, slice);
	});
	__syncthreads();
	wide_finish<F, MT, NT>(p, shared + p.k_warps * WIDE_STAGES * stage_uint4<NT>);
	if (p.x_settled)
		chain_wait();
}

#endif
