/* residual.cu - see residual.h.
 *
 * Between two matrices this is what the memory waits for, so a row is spread over a cluster of blocks: PARTS of them
 * have a part of its columns each.  Sums of squares in the order of threads, then warps, then parts. */
#include "kernels/cuda/residual.h"

#include <cooperative_groups.h>

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"

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
	__syncthreads();
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
__device__ void norm_row(const float *v, const columns &c, const bf16 *w, bf16 *h, uint32_t width, float eps)
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
			h[i] = __float2bfloat16_rn(
				__fmul_rn(__fmul_rn(v[j], r), __fadd_rn(1.0f, __bfloat162float(w[i]))));
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
	norm_row(v, c, (const bf16 *)a.norm, (bf16 *)a.h + (size_t)r * a.width, a.width, a.eps);
}

__device__ float slot_sum(const residual_add_args &a, const float *y, const float *weight, uint32_t i)
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
	const float *y = a.y + at * a.slots, *weight = a.weight ? a.weight + r * a.slots : NULL;
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
	norm_row(v, c, (const bf16 *)a.norm, (bf16 *)a.h + at, a.width, a.eps);
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
	return chain_launch(embed_kernel, dim3(a->n_rows * PARTS), THREADS, 0, PARTS, (cudaStream_t)stream, *a);
}

int residual_add(const struct residual_add_args *a, void *stream)
{
	if (!a->rows || !a->width || a->width > RESIDUAL_MAX_WIDTH || !a->slots || (!a->weight && a->slots != 1))
		return -EINVAL;
	return chain_launch(residual_kernel, dim3(a->rows * PARTS), THREADS, 0, PARTS, (cudaStream_t)stream, *a);
}

int gather_rows(const void *from, const uint32_t *index, uint32_t n, uint32_t width, void *out, void *stream)
{
	if (!n || !width || width % 8)
		return -EINVAL;
	return chain_launch(gather_kernel, dim3(n), 128, 0, 1, (cudaStream_t)stream, (const uint4 *)from, index, width / 8,
			    (uint4 *)out);
}
