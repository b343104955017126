/* attn_merge.cuh - the second kernel of attn_decode(): what the splits of a head left is added in
 * their order, normalised and gated.
 *
 * A block has DIMS dims of a head of a row, a thread each.  It is little but waiting: so all that it reads
 * is asked for at once, into shared memory, and few heads are shared by more blocks.  DIMS decides no
 * bit.
 */
#ifndef HEARTH_KERNELS_CUDA_ATTN_MERGE_CUH
#define HEARTH_KERNELS_CUDA_ATTN_MERGE_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/attn_work.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/launch.cuh"

namespace attn {

constexpr uint32_t SPLIT_FLOATS = ATTN_DIM + 4;	/* o, maximum, sum; 16 bytes' multiple */
constexpr uint32_t MERGE_MOST = 4096;	/* whose weights fit shared memory: 2 million positions */

__device__ __forceinline__ float *partial(const attn_decode_args &a, uint32_t row, uint32_t head,
					  uint32_t split, uint32_t max_splits)
{
	return a.scratch + (((size_t)row * a.q_heads + head) * max_splits + split) * SPLIT_FLOATS;
}

/* A block's threads; splits of a piece of what it reads, and such pieces asked for ahead.  A block that has
 * all of a head, where there are heads enough, holds a piece of 16 in registers. */
template <int DIMS> constexpr uint32_t MERGE_THREADS = DIMS < 128 ? 128 : DIMS;
template <int DIMS> constexpr uint32_t MERGE_PIECE = DIMS == ATTN_DIM ? 16 : 32;
template <int DIMS> constexpr uint32_t MERGE_AHEAD = DIMS == ATTN_DIM ? 0 : 4;

template <int DIMS> inline size_t merge_shared(uint32_t splits)
{
	/* the compiler reads two weights at once, the last one's neighbour too */
	return MERGE_AHEAD<DIMS> * MERGE_PIECE<DIMS> * DIMS * sizeof(float) +
	       (splits + 15) / 16 * 16 * sizeof(float2);
}

/* A block's dims of `n` splits on their way to shared memory, at most a piece. */
template <int DIMS>
__device__ __forceinline__ void merge_ask(float (*to)[DIMS], const float *p, int n)
{
	constexpr int CHUNKS = DIMS / 4, EACH = MERGE_PIECE<DIMS> * CHUNKS / MERGE_THREADS<DIMS>;

#pragma unroll
	for (int j = 0; j < EACH; j++) {
		const int i = (int)threadIdx.x + j * (int)MERGE_THREADS<DIMS>;

		if (i / CHUNKS < n)
			copy16(&to[i / CHUNKS][i % CHUNKS * 4],
			       p + (size_t)(i / CHUNKS) * SPLIT_FLOATS + i % CHUNKS * 4);
	}
	copy_commit();
}

/* By the whole block: exp2(maximum - largest maximum) and the sum of each split. */
template <int THREADS>
__device__ __forceinline__ void merge_weights(const float *p, uint32_t n, float2 *ret)
{
	__shared__ float tops[THREADS / 32];
	float top = -INFINITY;

#pragma unroll 2
	for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
		const float2 x = *(const float2 *)(p + (size_t)i * SPLIT_FLOATS + ATTN_DIM);

		ret[i] = x;
		top = fmaxf(top, x.x);
	}
	for (int m = 16; m > 0; m >>= 1)
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, m));
	if (threadIdx.x % 32 == 0)
		tops[threadIdx.x / 32] = top;
	__syncthreads();
	top = tops[0];
	for (uint32_t i = 1; i < THREADS / 32; i++)
		top = fmaxf(top, tops[i]);
#pragma unroll 1
	for (uint32_t i = threadIdx.x; i < n; i += THREADS)
		ret[i].x = exp2f(ret[i].x - top);
}

/* A thread's dim of n splits, in order.  Read eight at a time: a sum waits for the one before it, what it
 * reads need not. */
template <int DIMS>
__device__ __forceinline__ void merge_add(const float (*v)[DIMS], const float2 *weights, uint32_t n, float &o,
					  float &l)
{
	const uint32_t dim = threadIdx.x;
	uint32_t i = 0;

	for (; i + 8 <= n; i += 8) {
		float x[8];
		float2 w[8];

#pragma unroll
		for (int j = 0; j < 8; j++) {
			x[j] = v[i + j][dim];
			w[j] = weights[i + j];
		}
#pragma unroll
		for (int j = 0; j < 8; j++) {
			o = __fmaf_rn(x[j], w[j].x, o);
			l = __fmaf_rn(w[j].y, w[j].x, l);
		}
	}
#pragma unroll 1
	for (; i < n; i++) {
		o = __fmaf_rn(v[i][dim], weights[i].x, o);
		l = __fmaf_rn(weights[i].y, weights[i].x, l);
	}
}

/* Block (head and part of it, row). */
template <int DIMS>
__global__ void __launch_bounds__(MERGE_THREADS<DIMS>)
	attn_merge_kernel(attn_decode_args a, uint32_t max_splits)
{
	extern __shared__ float4 room[];
	constexpr uint32_t PIECE = MERGE_PIECE<DIMS>, AHEAD = MERGE_AHEAD<DIMS>;
	float (*const v)[DIMS] = (float (*)[DIMS])room;		/* [AHEAD * PIECE] */
	float2 *const weights = (float2 *)(v + AHEAD * PIECE);	/* [max_splits] */
	const uint32_t head = blockIdx.x / (ATTN_DIM / DIMS), row = blockIdx.y;
	const uint32_t dim = threadIdx.x % DIMS, first = blockIdx.x % (ATTN_DIM / DIMS) * DIMS;
	const uint32_t n = splits_of(a.rows[row].length);
	const float *p = partial(a, row, head, 0, max_splits);
	const size_t at = ((size_t)row * a.q_heads + head) * ATTN_DIM + first + dim;
	float o = 0, l = 0, gate;

	chain_wait();
	chain_release();
#pragma unroll
	for (uint32_t i = 0; i < AHEAD; i++)
		merge_ask<DIMS>(v + i * PIECE, p + (size_t)i * PIECE * SPLIT_FLOATS + first, (int)n - (int)(i * PIECE));
	gate = __bfloat162float(((const __nv_bfloat16 *)a.gate)[at]);
	merge_weights<MERGE_THREADS<DIMS>>(p, n, weights);
	for (uint32_t done = 0, place = 0; done < n; done += PIECE) {
		const uint32_t some = min(n - done, PIECE), later = done + AHEAD * PIECE;

		copy_wait<AHEAD - 1>();
		__syncthreads();
		if (threadIdx.x < DIMS)
			merge_add<DIMS>(v + place * PIECE, weights + done, some, o, l);
		__syncthreads();
		merge_ask<DIMS>(v + place * PIECE, p + (size_t)later * SPLIT_FLOATS + first, (int)n - (int)later);
		place = place + 1 == AHEAD ? 0 : place + 1;
	}
	if (threadIdx.x >= DIMS)
		return;
	o = __fmul_rn(__fdiv_rn(o, l), __fdiv_rn(1.0f, 1.0f + expf(-gate)));
	((__nv_bfloat16 *)a.out)[at] = __float2bfloat16_rn(o);
}

/* A thread's dim of the 16 splits from `first` on. */
__device__ __forceinline__ void merge_load(const float *p, uint32_t first, uint32_t n,
					   float (&ret)[MERGE_PIECE<ATTN_DIM>])
{
#pragma unroll
	for (uint32_t i = 0; i < MERGE_PIECE<ATTN_DIM>; i++)
		ret[i] = first + i < n ? p[(size_t)(first + i) * SPLIT_FLOATS] : 0;
}

/* Block (head, row). */
template <>
__global__ void __launch_bounds__(ATTN_DIM)
	attn_merge_kernel<ATTN_DIM>(attn_decode_args a, uint32_t max_splits)
{
	extern __shared__ float4 room[];
	constexpr uint32_t PIECE = MERGE_PIECE<ATTN_DIM>;
	float2 *const weights = (float2 *)room;		/* [max_splits] */
	const uint32_t head = blockIdx.x, row = blockIdx.y, dim = threadIdx.x;
	const uint32_t n = splits_of(a.rows[row].length);
	const float *p = partial(a, row, head, 0, max_splits);
	const size_t at = ((size_t)row * a.q_heads + head) * ATTN_DIM + dim;
	float v[PIECE], o = 0, l = 0, gate;

	chain_wait();
	chain_release();
	gate = __bfloat162float(((const __nv_bfloat16 *)a.gate)[at]);
	merge_load(p + dim, 0, n, v);
	merge_weights<ATTN_DIM>(p, n, weights);
	__syncthreads();
	for (uint32_t first = 0; first < n; first += PIECE) {
		if (first)
			merge_load(p + dim, first, n, v);
#pragma unroll
		for (uint32_t i = 0; i < PIECE; i++) {
			if (first + i >= n)
				break;
			o = __fmaf_rn(v[i], weights[first + i].x, o);
			l = __fmaf_rn(weights[first + i].y, weights[first + i].x, l);
		}
	}
	o = __fmul_rn(__fdiv_rn(o, l), __fdiv_rn(1.0f, 1.0f + expf(-gate)));
	((__nv_bfloat16 *)a.out)[at] = __float2bfloat16_rn(o);
}

} /* namespace attn */

#endif
