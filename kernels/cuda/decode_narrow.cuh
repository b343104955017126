/* decode_narrow.cuh - the decode product for few columns: latency first.
 *
 * A block of NARROW_WARPS warps owns a tile of 16 rows (or several tiles side by side when K
 * is short).  Each warp has its slices of K: it keeps its part of x in registers, a unit of
 * weights in registers, and refills each 16 bytes of weights from the next tile right after
 * the tensor core took them; so loads never stop, and need neither shared memory nor barriers.
 * Where registers leave room a warp has several units in flight.  The slices' sums
 * meet in shared memory, one barrier a tile, and are added in slice order.  Blocks are
 * persistent: each walks a run of tiles.
 *
 * A tall and narrow matrix has fewer tiles than there are places for blocks; then the two blocks of
 * a cluster share a tile's slices, and the sums meet in the first one's shared memory.
 *
 * With experts, a tile belongs to an expert and its columns are that expert's pairs; more than
 * 8 NT of them are done in chunks with the weights still in registers.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_NARROW_CUH
#define HEARTH_KERNELS_CUDA_DECODE_NARROW_CUH

#include <cooperative_groups.h>

#include "kernels/cuda/decode_unit.cuh"
#include "kernels/cuda/route_list.cuh"

namespace cg = cooperative_groups;

#define NARROW_WARPS 8
static_assert(NARROW_WARPS * WARP == FEW_THREADS, "a product's block can choose");
#define NARROW_COL 20	/* floats a column of 16 takes in shared memory: no bank conflicts */
#define NARROW_FEW_TILES 32	/* at most, to give columns to blocks of their own */

/* Asked again after every barrier: cheaper than registers that hold the answer. */
template <bool EXPERTS>
static __device__ __forceinline__ struct columns columns_of(const struct matmul_params &p,
							    uint32_t index)
{
	struct columns c = { NULL, p.n_cols };

	if (EXPERTS) {
		c.pair = p.list.pair + p.list.offset[index];
		c.n = p.list.offset[index + 1] - p.list.offset[index];
	}
	return c;
}

/* unit_product(); refills the unit from `next` when `more`. */
template <enum matmul_format F, int NT>
static __device__ __forceinline__ void narrow_unit(struct unit<F> &w, const struct narrow_x<NT> &x,
						   const uint4 *next, bool more, int lane,
						   float sum[NT][4])
{
	unit_product(w, x, sum, [&](int step) { w.refill(step, next, lane, more); });
	w.refill_scales(next, lane, more);
}

/* An output's slices, in order. */
static __device__ __forceinline__ float narrow_sum(const struct matmul_params &p, const float *from,
						   uint32_t stride)
{
	float v = -0.0f;

	for (uint32_t s = 0; s < p.n_slices; s++)
		v = fold(v, from[s * stride]);
	return v;
}

/* Adds the slices of every output of this block's tiles and writes them. */
template <enum matmul_format F, int NT>
static __device__ __forceinline__ void narrow_finish(const struct matmul_params &p,
						     const struct columns &c, const float *sums,
						     uint32_t first_tile, uint32_t first_col,
						     uint32_t expert_index)
{
	const uint32_t tile_floats = 8 * NT * NARROW_COL, stride = p.m_warps * tile_floats;
	for (uint32_t i = threadIdx.x; i < p.m_warps * 128 * NT; i += NARROW_WARPS * WARP) {
		const uint32_t m = i / (128 * NT), in_col = i % (128 * NT) / 16, r = i % 16;
		const uint32_t tile = first_tile + m, col = first_col + in_col;
		const float *from = sums + m * tile_floats + in_col * NARROW_COL + r;

		if (!has_output(p, tile, r) || col >= c.n)
			continue;
		const float sum = narrow_sum(p, from, stride);
		const float up = tile < p.n_plain ? 0 : narrow_sum(p, from + 8, stride);
		/* Asked late, when sums no longer take registers; narrow_block() has made them
		 * near. */
		const float *scales =
			tile_scales<F>(p, c.pair ? p.list.active[expert_index] : 0, tile);

		store_out(p, tile, r, c.pair ? c.pair[col] : col,
			  __fmul_rn(sum, scale_of<F>(scales, r)),
			  __fmul_rn(up, scale_of<F>(scales, r % 8 + 8)));
	}
}

/* What a warp of the narrow form knows about its walk. */
struct narrow_walk {
	uint32_t end;		/* of the block's items */
	uint32_t kw, m;		/* the warp's place in the block */
};

/* Which of the active experts an item belongs to, and which group of its row tiles it is. */
template <bool EXPERTS>
static __device__ __forceinline__ uint32_t item_expert(const struct matmul_params &p, uint32_t item)
{
	return !EXPERTS ? 0 : p.groups == 1 ? item : __umulhi(item, p.groups_inverse);
}

template <bool EXPERTS>
static __device__ __forceinline__ uint32_t item_group(const struct matmul_params &p, uint32_t item)
{
	return item - item_expert<EXPERTS>(p, item) * p.groups;
}

/* A warp's only unit of an item serves all chunks of columns. */
static __device__ __forceinline__ bool narrow_stays(const struct matmul_params &p)
{
	return p.n_slices <= p.k_warps;
}

/* A position: item (expert and group of row tiles), chunk of columns, one of the own slices. */
struct narrow_at {
	uint32_t item, chunk, own;
};

template <int NT, bool EXPERTS>
static __device__ __forceinline__ uint32_t narrow_chunks(const struct matmul_params &p,
							 uint32_t item)
{
	uint32_t n = p.n_cols;

	if (EXPERTS) {
		uint32_t index = item_expert<EXPERTS>(p, item);

		n = p.list.offset[index + 1] - p.list.offset[index];
	}
	return (n + 8 * NT - 1) / (8 * NT);
}

/* The position that wants the next unit of weights. */
template <int NT, bool EXPERTS>
static __device__ __forceinline__ struct narrow_at narrow_next(const struct matmul_params &p,
							       const struct narrow_walk &w,
							       struct narrow_at at)
{
	if (narrow_stays(p))
		return { at.item + 1, 0, 0 };
	if (w.kw + ++at.own * p.k_warps < p.n_slices)
		return at;
	at.own = 0;
	if (++at.chunk < narrow_chunks<NT, EXPERTS>(p, at.item))
		return at;
	return { at.item + 1, 0, 0 };
}

template <enum matmul_format F, bool EXPERTS>
static __device__ __forceinline__ const uint4 *narrow_unit_at(const struct matmul_params &p,
							      const struct narrow_walk &w,
							      const struct narrow_at &at)
{
	uint32_t item = min(at.item, w.end - 1);
	uint32_t expert = EXPERTS ? p.list.active[item_expert<EXPERTS>(p, item)] : 0;
	uint32_t tile = min(item_group<EXPERTS>(p, item) * p.m_warps + w.m, p.n_tiles - 1);
	/* With 3, 5, 6 or 7 slices a warp can be without any; it still asks for its first. */
	uint32_t slice = min(w.kw + at.own * p.k_warps, p.n_slices - 1);
	size_t index = ((size_t)expert * p.n_tiles + tile) * p.n_slices + slice;

	return (const uint4 *)(p.w + index * unit<F>::bytes);
}

/* What narrow_finish() will ask for, on its way while the tiles are multiplied. */
template <enum matmul_format F, bool EXPERTS>
static __device__ __forceinline__ void narrow_call_scales(const struct matmul_params &p,
							  uint32_t item, uint32_t index)
{
	uint32_t thread = threadIdx.x;

	asm volatile("" : "+r"(thread));	/* asked anew: no register for the answer */
	const uint32_t tile = item_group<EXPERTS>(p, item) * p.m_warps + thread;

	if (F != MATMUL_BF16 && p.row_scale && thread < p.m_warps && tile < p.n_tiles)
		asm volatile("prefetch.global.L1 [%0];" ::
			     "l"(tile_scales<F>(p, EXPERTS ? p.list.active[index] : 0, tile)));
}

/* Block `block` of `blocks` that share the product (SPLIT: a cluster is one).  DEPTH units are in
 * flight; units[turn] is next, and is refilled for the position `ahead`. */
template <enum matmul_format F, int NT, bool EXPERTS, int DEPTH, bool SPLIT>
static __device__ __forceinline__ void narrow_block(const struct matmul_params &p, uint32_t block,
						    uint32_t blocks)
{
	extern __shared__ float sums[];	/* [2][slice][m][col][NARROW_COL] */
	float *meeting = sums;
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const uint32_t tile_floats = 8 * NT * NARROW_COL;
	const uint32_t buffer = p.n_slices * p.m_warps * tile_floats;
	struct narrow_walk walk;
	struct unit<F> units[DEPTH];
	struct narrow_x<NT> x;
	uint32_t x_holds = ~0u, flip = 0, turn = 0;

	const uint32_t k_blocks = SPLIT ? p.k_blocks : 1, own_k = p.k_warps / k_blocks;
	const uint32_t rank = blockIdx.x % k_blocks;

	if constexpr (SPLIT)
		meeting = cg::this_cluster().map_shared_rank(sums, 0);

	walk.kw = rank * own_k + warp % own_k;
	walk.m = warp / own_k;
	if (EXPERTS && !p.list_settled)
		chain_wait();

	/* The first items % blocks blocks have one more. */
	const uint32_t items = EXPERTS ? p.groups * (*p.list.n_active - p.without_last) : p.groups;
	const uint32_t each = items / blocks, extra = items % blocks;
	const uint32_t begin = block * each + min(block, extra);

	walk.end = begin + each + (block < extra);
	if (begin >= walk.end)
		return;

	/* Not sync(): its fence would wait for the weights that are asked for next. */
	if constexpr (SPLIT)
		asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");

	narrow_call_scales<F, EXPERTS>(p, begin, item_expert<EXPERTS>(p, begin));

	struct narrow_at ahead = { begin, 0, 0 };	/* the next unit to be asked for */
#pragma unroll
	for (int i = 0; i < DEPTH; i++) {
		if (ahead.item < walk.end)
			units[i].load(narrow_unit_at<F, EXPERTS>(p, walk, ahead), lane);
		ahead = ahead.item < walk.end ? narrow_next<NT, EXPERTS>(p, walk, ahead) : ahead;
	}
	if (EXPERTS || !p.x_settled)
		chain_wait(); /* the weights are on their way, x may not be there yet */
	chain_release();
	if constexpr (SPLIT)
		asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); /* both have begun */

	for (uint32_t item = begin; item < walk.end; item++) {
		const uint32_t index = item_expert<EXPERTS>(p, item);
		const uint32_t chunks = narrow_chunks<NT, EXPERTS>(p, item);

		narrow_call_scales<F, EXPERTS>(p, item, index);
		for (uint32_t chunk = 0; chunk < chunks; chunk++, flip ^= 1) {
			float *to = meeting + flip * buffer;

			for (uint32_t own = 0; walk.kw + own * p.k_warps < p.n_slices; own++) {
				const uint32_t slice = walk.kw + own * p.k_warps;
				const uint32_t want = index << 16 | chunk << 8 | slice;
				/* Weights stay for the next chunk when this warp has no others. */
				const bool used_up = !narrow_stays(p) || chunk + 1 == chunks;

				if (DEPTH == 1) /* not worth keeping in registers */
					ahead = narrow_next<NT, EXPERTS>(p, walk,
									 {item, chunk, own});
				const bool more = used_up && ahead.item < walk.end;
				const uint4 *next = narrow_unit_at<F, EXPERTS>(p, walk, ahead);
				float sum[NT][4];

				if (want != x_holds) {
					x.load(p, columns_of<EXPERTS>(p, index), chunk * 8 * NT,
					       slice, lane);
					x_holds = want;
				}
				/* A register array is indexed by constants only. */
#pragma unroll
				for (int i = 0; i < DEPTH; i++)
					if (turn == i)
						narrow_unit<F, NT>(units[i], x, next, more, lane,
								   sum);
				if (used_up)
					turn = turn + 1 == DEPTH ? 0 : turn + 1;
				if (DEPTH > 1 && more)
					ahead = narrow_next<NT, EXPERTS>(p, walk, ahead);

				float *at = to + (slice * p.m_warps + walk.m) * tile_floats +
					    lane % 4 * 2 * NARROW_COL + lane / 4;
#pragma unroll
				for (int t = 0; t < NT; t++, at += 8 * NARROW_COL) {
					at[0] = sum[t][0];
					at[NARROW_COL] = sum[t][1];
					at[8] = sum[t][2];
					at[NARROW_COL + 8] = sum[t][3];
				}
			}
			if constexpr (SPLIT)
				cg::this_cluster().sync();
			else
				__syncthreads();
			/* The other buffer is free: its readers passed this barrier. */
			if (!SPLIT || rank == 0)
				narrow_finish<F, NT>(p, columns_of<EXPERTS>(p, index),
						     sums + flip * buffer,
						     item_group<EXPERTS>(p, item) * p.m_warps,
						     chunk * 8 * NT, index);
		}
	}
	if (!EXPERTS && p.x_settled)
		chain_wait();
}

/* SPLIT: blocks of a cluster share the slices. */
template <enum matmul_format F, int NT, bool EXPERTS, int DEPTH, int BLOCKS, bool SPLIT>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, BLOCKS)
	narrow_kernel(const __grid_constant__ struct matmul_params p)
{
	const uint32_t each = SPLIT ? p.k_blocks : 1;

	narrow_block<F, NT, EXPERTS, DEPTH, SPLIT>(p, blockIdx.x / each, gridDim.x / each);
}

/* A block of the y dimension for every `each` columns: for matrices of so few tiles that most of the
 * device would have nothing to do. */
template <enum matmul_format F>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, 2)
	narrow_columns_kernel(const __grid_constant__ struct matmul_params p, uint32_t each)
{
	const uint32_t first = blockIdx.y * each;
	struct matmul_params own = p;

	own.x += (size_t)first * p.ldx;
	own.y = (char *)p.y + (size_t)first * p.ldy * (p.out == MATMUL_OUT_F32 ? 4 : 2);
	own.y_swiglu = (char *)p.y_swiglu + (size_t)first * p.ldy_swiglu * 2;
	own.n_cols = min(each, p.n_cols - first);
	narrow_block<F, 1, false, 1, false>(own, blockIdx.x, gridDim.x);
}

/* ---- experts that are chosen at the kernel's head ------------------------------------- */

/* Blocks that do nothing but tell whoever comes later what was chosen, where that is wanted: it takes
 * longer than to choose, and the kernel would end later by it.  They come last. */
static __host__ __device__ __forceinline__ uint32_t choice_teller(const struct matmul_params *p)
{
	return p->list_settled ? 0 : 1;
}

/* The block's own list, by all of it; `store`: and to where the choice says. */
static __device__ __forceinline__ struct few_list &narrow_choose(const struct matmul_params &p,
								 const struct route_args &choice,
								 bool store)
{
	__shared__ struct few_list list;

	few_begin(list);
	__syncthreads();
	if (!p.list_settled)
		chain_wait();
	few_choose(choice, list, store);
	return list;
}

#define CHOICE_BLOCKS 2	/* a multiprocessor; three of NVFP4 would spill */

template <enum matmul_format F>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, CHOICE_BLOCKS)
	narrow_choice_kernel(const __grid_constant__ struct matmul_params p,
			     const __grid_constant__ struct route_args choice)
{
	const uint32_t blocks = gridDim.x - choice_teller(&p);
	const struct matmul_params own = few_params(p, narrow_choose(p, choice, blockIdx.x >= blocks));

	if (blockIdx.x < blocks)
		narrow_block<F, 1, true, 1, false>(own, blockIdx.x, blocks);
}

/* ---- two products ----------------------------------------------------------------------- */

/* Two products of few columns at once, the first blocks at the first.  Two tiles of columns take the
 * registers of two blocks. */
template <enum matmul_format F, bool EXPERTS, enum matmul_format F2, int NT>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, 2 / NT)
	narrow_pair_kernel(const __grid_constant__ struct matmul_params p,
			   const __grid_constant__ struct matmul_params q, uint32_t p_blocks)
{
	if (blockIdx.x < p_blocks)
		narrow_block<F, NT, EXPERTS, NT, false>(p, blockIdx.x, p_blocks);
	else
		narrow_block<F2, NT, false, 1, false>(q, blockIdx.x - p_blocks,
						      gridDim.x - p_blocks);
}

/* The same, with a choice. */
template <enum matmul_format F, enum matmul_format F2>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, 2)
	narrow_pair_choice_kernel(const __grid_constant__ struct matmul_params p,
				  const __grid_constant__ struct matmul_params q, uint32_t p_blocks,
				  const __grid_constant__ struct route_args choice)
{
	if (blockIdx.x < p_blocks) {
		const uint32_t blocks = p_blocks - choice_teller(&p);
		const struct matmul_params own = few_params(p, narrow_choose(p, choice, blockIdx.x >= blocks));

		if (blockIdx.x < blocks)
			narrow_block<F, 1, true, 1, false>(own, blockIdx.x, blocks);
	} else {
		narrow_block<F2, 1, false, 1, false>(q, blockIdx.x - p_blocks,
						     gridDim.x - p_blocks);
	}
}

#endif
