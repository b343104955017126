/* prefill_list.cu - who goes to which expert, for thousands of rows; and the order of columns
 * (prefill_matmul.h). */
#include "kernels/cuda/prefill_matmul.h"

#include "kernels/cuda/decode_matmul_int.cuh"

namespace {

constexpr int LIST_WARPS_ = 8, LIST_BLOCK = LIST_WARPS_ * WARP;
constexpr uint32_t LIST_RUN = 256, LIST_PAIRS = LIST_WARPS_ * LIST_RUN;	/* of a warp, of a block */

struct list_work {
	const uint32_t *ids;
	uint32_t n_pairs, n_experts, n_blocks;
	struct prefill_list to;
	/* [n_blocks][n_experts]: a block's pairs of an expert, then the place of the first */
	uint32_t *count;
};

uint32_t list_blocks(uint32_t n_pairs)
{
	return (n_pairs + LIST_PAIRS - 1) / LIST_PAIRS;
}

/* This warp's pairs in order; place(pair, id, rank): `count` has how many of an id came before. */
template <class Place> __device__ void each_pair(const list_work &w, uint32_t *count, Place place)
{
	const uint32_t lane = threadIdx.x % WARP,
		       begin = blockIdx.x * LIST_PAIRS + threadIdx.x / WARP * LIST_RUN;

	for (uint32_t first = begin; first < min(w.n_pairs, begin + LIST_RUN); first += WARP) {
		const uint32_t pair = first + lane, asked = pair < w.n_pairs ? w.ids[pair] : ~0u;
		/* the others are nobody's */
		const uint32_t id = asked < w.n_experts ? asked : ~0u;
		const uint32_t same = __match_any_sync(~0u, id),
			       before = __popc(same & ((1u << lane) - 1));
		const uint32_t so_far = id != ~0u ? count[id] : 0;

		__syncwarp();
		if (id != ~0u) {
			place(pair, so_far + before);
			if (!before)
				count[id] = so_far + __popc(same);
		}
		__syncwarp();
	}
}

/* Counts a block's pairs by expert, or puts them where they belong, in order. */
template <bool WRITE> __global__ void __launch_bounds__(LIST_BLOCK) pairs_kernel(list_work w)
{
	__shared__ uint32_t count[LIST_WARPS_][MATMUL_MAX_EXPERTS];
	uint32_t *mine = count[threadIdx.x / WARP], *block = w.count + blockIdx.x * w.n_experts;

	chain_wait();
	chain_release();
	for (uint32_t e = threadIdx.x; e < LIST_WARPS_ * MATMUL_MAX_EXPERTS; e += LIST_BLOCK)
		count[0][e] = 0;
	__syncthreads();
	each_pair(w, mine, [](uint32_t, uint32_t) {});
	__syncthreads();
	for (uint32_t e = threadIdx.x; e < w.n_experts; e += LIST_BLOCK) {
		uint32_t at = WRITE ? block[e] : 0;

		for (int v = 0; v < LIST_WARPS_; v++) {
			const uint32_t n = count[v][e];

			count[v][e] = at;
			at += n;
		}
		if (!WRITE)
			block[e] = at;
	}
	if (!WRITE)
		return;
	__syncthreads();
	each_pair(w, mine, [&](uint32_t pair, uint32_t at) { w.to.list.pair[at] = pair; });
}

/* One thread an expert: where each block's pairs begin, active experts and tiles. */
__global__ void __launch_bounds__(MATMUL_MAX_EXPERTS) offsets_kernel(list_work w)
{
	__shared__ uint32_t pairs[MATMUL_MAX_EXPERTS], active[MATMUL_MAX_EXPERTS],
		tiles[MATMUL_MAX_EXPERTS], wide[MATMUL_MAX_EXPERTS];
	const uint32_t e = threadIdx.x;
	uint32_t n = 0;

	chain_wait();
	chain_release();
	for (uint32_t b = 0; e < w.n_experts && b < w.n_blocks; b++)
		n += w.count[b * w.n_experts + e];
	const uint32_t n_tiles = (n + PREFILL_COLS - 1) / PREFILL_COLS,
		       n_wide = (n + PREFILL_WIDE - 1) / PREFILL_WIDE;
	pairs[e] = n;
	active[e] = n > 0;
	tiles[e] = n_tiles;
	wide[e] = n_wide;
	__syncthreads();
	for (uint32_t d = 1; d < MATMUL_MAX_EXPERTS; d *= 2) {
		const uint32_t a = e >= d ? pairs[e - d] : 0, b = e >= d ? active[e - d] : 0,
			       c = e >= d ? tiles[e - d] : 0,
			       f = e >= d ? wide[e - d] : 0;

		__syncthreads();
		pairs[e] += a;
		active[e] += b;
		tiles[e] += c;
		wide[e] += f;
		__syncthreads();
	}
	const uint32_t first = pairs[e] - n, index = active[e] - (n > 0), tile = tiles[e] - n_tiles,
		       wide_tile = wide[e] - n_wide;

	for (uint32_t b = 0, at = first; e < w.n_experts && b < w.n_blocks; b++) {
		const uint32_t here = w.count[b * w.n_experts + e];

		w.count[b * w.n_experts + e] = at;
		at += here;
	}
	if (n) {
		w.to.list.active[index] = e;
		w.to.list.offset[index] = first;
	}
	for (uint32_t i = 0; i < n_tiles; i++)
		w.to.tile[tile + i] = index << 16 | i;
	for (uint32_t i = 0; i < n_wide; i++)
		w.to.wide[wide_tile + i] = index << 16 | i;
	if (e == MATMUL_MAX_EXPERTS - 1) {
		*w.to.list.n_active = active[e];
		w.to.n_tiles[0] = tiles[e];
		w.to.n_tiles[1] = wide[e];
		w.to.n_tiles[2] = 0;
		w.to.list.offset[active[e]] = pairs[e];
	}
}

size_t align16(size_t bytes)
{
	return (bytes + 15) / 16 * 16;
}

/* ---- the order of columns -------------------------------------------------------- */

/* A thread has 64 bytes: four chunks of four pairs, transposed. */
__global__ void order_kernel(uint4 *x, size_t n)
{
	const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;

	chain_wait();
	chain_release();
	if (i >= n)
		return;
	const uint4 a = x[i], b = x[i + 1], c = x[i + 2], d = x[i + 3];
	x[i] = make_uint4(a.x, b.x, c.x, d.x);
	x[i + 1] = make_uint4(a.y, b.y, c.y, d.y);
	x[i + 2] = make_uint4(a.z, b.z, c.z, d.z);
	x[i + 3] = make_uint4(a.w, b.w, c.w, d.w);
}

} /* namespace */

uint32_t prefill_max_tiles(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	return n_rows * n_slots / PREFILL_COLS + n_experts;
}

size_t prefill_list_bytes(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	return expert_list_bytes(n_rows, n_slots, n_experts) + 16 +
	       align16(4 * (size_t)list_blocks(n_rows * n_slots) * n_experts) +
	       2 * align16(4 * (size_t)prefill_max_tiles(n_rows, n_slots, n_experts));
}

/* Behind the list: n_tiles (and a word unused), the counts that the building needs, the tiles. */
struct prefill_list prefill_list_at(void *mem, uint32_t n_rows, uint32_t n_slots,
				    uint32_t n_experts)
{
	char *at = (char *)mem + expert_list_bytes(n_rows, n_slots, n_experts);
	struct prefill_list l;

	l.list = expert_list_at(mem, n_rows, n_slots, n_experts);
	l.n_tiles = (uint32_t *)at;
	l.tile = (uint32_t *)(at + 16 +
			      align16(4 * (size_t)list_blocks(n_rows * n_slots) * n_experts));
	l.wide = l.tile + align16(4 * (size_t)prefill_max_tiles(n_rows, n_slots, n_experts)) / 4;
	return l;
}

int prefill_list_build(const uint32_t *ids, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts,
		       const struct prefill_list *list, void *stream)
{
	const list_work w = { ids,   n_rows * n_slots, n_experts, list_blocks(n_rows * n_slots),
			      *list, list->n_tiles + 4 };
	cudaStream_t s = (cudaStream_t)stream;
	int rc;

	if (!ids || !n_rows || n_rows > PREFILL_MAX_ROWS || !n_slots || n_slots > 16 ||
	    !n_experts || n_experts > MATMUL_MAX_EXPERTS)
		return -EINVAL;
	rc = chain_launch(pairs_kernel<false>, dim3(w.n_blocks), LIST_BLOCK, 0, 1, s, w);
	rc = rc ? rc : chain_launch(offsets_kernel, dim3(1), MATMUL_MAX_EXPERTS, 0, 1, s, w);
	return rc ? rc : chain_launch(pairs_kernel<true>, dim3(w.n_blocks), LIST_BLOCK, 0, 1, s, w);
}

int prefill_order(void *x, uint32_t n_rows, uint32_t width, void *stream)
{
	const size_t n = (size_t)n_rows * width / 8;

	if (!n_rows || !width || width % 32 || !aligned16(x))
		return -EINVAL;
	return chain_launch(order_kernel, dim3((uint32_t)((n / 4 + 255) / 256)), 256, 0, 1,
			    (cudaStream_t)stream, (uint4 *)x, n);
}
