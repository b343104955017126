/* attn_prefill_wgmma.cu - see attn_prefill.h; the kernel for compute capability 9.0.
 *
 * A producer warp copies K and V of whole KV blocks (64 keys) with the tensor copy engine into two
 * stages each; two warpgroups of 64 rows multiply:
 *	S [64][64 keys]   = q K^T	both from shared memory
 *	O [64][256 dims] += P V		P from registers
 * The scores of the next block are computed while the probabilities of this one are multiplied with
 * V. Only the last block of keys needs the mask: chunks of rows and blocks of keys lie on one grid.
 *
 * Of an FP8 cache (kv.cuh) the copy engine brings the codes, and four producer warps turn them into
 * the bfloat16 tiles that it would have brought.
 */
#include <cuda.h>
#include <errno.h>

#include "kernels/cuda/attn_prefill.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace {

using namespace attn_prefill_int;

constexpr int STAGES = 2, GROUPS = BLOCK_ROWS / 64, THREADS = (GROUPS + 1) * 128;
constexpr uint32_t TILE_BYTES = ATTN_PAGE * ATTN_DIM * 2;

struct shared {		/* a tile: four columns of 64 dims */
	char q[GROUPS][TILE_BYTES];
	char k[STAGES][TILE_BYTES];
	char v[STAGES][TILE_BYTES];
	uint64_t k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
};

/* What a cache is read through, and what of it waits in shared memory. */
template <enum kv_format F> struct source {
	CUtensorMap k, v;
};
template <> struct source<KV_FP8> {};

template <enum kv_format F> struct room : shared {};
template <> struct room<KV_FP8> : shared {
	alignas(128) char codes[STAGES][ATTN_PAGE * (ATTN_DIM + 1)];	/* of a head, and its powers */
	uint64_t codes_full[STAGES];
};

template <enum kv_format F> constexpr size_t SHARED_BYTES = sizeof(room<F>) + 1024;
static_assert(SHARED_BYTES<KV_FP8> <= 227 * 1024, "an H200 has 227 KB");

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr uint32_t COLUMN_BYTES = ATTN_PAGE * 128;	/* 64 rows of 64 dims, 128-byte swizzle */
/* of a thread; three warpgroups share 504 */
template <enum kv_format F> constexpr int PRODUCER_REGISTERS = F == KV_FP8 ? 56 : 24;
template <enum kv_format F> constexpr int CONSUMER_REGISTERS = F == KV_FP8 ? 224 : 240;

/* By one thread. */
__device__ void produce(room<KV_BF16> &s, const attn_prefill_args &a, const work &w,
			const source<KV_BF16> &from)
{
	const uint32_t n = (w.end - w.key0) / ATTN_PAGE,
		       *table = a.blocks + w.tile.table + w.key0 / ATTN_PAGE;

	if (threadIdx.x % 128)
		return;
	for (uint32_t i = 0; i <= n; i++) {	/* K runs one block ahead of V */
		if (i < n) {
			const uint32_t stage = i % STAGES,
				       row = (table[i] * a.kv_heads + w.kv_head) * ATTN_PAGE;

			barrier_wait(&s.k_empty[stage], (i / STAGES & 1) ^ 1);
			barrier_expect(&s.k_full[stage], TILE_BYTES);
			tensor_copy(s.k[stage], &from.k, row, &s.k_full[stage]);
		}
		if (i > 0) {
			const uint32_t j = i - 1, stage = j % STAGES,
				       row = (table[j] * a.kv_heads + w.kv_head) * ATTN_PAGE;

			barrier_wait(&s.v_empty[stage], (j / STAGES & 1) ^ 1);
			barrier_expect(&s.v_full[stage], TILE_BYTES);
			tensor_copy(s.v[stage], &from.v, row, &s.v_full[stage]);
		}
	}
}

/* Tile t of an FP8 cache in the order K0 K1 V0 K2 V1 .. of n blocks: K runs one ahead of V. */
struct turn {
	uint32_t block;
	bool value;
};

__device__ __forceinline__ turn turn_of(uint32_t t, uint32_t n)
{
	if (t == 0)
		return { 0, false };
	if (t == 2 * n - 1)
		return { n - 1, true };
	return t % 2 ? turn{ (t + 1) / 2, false } : turn{ t / 2 - 1, true };
}

__device__ __forceinline__ void copy_codes(room<KV_FP8> &s, const attn_prefill_args &a,
					   const work &w, const uint32_t *table, uint32_t t,
					   uint32_t n)
{
	constexpr uint32_t BYTES = (uint32_t)sizeof(s.codes[0]);
	const turn x = turn_of(t, n);
	const size_t head = (size_t)table[x.block] * a.kv_heads + w.kv_head;
	uint64_t *full = &s.codes_full[t % STAGES];

	barrier_expect(full, BYTES);
	bulk_copy(s.codes[t % STAGES], (const char *)(x.value ? a.v : a.k) + head * BYTES, BYTES,
		  full);
}

/* In one piece, whatever is done with its parts. */
__device__ __forceinline__ uint4 load_shared(const char *p)
{
	uint4 v;

	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "r"(smem_address(p))
		     : "memory");
	return v;
}

/* This warp's 16 keys, swizzled as the copy engine would. */
__device__ __forceinline__ void decode(char *tile, const char *codes)
{
	const int first = (int)threadIdx.x % 128 / 32 * 16, its = first + (int)threadIdx.x % 16;
	const kv::share mine = kv::share_of();
	const kv::factors f = kv::factors_of(((const unsigned char *)codes)[kv::CODES + its]);
	const auto place = [&](int row, int chunk) {
		return (uint4 *)(tile + chunk / 8 * (int)COLUMN_BYTES + row * 128 +
				 ((chunk ^ row) & 7) * 16);
	};

#pragma unroll 1
	for (int pairs = 0; pairs < 8; pairs += 4) {
		const int row = 2 * pairs + mine.odd;
		uint4 x[4];

#pragma unroll
		for (int i = 0; i < 4; i++)
			x[i] = load_shared(codes + (first + row + 2 * i) * ATTN_DIM + mine.piece * 16);
#pragma unroll
		for (int i = 0; i < 4; i++)
			kv::sixteen(x[i], f, row + 2 * i, [&](int half, const uint4 &y) {
				*place(first + row + 2 * i, 2 * mine.piece + half) = y;
			});
	}
	if (f.plain)
		return;
#pragma unroll 1
	for (int i = 0; i < 16; i++) {
		const int row = i / 2 * 2 + mine.odd;

		kv::mend(place(first + row, 2 * mine.piece + i % 2), f, row);
	}
}

/* By four warps; the first thread of them is the one that copies and tells. */
__device__ void produce(room<KV_FP8> &s, const attn_prefill_args &a, const work &w,
			const source<KV_FP8> &)
{
	const uint32_t n = (w.end - w.key0) / ATTN_PAGE,
		       *table = a.blocks + w.tile.table + w.key0 / ATTN_PAGE;
	const bool first = threadIdx.x % 128 == 0;

	for (uint32_t t = 0; first && t < STAGES; t++)	/* 2 n of them: as many at least */
		copy_codes(s, a, w, table, t, n);
	for (uint32_t t = 0; t < 2 * n; t++) {
		const turn x = turn_of(t, n);
		const uint32_t stage = x.block % STAGES;

		barrier_wait(&s.codes_full[t % STAGES], t / STAGES & 1);
		barrier_wait(x.value ? &s.v_empty[stage] : &s.k_empty[stage],
			     (x.block / STAGES & 1) ^ 1);
		decode(x.value ? s.v[stage] : s.k[stage], s.codes[t % STAGES]);
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		asm volatile("bar.sync %0, 128;" ::"n"(GROUPS + 1) : "memory");
		if (!first)
			continue;
		barrier_arrive(x.value ? &s.v_full[stage] : &s.k_full[stage]);
		if (t + STAGES < 2 * n)
			copy_codes(s, a, w, table, t + STAGES, n);
	}
}

__device__ __forceinline__ void scores(float (&c)[ATTN_PAGE / 2], uint32_t q, uint32_t k)
{
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < ATTN_DIM / 16; i++) {
		const uint32_t at = (uint32_t)(i / 4) * COLUMN_BYTES + (uint32_t)(i % 4) * 32;

		wgmma_64x64x16(c, descriptor(q + at, 0, 1024), descriptor(k + at, 0, 1024), i > 0);
	}
	wgmma_commit();
}

__device__ __forceinline__ void accumulate(float (&o)[ATTN_DIM / 2],
					   const uint32_t (&p)[ATTN_PAGE / 4], uint32_t v)
{
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < ATTN_PAGE / 16; i++)	/* 16 keys: two groups of 8 rows */
		wgmma_64x256x16(o, p + 4 * i,
				descriptor(v + (uint32_t)i * 2048, COLUMN_BYTES, 1024));
	wgmma_commit();
}

__device__ __forceinline__ void release(uint64_t *barrier)
{
	__syncwarp();
	if (threadIdx.x % 32 == 0)
		barrier_arrive(barrier);
}

__device__ __forceinline__ void group_wait(uint32_t group)
{
	asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

/* The mask, and the gates in the place of the queries, which nobody reads any more. */
template <typename F>
__device__ __forceinline__ void last_scores(const attn_prefill_args &a, const work &w, uint32_t f,
					    uint32_t group, float (&c)[ATTN_PAGE / 2],
					    const uint32_t place[2], F place_in)
{
	if (w.whole) {
		group_wait(group);
		copy_rows(a, w, f, ATTN_DIM, place_in);
	}
	if (w.last)
		mask<ATTN_PAGE>(c, place, 0);
}

__device__ __forceinline__ void consume(shared &s, const attn_prefill_args &a, const work &w,
					uint32_t group)
{
	const uint32_t n = (w.end - w.key0) / ATTN_PAGE;
	const uint32_t first = threadIdx.x / 32 % 4 * 16, f = w.first + group * 64 + first;
	const uint32_t place[2] = { place_of(w, f + threadIdx.x % 32 / 4),
				    place_of(w, f + threadIdx.x % 32 / 4 + 8) };
	const uint32_t q = smem_address(s.q[group]);
	/* swizzled as the copy engine would */
	const auto place_in = [&](int row, int chunk) {
		return (uint4 *)(s.q[group] + chunk / 8 * COLUMN_BYTES + (first + row) * 128 +
				 ((chunk ^ row) & 7) * 16);
	};
	float o[ATTN_DIM / 2] = {}, c[ATTN_PAGE / 2], scale[2];
	running r = { { -INFINITY, -INFINITY }, { 0, 0 } };
	uint32_t p[ATTN_PAGE / 4];

	copy_rows(a, w, f, 0, place_in);
	copy_wait<0>();
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
	group_wait(group);
	barrier_wait(&s.k_full[0], 0);
	scores(c, q, smem_address(s.k[0]));
	wgmma_wait<0>(c);
	release(&s.k_empty[0]);
	if (n == 1)
		last_scores(a, w, f, group, c, place, place_in);
	softmax<ATTN_PAGE>(c, r, scale);
#pragma unroll
	for (int i = 0; i < ATTN_PAGE / 4; i++)
		p[i] = pack_bf16(c[2 * i], c[2 * i + 1]);
	for (uint32_t j = 1; j < n; j++) {
		const uint32_t now = j % STAGES, before = (j - 1) % STAGES;

		barrier_wait(&s.k_full[now], j / STAGES & 1);
		scores(c, q, smem_address(s.k[now]));
		barrier_wait(&s.v_full[before], (j - 1) / STAGES & 1);
		accumulate(o, p, smem_address(s.v[before]));
		wgmma_wait<1>(c);
		release(&s.k_empty[now]);
		if (j == n - 1)
			last_scores(a, w, f, group, c, place, place_in);
		softmax<ATTN_PAGE>(c, r, scale);
		wgmma_wait<0>(o);
		release(&s.v_empty[before]);
		rescale(o, scale);
#pragma unroll
		for (int i = 0; i < ATTN_PAGE / 4; i++)
			p[i] = pack_bf16(c[2 * i], c[2 * i + 1]);
	}
	barrier_wait(&s.v_full[(n - 1) % STAGES], (n - 1) / STAGES & 1);
	accumulate(o, p, smem_address(s.v[(n - 1) % STAGES]));
	wgmma_wait<0>(o);
	copy_wait<0>();
	__syncwarp();
	if (w.whole)
		finish(a, w, f, o, r, place_in);
	else
		leave_partial(a, w, group * 64 + first + threadIdx.x % 32 / 4, o, r);
}

#endif

template <enum kv_format F>
__global__ void __launch_bounds__(THREADS, 1)
attn_prefill_wgmma_kernel(const attn_prefill_args a, const __grid_constant__ source<F> from)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
	extern __shared__ char raw[];
	room<F> &s = *(room<F> *)(raw + (-smem_address(raw) & 1023));
	work w;

	if (threadIdx.x == 0) {
		for (int i = 0; i < STAGES; i++) {
			barrier_init(&s.k_full[i], 1);
			barrier_init(&s.v_full[i], 1);
			barrier_init(&s.k_empty[i], GROUPS * 4);
			barrier_init(&s.v_empty[i], GROUPS * 4);
			if constexpr (F == KV_FP8)
				barrier_init(&s.codes_full[i], 1);
		}
		asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	}
	__syncthreads();
	chain_wait();
	chain_release();
	w = work_of(a, blockIdx.x);
	if (threadIdx.x / 128 == GROUPS) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS<F>));
		produce(s, a, w, from);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS<F>));
		consume(s, a, w, threadIdx.x / 128);
	}
#else
	__trap();	/* never launched: attn_prefill() asks the chip */
#endif
}

/* The cache as [4 columns of 64 dims][rows][64 dims], a box of 64 rows and all columns. */
int map_cache(const attn_prefill_args *a, const void *pool, CUtensorMap *ret)
{
	const cuuint64_t dims[3] = { 64, (cuuint64_t)a->n_blocks * a->kv_heads * ATTN_PAGE,
				     ATTN_DIM / 64 };
	const cuuint64_t strides[2] = { ATTN_DIM * 2, 128 };
	const cuuint32_t box[3] = { 64, ATTN_PAGE, ATTN_DIM / 64 };

	return tensor_map_make(ret, pool, 3, dims, strides, box);
}

template <enum kv_format F>
int launch(const attn_prefill_args *a, const source<F> &from, cudaStream_t stream)
{
	if (cudaFuncSetAttribute(attn_prefill_wgmma_kernel<F>,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)SHARED_BYTES<F>) != cudaSuccess)
		return -ENODEV;
	return chain_launch(attn_prefill_wgmma_kernel<F>, dim3(blocks_of(a)), THREADS,
			    SHARED_BYTES<F>, 1, stream, *a, from);
}

} /* namespace */

int attn_prefill_wgmma(const struct attn_prefill_args *a, cudaStream_t stream)
{
	source<KV_BF16> from;
	int rc;

	if (a->kv == KV_FP8)
		return launch<KV_FP8>(a, {}, stream);
	rc = map_cache(a, a->k, &from.k);
	rc = rc ? rc : map_cache(a, a->v, &from.v);
	return rc ? rc : launch<KV_BF16>(a, from, stream);
}
