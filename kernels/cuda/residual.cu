/* residual.cu - see residual.h.
 *
 * A block has a row; its values stay in shared memory until the norm is known.  A thread has eight
 * neighbours of each 2,048 columns; squares are added in the order of its columns, then over the
 * lanes of a warp (butterfly), then warp after warp.
 *
 * A kernel of an answer's step is run through once by one block, and its code comes from far away: rows
 * of one round have kernels without loops. */
#include "kernels/cuda/residual.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/prefill_matmul.h"

namespace {

typedef __nv_bfloat16 bf16;

constexpr int WARPS = NORM_WARPS, THREADS = WARPS * 32;
constexpr uint32_t ROUND = THREADS * 8; /* columns */

/* The thread's part of the norm's weights in the first round, asked for before the kernel waits: they
 * were last read a step ago and come from memory. */
__device__ __forceinline__ uint4 first_norm(const void *norm, uint32_t width)
{
	return threadIdx.x * 8 < width ? ((const uint4 *)norm)[threadIdx.x] : uint4();
}

/* Eight columns of a row, from `i` on. */
__device__ __forceinline__ void put8(void *h, uint32_t i, const uint4 &v, int ordered)
{
	const uint32_t words[4] = { v.x, v.y, v.z, v.w };

	if (!ordered) {
		((uint4 *)h)[i / 8] = v;
		return;
	}
#pragma unroll
	for (int j = 0; j < 4; j++)
		*(uint32_t *)((bf16 *)h + prefill_column(i + 2 * j)) = words[j];
}

/* 1 / rms of a row, by the whole block; squares: the sum of the thread's own. */
__device__ __forceinline__ float block_scale(float squares, uint32_t width, float eps)
{
	__shared__ float part[WARPS];

	squares = warp_sum(squares);
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = squares;
	__syncthreads();
	return norm_scale(part, width, eps);
}

/* By the whole block: `row` holds its values, `squares` the sum of the thread's own. */
__device__ void norm_row(const uint4 *row, float squares, const uint4 &first, const void *norm,
			 void *h, uint32_t width, float eps, int ordered)
{
	const float scale = block_scale(squares, width, eps);

	for (uint32_t i = threadIdx.x * 8; i < width; i += ROUND) {
		uint4 w = first;

		if (i >= ROUND)
			w = ((const uint4 *)norm)[i / 8];
		const uint4 v = norm8(row[i / 8], w, scale);

		put8(h, i, v, ordered);
	}
}

__global__ void __launch_bounds__(THREADS) embed_kernel(embed_rows_args a)
{
	extern __shared__ uint4 row[];
	const size_t at = (size_t)blockIdx.x * a.width;
	const uint4 first = first_norm(a.norm, a.width);
	float squares = 0;

	chain_wait();
	chain_release();
	const embed_row from = a.rows[blockIdx.x];
	const uint32_t id = from.slot == EMBED_TOKEN ? from.token : a.last_sample[from.slot];
	const bf16 *e = (const bf16 *)a.embed + (size_t)(id < a.vocab ? id : 0) * a.width;

	for (uint32_t i = threadIdx.x * 8; i < a.width; i += ROUND) {
		const uint4 x = *(const uint4 *)(e + i);

		*(uint4 *)((bf16 *)a.x + at + i) = row[i / 8] = x;
		squares = add_squares(squares, x);
	}
	norm_row(row, squares, first, a.norm, (bf16 *)a.h + at, a.width, a.eps, a.ordered);
}

__device__ __forceinline__ void load8_float(const float *y, float (&v)[8])
{
	const float4 lo = ((const float4 *)y)[0], hi = ((const float4 *)y)[1];

	v[0] = lo.x, v[1] = lo.y, v[2] = lo.z, v[3] = lo.w;
	v[4] = hi.x, v[5] = hi.y, v[6] = hi.z, v[7] = hi.w;
}

/* Eight neighbours of a row of y as float. */
__device__ __forceinline__ void load8(const residual_add_args &a, size_t at, float (&v)[8])
{
	if (a.y_bf16) {
		const uint4 w = ((const uint4 *)a.y)[at / 8];
		const uint32_t words[4] = { w.x, w.y, w.z, w.w };

		for (int i = 0; i < 4; i++) {
			v[2 * i] = bf16_low(words[i]);
			v[2 * i + 1] = bf16_high(words[i]);
		}
	} else {
		load8_float((const float *)a.y + at, v);
	}
}

/* Eight neighbours of the sum over slots, from the first one's.  SLOTS: as many as there are, of
 * float, all asked for at once; 0: any number. */
template <int SLOTS>
__device__ __forceinline__ void add_slots(const residual_add_args &a, const float *weight,
					  size_t at, float (&sum)[8])
{
	float y[SLOTS ? SLOTS : 1][8];

	if constexpr (!SLOTS) {
		load8(a, at, sum);
		if (a.weight)
			for (int j = 0; j < 8; j++)
				sum[j] = __fmul_rn(weight[0], sum[j]);
#pragma unroll 3
		for (uint32_t s = 1; s < a.slots; s++) {
			load8(a, at + s * a.width, y[0]);
			for (int j = 0; j < 8; j++)
				sum[j] = __fmaf_rn(weight[s], y[0][j], sum[j]);
		}
	} else {
#pragma unroll
		for (int s = 0; s < SLOTS; s++)
			load8_float((const float *)a.y + at + s * a.width, y[s]);
		for (int j = 0; j < 8; j++)
			sum[j] = SLOTS > 1 ? __fmul_rn(weight[0], y[0][j]) : y[0][j];
#pragma unroll
		for (int s = 1; s < SLOTS; s++)
			for (int j = 0; j < 8; j++)
				sum[j] = __fmaf_rn(weight[s], y[s][j], sum[j]);
	}
}

/* By all blocks; who needs the zeros comes two kernels later, or waits. */
__device__ __forceinline__ void clear_words(const residual_add_args &a)
{
	for (uint32_t i = blockIdx.x * THREADS + threadIdx.x; i < a.n_clear / 4; i += gridDim.x * THREADS)
		((uint4 *)a.clear)[i] = uint4();
}

template <int SLOTS>
__global__ void __launch_bounds__(THREADS, 1) residual_kernel(residual_add_args a)
{
	extern __shared__ uint4 row[];
	const size_t r = blockIdx.x, at = r * a.width;
	const float *weight = a.weight + r * a.slots;
	const uint4 first = first_norm(a.norm, a.width);
	float squares = 0;

	chain_wait();
	chain_release();
	for (uint32_t i = threadIdx.x * 8; i < a.width; i += ROUND) {
		uint4 x = *(const uint4 *)((const bf16 *)a.x + at + i);
		float sum[8];

		add_slots<SLOTS>(a, weight, r * a.slots * a.width + i, sum);
		x = add8(x, sum);
		squares = add_squares(squares, x);
		*(uint4 *)((bf16 *)a.x + at + i) = row[i / 8] = x;
	}
	clear_words(a);
	norm_row(row, squares, first, a.norm, (bf16 *)a.h + at, a.width, a.eps, a.ordered);
}

/* A row of one round. */
template <int SLOTS>
__global__ void __launch_bounds__(THREADS, 1) residual_short_kernel(residual_add_args a)
{
	const size_t r = blockIdx.x, own = r * a.width + threadIdx.x * 8;
	const uint4 norm = first_norm(a.norm, a.width);
	const bool has = threadIdx.x * 8 < a.width;
	float squares = 0;
	uint4 x = {};

	chain_wait();
	chain_release();
	if (has) {
		float sum[8];

		x = *(const uint4 *)((const bf16 *)a.x + own);
		add_slots<SLOTS>(a, a.weight + r * a.slots,
				 r * a.slots * a.width + threadIdx.x * 8, sum);
		x = add8(x, sum);
		squares = add_squares(squares, x);
		*(uint4 *)((bf16 *)a.x + own) = x;
	}
	clear_words(a);

	const float scale = block_scale(squares, a.width, a.eps);

	if (has)
		put8((bf16 *)a.h + r * a.width, threadIdx.x * 8, norm8(x, norm, scale), a.ordered);
}

__global__ void gather_kernel(const uint4 *from, const uint32_t *index, uint32_t chunks, int ordered,
			      uint4 *out)
{
	out += (size_t)blockIdx.x * chunks;
	chain_wait();
	chain_release();
	for (uint32_t i = threadIdx.x; i < chunks; i += blockDim.x)
		put8(out, i * 8, from[(size_t)index[blockIdx.x] * chunks + i], ordered);
}

bool width_ok(uint32_t width)
{
	return width && width % 8 == 0 && width <= RESIDUAL_MAX_WIDTH;
}

} /* namespace */

static_assert(RESIDUAL_MAX_WIDTH * sizeof(bf16) <= 48 * 1024, "a row needs no leave");

int embed_rows(const struct embed_rows_args *a, void *stream)
{
	if (!a->n_rows || !width_ok(a->width) || !a->vocab)
		return -EINVAL;
	return chain_launch(embed_kernel, dim3(a->n_rows), THREADS, a->width * sizeof(bf16), 1,
			    (cudaStream_t)stream, *a);
}

int residual_add(const struct residual_add_args *a, void *stream)
{
	if (!a->rows || !width_ok(a->width) || !a->slots || (!a->weight && a->slots != 1) ||
	    (a->n_clear && !a->clear) || a->n_clear % 4 || (uintptr_t)a->clear % 16)
		return -EINVAL;
	/* The usual ones: a matrix's output, eight experts and the shared one. */
	const bool one = a->slots == 1 && !a->weight && !a->y_bf16,
		   nine = a->slots == 9 && a->weight && !a->y_bf16;

	if ((one || nine) && a->width <= ROUND)
		return chain_launch(one ? residual_short_kernel<1> : residual_short_kernel<9>,
				    dim3(a->rows), THREADS, 0, 1, (cudaStream_t)stream, *a);
	return chain_launch(one	 ? residual_kernel<1> :
			    nine ? residual_kernel<9> :
				   residual_kernel<0>,
			    dim3(a->rows), THREADS, a->width * sizeof(bf16), 1,
			    (cudaStream_t)stream, *a);
}

int gather_rows(const void *from, const uint32_t *index, uint32_t n, uint32_t width, int ordered, void *out,
		void *stream)
{
	if (!n || !width || width % (ordered ? 32 : 8))
		return -EINVAL;
	return chain_launch(gather_kernel, dim3(n), 128, 0, 1, (cudaStream_t)stream,
			    (const uint4 *)from, index, width / 8, ordered, (uint4 *)out);
}
