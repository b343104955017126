/* decode_narrow.cuh - the decode product for few columns: latency first.
 *
 * A block of NARROW_WARPS warps owns a tile of 16 rows (or several tiles side by side when K
 * is short).  Each warp has its slices of K: it keeps its part of x in registers, a
 * unit of weights in registers, and refills each 16 bytes of weights from the next tile right
 * after the tensor core took them; so loads never stop, and need neither shared memory
 * nor barriers.  The slices' sums meet in shared memory, one barrier a tile, and are
 * added in slice order.  Blocks are persistent: each walks a run of tiles.
 *
 * With experts, a tile belongs to an expert and its columns are that expert's pairs; more than
 * 8 NT of them are done in chunks with the weights still in registers.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_NARROW_CUH
#define HEARTH_KERNELS_CUDA_DECODE_NARROW_CUH

#include "kernels/cuda/decode_matmul_int.cuh"

#define NARROW_WARPS 8
#define NARROW_COL 20	/* floats a column of 16 takes in shared memory: no bank conflicts */

/* The columns one tile is multiplied with. */
struct columns {
	const uint32_t *pair;	/* NULL: column c is row c of x and y */
	uint32_t n;
};

template <int NT> struct narrow_x {
	uint4 b[NT][8];		/* two steps each */

	__device__ __forceinline__ void load(const struct matmul_params &p, const struct columns &c,
					     uint32_t first, uint32_t slice, int lane)
	{
		const uint32_t k = slice * MATMUL_SLICE + lane % 4 * 8;
		const uint4 *from[NT];

#pragma unroll
		for (int t = 0; t < NT; t++) {
			uint32_t col = first + 8 * t + lane / 4;
			size_t row = col;

			if (c.pair && col < c.n)
				row = p.x_per_slot ? c.pair[col] : c.pair[col] / p.n_slots;
			from[t] = col < c.n ? (const uint4 *)(p.x + row * p.ldx + k) : NULL;
		}
		/* Steps outermost: the first product starts when its own columns are there, and
		 * from then on weights and the rest of x come in side by side. */
#pragma unroll
		for (int j = 0; j < 8; j++)
#pragma unroll
			for (int t = 0; t < NT; t++) {
				b[t][j] = make_uint4(0, 0, 0, 0);
				if (from[t] && k + 32 * j < p.k)
					b[t][j] = __ldg(from[t] + 4 * j);
			}
	}
};

/* One unit times NT column tiles; refills the unit from `next` when `more`. */
template <enum matmul_format F, int NT>
static __device__ __forceinline__ void narrow_unit(struct unit<F> &w, const struct narrow_x<NT> &x,
						   const uint4 *next, bool more, int lane,
						   float sum[NT][4])
{
	float part[NT][4];	/* formats with scaled halves only */

	w.begin(next, lane, more);
#pragma unroll
	for (int t = 0; t < NT; t++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum[t][i] = 0;
#pragma unroll
	for (int step = 0; step < 16; step++) {
		struct frag f = w.frag_of(step);

#pragma unroll
		for (int t = 0; t < NT; t++) {
			const uint4 b = x.b[t][step / 2];

			mma(sum[t], &f, step % 2 ? b.z : b.x, step % 2 ? b.w : b.y);
		}
		w.refill(step, next, lane, more);
		if constexpr (unit<F>::scaled_halves)
			if (step % 8 == 7)
				join_halves<4 * NT>(step / 8, w.scale[step / 8], &sum[0][0],
						    &part[0][0]);
	}
}

/* Adds the slices of every output of this block's tiles and writes them. */
template <int NT>
static __device__ __forceinline__ void narrow_finish(const struct matmul_params &p,
						     const struct columns &c, const float *sums,
						     uint32_t first_tile, uint32_t first_col,
						     float scale)
{
	const uint32_t tile_floats = 8 * NT * NARROW_COL;

	for (uint32_t i = threadIdx.x; i < p.m_warps * 128 * NT; i += NARROW_WARPS * WARP) {
		uint32_t m = i / (128 * NT), in_col = i % (128 * NT) / 16;
		uint32_t row = (first_tile + m) * MATMUL_TILE + i % 16, col = first_col + in_col;
		const float *from = sums + m * tile_floats + in_col * NARROW_COL + i % 16;
		float v = -0.0f;

		if (row >= p.n || col >= c.n)
			continue;
		for (uint32_t s = 0; s < p.n_slices; s++)
			v = fold(v, from[s * p.m_warps * tile_floats]);
		store_out(p, (size_t)(c.pair ? c.pair[col] : col) * p.ldy + row, __fmul_rn(v, scale));
	}
}

template <enum matmul_format F, int NT, bool EXPERTS>
static __device__ __forceinline__ const uint4 *narrow_unit_at(const struct matmul_params &p,
							      uint32_t groups, uint32_t item,
							      uint32_t slice, uint32_t m)
{
	uint32_t expert = EXPERTS ? p.list.active[item / groups] : 0;
	uint32_t tile = min(item % groups * p.m_warps + m, p.n_tiles - 1);
	size_t unit_index = ((size_t)expert * p.n_tiles + tile) * p.n_slices + slice;

	return (const uint4 *)(p.w + unit_index * unit<F>::bytes);
}

template <enum matmul_format F, int NT, bool EXPERTS>
static __device__ __forceinline__ void narrow_walk(const struct matmul_params &p)
{
	extern __shared__ float sums[];	/* [2][slice][m][col][NARROW_COL] */
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const uint32_t kw = warp % p.k_warps, m = warp / p.k_warps;
	const uint32_t own_slices = (p.n_slices + p.k_warps - 1 - kw) / p.k_warps;
	const uint32_t groups = (p.n_tiles + p.m_warps - 1) / p.m_warps;
	const uint32_t items = EXPERTS ? groups * *p.list.n_active : groups;
	const uint32_t tile_floats = 8 * NT * NARROW_COL;
	const uint32_t buffer = p.n_slices * p.m_warps * tile_floats;

	/* The first items % blocks blocks have one more. */
	const uint32_t each = items / gridDim.x, extra = items % gridDim.x;
	const uint32_t begin = blockIdx.x * each + min(blockIdx.x, extra);
	const uint32_t end = begin + each + (blockIdx.x < extra);

	struct unit<F> w;
	struct narrow_x<NT> x;
	uint32_t x_holds = ~0u;
	uint32_t flip = 0;

	if (begin >= end)
		return;
	if (own_slices)
		w.load(narrow_unit_at<F, NT, EXPERTS>(p, groups, begin, kw, m), lane);

	for (uint32_t item = begin; item < end; item++) {
		struct columns c = { NULL, p.n_cols };
		uint32_t index = 0;
		float scale = p.scale;

		if (EXPERTS) {
			index = item / groups;
			c.pair = p.list.pair + p.list.offset[index];
			c.n = p.list.offset[index + 1] - p.list.offset[index];
			if (p.scales)
				scale = __fmul_rn(p.scale, p.scales[p.list.active[index]]);
		}
		const uint32_t chunks = (c.n + 8 * NT - 1) / (8 * NT);

		for (uint32_t chunk = 0; chunk < chunks; chunk++, flip ^= 1) {
			float *to = sums + flip * buffer;

			for (uint32_t own = 0; own < own_slices; own++) {
				const uint32_t slice = kw + own * p.k_warps;
				const bool last_own = own + 1 == own_slices;
				const bool last_chunk = chunk + 1 == chunks;
				const uint32_t want = index << 16 | chunk << 8 | slice;
				float sum[NT][4];

				/* Weights stay for the next chunk when they are all this warp has. */
				uint32_t next_item = item + (last_own && last_chunk);
				uint32_t next_slice = last_own ? kw : slice + p.k_warps;
				bool more = next_item < end && (own_slices > 1 || last_chunk);
				const uint4 *next = narrow_unit_at<F, NT, EXPERTS>(
					p, groups, more ? next_item : item, next_slice, m);

				if (want != x_holds) {
					x.load(p, c, chunk * 8 * NT, slice, lane);
					x_holds = want;
				}
				narrow_unit<F, NT>(w, x, next, more, lane, sum);

				float *at = to + (slice * p.m_warps + m) * tile_floats +
					    lane % 4 * 2 * NARROW_COL + lane / 4;
#pragma unroll
				for (int t = 0; t < NT; t++, at += 8 * NARROW_COL) {
					at[0] = sum[t][0];
					at[NARROW_COL] = sum[t][1];
					at[8] = sum[t][2];
					at[NARROW_COL + 8] = sum[t][3];
				}
			}
			__syncthreads();
			/* The other buffer is free: its readers passed this barrier. */
			narrow_finish<NT>(p, c, to, item % groups * p.m_warps, chunk * 8 * NT, scale);
		}
	}
}

template <enum matmul_format F, int NT, bool EXPERTS, int BLOCKS>
__global__ void __launch_bounds__(NARROW_WARPS *WARP, BLOCKS)
	narrow_kernel(const __grid_constant__ struct matmul_params p)
{
	narrow_walk<F, NT, EXPERTS>(p);
}

#endif
