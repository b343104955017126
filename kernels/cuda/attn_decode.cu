/* attn_decode.cu - see attn_decode.h.
 *
 * A block does splits, one after the other (attn_work.cuh); a split is one of one KV head of one row.
 * Keys are the 16-row operand of the mma and the queries of the group its 8 columns, so a group
 * of 8 wastes nothing:
 *	S^T [64 keys][8]    = K [64][256] q^T      a warp has 16 keys
 *	O^T [256 dims][8]  += V^T [256][64] P^T    a warp has 64 dims
 * with a running maximum over tiles of 64 keys, in order.
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
#include <stdlib.h>

#include "kernels/cuda/attn_merge.cuh"
#include "kernels/cuda/attn_work.cuh"
#include "kernels/cuda/copy.cuh"
#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

using namespace attn;

constexpr int WARPS = 4, THREADS = WARPS * 32;
constexpr int CHUNKS = ATTN_DIM / 8;	/* 16-byte chunks of a key */
constexpr float SCALE_LOG2 = 0.0625f * 1.4426950408889634f;	/* 256^-0.5, base-2 exponent */

template <int STAGES> struct shared {
	uint4 tile[STAGES][TILE][CHUNKS];	/* chunk c of row r lies at c ^ (r & 7): no bank conflicts */
	__nv_bfloat16 q[ATTN_MAX_GROUP][ATTN_DIM + 8];
	float s[ATTN_MAX_GROUP][TILE];
	__nv_bfloat16 p[ATTN_MAX_GROUP][TILE + 8];
	float rescale[ATTN_MAX_GROUP];
};

/* A tile's keys or values between memory and their place: fetch() begins to load, land() ends it
 * before the barrier behind which they are read.  Rows from `valid` on become zeros.  What is fetched
 * lands in the same order; skip() is a fetch of nothing. */
template <enum kv_format F, int STAGES> struct tile_in {
	uint64_t policy;

	__device__ __forceinline__ void begin(void) { policy = read_once(); }
	__device__ __forceinline__ void fetch(uint4 (*dst)[CHUNKS], const char *head, uint32_t valid)
	{
		/* a warp has every fourth row, a lane a chunk: two addresses, the rest are constants */
		const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
		const uint4 *src = (const uint4 *)head + threadIdx.x;
		uint4 *const even = &dst[warp][lane ^ warp], *const odd = &dst[warp + 4][lane ^ (warp + 4)];

#pragma unroll
		for (int j = 0; j < (int)TILE / WARPS; j++)
			copy16_or_zero((j % 2 ? odd : even) + j / 2 * 2 * WARPS * CHUNKS, src + j * WARPS * CHUNKS,
				       (uint32_t)(warp + j * WARPS) < valid, policy);
		copy_commit();
	}
	__device__ __forceinline__ void skip(void) { copy_commit(); }
	__device__ __forceinline__ void land(uint4 (*)[CHUNKS]) { copy_wait<STAGES - 1>(); }
};

template <int STAGES> struct tile_in<KV_FP8, STAGES> {
	kv::tile_in<THREADS, TILE> in;

	__device__ __forceinline__ void begin(void) {}
	__device__ __forceinline__ void fetch(uint4 (*)[CHUNKS], const char *head, uint32_t valid)
	{
		in.fetch(head, 0, valid);
	}
	__device__ __forceinline__ void skip(void) {}
	__device__ __forceinline__ void land(uint4 (*dst)[CHUNKS])
	{
		in.land([&](int r, int c) { return &dst[r][c ^ (r & 7)]; });
	}
};

__device__ void ldmatrix4(uint32_t r[4], const void *p)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem_address(p)));
}

__device__ void ldmatrix4_trans(uint32_t r[4], const void *p)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem_address(p)));
}

/* c [16][8] += a [16][16] b [16][8] */
__device__ void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
		     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* This warp's 16 keys against the 8 queries; scores in base-2 units to s.s. */
template <typename S>
__device__ __forceinline__ void scores(S &s, const uint4 (*keys)[CHUNKS], uint32_t valid)
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int row = warp * 16 + lane % 16, g = lane / 4, t = lane % 4;
	float c[4] = { 0, 0, 0, 0 };

#pragma unroll
	for (int step = 0; step < ATTN_DIM / 16; step++) {
		uint32_t a[4];
		const uint32_t *b = (const uint32_t *)&s.q[g][step * 16];

		ldmatrix4(a, &keys[row][(step * 2 + lane / 16) ^ (row & 7)]);
		mma(c, a, b[t], b[t + 4]);
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t key = (uint32_t)(warp * 16 + g + (i / 2) * 8);

		s.s[2 * t + i % 2][key] = key < valid ? __fmul_rn(c[i], SCALE_LOG2) : -INFINITY;
	}
}

/* One warp has two queries of the group: new maximum, probabilities, sums. */
template <typename S> __device__ __forceinline__ void softmax(S &s, float m[2], float l[2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		const int h = warp * 2 + i;
		const float x0 = s.s[h][lane], x1 = s.s[h][lane + 32];
		float top = fmaxf(x0, x1), p0, p1, sum, scale;

		for (int d = 16; d > 0; d >>= 1)
			top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
		top = fmaxf(top, m[i]);
		p0 = exp2f(x0 - top);
		p1 = exp2f(x1 - top);
		sum = __fadd_rn(p0, p1);
		for (int d = 16; d > 0; d >>= 1)
			sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, d));
		scale = exp2f(m[i] - top);
		l[i] = __fmaf_rn(l[i], scale, sum);
		m[i] = top;
		s.p[h][lane] = __float2bfloat16_rn(p0);
		s.p[h][lane + 32] = __float2bfloat16_rn(p1);
		if (lane == 0)
			s.rescale[h] = scale;
	}
}

/* This warp's 64 dims: o = o * rescale + V^T P^T. */
template <typename S>
__device__ __forceinline__ void accumulate(const S &s, const uint4 (*values)[CHUNKS], float o[4][4])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const float r0 = s.rescale[2 * t], r1 = s.rescale[2 * t + 1];

#pragma unroll
	for (int i = 0; i < 4; i++) {
		o[i][0] *= r0;
		o[i][1] *= r1;
		o[i][2] *= r0;
		o[i][3] *= r1;
	}
#pragma unroll
	for (int step = 0; step < TILE / 16; step++) {
		const uint32_t *b = (const uint32_t *)&s.p[g][step * 16];
		/* matrices of the trans load: keys 0-7 | 0-7 | 8-15 | 8-15, dims 0-7 | 8-15 | 0-7 |
		 * 8-15 */
		const int key = step * 16 + lane % 8 + lane / 16 * 8;

#pragma unroll
		for (int i = 0; i < 4; i++) {
			uint32_t a[4];
			int chunk = warp * 8 + i * 2 + lane / 8 % 2;

			ldmatrix4_trans(a, &values[key][chunk ^ (key & 7)]);
			mma(o[i], a, b[t], b[t + 4]);
		}
	}
}

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

template <enum kv_format F, int STAGES, bool PIECES>
int launch_split(const attn_decode_args *a, uint32_t splits, uint32_t places, cudaStream_t stream)
{
	const size_t bytes = sizeof(shared<STAGES>) + 128;
	const dim3 grid = PIECES ? dim3(min(splits * a->kv_heads * a->n_rows, places)) :
				   dim3(splits, a->kv_heads, a->n_rows);
	const int rc = prepare(attn_split_kernel<F, STAGES, PIECES>, bytes);

	{ const char *e = getenv("ATTN_ONLY"); if (e && *e == '2') return 0; }
	return rc ? rc :
		    chain_launch(attn_split_kernel<F, STAGES, PIECES>, grid, THREADS, bytes, 1, stream, *a, splits);
}

template <int DIMS> int launch_merge(const attn_decode_args *a, uint32_t splits, cudaStream_t stream)
{
	const int rc = prepare(attn_merge_kernel<DIMS>, merge_shared<DIMS>(MERGE_MOST));

	{ const char *e = getenv("ATTN_ONLY"); if (e && *e == '1') return 0; }
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
	{
		const uint64_t all = (uint64_t)splits * a->kv_heads * a->n_rows;
		const uint32_t sms = (uint32_t)device_sms();
		const char *e = getenv("ATTN_FORM");
		const int form = e ? atoi(e) : 0;
		const bool few = all <= 4 * sms;
		cudaStream_t st = (cudaStream_t)stream;

		if (a->kv == KV_FP8)
			rc = launch_split<KV_FP8, 2, false>(a, splits, 0, st);
		else if (form == 132 || (form == 0 && few))
			rc = launch_split<KV_BF16, 3, true>(a, splits, 2 * sms, st);
		else if (form == 32)
			rc = launch_split<KV_BF16, 3, false>(a, splits, 0, st);
		else
			rc = launch_split<KV_BF16, 2, false>(a, splits, 0, st);
		if (rc)
			return rc;
		return (uint64_t)a->n_rows * a->q_heads <= sms ? launch_merge<32>(a, splits, st) : launch_merge<256>(a, splits, st);
	}
}
