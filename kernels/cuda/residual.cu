/* residual.cu - see residual.h.  A block has a row; sums of squares in the order of threads, then warps. */
#include "kernels/cuda/residual.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

namespace {

typedef __nv_bfloat16 bf16;

constexpr int WARPS = 16, THREADS = WARPS * 32;

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

__device__ float sigmoid(float x)
{
	return __fdiv_rn(1.0f, 1.0f + expf(-x));
}

/* The row lies in shared memory as float; `squares` is this thread's sum of squares. */
__device__ void norm_row(const float *row, float squares, const bf16 *w, bf16 *h, uint32_t width, float eps)
{
	const float mean = __fdiv_rn(block_sum(squares), (float)width);
	const float r = __frsqrt_rn(__fadd_rn(mean, eps));

	for (uint32_t i = threadIdx.x; i < width; i += THREADS)
		h[i] = __float2bfloat16_rn(
			__fmul_rn(__fmul_rn(row[i], r), __fadd_rn(1.0f, __bfloat162float(w[i]))));
}

__global__ void __launch_bounds__(THREADS) embed_kernel(embed_rows_args a)
{
	extern __shared__ float row[];
	const embed_row from = a.rows[blockIdx.x];
	const uint32_t id = from.slot == EMBED_TOKEN ? from.token : a.last_sample[from.slot];
	const bf16 *e = (const bf16 *)a.embed + (size_t)(id < a.vocab ? id : 0) * a.width;
	bf16 *x = (bf16 *)a.x + (size_t)blockIdx.x * a.width;
	float squares = 0;

	for (uint32_t i = threadIdx.x; i < a.width; i += THREADS) {
		bf16 v = e[i];

		x[i] = v;
		row[i] = __bfloat162float(v);
		squares = __fmaf_rn(row[i], row[i], squares);
	}
	norm_row(row, squares, (const bf16 *)a.norm, (bf16 *)a.h + (size_t)blockIdx.x * a.width, a.width,
		 a.eps);
}

__device__ float slot_sum(const residual_add_args &a, const float *y, const float *weight, uint32_t i)
{
	float sum = y[i];

	if (!weight)
		return sum;
	sum = __fmul_rn(weight[0], sum);
#pragma unroll 4
	for (uint32_t s = 1; s < a.slots; s++)
		sum = __fmaf_rn(weight[s], y[(size_t)s * a.width + i], sum);
	return sum;
}

__global__ void __launch_bounds__(THREADS) residual_kernel(residual_add_args a)
{
	extern __shared__ float row[];
	const size_t r = blockIdx.x, at = r * a.width;
	const float *y = a.y + at * a.slots, *weight = a.weight ? a.weight + r * a.slots : NULL;
	const float scale = a.score ? sigmoid(a.score[r * a.score_stride]) : 1.0f;
	bf16 *x = (bf16 *)a.x + at;
	float squares = 0;

	for (uint32_t i = threadIdx.x; i < a.width; i += THREADS) {
		float sum = slot_sum(a, y, weight, i);
		bf16 v;

		if (a.shared)
			sum = __fmaf_rn(scale, a.shared[at + i], sum);
		v = __float2bfloat16_rn(__fadd_rn(__bfloat162float(x[i]), sum));
		x[i] = v;
		row[i] = __bfloat162float(v);
		squares = __fmaf_rn(row[i], row[i], squares);
	}
	norm_row(row, squares, (const bf16 *)a.norm, (bf16 *)a.h + at, a.width, a.eps);
}

__global__ void swiglu_kernel(swiglu_args a)
{
	const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	const float *row = a.y + (size_t)blockIdx.y * 2 * a.inter;

	if (i < a.inter) {
		float gate = row[i], up = row[a.inter + i];
		float v = __fmul_rn(__fmul_rn(gate, sigmoid(gate)), up);

		((bf16 *)a.out)[(size_t)blockIdx.y * a.inter + i] = __float2bfloat16_rn(v);
	}
}

__global__ void gather_kernel(const uint4 *from, const uint32_t *index, uint32_t chunks, uint4 *out)
{
	for (uint32_t i = threadIdx.x; i < chunks; i += blockDim.x)
		out[(size_t)blockIdx.x * chunks + i] = from[(size_t)index[blockIdx.x] * chunks + i];
}

int launched(void)
{
	return cudaGetLastError() == cudaSuccess ? 0 : -ENODEV;
}

/* A row of floats in shared memory; asks for what is above the default. */
template <typename K> int allow_shared(K kernel, size_t bytes)
{
	if (bytes > 48 * 1024 &&
	    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) !=
		    cudaSuccess)
		return -ENODEV;
	return 0;
}

} /* namespace */

int embed_rows(const struct embed_rows_args *a, void *stream)
{
	const size_t bytes = a->width * sizeof(float);

	if (!a->n_rows || !a->width || a->width > RESIDUAL_MAX_WIDTH || !a->vocab)
		return -EINVAL;
	if (allow_shared(embed_kernel, bytes))
		return -ENODEV;
	embed_kernel<<<a->n_rows, THREADS, bytes, (cudaStream_t)stream>>>(*a);
	return launched();
}

int residual_add(const struct residual_add_args *a, void *stream)
{
	const size_t bytes = a->width * sizeof(float);

	if (!a->rows || !a->width || a->width > RESIDUAL_MAX_WIDTH || !a->slots || (!a->weight && a->slots != 1))
		return -EINVAL;
	if (allow_shared(residual_kernel, bytes))
		return -ENODEV;
	residual_kernel<<<a->rows, THREADS, bytes, (cudaStream_t)stream>>>(*a);
	return launched();
}

int swiglu(const struct swiglu_args *a, void *stream)
{
	if (!a->rows || a->rows > 65535 || !a->inter)
		return -EINVAL;
	swiglu_kernel<<<dim3((a->inter + 127) / 128, a->rows), 128, 0, (cudaStream_t)stream>>>(*a);
	return launched();
}

int gather_rows(const void *from, const uint32_t *index, uint32_t n, uint32_t width, void *out, void *stream)
{
	if (!n || !width || width % 8)
		return -EINVAL;
	gather_kernel<<<n, 128, 0, (cudaStream_t)stream>>>((const uint4 *)from, index, width / 8,
							   (uint4 *)out);
	return launched();
}
