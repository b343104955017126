/* attn_prefill_wgmma.cu - see attn_prefill.h; the kernel for compute capability 9.0.
 *
 * A producer warp copies K and V of whole KV blocks (64 keys) with the tensor copy engine into two
 * stages each; two warpgroups of 64 rows multiply:
 *	S [64][64 keys]   = q K^T	both from shared memory
 *	O [64][256 dims] += P V		P from registers
 * The scores of the next block are computed while the probabilities of this one are multiplied with
 * V. Only the last block of keys needs the mask: chunks of rows and blocks of keys lie on one grid.
 */
#include <cuda.h>
#include <errno.h>

#include "kernels/cuda/attn_prefill.cuh"
#include "kernels/cuda/launch.cuh"
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

constexpr size_t SHARED_BYTES = sizeof(shared) + 1024;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr uint32_t COLUMN_BYTES = ATTN_PAGE * 128;	/* 64 rows of 64 dims, 128-byte swizzle */
constexpr int PRODUCER_REGISTERS = 24, CONSUMER_REGISTERS = 240;

__device__ void produce(shared &s, const attn_prefill_args &a, const work &w, const CUtensorMap *k,
			const CUtensorMap *v)
{
	const uint32_t n = (w.end - w.key0) / ATTN_PAGE,
		       *table = a.blocks + w.tile.table + w.key0 / ATTN_PAGE;

	for (uint32_t i = 0; i <= n; i++) {	/* K runs one block ahead of V */
		if (i < n) {
			const uint32_t stage = i % STAGES,
				       row = (table[i] * a.kv_heads + w.kv_head) * ATTN_PAGE;

			barrier_wait(&s.k_empty[stage], (i / STAGES & 1) ^ 1);
			barrier_expect(&s.k_full[stage], TILE_BYTES);
			tensor_copy(s.k[stage], k, row, &s.k_full[stage]);
		}
		if (i > 0) {
			const uint32_t j = i - 1, stage = j % STAGES,
				       row = (table[j] * a.kv_heads + w.kv_head) * ATTN_PAGE;

			barrier_wait(&s.v_empty[stage], (j / STAGES & 1) ^ 1);
			barrier_expect(&s.v_full[stage], TILE_BYTES);
			tensor_copy(s.v[stage], v, row, &s.v_full[stage]);
		}
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

__global__ void __launch_bounds__(THREADS, 1)
attn_prefill_wgmma_kernel(const attn_prefill_args a, const __grid_constant__ CUtensorMap k,
			  const __grid_constant__ CUtensorMap v)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
	extern __shared__ char raw[];
	shared &s = *(shared *)(raw + (-smem_address(raw) & 1023));
	work w;

	if (threadIdx.x == 0) {
		for (int i = 0; i < STAGES; i++) {
			barrier_init(&s.k_full[i], 1);
			barrier_init(&s.v_full[i], 1);
			barrier_init(&s.k_empty[i], GROUPS * 4);
			barrier_init(&s.v_empty[i], GROUPS * 4);
		}
		asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	}
	__syncthreads();
	chain_wait();
	chain_release();
	w = work_of(a, blockIdx.x);
	if (threadIdx.x / 128 == GROUPS) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(PRODUCER_REGISTERS));
		if (threadIdx.x == GROUPS * 128)
			produce(s, a, w, &k, &v);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(CONSUMER_REGISTERS));
		consume(s, a, w, threadIdx.x / 128);
	}
#else
	__trap();	/* never launched: attn_prefill() asks the chip */
#endif
}

typedef CUresult encode_tiled(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
			      const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
			      const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
			      CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver's encoder, found at run time: the tree does not link libcuda. */
encode_tiled *encoder(void)
{
	static encode_tiled *found;
	cudaDriverEntryPointQueryResult result;
	void *p = NULL;

	if (!found &&
	    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000, cudaEnableDefault,
					     &result) == cudaSuccess &&
	    result == cudaDriverEntryPointSuccess)
		found = (encode_tiled *)p;
	return found;
}

/* The cache as [4 columns of 64 dims][rows][64 dims], a box of 64 rows and all columns. */
int map_cache(const attn_prefill_args *a, const void *pool, CUtensorMap *ret)
{
	const cuuint64_t dims[3] = { 64, (cuuint64_t)a->n_blocks * a->kv_heads * ATTN_PAGE,
				     ATTN_DIM / 64 };
	const cuuint64_t strides[2] = { ATTN_DIM * 2, 128 };
	const cuuint32_t box[3] = { 64, ATTN_PAGE, ATTN_DIM / 64 }, step[3] = { 1, 1, 1 };
	encode_tiled *encode = encoder();

	if (!encode)
		return -ENODEV;
	return encode(ret, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)pool, dims, strides, box,
		      step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
		      CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
		      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS ?
		       0 :
		       -EINVAL;
}

} /* namespace */

int attn_prefill_wgmma(const struct attn_prefill_args *a, cudaStream_t stream)
{
	CUtensorMap k, v;
	int rc = map_cache(a, a->k, &k);

	rc = rc ? rc : map_cache(a, a->v, &v);
	if (rc)
		return rc;
	if (cudaFuncSetAttribute(attn_prefill_wgmma_kernel,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)SHARED_BYTES) != cudaSuccess)
		return -ENODEV;
	return chain_launch(attn_prefill_wgmma_kernel, dim3(blocks_of(a)), THREADS, SHARED_BYTES, 1,
			    stream, *a, k, v);
}
