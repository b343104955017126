/* attn_decode.cu - see attn_decode.h.
 *
 * One block has one split of one KV head of one row.  Keys are the 16-row operand of the mma and
 * the queries of the group its 8 columns, so a group of 8 wastes nothing:
 *	S^T [64 keys][8]    = K [64][256] q^T      a warp has 16 keys
 *	O^T [256 dims][8]  += V^T [256][64] P^T    a warp has 64 dims
 * with a running maximum over tiles of 64 keys, in order.  K of the next tile loads while V of this
 * one is multiplied, and the other way round; 73 KB of shared memory, so it fits GB10.  An FP8 cache
 * (kv.cuh) loads into registers and becomes bfloat16 on its way into the same places.
 *
 * Partial results (unnormalised o, maximum, sum) go to scratch; a merge kernel adds splits in
 * order, normalises and applies the gate: a block a head, or, of few long rows, eight.
 */
#include "kernels/cuda/attn_decode.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>

#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_matmul.h"

namespace {

constexpr int TILE = ATTN_PAGE, WARPS = 4, THREADS = WARPS * 32;
constexpr int CHUNKS = ATTN_DIM / 8;	/* 16-byte chunks of a key */
constexpr float SCALE_LOG2 = 0.0625f * 1.4426950408889634f;	/* 256^-0.5, base-2 exponent */
constexpr int SPLIT_FLOATS = ATTN_DIM + 2;	/* o, maximum, sum */

struct tile {
	uint4 k[TILE][CHUNKS];	/* chunk c of key r lies at c ^ (r & 7): no bank conflicts */
	uint4 v[TILE][CHUNKS];
};

struct shared {
	tile kv;
	__nv_bfloat16 q[ATTN_MAX_GROUP][ATTN_DIM + 8];
	float s[ATTN_MAX_GROUP][TILE];
	__nv_bfloat16 p[ATTN_MAX_GROUP][TILE + 8];
	float rescale[ATTN_MAX_GROUP];
};

__device__ uint32_t smem_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Asynchronous 16 bytes; zeros when !valid (what lies beyond the length may be NaN). */
__device__ void copy16(void *dst, const void *src, bool valid)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address(dst)),
		     "l"(src), "r"(valid ? 16 : 0));
}

__device__ void copy_commit(void)
{
	asm volatile("cp.async.commit_group;");
}

template <int PENDING> __device__ void copy_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

/* A tile's keys or values between memory and their place: fetch() begins to load, land() ends it
 * before the barrier behind which they are read.  Keys from `valid` on become zeros. */
template <enum kv_format F> struct tile_in {
	static constexpr int PENDING = 1;	/* copies begun later than what is waited for */

	__device__ void fetch(uint4 (*dst)[CHUNKS], const char *head, uint32_t valid)
	{
		const uint4 *src = (const uint4 *)head;

		for (int i = threadIdx.x; i < TILE * CHUNKS; i += THREADS) {
			int r = i / CHUNKS, c = i % CHUNKS;
			bool ok = (uint32_t)r < valid;

			copy16(&dst[r][c ^ (r & 7)], src + (ok ? i : 0), ok);
		}
		copy_commit();
	}
	/* nothing, but in its turn among the copies */
	__device__ void skip(void) { copy_commit(); }
	__device__ void land(uint4 (*)[CHUNKS]) { copy_wait<PENDING>(); }
};

template <> struct tile_in<KV_FP8> {
	kv::tile_in<THREADS, TILE> in;

	__device__ void fetch(uint4 (*)[CHUNKS], const char *head, uint32_t valid)
	{
		in.fetch(head, 0, valid);
	}
	__device__ void skip(void) {}
	__device__ void land(uint4 (*dst)[CHUNKS])
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
__device__ void scores(shared &s, uint32_t valid)
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int row = warp * 16 + lane % 16, g = lane / 4, t = lane % 4;
	float c[4] = { 0, 0, 0, 0 };

#pragma unroll
	for (int step = 0; step < ATTN_DIM / 16; step++) {
		uint32_t a[4];
		const uint32_t *b = (const uint32_t *)&s.q[g][step * 16];

		ldmatrix4(a, &s.kv.k[row][(step * 2 + lane / 16) ^ (row & 7)]);
		mma(c, a, b[t], b[t + 4]);
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t key = (uint32_t)(warp * 16 + g + (i / 2) * 8);

		s.s[2 * t + i % 2][key] = key < valid ? __fmul_rn(c[i], SCALE_LOG2) : -INFINITY;
	}
}

/* One warp has two queries of the group: new maximum, probabilities, sums. */
__device__ void softmax(shared &s, float m[2], float l[2])
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
__device__ void accumulate(const shared &s, float o[4][4])
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

			ldmatrix4_trans(a, &s.kv.v[key][chunk ^ (key & 7)]);
			mma(o[i], a, b[t], b[t + 4]);
		}
	}
}

template <enum kv_format F>
__device__ const char *page(const attn_decode_args &a, const void *pool, const attn_row &row,
			    uint32_t first_key, uint32_t kv_head)
{
	uint32_t block = a.blocks[row.table + first_key / ATTN_PAGE];

	return (const char *)pool + ((size_t)block * a.kv_heads + kv_head) * attn_head_bytes(F);
}

/* The group's queries: into registers, and from there to their place; of a small group zeros behind them. */
struct queries {
	static constexpr int EACH = ATTN_MAX_GROUP * CHUNKS / THREADS;
	uint4 q[EACH];

	__device__ __forceinline__ void load(const attn_decode_args &a, uint32_t row, uint32_t kv_head, uint32_t group)
	{
		const uint4 *from = (const uint4 *)a.q + ((size_t)row * a.q_heads + kv_head * group) * CHUNKS;

#pragma unroll
		for (int i = 0; i < EACH; i++) {
			const uint32_t at = threadIdx.x + (uint32_t)i * THREADS;

			q[i] = at / CHUNKS < group ? from[at] : make_uint4(0, 0, 0, 0);
		}
	}
	__device__ __forceinline__ void put(shared &s) const
	{
#pragma unroll
		for (int i = 0; i < EACH; i++) {
			const uint32_t at = threadIdx.x + (uint32_t)i * THREADS;

			*(uint4 *)&s.q[at / CHUNKS][at % CHUNKS * 8] = q[i];
		}
	}
};

__device__ float *partial(const attn_decode_args &a, uint32_t row, uint32_t head, uint32_t split,
			  uint32_t max_splits)
{
	return a.scratch + (((size_t)row * a.q_heads + head) * max_splits + split) * SPLIT_FLOATS;
}

/* What a multiprocessor of an H200 has room for in shared memory; codes in flight must not take
 * the registers for it.  0: no word to the compiler. */
template <enum kv_format F> constexpr int BLOCKS = F == KV_FP8 ? 3 : 0;

/* A block that has a place from the start asks for keys and values before the kernel before has ended, where they
 * are old.  Another begins later: it asks for the queries first, which would come behind the 64 KB of its
 * neighbours. */
template <enum kv_format F>
__global__ void __launch_bounds__(THREADS, BLOCKS<F>)
	attn_split_kernel(attn_decode_args a, uint32_t max_splits, uint32_t places)
{
	extern __shared__ char raw[];
	shared &s = *(shared *)(((uintptr_t)raw + 127) & ~(uintptr_t)127);
	const attn_row row = a.rows[blockIdx.z];
	const uint32_t kv_head = blockIdx.y, group = a.q_heads / a.kv_heads;
	const uint32_t keys = attn_split_keys(row.length), first = blockIdx.x * keys;
	const uint32_t end = min(first + keys, row.length);
	const uint32_t block = (blockIdx.z * a.kv_heads + kv_head) * max_splits + blockIdx.x;
	const bool early = first + TILE <= row.old && block < places;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	float m[2] = { -INFINITY, -INFINITY }, l[2] = { 0, 0 };
	float o[4][4] = {};
	tile_in<F> k, v;
	queries q;

	if (early) {
		k.fetch(s.kv.k, page<F>(a, a.k, row, first, kv_head), TILE);
		v.fetch(s.kv.v, page<F>(a, a.v, row, first, kv_head), TILE);
	}
	chain_wait();
	chain_release();
	if (first >= row.length)
		return;
	q.load(a, blockIdx.z, kv_head, group);
	if (!early) {
		k.fetch(s.kv.k, page<F>(a, a.k, row, first, kv_head), end - first);
		v.fetch(s.kv.v, page<F>(a, a.v, row, first, kv_head), end - first);
	}
	q.put(s);
	for (uint32_t at = first; at < end; at += TILE) {
		if (at > first)
			v.fetch(s.kv.v, page<F>(a, a.v, row, at, kv_head), end - at);
		k.land(s.kv.k);		/* V may still come */
		__syncthreads();
		scores(s, end - at);
		__syncthreads();
		if (at + TILE < end)	/* K's place is free */
			k.fetch(s.kv.k, page<F>(a, a.k, row, at + TILE, kv_head), end - at - TILE);
		else
			k.skip();
		softmax(s, m, l);
		v.land(s.kv.v);
		__syncthreads();
		accumulate(s, o);
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < 4; j++) {
			uint32_t h = (uint32_t)(2 * t + j % 2);
			int dim = warp * 64 + i * 16 + g + j / 2 * 8;

			if (h < group)
				partial(a, blockIdx.z, kv_head * group + h, blockIdx.x,
					max_splits)[dim] = o[i][j];
		}
#pragma unroll
	for (int i = 0; i < 2; i++) {
		uint32_t h = (uint32_t)(warp * 2 + i);

		if (lane == 0 && h < group) {
			float *p =
				partial(a, blockIdx.z, kv_head * group + h, blockIdx.x, max_splits);

			p[ATTN_DIM] = m[i];
			p[ATTN_DIM + 1] = l[i];
		}
	}
}

constexpr uint32_t MERGE_AHEAD = 16;	/* splits whose values are asked for at once */
constexpr uint32_t MERGE_MOST = 4096;	/* whose weights fit shared memory: 2 million positions */

/* A thread's dim of splits first .. first + MERGE_AHEAD - 1. */
__device__ __forceinline__ void merge_load(const float *p, uint32_t first, uint32_t n,
					   float (&ret)[MERGE_AHEAD])
{
#pragma unroll
	for (uint32_t i = 0; i < MERGE_AHEAD; i++)
		ret[i] = first + i < n ? p[(size_t)(first + i) * SPLIT_FLOATS] : 0;
}

/* By the whole block: exp2(maximum - largest maximum) and the sum of each split. */
__device__ __forceinline__ void merge_weights(const float *p, uint32_t n, float2 *ret)
{
	__shared__ float tops[ATTN_DIM / 32];
	float top = -INFINITY;

	for (uint32_t i = threadIdx.x; i < n; i += ATTN_DIM) {
		const float *s = p + (size_t)i * SPLIT_FLOATS + ATTN_DIM;

		ret[i] = make_float2(s[0], s[1]);
		top = fmaxf(top, s[0]);
	}
	for (int m = 16; m > 0; m >>= 1)
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, m));
	if (threadIdx.x % 32 == 0)
		tops[threadIdx.x / 32] = top;
	__syncthreads();
	top = tops[0];
	for (uint32_t i = 1; i < ATTN_DIM / 32; i++)
		top = fmaxf(top, tops[i]);
	for (uint32_t i = threadIdx.x; i < n; i += ATTN_DIM)
		ret[i].x = exp2f(ret[i].x - top);
	__syncthreads();
}

/* Normalised and gated, where the product behind wants it; `at`: the head's first dim. */
__device__ __forceinline__ void merge_store(const attn_decode_args &a, size_t at, uint32_t dim, float o,
					    float l, float gate)
{
	o = __fmul_rn(__fdiv_rn(o, l), __fdiv_rn(1.0f, 1.0f + expf(-gate)));
	((__nv_bfloat16 *)a.out)[at + (a.ordered ? prefill_column(dim) : dim)] =
		__float2bfloat16_rn(o);
}

/* A block per (head, row), a thread per dim: splits in order.  All that is read is asked for at
 * once, for the kernel is little but waiting. */
__global__ void __launch_bounds__(ATTN_DIM)
	attn_merge_kernel(attn_decode_args a, uint32_t max_splits)
{
	extern __shared__ float2 weights[];	/* [max_splits]: factor, sum */
	const uint32_t head = blockIdx.x, row = blockIdx.y, dim = threadIdx.x;
	const uint32_t length = a.rows[row].length, keys = attn_split_keys(length);
	const uint32_t n = (length + keys - 1) / keys;
	const float *p = partial(a, row, head, 0, max_splits);
	const size_t at = ((size_t)row * a.q_heads + head) * ATTN_DIM;
	float v[MERGE_AHEAD], o = 0, l = 0, gate;

	chain_wait();
	chain_release();
	gate = __bfloat162float(((const __nv_bfloat16 *)a.gate)[at + dim]);
	merge_load(p + dim, 0, n, v);
	merge_weights(p, n, weights);
	for (uint32_t first = 0; first < n; first += MERGE_AHEAD) {
		if (first)
			merge_load(p + dim, first, n, v);
#pragma unroll
		for (uint32_t i = 0; i < MERGE_AHEAD; i++) {
			if (first + i >= n)
				break;
			o = __fmaf_rn(v[i], weights[first + i].x, o);
			l = __fmaf_rn(weights[first + i].y, weights[first + i].x, l);
		}
	}
	merge_store(a, at, dim, o, l, gate);
}

/* The same for few long rows: a block has PART_DIMS dims of a head, its warps bring splits in turn, one
 * of them adds them in order, from shared memory. */
constexpr uint32_t PART_DIMS = 32, PART_WARPS = 8, PART_SPLITS = 256;

__global__ void __launch_bounds__(PART_WARPS * 32)
	attn_merge_parts_kernel(attn_decode_args a, uint32_t max_splits)
{
	extern __shared__ float2 weights[];	/* [max_splits]: factor, sum */
	__shared__ float v[PART_SPLITS][PART_DIMS];
	__shared__ float tops[PART_WARPS];
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const uint32_t dim = blockIdx.x * PART_DIMS + lane, head = blockIdx.y, row = blockIdx.z;
	const uint32_t length = a.rows[row].length, keys = attn_split_keys(length);
	const uint32_t n = (length + keys - 1) / keys;
	const float *p = partial(a, row, head, 0, max_splits);
	const size_t at = ((size_t)row * a.q_heads + head) * ATTN_DIM;
	float gate = 0, top = -INFINITY, o = 0, l = 0;

	chain_wait();
	chain_release();
	for (uint32_t i = threadIdx.x; i < n; i += PART_WARPS * 32) {
		const float2 x =
			*(const float2 *)(p + (size_t)i * SPLIT_FLOATS + ATTN_DIM);

		weights[i] = x;
		top = fmaxf(top, x.x);
	}
	if (!warp)
		gate = __bfloat162float(((const __nv_bfloat16 *)a.gate)[at + dim]);
	for (uint32_t from = 0; from < n; from += PART_SPLITS) {
		float x[PART_SPLITS / PART_WARPS];

#pragma unroll
		for (uint32_t i = 0; i < PART_SPLITS / PART_WARPS; i++)
			if (from + i * PART_WARPS + warp < n)
				x[i] = p[(size_t)(from + i * PART_WARPS + warp) * SPLIT_FLOATS + dim];
		if (!from) {
			for (int m = 16; m > 0; m >>= 1)
				top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, m));
			if (lane == 0)
				tops[warp] = top;
			__syncthreads();
			top = tops[0];
			for (uint32_t i = 1; i < PART_WARPS; i++)
				top = fmaxf(top, tops[i]);
			for (uint32_t i = threadIdx.x; i < n; i += PART_WARPS * 32)
				weights[i].x = exp2f(weights[i].x - top);
		}
#pragma unroll
		for (uint32_t i = 0; i < PART_SPLITS / PART_WARPS; i++)
			if (from + i * PART_WARPS + warp < n)
				v[i * PART_WARPS + warp][lane] = x[i];
		__syncthreads();
		if (!warp) {
			const uint32_t end = min(n - from, PART_SPLITS);

#pragma unroll 8
			for (uint32_t i = 0; i < end; i++) {
				const float2 w = weights[from + i];

				o = __fmaf_rn(v[i][lane], w.x, o);
				l = __fmaf_rn(w.y, w.x, l);
			}
		}
		if (from + PART_SPLITS < n)
			__syncthreads();
	}
	if (warp)
		return;
	merge_store(a, at, dim, o, l, gate);
}

template <enum kv_format F>
int launch_split(const attn_decode_args *a, uint32_t splits, cudaStream_t stream)
{
	const size_t bytes = sizeof(shared) + 128;

	if (cudaFuncSetAttribute(attn_split_kernel<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)bytes) != cudaSuccess)
		return -ENODEV;
	return chain_launch(attn_split_kernel<F>, dim3(splits, a->kv_heads, a->n_rows), THREADS, bytes, 1, stream,
			    *a, splits, (uint32_t)device_sms() * (device_major() == 9 ? 3 : 1));
}

} /* namespace */

/* Of the merge.  The compiler reads two weights at once, the last one's neighbour too. */
static size_t merge_shared(uint32_t splits)
{
	return (splits + MERGE_AHEAD - 1) / MERGE_AHEAD * MERGE_AHEAD * sizeof(float2);
}

/* Few rows of many splits want more blocks than heads: measured with PART_SPLITS, which rows of 32 to
 * 128 thousand positions have at most; longer ones keep the other. */
static int launch_merge(const attn_decode_args *a, uint32_t splits, cudaStream_t stream)
{
	if (a->n_rows <= 4 && splits == PART_SPLITS)
		return chain_launch(attn_merge_parts_kernel,
				    dim3(ATTN_DIM / PART_DIMS, a->q_heads, a->n_rows), PART_WARPS * 32,
				    merge_shared(splits), 1, stream, *a, splits);
	return chain_launch(attn_merge_kernel, dim3(a->q_heads, a->n_rows), ATTN_DIM,
			    merge_shared(splits), 1, stream, *a, splits);
}

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
	return rc ? rc : launch_merge(a, splits, (cudaStream_t)stream);
}
