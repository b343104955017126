/* attn_prefill.cu - see attn_prefill.h; the kernel for every chip.
 *
 * One block has 128 rows (positions x heads of one group) of one KV head, a warp 16 of them:
 *	S [16][32 keys]   = q [16][256] K^T
 *	O [16][256 dims] += P [16][32] V
 * over tiles of 32 keys from position 0 in order.  K of the next tile loads while V of this one is
 * multiplied, and the other way round; 96 KB of shared memory, so it fits GB10.  An FP8 cache
 * (kv.cuh) loads into registers and becomes bfloat16 on its way into the same places.
 */
#include "kernels/cuda/attn_prefill.h"

#include <algorithm>
#include <errno.h>

#include "kernels/cuda/attn_prefill.cuh"
#include "kernels/cuda/kv.cuh"
#include "kernels/cuda/launch.cuh"

namespace {

using namespace attn_prefill_int;

constexpr int KEYS = 32, WARPS = BLOCK_ROWS / 16, THREADS = WARPS * 32, MERGE_WARPS = 8;

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

/* A tile's keys or values between memory and their place: fetch() begins to load the keys first ..
 * first + 31 of the sequence, land() ends it before the barrier behind which they are read. */
template <enum kv_format F> struct tile_in {
	__device__ void fetch(uint4 (*dst)[CHUNKS], const char *head, uint32_t first)
	{
		const uint4 *src = (const uint4 *)head + first % ATTN_PAGE * CHUNKS;

#pragma unroll
		for (int i = (int)threadIdx.x; i < KEYS * CHUNKS; i += THREADS) {
			const int r = i / CHUNKS, c = i % CHUNKS;

			copy16(&dst[r][c ^ (r & 7)], src + i);
		}
		copy_commit();
	}
	/* of two copies begun: the earlier, and what came before */
	__device__ void land(uint4 (*)[CHUNKS]) { copy_wait<1>(); }
};

template <> struct tile_in<KV_FP8> {
	kv::tile_in<THREADS, KEYS> in;

	__device__ void fetch(uint4 (*)[CHUNKS], const char *head, uint32_t first)
	{
		in.fetch(head, first % ATTN_PAGE, KEYS);
	}
	__device__ void land(uint4 (*dst)[CHUNKS])
	{
		in.land([&](int r, int c) { return &dst[r][c ^ (r & 7)]; });
	}
};

/* The head of the block with key `first` of the sequence. */
template <enum kv_format F>
__device__ const char *head_at(const attn_prefill_args &a, const void *pool, const work &w,
			       uint32_t first)
{
	const size_t block = a.blocks[w.tile.table + first / ATTN_PAGE];

	return (const char *)pool + (block * a.kv_heads + w.kv_head) * attn_head_bytes(F);
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
		const uint32_t a[4] = { pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]),
					pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]) };
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

template <enum kv_format F>
__global__ void __launch_bounds__(THREADS, 1) attn_prefill_mma_kernel(attn_prefill_args a)
{
	extern __shared__ char raw[];
	shared &s = *(shared *)(((uintptr_t)raw + 127) & ~(uintptr_t)127);
	const uint32_t first = threadIdx.x / 32 * 16, mine = threadIdx.x % 32 / 4;
	const auto place_in = [&](int row, int chunk) {
		return &s.q[first + row][chunk ^ (row & 7)];
	};
	float o[ATTN_DIM / 2] = {}, c[KEYS / 2], scale[2];
	running r = { { -INFINITY, -INFINITY }, { 0, 0 } };
	tile_in<F> k, v;
	uint32_t place[2], f;
	work w;

	chain_wait();
	chain_release();
	w = work_of(a, blockIdx.x);
	f = w.first + first;
	place[0] = place_of(w, f + mine);
	place[1] = place_of(w, f + mine + 8);
	/* whole tiles of keys that the block's last place sees, whether it has a row or not */
	if (w.last && place_of(w, w.first + BLOCK_ROWS - 1) < KEYS)
		w.end -= KEYS;
	k.fetch(s.k, head_at<F>(a, a.k, w, w.key0), w.key0);
	copy_rows(a, w, f, 0, place_in);
	for (uint32_t at = w.key0; at < w.end; at += KEYS) {
		v.fetch(s.v, head_at<F>(a, a.v, w, at), at);
		if constexpr (F == KV_FP8)
			copy_wait<0>();	/* q */
		k.land(s.k);		/* and q; V may still come */
		__syncthreads();
		scores(s, c);
		__syncthreads();
		if (at + KEYS < w.end)	/* K's place is free */
			k.fetch(s.k, head_at<F>(a, a.k, w, at + KEYS), at + KEYS);
		else if (w.whole)	/* so is q's, for the gates */
			copy_rows(a, w, f, ATTN_DIM, place_in);
		else
			copy_commit();	/* an empty group, so that the count below holds */
		if (at >= w.tile.pos)	/* in the last segment */
			mask<KEYS>(c, place, at - w.tile.pos);
		softmax<KEYS>(c, r, scale);
		rescale(o, scale);
		v.land(s.v);
		__syncthreads();
		accumulate(s, c, o);
		__syncthreads();
	}
	copy_wait<0>();
	__syncwarp();
	if (w.whole)
		finish(a, w, f, o, r, place_in);
	else
		leave_partial(a, w, first + mine, o, r);
}

/* A warp per row: segments in order, gate, one rounding. */
__global__ void __launch_bounds__(MERGE_WARPS * 32, 4)
	attn_prefill_merge_kernel(attn_prefill_args a)
{
	const uint32_t group = a.q_heads / a.kv_heads, blocks = group * ATTN_PAGE / MERGE_WARPS,
		       lane = threadIdx.x % 32;
	const uint32_t f = blockIdx.x % blocks * MERGE_WARPS + threadIdx.x / 32;
	float o[8] = {}, l = 0, top = -INFINITY, inverse;
	work w = {};
	uint32_t n;

	chain_wait();
	chain_release();
	w.tile = a.tiles[blockIdx.x / blocks / a.kv_heads];
	w.kv_head = blockIdx.x / blocks % a.kv_heads;
	w.group = group;
	n = attn_prefill_segments(w.tile.pos);
	if (n == 1 || w.tile.segment + 1 < n || !row_exists(w, f))
		return;
	for (uint32_t i = 0; i < n; i++) {
		const float *p = partial_of(a, w.tile.slot + 1 - n + i, w.kv_head, f / BLOCK_ROWS) +
				 BLOCK_ROWS * ATTN_DIM;

		top = fmaxf(top, p[f % BLOCK_ROWS * 2]);
	}
	for (uint32_t i = 0; i < n; i++) {
		const float *p = partial_of(a, w.tile.slot + 1 - n + i, w.kv_head, f / BLOCK_ROWS);
		const float2 ml = ((const float2 *)(p + BLOCK_ROWS * ATTN_DIM))[f % BLOCK_ROWS];
		const float4 *x = (const float4 *)(p + f % BLOCK_ROWS * ATTN_DIM) + 2 * lane,
			     x0 = x[0], x1 = x[1];
		const float in[8] = { x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w },
			    scale = exp2_fast(__fsub_rn(ml.x, top));

#pragma unroll
		for (int j = 0; j < 8; j++)
			o[j] = __fmaf_rn(in[j], scale, o[j]);
		l = __fmaf_rn(ml.y, scale, l);
	}
	inverse = __fdiv_rn(1.0f, l);
	const uint4 packed =
		((const uint4 *)((const __nv_bfloat16 *)a.qg + query_at(a, w, f) + ATTN_DIM))[lane];
	const uint32_t gate[4] = { packed.x, packed.y, packed.z, packed.w };
	uint32_t out[4];

#pragma unroll
	for (int j = 0; j < 4; j++) {
		const float2 g = __bfloat1622float2(*(const __nv_bfloat162 *)&gate[j]);

		out[j] =
			pack_bf16(gated(o[2 * j], inverse, g.x), gated(o[2 * j + 1], inverse, g.y));
	}
	((uint4 *)a.out)[output_at(a, w, f) / 8 + lane] =
		make_uint4(out[0], out[1], out[2], out[3]);
}

template <enum kv_format F> int launch_mma(const attn_prefill_args *a, cudaStream_t stream)
{
	const size_t bytes = sizeof(shared) + 128;

	if (cudaFuncSetAttribute(attn_prefill_mma_kernel<F>,
				 cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)bytes) != cudaSuccess)
		return -ENODEV;
	return chain_launch(attn_prefill_mma_kernel<F>, dim3(blocks_of(a)), THREADS, bytes, 1,
			    stream, *a);
}

/* A turn: all its tiles, and what they left to merge. */
int launch_turn(attn_prefill_args a, uint32_t first, uint32_t n, bool hopper, cudaStream_t stream)
{
	const uint32_t warps = a.q_heads * ATTN_PAGE * n;
	bool merge = false;
	int rc;

	for (uint32_t i = first; i < first + n; i++)
		merge = merge || a.plan[i].segment;
	a.tiles += first;
	a.n_tiles = n;
	if (a.form != ATTN_FORM_MMA && hopper)
		rc = attn_prefill_wgmma(&a, stream);
	else
		rc = a.kv == KV_FP8 ? launch_mma<KV_FP8>(&a, stream) : launch_mma<KV_BF16>(&a, stream);
	if (rc || !merge)
		return rc;
	return chain_launch(attn_prefill_merge_kernel, dim3(warps / MERGE_WARPS), MERGE_WARPS * 32,
			    0, 1, stream, a);
}

uint32_t slots_for(uint32_t pos)
{
	const uint32_t n = attn_prefill_segments(pos);

	return n > 1 ? n : 0;
}

} /* namespace */

uint64_t attn_prefill_slot_floats(uint32_t slots, uint32_t q_heads, uint32_t kv_heads)
{
	return (uint64_t)slots * kv_heads * blocks_of_tile(q_heads / kv_heads) * PARTIAL_FLOATS;
}

uint32_t attn_prefill_tiles(const struct attn_run *runs, uint32_t n_runs, uint32_t slots,
			    struct attn_tile *ret)
{
	uint32_t n = 0, turn = 0, used = 0, target = 0;
	uint64_t total = 0;
	const auto keys = [](const attn_tile &t) {
		return std::min<uint32_t>(t.pos + ATTN_PAGE - t.segment * ATTN_PREFILL_SEGMENT,
					  ATTN_PREFILL_SEGMENT);
	};

	for (uint32_t i = 0; i < n_runs; i++)
		for (uint32_t at = 0; at < runs[i].n; at += ATTN_PAGE) {
			const uint32_t need = slots_for(runs[i].pos + at);

			if (runs[i].pos % ATTN_PAGE || need > slots)
				return 0;
			total += need;
			target = std::max(target, need);
		}
	/* equal turns, and none so full that a tile would have to leave one early */
	if (total) {
		const uint32_t turns = (uint32_t)((total - 1) / (slots - target + 1)) + 1;

		target = (uint32_t)((total - 1) / turns) + 1;
	}
	for (uint32_t i = 0; i < n_runs; i++)
		for (uint32_t at = 0; at < runs[i].n; at += ATTN_PAGE) {
			const uint32_t pos = runs[i].pos + at,
				       rows = std::min<uint32_t>(runs[i].n - at, ATTN_PAGE);
			const uint32_t need = slots_for(pos);

			if (need && used >= target) {
				turn++;
				used = 0;
			}
			for (uint32_t s = 0; s < attn_prefill_segments(pos); s++)
				ret[n++] = { runs[i].row + at,	  pos, rows, runs[i].table, s,
					     need ? used + s : 0, turn };
			used += need;
		}
	std::stable_sort(ret, ret + n, [&](const attn_tile &x, const attn_tile &y) {
		return x.turn != y.turn ? x.turn < y.turn : keys(x) > keys(y);
	});
	return n;
}

int attn_prefill(const struct attn_prefill_args *a, void *stream)
{
	const bool hopper = device_major() == 9;

	if (!a->n_tiles || !a->kv_heads || !a->q_heads || a->q_heads % a->kv_heads ||
	    a->q_heads / a->kv_heads > ATTN_MAX_GROUP || a->ld % 8 ||
	    a->ld < a->q_heads * 2 * ATTN_DIM || !a->n_blocks ||
	    a->n_blocks > UINT32_MAX / (a->kv_heads * ATTN_PAGE) ||
	    a->n_tiles > INT32_MAX / (a->kv_heads * ATTN_MAX_GROUP) ||
	    (a->form == ATTN_FORM_WGMMA && !hopper))
		return -EINVAL;
	for (uint32_t i = 0; i < a->n_tiles; i++)
		if (a->plan[i].segment && !a->scratch)
			return -EINVAL;
	for (uint32_t first = 0, end; first < a->n_tiles; first = end) {
		int rc;

		for (end = first + 1; end < a->n_tiles && a->plan[end].turn == a->plan[first].turn;)
			end++;
		rc = launch_turn(*a, first, end - first, hopper, (cudaStream_t)stream);
		if (rc)
			return rc;
	}
	return 0;
}
