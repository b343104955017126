/* attn_decode.cu - see attn_decode.h.
 *
 * A block does splits, one after the other (attn_work.cuh); a split is one of one KV head of one row.
 * Keys are the 16-row operand of the mma and the queries of the group its 8 columns, so a group
 * of 8 wastes nothing:
 *	S^T [64 keys][8]    = K [64][256] q^T      a warp has 16 keys
 *	O^T [256 dims][8]  += V^T [256][64] P^T    a warp has 64 dims
 * with a running maximum over tiles of 64 keys, in order (attn_tile.cuh).
 *
 * Keys and values of the tiles take turns in STAGES places of shared memory, 32 KB each: what was just
 * used makes room for what comes STAGES later, of this split or the next, so that memory is never
 * waited for from the beginning but at the first.  That begins while the kernel before this one still
 * runs, but for the keys that it may have written.  Two places fit GB10; an FP8 cache (kv.cuh) loads
 * into registers and becomes bfloat16 on its way into the same places.
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

/* The queries of a head's group, on their way: load() asks, store() waits. */
struct queries {
	static constexpr int EACH = ATTN_MAX_GROUP * CHUNKS / THREADS;
	uint4 x[EACH];

	__device__ __forceinline__ void load(const attn_decode_args &a, uint32_t row, uint32_t kv_head)
	{
		const uint32_t group = a.q_heads / a.kv_heads;
		const uint4 *q = (const uint4 *)a.q + ((size_t)row * a.q_heads + kv_head * group) * CHUNKS;

#pragma unroll
		for (int j = 0; j < EACH; j++) {
			const uint32_t i = threadIdx.x + j * THREADS;

			x[j] = i / CHUNKS < group ? q[i] : make_uint4(0, 0, 0, 0);
		}
	}
	template <typename S> __device__ __forceinline__ void store(S &s) const
	{
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			const int i = threadIdx.x + j * THREADS;

			*(uint4 *)&s.q[i / CHUNKS][i % CHUNKS * 8] = x[j];
		}
	}
};

__device__ __forceinline__ void store_split(const attn_decode_args &a, const work &w, uint32_t max_splits,
					    const float o[4][4], const float m[2], const float l[2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const uint32_t group = a.q_heads / a.kv_heads;
	float *const to = partial(a, w.row, w.head * group, w.split(), max_splits);
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

__device__ __forceinline__ void begin_split(float o[4][4], float m[2], float l[2])
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		m[i] = -INFINITY;
		l[i] = 0;
	}
#pragma unroll
	for (int i = 0; i < 16; i++)
		o[i / 4][i % 4] = 0;
}

/* What is loaded next of a block's work: keys of a tile, its values, keys of the next .. */
template <enum kv_format F, bool PIECES> struct ahead {
	work w;
	uint32_t block;		/* of the tile; asked for a tile before it is needed */

	__device__ __forceinline__ void look(const attn_decode_args &a)
	{
		if (w.left > 0)
			block = a.blocks[w.its.table + w.at / ATTN_PAGE];
	}
	__device__ __forceinline__ void begin(const attn_decode_args &a, const work &first)
	{
		w = first;
		block = 0;
		look(a);
	}
	/* Whether the kernel before may have written keys of the tile: those of the pass's rows. */
	__device__ __forceinline__ bool is_new(const attn_decode_args &a) const
	{
		return w.left > 0 && w.valid() < TILE + a.n_rows;
	}
	template <typename T>
	__device__ __forceinline__ void fetch(const attn_decode_args &a, const void *pool, T &in,
					      uint4 (*dst)[CHUNKS])
	{
		if (w.left > 0)
			in.fetch(dst, (const char *)pool + ((size_t)block * a.kv_heads + w.head) * attn_head_bytes(F),
				 w.valid());
		else
			in.skip();
	}
	template <typename T>
	__device__ __forceinline__ void keys(const attn_decode_args &a, T &in, uint4 (*dst)[CHUNKS])
	{
		fetch(a, a.k, in, dst);
	}
	template <typename T>
	__device__ __forceinline__ void values(const attn_decode_args &a, T &in, uint4 (*dst)[CHUNKS])
	{
		fetch(a, a.v, in, dst);
		if (w.left <= 0)
			return;
		w.next<PIECES>(a);
		look(a);
	}
};

/* Two places: keys and values have one each, and the compiler shall know. */
template <int STAGES, int OF_TWO> __device__ __forceinline__ int next_stage(int stage)
{
	return STAGES == 2 ? OF_TWO : stage + 1 == STAGES ? 0 : stage + 1;
}

/* For the compiler.  Codes on their way take registers, but three blocks fit a multiprocessor of an
 * H200; without them it should leave some to the kernels before and after, which overlap. */
template <enum kv_format F> constexpr int BLOCKS = F == KV_FP8 ? 3 : 5;

template <enum kv_format F, int STAGES, bool PIECES>
__global__ void __launch_bounds__(THREADS, BLOCKS<F>)
	attn_split_kernel(attn_decode_args a, uint32_t max_splits)
{
	extern __shared__ char raw[];
	shared<STAGES> &s = *(shared<STAGES> *)(((uintptr_t)raw + 127) & ~(uintptr_t)127);
	float m[2], l[2], o[4][4];
	tile_in<F, STAGES> k, v;
	ahead<F, PIECES> coming;
	work w = PIECES ? first_work(a) : only_work(a);
	bool waited = false;
	int stage = 0;
	queries q;

	k.begin();
	v.begin();
	coming.begin(a, w);
#pragma unroll
	for (int i = 0; i < STAGES; i++) {
		if (!waited && coming.is_new(a)) {
			chain_wait();
			waited = true;
		}
		if (i % 2 == 0)
			coming.keys(a, k, s.tile[i]);
		else
			coming.values(a, v, s.tile[i]);
	}
	if (!waited)
		chain_wait();
	chain_release();
	if (w.left <= 0)
		return;
	q.load(a, w.row, w.head);
	q.store(s);
	begin_split(o, m, l);
	while (w.left > 0) {
		const bool ends = w.ends();
		work after = w;

		after.next<PIECES>(a);
		k.land(s.tile[stage]);		/* values may still come */
		__syncthreads();
		scores(s, s.tile[stage], w.valid());
		__syncthreads();
		if (STAGES % 2 == 0)		/* the keys' place is free */
			coming.keys(a, k, s.tile[stage]);
		else
			coming.values(a, v, s.tile[stage]);
		stage = next_stage<STAGES, 1>(stage);
		if (PIECES && ends && after.left > 0)
			q.load(a, after.row, after.head);
		softmax(s, m, l);
		v.land(s.tile[stage]);
		__syncthreads();
		accumulate(s, s.tile[stage], o);
		if (PIECES && ends) {
			store_split(a, w, max_splits, o, m, l);
			q.store(s);
			begin_split(o, m, l);
		}
		__syncthreads();
		if (STAGES % 2 == 0)
			coming.values(a, v, s.tile[stage]);
		else
			coming.keys(a, k, s.tile[stage]);
		stage = next_stage<STAGES, 0>(stage);
		if (!PIECES && ends)
			break;
		w = after;
	}
	if (!PIECES)
		store_split(a, w, max_splits, o, m, l);
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

template <int STAGES> constexpr size_t split_shared(void)
{
	return sizeof(shared<STAGES>) + 128;
}

/* Of PIECES: how many, at most. */
template <enum kv_format F, int STAGES, bool PIECES>
int launch_split(const attn_decode_args *a, uint32_t splits, uint32_t pieces, cudaStream_t stream)
{
	const size_t bytes = split_shared<STAGES>();
	const dim3 grid = PIECES ? dim3(min(splits * a->kv_heads * a->n_rows, pieces)) :
				   dim3(splits, a->kv_heads, a->n_rows);
	const int rc = prepare(attn_split_kernel<F, STAGES, PIECES>, bytes);

	return rc ? rc :
		    chain_launch(attn_split_kernel<F, STAGES, PIECES>, grid, THREADS, bytes, 1, stream, *a, splits);
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

/* Whether a multiprocessor takes two blocks of three places: not sm_12x. */
static bool is_roomy(void)
{
	static int bytes;	/* of device 0 of this process: a worker has one */
	int device;

	if (!bytes && (cudaGetDevice(&device) != cudaSuccess ||
		       cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device) !=
			       cudaSuccess))
		bytes = 0;
	return (size_t)bytes >= 2 * (split_shared<3>() + 1024);
}

/* Splits that (nearly) all run at once: the kernel is as fast as its longest piece, and begins with as
 * much on its way as fits.  More of them: whoever ends takes the next. */
static int enqueue_splits(const struct attn_decode_args *a, uint32_t splits, cudaStream_t stream)
{
	const uint64_t all = (uint64_t)splits * a->kv_heads * a->n_rows;
	const uint32_t sms = (uint32_t)device_sms();

	if (a->kv == KV_FP8)
		return launch_split<KV_FP8, 2, false>(a, splits, 0, stream);
	if (all <= 4 * sms && is_roomy())	/* half of them are there, if the bound is a power of two */
		return launch_split<KV_BF16, 3, true>(a, splits, 2 * sms, stream);
	return launch_split<KV_BF16, 2, false>(a, splits, 0, stream);
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
	rc = enqueue_splits(a, splits, (cudaStream_t)stream);
	if (rc)
		return rc;
	return (uint64_t)a->n_rows * a->q_heads <= (uint32_t)device_sms() ?
		       launch_merge<32>(a, splits, (cudaStream_t)stream) :
		       launch_merge<ATTN_DIM>(a, splits, (cudaStream_t)stream);
}
