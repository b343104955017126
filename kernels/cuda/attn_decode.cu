/* attn_decode.cu - see attn_decode.h.
 *
 * A block has one split of one KV head of one row (attn_work.cuh).  Keys are the 16-row operand
 * of the mma and the queries of the group its 8 columns, so a group of 8 wastes nothing:
 *	S^T [64 keys][8]    = K [64][256] q^T      a warp has 16 keys
 *	O^T [256 dims][8]  += V^T [256][64] P^T    a warp has 64 dims
 * with a running maximum over tiles of 64 keys, in order (attn_tile.cuh).
 *
 * K of the next tile loads while V of this one is multiplied, and the other way round; where
 * splits are few, the first of both are asked for while the kernel before this one still runs,
 * unless it may have written them.
 * 73 KB of shared memory, so it fits GB10.
 *
 * Partial results (unnormalised o, maximum, sum) go to scratch; the merge kernel (attn_merge.cuh)
 * adds splits in order, normalises and applies the gate.
 */
#include "kernels/cuda/attn_decode.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/attn_merge.cuh"
#include "kernels/cuda/attn_tile.cuh"
#include "kernels/cuda/attn_work.cuh"
#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

using namespace attn;

__device__ __forceinline__ void load_q(shared &s, const attn_decode_args &a)
{
	const uint32_t group = a.q_heads / a.kv_heads;
	const uint4 *q = (const uint4 *)a.q + ((size_t)blockIdx.z * a.q_heads + blockIdx.y * group) * CHUNKS;

#pragma unroll
	for (int i = threadIdx.x; i < ATTN_MAX_GROUP * CHUNKS; i += THREADS) {
		const int h = i / CHUNKS;

		*(uint4 *)&s.q[h][i % CHUNKS * 8] = (uint32_t)h < group ? q[i] : make_uint4(0, 0, 0, 0);
	}
}

__device__ __forceinline__ void store_split(const attn_decode_args &a, uint32_t max_splits,
					    const float o[4][4], const float m[2], const float l[2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const uint32_t group = a.q_heads / a.kv_heads;
	float *const to = partial(a, blockIdx.z, blockIdx.y * group, blockIdx.x, max_splits);
	const size_t each = (size_t)max_splits * SPLIT_FLOATS;

#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < 4; j++) {
			const uint32_t h = (uint32_t)(2 * t + j % 2);
			const int dim = warp * 64 + i * 16 + g + j / 2 * 8;

			if (h < group)
				to[h * each + dim] = o[i][j];
		}
#pragma unroll
	for (int i = 0; i < 2; i++) {
		const uint32_t h = (uint32_t)(warp * 2 + i);

		if (lane == 0 && h < group)
			*(float2 *)(to + h * each + ATTN_DIM) = make_float2(m[i], l[i]);
	}
}

/* What is loaded next of a block's work: keys of a tile, its values, keys of the next .. */
template <enum kv_format F> struct ahead {
	work w;
	uint32_t block;		/* of the tile; asked for a tile before it is needed, where registers suffice */

	__device__ __forceinline__ uint32_t block_of(const attn_decode_args &a) const
	{
		return a.blocks[w.its.table + w.at / ATTN_PAGE];
	}
	__device__ __forceinline__ void look(const attn_decode_args &a)
	{
		if (F == KV_BF16 && w.more())
			block = block_of(a);
	}
	/* Whether the kernel before may have written keys of the tile: those of the call's rows. */
	__device__ __forceinline__ bool is_new(const attn_decode_args &a) const
	{
		return w.more() && w.valid() < TILE + a.n_rows;
	}
	__device__ __forceinline__ void fetch(const attn_decode_args &a, const void *pool, tile_in<F> &in,
					      uint4 (*dst)[CHUNKS])
	{
		if (w.more())
			in.fetch(dst,
				 (const char *)pool +
					 ((size_t)(F == KV_BF16 ? block : block_of(a)) * a.kv_heads + blockIdx.y) * attn_head_bytes(F),
				 w.valid());
		else
			in.skip();
	}
	__device__ __forceinline__ void keys(const attn_decode_args &a, tile_in<F> &in, shared &s)
	{
		fetch(a, a.k, in, s.tile[0]);
	}
	__device__ __forceinline__ void values(const attn_decode_args &a, tile_in<F> &in, shared &s)
	{
		fetch(a, a.v, in, s.tile[1]);
		if (!w.more())
			return;
		w.next();
		look(a);
	}
};

/* For the compiler.  Codes on their way take registers, but three blocks fit a multiprocessor of an
 * H200; without them it should leave some to the kernels before and after, which overlap. */
template <enum kv_format F> constexpr int BLOCKS = F == KV_FP8 ? 3 : 5;

template <enum kv_format F>
__global__ void __launch_bounds__(THREADS, BLOCKS<F>)
	attn_split_kernel(attn_decode_args a, uint32_t max_splits, bool few)
{
	extern __shared__ char raw[];
	shared &s = *(shared *)(((uintptr_t)raw + 127) & ~(uintptr_t)127);
	const bool early = F == KV_BF16 && few;		/* codes need all registers, twice is too much */
	float m[2] = { -INFINITY, -INFINITY }, l[2] = { 0, 0 };
	float o[4][4] = {};
	tile_in<F> k, v;
	ahead<F> coming;
	work w;

	w.begin(a);
	coming.w = w;
	coming.block = 0;
	coming.look(a);
	if (!early || coming.is_new(a))
		chain_wait();
	coming.keys(a, k, s);
	if (early) {
		coming.values(a, v, s);
		chain_wait();
	}
	chain_release();
	if (!w.more())
		return;
	load_q(s, a);
	if (!early)	/* q should not have to come behind them */
		coming.values(a, v, s);
	for (; w.more(); w.next()) {
		k.land(s.tile[0]);	/* values may still come */
		__syncthreads();
		scores(s, s.tile[0], w.valid());
		__syncthreads();
		coming.keys(a, k, s);	/* their place is free */
		softmax(s, m, l);
		v.land(s.tile[1]);
		__syncthreads();
		accumulate(s, s.tile[1], o);
		__syncthreads();
		coming.values(a, v, s);
	}
	store_split(a, max_splits, o, m, l);
}

/* Kernels that overlap should want the same room of shared memory: it is not changed while one runs. */
template <typename K> int prepare(K kernel, size_t bytes)
{
	return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) == cudaSuccess &&
			       cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
						    cudaSharedmemCarveoutMaxShared) == cudaSuccess ?
		       0 :
		       -ENODEV;
}

template <enum kv_format F>
int launch_split(const attn_decode_args *a, uint32_t splits, cudaStream_t stream)
{
	const size_t bytes = sizeof(shared) + 128;
	/* as many as run at once; half of them are there if the bound is a power of two */
	const bool few = (uint64_t)splits * a->kv_heads * a->n_rows <= 4 * (uint32_t)device_sms();
	const int rc = prepare(attn_split_kernel<F>, bytes);

	return rc ? rc :
		    chain_launch(attn_split_kernel<F>, dim3(splits, a->kv_heads, a->n_rows), THREADS,
				 bytes, 1, stream, *a, splits, few);
}

template <int DIMS> int launch_merge(const attn_decode_args *a, uint32_t splits, cudaStream_t stream)
{
	const int rc = prepare(attn_merge_kernel<DIMS>, merge_shared<DIMS>(MERGE_MOST));

	return rc ? rc :
		    chain_launch(attn_merge_kernel<DIMS>, dim3(a->q_heads * (ATTN_DIM / DIMS), a->n_rows),
				 MERGE_THREADS<DIMS>, merge_shared<DIMS>(splits), 1, stream, *a, splits);
}

} /* namespace */

uint32_t attn_max_splits(uint32_t length)
{
	const uint32_t steps[] = { 4096, 16384, 65536, length };
	uint32_t most = 0;

	for (uint32_t s : steps) {
		uint32_t len = s < length ? s : length, keys = attn_split_keys(len);
		uint32_t n = (len + keys - 1) / keys;

		most = n > most ? n : most;
	}
	return most;
}

uint64_t attn_scratch_floats(uint32_t n_rows, uint32_t max_length, uint32_t q_heads)
{
	return (uint64_t)n_rows * q_heads * attn_max_splits(max_length) * SPLIT_FLOATS;
}

int attn_decode(const struct attn_decode_args *a, void *stream)
{
	uint32_t splits;
	int rc;

	if (!a->n_rows || a->n_rows > 65535 || !a->max_length || !a->kv_heads ||
	    a->q_heads % a->kv_heads || a->q_heads / a->kv_heads > ATTN_MAX_GROUP)
		return -EINVAL;
	splits = attn_max_splits(a->max_length);
	if (splits > MERGE_MOST)
		return -EINVAL;
	rc = a->kv == KV_FP8 ? launch_split<KV_FP8>(a, splits, (cudaStream_t)stream) :
			       launch_split<KV_BF16>(a, splits, (cudaStream_t)stream);
	if (rc)
		return rc;
	return (uint64_t)a->n_rows * a->q_heads <= (uint32_t)device_sms() ?
		       launch_merge<32>(a, splits, (cudaStream_t)stream) :
		       launch_merge<ATTN_DIM>(a, splits, (cudaStream_t)stream);
}
