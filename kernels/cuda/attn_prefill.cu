/* attn_prefill.cu - see attn_prefill.h; the kernel for every chip.
 *
 * One block has 128 rows (positions x heads of one group) of one KV head, a warp 16 of them:
 *	S [16][32 keys]   = q [16][256] K^T
 *	O [16][256 dims] += P [16][32] V
 * over tiles of 32 keys from position 0 in order.  K of the next tile loads while V of this one is
 * multiplied, and the other way round; 96 KB of shared memory, so it fits GB10.
 */
#include "kernels/cuda/attn_prefill.h"

#include <algorithm>
#include <errno.h>

#include "kernels/cuda/attn_prefill.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

using namespace attn_prefill_int;

constexpr int KEYS = 32, WARPS = BLOCK_ROWS / 16, THREADS = WARPS * 32;

struct shared {		/* chunk c of row r lies at c ^ (r & 7): no bank conflicts */
	uint4 q[BLOCK_ROWS][CHUNKS];
	uint4 k[KEYS][CHUNKS];
	uint4 v[KEYS][CHUNKS];
};
static_assert(sizeof(shared) + 128 <= 99 * 1024, "GB10 and RTX PRO 6000 have 99 KB");

__device__ uint32_t smem_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Keys first .. first + 31 of the sequence. */
__device__ void load_tile(uint4 (*dst)[CHUNKS], const attn_prefill_args &a, const void *pool, const work &w, uint32_t first)
{
	const size_t block = a.blocks[w.tile.table + first / ATTN_PAGE];
	const uint4 *src = (const uint4 *)pool + ((block * a.kv_heads + w.kv_head) * ATTN_PAGE + first % ATTN_PAGE) * CHUNKS;

#pragma unroll
	for (int i = (int)threadIdx.x; i < KEYS * CHUNKS; i += THREADS) {
		const int r = i / CHUNKS, c = i % CHUNKS;

		copy16(&dst[r][c ^ (r & 7)], src + i);
	}
	copy_commit();
}

__device__ void ldmatrix4(uint32_t r[4], const void *p)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem_address(p)) : "memory");
}

__device__ void ldmatrix4_trans(uint32_t r[4], const void *p)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem_address(p)) : "memory");
}

/* c [16][8] += a [16][16] b [16][8] */
__device__ void mma(float *c, const uint32_t a[4], uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
		     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ void scores(const shared &s, float (&c)[KEYS / 2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int row = warp * 16 + lane % 16, key = lane % 8 + lane / 16 * 8;

#pragma unroll
	for (int i = 0; i < KEYS / 2; i++)
		c[i] = 0;
#pragma unroll
	for (int step = 0; step < ATTN_DIM / 16; step++) {
		uint32_t a[4], b[4];

		ldmatrix4(a, &s.q[row][(step * 2 + lane / 16) ^ (row & 7)]);
#pragma unroll
		for (int i = 0; i < KEYS / 16; i++) {
			/* keys 0-7 | 0-7 | 8-15 | 8-15, dims 0-7 | 8-15 | 0-7 | 8-15 */
			ldmatrix4(b, &s.k[i * 16 + key][(step * 2 + lane / 8 % 2) ^ (key & 7)]);
			mma(c + 8 * i, a, b[0], b[1]);
			mma(c + 8 * i + 4, a, b[2], b[3]);
		}
	}
}

__device__ void accumulate(const shared &s, const float (&p)[KEYS / 2], float (&o)[ATTN_DIM / 2])
{
	const int lane = threadIdx.x % 32;

#pragma unroll
	for (int step = 0; step < KEYS / 16; step++) {
		const float *x = p + 8 * step;
		const uint32_t a[4] = { pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
					pack_bf16(x[6], x[7]) };
		const int key = step * 16 + lane % 16;

#pragma unroll
		for (int i = 0; i < ATTN_DIM / 16; i++) {
			uint32_t b[4];

			/* keys 0-7 | 8-15 | 0-7 | 8-15, dims 0-7 | 0-7 | 8-15 | 8-15 */
			ldmatrix4_trans(b, &s.v[key][(i * 2 + lane / 16) ^ (key & 7)]);
			mma(o + 8 * i, a, b[0], b[1]);
			mma(o + 8 * i + 4, a, b[2], b[3]);
		}
	}
}

__global__ void __launch_bounds__(THREADS, 1) attn_prefill_mma_kernel(attn_prefill_args a)
{
	extern __shared__ char raw[];
	shared &s = *(shared *)(((uintptr_t)raw + 127) & ~(uintptr_t)127);
	const uint32_t first = threadIdx.x / 32 * 16, mine = threadIdx.x % 32 / 4;
	const auto place_in = [&](int row, int chunk) { return &s.q[first + row][chunk ^ (row & 7)]; };
	float o[ATTN_DIM / 2] = {}, c[KEYS / 2], scale[2];
	running r = { { -INFINITY, -INFINITY }, { 0, 0 } };
	uint32_t place[2], end, f;
	work w;

	chain_wait();
	chain_release();
	w = work_of(a, blockIdx.x);
	f = w.first + first;
	place[0] = place_of(w, f + mine);
	place[1] = place_of(w, f + mine + 8);
	/* whole tiles of keys that the block's last place sees, whether it has a row or not */
	end = w.tile.pos + min(place_of(w, w.first + BLOCK_ROWS - 1), ATTN_PAGE - 1u) / KEYS * KEYS + KEYS;
	load_tile(s.k, a, a.k, w, 0);
	copy_rows(a, w, f, 0, place_in);
	for (uint32_t at = 0; at < end; at += KEYS) {
		load_tile(s.v, a, a.v, w, at);
		copy_wait<1>();		/* K and q are there, V may still come */
		__syncthreads();
		scores(s, c);
		__syncthreads();
		if (at + KEYS < end)	/* K's place is free */
			load_tile(s.k, a, a.k, w, at + KEYS);
		else			/* so is q's, for the gates */
			copy_rows(a, w, f, ATTN_DIM, place_in);
		if (at >= w.tile.pos)
			mask<KEYS>(c, place, at - w.tile.pos);
		softmax<KEYS>(c, r, scale);
		rescale(o, scale);
		copy_wait<1>();		/* V is there */
		__syncthreads();
		accumulate(s, c, o);
		__syncthreads();
	}
	copy_wait<0>();
	__syncwarp();
	finish(a, w, f, o, r, place_in);
}

int launch_mma(const attn_prefill_args *a, cudaStream_t stream)
{
	const size_t bytes = sizeof(shared) + 128;
	const uint32_t parts = blocks_of_tile(a->q_heads / a->kv_heads);

	if (cudaFuncSetAttribute(attn_prefill_mma_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) !=
	    cudaSuccess)
		return -ENODEV;
	return chain_launch(attn_prefill_mma_kernel, dim3(a->n_tiles * parts * a->kv_heads), THREADS, bytes, 1, stream, *a);
}

/* Answers 10 * major + minor of the current device, 0 when there is none. */
int chip(void)
{
	int device, major, minor;

	if (cudaGetDevice(&device) != cudaSuccess ||
	    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
	    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess)
		return 0;
	return 10 * major + minor;
}

} /* namespace */

uint32_t attn_prefill_tiles(const struct attn_run *runs, uint32_t n_runs, struct attn_tile *ret)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_runs; i++)
		if (runs[i].pos % ATTN_PAGE)
			return 0;
	for (uint32_t i = 0; i < n_runs; i++)
		for (uint32_t at = 0; at < runs[i].n; at += ATTN_PAGE)
			ret[n++] = { runs[i].row + at, runs[i].pos + at, std::min<uint32_t>(runs[i].n - at, ATTN_PAGE),
				     runs[i].table };
	std::stable_sort(ret, ret + n, [](const attn_tile &x, const attn_tile &y) { return x.pos > y.pos; });
	return n;
}

int attn_prefill(const struct attn_prefill_args *a, void *stream)
{
	const bool hopper = chip() == 90;

	if (!a->n_tiles || !a->kv_heads || !a->q_heads || a->q_heads % a->kv_heads ||
	    a->q_heads / a->kv_heads > ATTN_MAX_GROUP || a->ld % 8 || a->ld < a->q_heads * 2 * ATTN_DIM || !a->n_blocks ||
	    a->n_blocks > UINT32_MAX / (a->kv_heads * ATTN_PAGE) ||
	    a->n_tiles > INT32_MAX / (a->kv_heads * ATTN_MAX_GROUP))
		return -EINVAL;
	if (a->form == ATTN_FORM_WGMMA && !hopper)
		return -EINVAL;
	if (a->form == ATTN_FORM_MMA || !hopper)
		return launch_mma(a, (cudaStream_t)stream);
	return attn_prefill_wgmma(a, (cudaStream_t)stream);
}
