/* residual.cu - see residual.h.
 *
 * Between two matrices this is what the memory waits for, so a row is spread over a cluster of
 * blocks: PARTS of them have a part of its columns each.  Sums of squares in the order of threads,
 * then warps, then parts. */
#include "kernels/cuda/residual.h"

#include <cooperative_groups.h>

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_matmul.h"

namespace cg = cooperative_groups;

namespace {

typedef __nv_bfloat16 bf16;

constexpr int WARPS = 8, THREADS = WARPS * 32, PARTS = 8;
constexpr int EACH = RESIDUAL_MAX_WIDTH / PARTS / THREADS;	/* columns a thread has, at most */

__device__ float block_sum(float x)
{
	__shared__ float part[WARPS];

	for (int m = 16; m > 0; m >>= 1)
		x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, m));
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();	/* of everything the block wrote before, too */
	x = part[0];
	for (int i = 1; i < WARPS; i++)
		x = __fadd_rn(x, part[i]);
	return x;
}

/* A thread's columns of its block's part of a row. */
struct columns {
	uint32_t begin, end;

	__device__ explicit columns(uint32_t width)
	{
		const uint32_t part = (width + PARTS - 1) / PARTS, rank = blockIdx.x % PARTS;

		begin = rank * part + threadIdx.x;
		end = min(width, (rank + 1) * part);
	}
};

/* The sum over the cluster's row; every thread gets it. */
__device__ float row_sum(float x)
{
	__shared__ float mine;
	cg::cluster_group cluster = cg::this_cluster();
	float sum = -0.0f;

	x = block_sum(x);
	if (!threadIdx.x)
		mine = x;
	cluster.sync();
	for (unsigned i = 0; i < PARTS; i++)
		sum = __fadd_rn(sum, *cluster.map_shared_rank(&mine, i));
	cluster.sync();		/* nobody leaves while its part is read */
	return sum;
}

/* v: the thread's values of the row, rounded. */
__device__ void norm_row(const float *v, const columns &c, const bf16 *w, bf16 *h, uint32_t width,
			 float eps, int ordered)
{
	float squares = 0;

#pragma unroll
	for (int j = 0; j < EACH; j++)
		if (c.begin + j * THREADS < c.end)
			squares = __fmaf_rn(v[j], v[j], squares);
	const float r = __frsqrt_rn(__fadd_rn(__fdiv_rn(row_sum(squares), (float)width), eps));

#pragma unroll
	for (int j = 0; j < EACH; j++) {
		const uint32_t i = c.begin + j * THREADS;

		if (i < c.end)
			h[ordered ? prefill_column(i) : i] = __float2bfloat16_rn(__fmul_rn(
				__fmul_rn(v[j], r), __fadd_rn(1.0f, __bfloat162float(w[i]))));
	}
}

__global__ void __launch_bounds__(THREADS) embed_kernel(embed_rows_args a)
{
	const uint32_t r = blockIdx.x / PARTS;
	const columns c(a.width);
	float v[EACH] = {};

	chain_wait();
	chain_release();
	const embed_row from = a.rows[r];
	const uint32_t id = from.slot == EMBED_TOKEN ? from.token : a.last_sample[from.slot];
	const bf16 *e = (const bf16 *)a.embed + (size_t)(id < a.vocab ? id : 0) * a.width;

#pragma unroll
	for (int j = 0; j < EACH; j++) {
		const uint32_t i = c.begin + j * THREADS;

		if (i < c.end) {
			((bf16 *)a.x)[(size_t)r * a.width + i] = e[i];
			v[j] = __bfloat162float(e[i]);
		}
	}
	norm_row(v, c, (const bf16 *)a.norm, (bf16 *)a.h + (size_t)r * a.width, a.width, a.eps,
		 a.ordered);
}

__device__ float slot_sum(const residual_add_args &a, const float *y, const float *weight,
			  uint32_t i)
{
	float sum = y[i];

	if (!weight)
		return sum;
	sum = __fmul_rn(weight[0], sum);
#pragma unroll 8
	for (uint32_t s = 1; s < a.slots; s++)
		sum = __fmaf_rn(weight[s], y[(size_t)s * a.width + i], sum);
	return sum;
}

__global__ void __launch_bounds__(THREADS) residual_kernel(residual_add_args a)
{
	const size_t r = blockIdx.x / PARTS, at = r * a.width;
	const float *y = (const float *)a.y + at * a.slots,
		    *weight = a.weight ? a.weight + r * a.slots : NULL;
	bf16 *x = (bf16 *)a.x + at;
	const columns c(a.width);
	float v[EACH] = {};

	chain_wait();
	chain_release();
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		const uint32_t i = c.begin + j * THREADS;

		if (i < c.end) {
			x[i] = __float2bfloat16_rn(
				__fadd_rn(__bfloat162float(x[i]), slot_sum(a, y, weight, i)));
			v[j] = __bfloat162float(x[i]);
		}
	}
	norm_row(v, c, (const bf16 *)a.norm, (bf16 *)a.h + at, a.width, a.eps, a.ordered);
}

/* Eight neighbours of a row of y as float. */
__device__ void load8(const residual_add_args &a, size_t at, float (&v)[8])
{
	if (a.y_bf16) {
		const uint4 w = ((const uint4 *)a.y)[at / 8];
		const uint32_t words[4] = { w.x, w.y, w.z, w.w };

		for (int i = 0; i < 4; i++) {
			v[2 * i] = __uint_as_float(words[i] << 16);
			v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
		}
	} else {
		const float4 lo = ((const float4 *)a.y)[at / 4],
			     hi = ((const float4 *)a.y)[at / 4 + 1];

		v[0] = lo.x, v[1] = lo.y, v[2] = lo.z, v[3] = lo.w;
		v[4] = hi.x, v[5] = hi.y, v[6] = hi.z, v[7] = hi.w;
	}
}

__device__ uint32_t pack2(float lo, float hi)
{
	const __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);

	return *(const uint32_t *)&v;
}

/* A block has a row, a thread eight columns of each 2,048. */
__global__ void __launch_bounds__(THREADS) residual_rows_kernel(residual_add_args a)
{
	extern __shared__ float row[];
	const size_t r = blockIdx.x, at = r * a.width;
	const float *weight = a.weight + r * a.slots;
	float squares = 0;

	chain_wait();
	chain_release();
	for (uint32_t i = threadIdx.x * 8; i < a.width; i += THREADS * 8) {
		uint4 x = *(const uint4 *)((const bf16 *)a.x + at + i);
		uint32_t *words = &x.x;
		float sum[8], y[8];

		load8(a, at * a.slots + i, sum);
		if (a.weight)
			for (int j = 0; j < 8; j++)
				sum[j] = __fmul_rn(weight[0], sum[j]);
#pragma unroll 3
		for (uint32_t s = 1; s < a.slots; s++) {
			load8(a, (r * a.slots + s) * a.width + i, y);
			for (int j = 0; j < 8; j++)
				sum[j] = __fmaf_rn(weight[s], y[j], sum[j]);
		}
#pragma unroll
		for (int j = 0; j < 4; j++) {
			words[j] = pack2(
				__fadd_rn(__uint_as_float(words[j] << 16), sum[2 * j]),
				__fadd_rn(__uint_as_float(words[j] & 0xffff0000u), sum[2 * j + 1]));
			row[i + 2 * j] = __uint_as_float(words[j] << 16);
			row[i + 2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
			squares = __fmaf_rn(row[i + 2 * j], row[i + 2 * j], squares);
			squares = __fmaf_rn(row[i + 2 * j + 1], row[i + 2 * j + 1], squares);
		}
		*(uint4 *)((bf16 *)a.x + at + i) = x;
	}
	const float scale =
		__frsqrt_rn(__fadd_rn(__fdiv_rn(block_sum(squares), (float)a.width), a.eps));
	for (uint32_t i = threadIdx.x * 2; i < a.width; i += THREADS * 2) {
		const __nv_bfloat162 w = *(const __nv_bfloat162 *)((const bf16 *)a.norm + i);
		const uint32_t to = a.ordered ? prefill_column(i) : i;

		*(uint32_t *)((bf16 *)a.h + at + to) = pack2(
			__fmul_rn(__fmul_rn(row[i], scale), __fadd_rn(1.0f, __low2float(w))),
			__fmul_rn(__fmul_rn(row[i + 1], scale), __fadd_rn(1.0f, __high2float(w))));
	}
}

__global__ void gather_kernel(const uint4 *from, const uint32_t *index, uint32_t chunks, uint4 *out)
{
	chain_wait();
	chain_release();
	for (uint32_t i = threadIdx.x; i < chunks; i += blockDim.x)
		out[(size_t)blockIdx.x * chunks + i] = from[(size_t)index[blockIdx.x] * chunks + i];
}

} /* namespace */

int embed_rows(const struct embed_rows_args *a, void *stream)
{
	if (!a->n_rows || !a->width || a->width > RESIDUAL_MAX_WIDTH || !a->vocab)
		return -EINVAL;
	return chain_launch(embed_kernel, dim3(a->n_rows * PARTS), THREADS, 0, PARTS,
			    (cudaStream_t)stream, *a);
}

int residual_add_rows(const struct residual_add_args *a, void *stream)
{
	const size_t bytes = a->width * sizeof(float);

	if (!a->rows || !a->width || a->width % 8 || a->width > RESIDUAL_MAX_WIDTH || !a->slots ||
	    (!a->weight && a->slots != 1))
		return -EINVAL;
	if (bytes > 48 * 1024 &&
	    cudaFuncSetAttribute(residual_rows_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)bytes) != cudaSuccess)
		return -ENODEV;
	return chain_launch(residual_rows_kernel, dim3(a->rows), THREADS, bytes, 1,
			    (cudaStream_t)stream, *a);
}

int residual_add(const struct residual_add_args *a, void *stream)
{
	if (!a->rows || a->y_bf16 || !a->width || a->width > RESIDUAL_MAX_WIDTH || !a->slots ||
	    (!a->weight && a->slots != 1))
		return -EINVAL;
	return chain_launch(residual_kernel, dim3(a->rows * PARTS), THREADS, 0, PARTS,
			    (cudaStream_t)stream, *a);
}

int gather_rows(const void *from, const uint32_t *index, uint32_t n, uint32_t width, void *out,
		void *stream)
{
	if (!n || !width || width % 8)
		return -EINVAL;
	return chain_launch(gather_kernel, dim3(n), 128, 0, 1, (cudaStream_t)stream,
			    (const uint4 *)from, index, width / 8, (uint4 *)out);
}
