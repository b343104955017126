/* rows.cu - see rows.h.  These move kilobytes beside the matrices' megabytes: plain code, one block
 * or one warp a row, sums in the order of threads and then of warps. */
#include "kernels/cuda/rows.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/warp_sum.cuh"

namespace {

typedef __nv_bfloat16 bf16;

/* Over a block of N warps; every thread gets the sum. */
template <int N> __device__ float block_sum(float x)
{
	__shared__ float part[N];

	x = warp_sum(x);
	__syncthreads();	/* an earlier call's readers are done */
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	x = part[0];
	for (int i = 1; i < N; i++)
		x = __fadd_rn(x, part[i]);
	return x;
}

__device__ float inverse_rms(float sum, float width, float eps)
{
	return __frsqrt_rn(__fadd_rn(__fdiv_rn(sum, width), eps));
}

constexpr int NORM_WARPS = 8;

__global__ void __launch_bounds__(NORM_WARPS * 32) rms_norm_kernel(rms_norm_args a)
{
	const bf16 *x = (const bf16 *)a.x + (size_t)blockIdx.x * a.width, *w = (const bf16 *)a.w;
	bf16 *out = (bf16 *)a.out + (size_t)blockIdx.x * a.width;
	float sum = 0, r;

	chain_wait();
	chain_release();
	for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x) {
		float v = __bfloat162float(x[i]);

		sum = __fmaf_rn(v, v, sum);
	}
	r = inverse_rms(block_sum<NORM_WARPS>(sum), (float)a.width, a.eps);
	for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x)
		out[i] = __float2bfloat16_rn(__fmul_rn(__fmul_rn(__bfloat162float(x[i]), r),
						       __fadd_rn(1.0f, __bfloat162float(w[i]))));
}

constexpr int HEAD = ATTN_DIM;

/* Which axis turns frequency j: T H W T H W .. while the sections last (qwen3_vl's
 * interleaving). */
__device__ int axis_of(uint32_t j, uint32_t section_h, uint32_t section_w)
{
	if (j % 3 == 1 && j < 3 * section_h)
		return 1;
	if (j % 3 == 2 && j < 3 * section_w)
		return 2;
	return 0;
}

/* Thread d has dim d of the head: norm, rotation, one rounding. */
__device__ bf16 norm_rotate(const qk_rope_args &a, const qk_row &row, const bf16 *x, const bf16 *w,
			    float *shared)
{
	const uint32_t d = threadIdx.x, half = a.rotary / 2, j = d % half;
	float v = __bfloat162float(x[d]),
	      r = inverse_rms(block_sum<HEAD / 32>(__fmul_rn(v, v)), HEAD, a.eps);

	v = __fmul_rn(__fmul_rn(v, r), __fadd_rn(1.0f, __bfloat162float(w[d])));
	shared[d] = v;
	__syncthreads();
	if (d < a.rotary) {
		size_t at = (size_t)row.position[axis_of(j, a.section_h, a.section_w)] * half + j;
		float c = __bfloat162float(((const bf16 *)a.cos)[at]),
		      s = __bfloat162float(((const bf16 *)a.sin)[at]);

		v = d < half ? __fmaf_rn(-shared[d + half], s, __fmul_rn(v, c))
			     : __fmaf_rn(shared[d - half], s, __fmul_rn(v, c));
	}
	return __float2bfloat16_rn(v);
}

/* The largest of a block's numbers, as their bits say it. */
__device__ uint32_t block_most(bf16 x)
{
	__shared__ uint32_t part[HEAD / 32];
	uint32_t most = __reduce_max_sync(0xffffffffu, kv::size_of(x));

	__syncthreads();	/* an earlier call's readers are done */
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = most;
	__syncthreads();
	for (uint32_t i = 0; i < HEAD / 32; i++)
		most = max(most, part[i]);
	return most;
}

/* This thread's dim of a head into its place of the cache. */
template <enum kv_format F>
__device__ void append(const qk_rope_args &a, void *cache, const qk_row &row, uint32_t head, bf16 x)
{
	const uint32_t d = threadIdx.x;
	char *to = (char *)cache + ((size_t)row.block * a.kv_heads + head) * attn_head_bytes(F);

	if constexpr (F == KV_FP8) {
		const uint32_t most = block_most(x);

		to[row.offset * HEAD + d] = (char)kv::codes_of(x, x, most);
		if (d == 0)
			to[kv::CODES + row.offset] = (char)kv::power_for(most);
	} else {
		((bf16 *)to)[row.offset * HEAD + d] = x;
	}
}

/* Block (head, row): query heads first, then key heads. */
template <enum kv_format F>
__global__ void __launch_bounds__(HEAD) qk_rope_kernel(qk_rope_args a)
{
	__shared__ float shared[HEAD];
	const qk_row row = a.rows[blockIdx.y];
	const uint32_t d = threadIdx.x;
	const size_t first = (size_t)blockIdx.y * a.ld;

	chain_wait();
	chain_release();
	if (blockIdx.x < a.q_heads) {
		const size_t head = (size_t)blockIdx.y * a.q_heads + blockIdx.x;
		const bf16 *x = (const bf16 *)a.qg + first + blockIdx.x * 2 * HEAD;

		((bf16 *)a.gate)[head * HEAD + d] = x[HEAD + d];
		((bf16 *)a.q)[head * HEAD + d] =
			norm_rotate(a, row, x, (const bf16 *)a.q_norm, shared);
	} else {
		const uint32_t h = blockIdx.x - a.q_heads;
		const size_t from = first + h * HEAD;

		append<F>(a, a.v_cache, row, h, ((const bf16 *)a.v)[from + d]);
		append<F>(a, a.k_cache, row, h,
			  norm_rotate(a, row, (const bf16 *)a.k + from, (const bf16 *)a.k_norm,
				      shared));
	}
}

} /* namespace */

int rms_norm(const struct rms_norm_args *a, void *stream)
{
	if (!a->rows || !a->width || a->width % 8)
		return -EINVAL;
	return chain_launch(rms_norm_kernel, dim3(a->rows), NORM_WARPS * 32, 0, 1,
			    (cudaStream_t)stream, *a);
}

int qk_rope(const struct qk_rope_args *a, void *stream)
{
	if (!a->n_rows || a->n_rows > 65535 || !a->q_heads || !a->kv_heads || !a->rotary ||
	    a->rotary % 2 || a->rotary > HEAD)
		return -EINVAL;
	return chain_launch(a->kv == KV_FP8 ? qk_rope_kernel<KV_FP8> : qk_rope_kernel<KV_BF16>, dim3(a->q_heads + a->kv_heads, a->n_rows), HEAD, 0, 1,
			    (cudaStream_t)stream, *a);
}
