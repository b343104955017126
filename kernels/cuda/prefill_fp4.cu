/* prefill_fp4.cu - see prefill_fp4.h: the product.
 *
 * The shape of prefill_tile.cuh's mma.sync form: a block has 128 rows of W and 256 (or 64) of x, a
 * warp 16 rows of W and all of x.  A warp's weights come from memory a unit of 256 columns ahead
 * and become fragments in registers (fp4_lane.h); x passes through shared memory in stages of 256
 * columns: rows of 128 bytes of codes, swizzled by 128 bytes, and of 16 bytes of scales behind
 * them.  73,728 bytes a block at most. */
#include "kernels/cuda/prefill_fp4.h"

#include "kernels/cuda/fp4_lane.h"
#include "kernels/cuda/fp4_mma.cuh"
#include "kernels/cuda/prefill_place.cuh"
#include "kernels/cuda/prefill_store.cuh"

namespace {

/* A stage of C rows of x. */
template <int C> struct fp4_room {
	static constexpr int CODES = C * MATMUL_SLICE / 2, BYTES = CODES + C * MATMUL_SLICE / 16,
			     STAGES = C == FEW ? 4 : 2, AHEAD = STAGES - 1;
	static_assert(STAGES * BYTES * room<C>::BLOCKS <= SHARED_MAX - 2048,
		      "fits every device, with what a block takes besides");
};

/* Where this thread's part of a stage comes from: codes, chunk tid % 8 of rows tid / 8, tid / 8 +
 * 32, ...; scales, of row tid. */
template <int C> struct stage_source {
	const char *codes[room<C>::COPIES], *scales;
	uint32_t n;

	__device__ stage_source(const matmul_params &p, const tile_of_x &x, const fp4_rows &rows)
	    : n(x.n)
	{
		const size_t padded = (size_t)p.n_slices * MATMUL_SLICE;

#pragma unroll
		for (int i = 0; i < room<C>::COPIES; i++)
			codes[i] = (const char *)rows.codes +
				   row(p, x, threadIdx.x / 8 + i * (THREADS / 8)) * (padded / 2) +
				   threadIdx.x % 8 * 16;
		scales = (const char *)rows.scales + row(p, x, threadIdx.x) * (padded / 16);
	}
	static __device__ size_t row(const matmul_params &p, const tile_of_x &x, uint32_t i)
	{
		const uint32_t r = x.row(min(i, x.n - 1));

		return x.pair && !p.x_per_slot ? r / p.n_slots : r;
	}
};

__device__ __forceinline__ void copy16(uint32_t to, const char *from, bool there)
{
	/* Bytes that are not there arrive as zeros; their address is not read. */
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
		     "r"(there ? 16 : 0)
		     : "memory");
}

template <int C>
__device__ void fp4_stage_load(const stage_source<C> &from, char *stage, uint32_t slice)
{
	const uint32_t at = smem_address(stage), chunk = threadIdx.x % 8;

#pragma unroll
	for (int i = 0; i < room<C>::COPIES; i++) {
		const uint32_t r = threadIdx.x / 8 + i * (THREADS / 8);

		copy16(at + r * 128 + (chunk ^ (r & 7)) * 16, from.codes[i] + (size_t)slice * 128,
		       r < from.n);
	}
	if (threadIdx.x < C)
		copy16(at + fp4_room<C>::CODES + threadIdx.x * 16, from.scales + (size_t)slice * 16,
		       threadIdx.x < from.n);
}

/* What a lane keeps of a unit of W: words of codes, and scales of its g (low rows and high rows in
 * turns). */
struct fp4_unit {
	uint4 a[FP4_STEPS], scale[2];

	__device__ void load(const uint4 *from, bool more)
	{
#pragma unroll
		for (int m = 0; m < FP4_STEPS; m++)
			refill(m, from, more);
		refill_scales(from, more);
	}
	__device__ void refill_scales(const uint4 *from, bool more)
	{
#pragma unroll
		for (int half = 0; half < 2; half++)
			load_weights_if<true>(&scale[half], from + 128 + threadIdx.x % WARP / 4 * 2 + half,
				     more);
	}
	__device__ void refill(int m, const uint4 *from, bool more)
	{
		load_weights_if<true>(&a[m], from + m * WARP + threadIdx.x % WARP, more);
	}
	/* Of 64 columns. */
	__device__ void frag_of(int m, uint32_t (&ret)[4]) const
	{
		fp4_pair(a[m].x, a[m].y, &ret[0]);
		fp4_pair(a[m].z, a[m].w, &ret[2]);
	}
	__device__ void scales_of(uint32_t (&ret)[FP4_STEPS]) const
	{
		const uint32_t high = threadIdx.x % 2; /* of g (q = 0, 2) or of g + 8 (q = 1, 3) */

		ret[0] = fp4_scales(scale[0].x, scale[1].x, high);
		ret[1] = fp4_scales(scale[0].y, scale[1].y, high);
		ret[2] = fp4_scales(scale[0].z, scale[1].z, high);
		ret[3] = fp4_scales(scale[0].w, scale[1].w, high);
	}
};

/* 64 columns of a stage. */
template <int C>
__device__ void fp4_multiply(sums<C> &s, const uint32_t (&a)[4], uint32_t scale_a, int m,
			     const char *stage, uint32_t n)
{
	/* Matrices of a load: chunks 2m and 2m + 1 of rows 0-7, then of rows 8-15. */
	const uint32_t lane = threadIdx.x % WARP, row = lane % 8 + lane / 16 * 8,
		       odd = lane / 8 % 2;
	const uint32_t *scales = (const uint32_t *)(stage + fp4_room<C>::CODES);

#pragma unroll
	for (int h = 0; h < room<C>::HALVES; h++) {
#pragma unroll
		for (int j = 0; j < room<C>::HALF / 16; j++) {
			if (h * room<C>::HALF + j * 16 >= (int)n)
				break;
			const uint32_t first = h * room<C>::HALF + j * 16, r = first + row;
			const uint32_t *at = scales + (first + lane / 4) * 4 + m;
			uint32_t b[4];

			ldmatrix4(b,
				  smem_address(stage) + r * 128 + (((2 * m + odd) ^ (r & 7)) * 16));
			fp4_mma(&s.h[h][8 * j], a, scale_a, b[0], b[1], at[0]);
			fp4_mma(&s.h[h][8 * j + 4], a, scale_a, b[2], b[3], at[8 * 4]);
		}
	}
}

/* The sums of 16 rows of W with all columns of the tile, without powers and factors. */
template <int C>
__device__ void fp4_tile(const matmul_params &p, const tile_of_x &x, const fp4_rows &rows,
			 uint32_t tile, char *stages, sums<C> &s)
{
	constexpr int STAGES = fp4_room<C>::STAGES, AHEAD = fp4_room<C>::AHEAD,
		      BYTES = fp4_room<C>::BYTES;
	constexpr uint32_t UNIT = MATMUL_NVFP4_UNIT / 16;
	const uint4 *from =
		(const uint4 *)(p.w + ((size_t)x.expert * p.n_tiles + min(tile, p.n_tiles - 1)) *
					      p.n_slices * MATMUL_NVFP4_UNIT);
	const stage_source<C> source(p, x, rows);
	struct fp4_unit w = {};

	w.load(from, true);
#pragma unroll
	for (int h = 0; h < room<C>::HALVES; h++)
#pragma unroll
		for (int i = 0; i < room<C>::HALF / 2; i++)
			s.h[h][i] = 0;
	for (int i = 0; i < AHEAD; i++) {
		if (i < (int)p.n_slices)
			fp4_stage_load<C>(source, stages + i * BYTES, i);
		asm volatile("cp.async.commit_group;" ::: "memory");
	}
	for (uint32_t slice = 0; slice < p.n_slices; slice++, from += UNIT) {
		const bool more = slice + 1 < p.n_slices;
		const char *stage = stages + slice % STAGES * BYTES;
		uint32_t scale[FP4_STEPS];

		asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 1) : "memory");
		/* The stage is there for all, and nobody reads the place that is filled next. */
		__syncthreads();
		if (slice + AHEAD < p.n_slices)
			fp4_stage_load<C>(source, stages + (slice + AHEAD) % STAGES * BYTES,
					  slice + AHEAD);
		asm volatile("cp.async.commit_group;" ::: "memory");
		w.scales_of(scale);
#pragma unroll
		for (int m = 0; m < FP4_STEPS; m++) {
			uint32_t a[4];

			w.frag_of(m, a);
			w.refill(m, from + UNIT, more);
			fp4_multiply<C>(s, a, scale[m], m, stage, x.n);
		}
		w.refill_scales(from + UNIT, more);
	}
}

/* Sums times the powers of two of their rows of x. */
template <int C>
__device__ void fp4_powers(const matmul_params &p, const tile_of_x &x, const fp4_rows &rows,
			   sums<C> &s)
{
#pragma unroll
	for (int j = 0; j < C / 8; j++) {
		if (j * 8 >= (int)x.n)
			break;
		float *v = &s.h[j / (room<C>::HALF / 8)][j % (room<C>::HALF / 8) * 4];

#pragma unroll
		for (int odd = 0; odd < 2; odd++) {
			const float power = rows.power[stage_source<C>::row(
				p, x, j * 8 + threadIdx.x % 4 * 2 + odd)];

			v[odd] = __fmul_rn(v[odd], power);
			v[2 + odd] = __fmul_rn(v[2 + odd], power);
		}
	}
}

template <bool EXPERTS, int C>
__global__ void __launch_bounds__(THREADS, room<C>::BLOCKS)
	fp4_kernel(const __grid_constant__ matmul_params p, const fp4_rows rows,
		   uint32_t row_blocks, const expert_tiles tiles)
{
	extern __shared__ __align__(128) char fp4_stages[];
	uint32_t row_block = blockIdx.x, tile;
	struct tile_of_x x;
	struct sums<C> s;

	chain_wait();
	chain_release();
	if (EXPERTS) {
		if (!place_expert(p, tiles, &x))
			return;
	} else {
		place_dense(p, C, row_blocks, &row_block, &x);
	}
	tile = row_block * WARPS + threadIdx.x / WARP;
	fp4_tile<C>(p, x, rows, tile, fp4_stages, s);
	fp4_powers<C>(p, x, rows, s);
	/* The fragments are the weights themselves here: nothing is left to the factor. */
	const float whole = 1 / fragment_factor<MATMUL_NVFP4>;
	store_tile<MATMUL_NVFP4>(p, x, tile, s, row_scales{ whole, whole });
}

template <bool EXPERTS, int C>
int fp4_launch(const matmul_params &p, const struct fp4_rows &rows, const expert_tiles &tiles,
	       uint32_t max_tiles, cudaStream_t stream)
{
	auto kernel = fp4_kernel<EXPERTS, C>;
	const size_t shared = (size_t)fp4_room<C>::STAGES * fp4_room<C>::BYTES;
	const uint32_t row_blocks = row_blocks_of(p), col_tiles = (p.n_cols + C - 1) / C;
	const dim3 grid = EXPERTS ? dim3(row_blocks, max_tiles) : dim3(row_blocks * col_tiles);

	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, grid, THREADS, shared, 1, stream, p, rows, row_blocks, tiles);
}

} /* namespace */

bool prefill_fp4_here(void)
{
	return device_major() == 12;
}

int prefill_fp4_matmul(const struct decode_matmul_args *a, const struct fp4_rows *x, void *stream)
{
	struct decode_matmul_args b = *a;
	const expert_tiles none = {};

	b.x = x->codes;
	b.ldx = a->k;
	if (a->format != MATMUL_NVFP4 || a->k % 32 || !matmul_args_ok(&b, PREFILL_MAX_ROWS))
		return -EINVAL;
	const matmul_params p = matmul_params_of(&b);

	return few_is_faster(p) ? fp4_launch<false, FEW>(p, *x, none, 0, (cudaStream_t)stream) :
				  fp4_launch<false, MANY>(p, *x, none, 0, (cudaStream_t)stream);
}

/* With few pairs an expert, those that have at most 64 go first, and what is left after. */
int prefill_fp4_experts(const struct decode_experts_args *a, const struct prefill_list *list,
			const struct fp4_rows *x, void *stream)
{
	const uint32_t most = prefill_max_tiles(a->n_rows, a->n_slots, a->n_experts);
	const bool few = a->n_rows * a->n_slots <= a->n_experts * 80;
	struct decode_experts_args b = *a;
	int rc = 0;

	b.x = x->codes;
	b.ldx = a->k;
	if (a->format != MATMUL_NVFP4 || a->k % 32 || !matmul_experts_ok(&b, PREFILL_MAX_ROWS))
		return -EINVAL;
	const matmul_params p = matmul_params_of_experts(&b, &list->list);

	if (few)
		rc = fp4_launch<true, FEW>(p, *x, { list->n_tiles, list->tile, 0, FEW }, most,
					   (cudaStream_t)stream);
	return rc ? rc :
		    fp4_launch<true, MANY>(p, *x,
					   { list->n_tiles, list->tile, few ? FEW + 1u : 0, MANY },
					   most, (cudaStream_t)stream);
}
