/* decode_end.cuh - what ends a mixer, of few rows, in one kernel, on Hopper: the product that leaves it, the residual
 * rows, their norm, and what the experts begin with: the router, and the shared expert's gate and up.
 *
 * A block a multiprocessor, all there at once.  A block has a tile of 16 outputs of the first product and, of most
 * blocks, one tile of the others.  No weight depends on anybody: both tiles are asked for, by bulk copies into shared
 * memory, before the kernel waits for the one before it, so memory brings them beside that one.
 *
 * Each block adds its 16 outputs to the residual rows and gives them to all others through memory (row_words.cuh).  Then
 * a block that has a tile of the others takes the whole rows, norms them for itself and multiplies them with it.  So the
 * row's way from block to block is one store and one poll, where three kernels pass it on by ending.
 *
 * Blocks wait for each other, so they must all find a place: the kernels before end by themselves, the next one begins
 * when all of these blocks have begun.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_END_CUH
#define HEARTH_KERNELS_CUDA_DECODE_END_CUH

#include "kernels/cuda/decode_row_product.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/row_words.cuh"

#define END_WARPS NORM_WARPS	/* a warp has a slice of the rows, in the norm and in the products behind it */
#define END_THREADS (END_WARPS * WARP)
#define END_OUT_SLICES 2u	/* of a warp, of the first product */
#define END_COL 20		/* floats a column of 16 takes in shared memory: no bank conflicts */
static_assert(END_MAX_ROWS == 8 && END_MAX_ROWS * MATMUL_TILE <= END_THREADS,
	      "a column of the tensor core a row, a thread an output");

struct end_params {
	struct row_matrix out;
	struct matmul_params router, shared;	/* of the normed rows; shared.w NULL: there is none */
	const __nv_bfloat16 *in;	/* [rows][ldx]: what `out` multiplies */
	__nv_bfloat16 *x, *h;		/* [rows][n]: the residual rows, their norm */
	const __nv_bfloat16 *norm;
	uint32_t *room;		/* where blocks give the rows to each other: [rows][n / 2] words */
	struct mixer_end_clear clear[MIXER_END_CLEARS];
	uint32_t rows, n, k, ldx;
	float eps;
	uint32_t tile_at, next_at, x_at;	/* bytes from the block's beginning: of both tiles, of normed rows */
};

/* At the beginning of a block's shared memory; behind it: slices' sums, then what end_params says. */
struct end_shared {
	float squares[END_MAX_ROWS][END_WARPS];
	uint64_t come[END_WARPS][END_OUT_SLICES + 1];	/* a warp's own barriers: of its units */
};

static __host__ __device__ __forceinline__ uint32_t end_sums_at(void)
{
	return (sizeof(struct end_shared) + 127) / 128 * 128;
}

/* From row to row of a warp's slice of x in shared memory, in 16 bytes: no bank conflicts where there are several. */
template <int ROWS> constexpr uint32_t end_x_row = ROWS > 1 ? 36 : 32;

/* What a block has to do. */
struct end_block {
	bool has_out, has_next, shared;
	uint32_t index, tile;	/* of its next tile, among all of them and in its matrix */
};

/* The blocks without an output of the first product are the first to have a tile of the others. */
static __device__ __forceinline__ struct end_block end_block_of(const struct end_params &a)
{
	const uint32_t index = gridDim.x - 1 - blockIdx.x;
	const bool shared = index >= a.router.n_tiles;
	const uint32_t tile = shared ? index - a.router.n_tiles : index;

	return { blockIdx.x < a.out.n_tiles, !shared || tile < a.shared.n_tiles, shared, index, tile };
}

/* ---- weights ----------------------------------------------------------------------------- */

/* A warp's units of the block's tiles, each with a barrier of its own that nobody else looks at; by one lane. */
template <enum matmul_format OUT, enum matmul_format SHARED>
static __device__ __forceinline__ void end_fetch(const struct end_params &a, const struct end_block &b,
						 const struct end_shared &s, uint32_t shared, uint32_t warp)
{
	const uint32_t come = shared_at(s.come[warp]);

#pragma unroll
	for (uint32_t i = 0; i <= END_OUT_SLICES; i++)
		ring_barrier(come + 8 * i, 1);
	ring_barriers_made();
	if (b.has_out)
#pragma unroll
		for (uint32_t i = 0; i < END_OUT_SLICES; i++) {
			const uint32_t at = (warp + i * END_WARPS) * unit<OUT>::bytes;

			if (warp + i * END_WARPS < a.out.n_slices)
				ring_copy_once(shared + a.tile_at + at, a.out.w + (size_t)blockIdx.x * a.out.tile_bytes + at,
					       unit<OUT>::bytes, come + 8 * i);
		}
	if (b.has_next && warp < a.router.n_slices) {
		const uint32_t bytes = b.shared ? unit<SHARED>::bytes : unit<MATMUL_BF16>::bytes;
		const char *w = b.shared ? a.shared.w : a.router.w;

		ring_copy_once(shared + a.next_at + warp * bytes, w + ((size_t)b.tile * a.router.n_slices + warp) * bytes,
			       bytes, come + 8 * END_OUT_SLICES);
	}
}

/* ---- a slice of rows, as the tensor core takes them ------------------------------------------ */

/* Of memory: what the kernel before has left. */
template <int ROWS> struct end_slice {
	struct narrow_x<1> x;

	__device__ __forceinline__ void load(const struct end_params &a, uint32_t slice, int lane)
	{
		const uint32_t at = slice * MATMUL_SLICE + lane % 4 * 8, row = lane / 4;

#pragma unroll
		for (int j = 0; j < 8; j++) {
			x.b[0][j] = make_uint4(0, 0, 0, 0);
			if (row < a.rows && at + 32 * j < a.k)
				x.b[0][j] = __ldcg((const uint4 *)(a.in + (size_t)row * a.ldx + at) + 4 * j);
		}
	}
	__device__ __forceinline__ const struct narrow_x<1> &columns(uint4 *, int) const { return x; }
};

/* One row: a lane asks for eight columns of its own, sixteen bytes beside its neighbour's, and they change places in
 * the warp's shared memory. */
template <> struct end_slice<1> {
	uint4 eight;

	__device__ __forceinline__ void load(const struct end_params &a, uint32_t slice, int lane)
	{
		const uint32_t at = slice * MATMUL_SLICE + lane * 8;

		eight = at < a.k ? __ldcg((const uint4 *)(a.in + at)) : uint4();
	}
	__device__ __forceinline__ struct narrow_x<1> columns(uint4 *own, int lane) const
	{
		struct narrow_x<1> x;

		own[lane] = eight;
		__syncwarp();
		row_x(own, lane, x);
		__syncwarp();
		return x;
	}
};

/* Of the warp's shared memory, rows end_x_row apart. */
template <int ROWS>
static __device__ __forceinline__ struct narrow_x<1> end_columns(const uint4 *own, int lane)
{
	struct narrow_x<1> x;

#pragma unroll
	for (int j = 0; j < 8; j++) {
		x.b[0][j] = make_uint4(0, 0, 0, 0);
		if (lane / 4 < ROWS)
			x.b[0][j] = own[lane / 4 * end_x_row<ROWS> + 4 * j + lane % 4];
	}
	return x;
}

/* ---- sums of slices --------------------------------------------------------------------------- */

/* [slice][row][END_COL] */
template <int ROWS>
static __device__ __forceinline__ void end_put(float *sums, uint32_t slice, const float (&sum)[1][4], int lane)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const int row = lane % 4 * 2 + i % 2;

		if (row < ROWS)
			sums[(slice * ROWS + row) * END_COL + lane / 4 + i / 2 * 8] = sum[0][i];
	}
}

template <int ROWS>
static __device__ __forceinline__ float end_fold(const float *sums, uint32_t slices, uint32_t row, uint32_t r)
{
	return row_fold<ROWS * END_COL>(sums + row * END_COL, slices, r);
}

/* ---- the first product, and the residual rows ------------------------------------------------- */

/* The warp's slices of the block's tile; the first is made ready before the kernel waits for the one before it. */
template <enum matmul_format OUT, int ROWS>
static __device__ __forceinline__ void end_out(const struct end_params &a, const struct end_shared &s, uint32_t shared,
					       float *sums, uint4 *own, uint32_t warp, int lane)
{
	struct end_slice<ROWS> in[END_OUT_SLICES];
	struct row_ready<OUT> w;
	float sum[1][4];

#pragma unroll
	for (uint32_t i = 0, slice = warp; i < END_OUT_SLICES; i++, slice += END_WARPS) {
		if (slice < a.out.n_slices) {
			ring_wait(shared_at(&s.come[warp][i]), 0);
			w.take(shared + a.tile_at + slice * unit<OUT>::bytes, lane);
		}
		if (i == 0) {
			chain_wait();
			chain_release();
#pragma unroll
			for (uint32_t j = 0; j < END_OUT_SLICES; j++)
				in[j].load(a, warp + j * END_WARPS, lane);
		}
		if (slice < a.out.n_slices) {
			w.multiply(in[i].columns(own, lane), sum);
			end_put<ROWS>(sums, slice, sum, lane);
		}
	}
}

/* The thread's output, its slices' sums added up: to the residual row, and to all who wait for it. */
template <int ROWS>
static __device__ __forceinline__ void end_give(const struct end_params &a, const float *sums, float scale, float old)
{
	const uint32_t row = threadIdx.x / MATMUL_TILE, r = threadIdx.x % MATMUL_TILE;
	const uint32_t at = blockIdx.x * MATMUL_TILE + r;

	if (threadIdx.x >= max(ROWS * MATMUL_TILE, WARP))
		return;	/* whole warps */
	const float y = __fmul_rn(end_fold<ROWS>(sums, a.out.n_slices, row < ROWS ? row : 0, r), scale);
	const float x = __fadd_rn(old, y), beside = __shfl_down_sync(~0u, x, 1);

	if (row >= a.rows || r % 2 || at >= a.n)
		return;
	const uint32_t pair = bf16_pair(x, beside);

	row_give(a.room + (row * a.n + at) / 2, pair);
	*(uint32_t *)(a.x + (size_t)row * a.n + at) = pair;
}

/* By all blocks: nobody looks at these before this kernel has ended. */
static __device__ __forceinline__ void end_clear(const struct end_params &a)
{
#pragma unroll
	for (const struct mixer_end_clear &c : a.clear)
		for (uint32_t i = blockIdx.x * END_THREADS + threadIdx.x; i < c.n / 4; i += gridDim.x * END_THREADS)
			((uint4 *)c.at)[i] = uint4();
}

/* ---- the norm, and the products of it ----------------------------------------------------------- */

/* The lane's eight columns of all rows, when they are there; zeros where there are none. */
template <int ROWS>
static __device__ __forceinline__ void end_await(const struct end_params &a, uint32_t at, uint4 (&row)[ROWS])
{
	bool there;

#pragma unroll
	for (uint32_t i = 0; i < ROWS; i++)
		row[i] = at < a.n && i < a.rows ? uint4() : make_uint4(~0u, ~0u, ~0u, ~0u);
	do {
		there = true;
#pragma unroll
		for (uint32_t i = 0; i < ROWS; i++)
			if (!row_there(row[i]))
				row[i] = words_seen(a.room + (i * a.n + at) / 2);
#pragma unroll
		for (uint32_t i = 0; i < ROWS; i++)
			there = there && row_there(row[i]);
	} while (!__all_sync(~0u, there));
#pragma unroll
	for (uint32_t i = 0; i < ROWS; i++)
		row[i] = make_uint4(~row[i].x, ~row[i].y, ~row[i].z, ~row[i].w);
}

/* The rows, normed: the warp's slice of them in `own`, and in memory for who comes later.  norm: of the lane's eight. */
template <int ROWS>
static __device__ __forceinline__ void end_norm(const struct end_params &a, struct end_shared &s,
						const struct end_block &b, const uint4 &norm, uint4 *own, uint32_t warp,
						int lane)
{
	const uint32_t at = warp * MATMUL_SLICE + lane * 8, tiles = a.router.n_tiles + a.shared.n_tiles;
	float squares[ROWS];
	uint4 row[ROWS];

	end_await<ROWS>(a, at, row);
#pragma unroll
	for (uint32_t i = 0; i < ROWS; i++) {
		squares[i] = at < a.n ? add_squares(0, row[i]) : 0;
		own[i * end_x_row<ROWS> + lane] = row[i];
	}
	squares[0] = warp_sums(squares);
	if (lane % (WARP / ROWS) == 0)
		s.squares[lane / (WARP / ROWS)][warp] = squares[0];
	__syncthreads();
	/* A lane has a row's, for all. */
	const float scales = norm_scale(s.squares[lane < ROWS ? lane : 0], a.n, a.eps);

#pragma unroll 2
	for (uint32_t i = 0; i < ROWS; i++) {
		const float scale = __shfl_sync(~0u, scales, (int)i);
		uint4 &h = own[i * end_x_row<ROWS> + lane];

		h = at < a.n ? norm8(h, norm, scale) : uint4();
		if (at < a.n && i < a.rows && i % tiles == b.index)
			*(uint4 *)(a.h + (size_t)i * a.n + at) = h;
	}
	__syncwarp();
}

/* A unit of the products behind the norm, the router's or the shared expert's: both become the same fragments. */
template <enum matmul_format SHARED> struct end_unit {
	struct row_ready<SHARED> w;

	__device__ __forceinline__ void take(uint32_t from, bool shared, int lane)
	{
		struct row_ready<MATMUL_BF16> plain;

		if (SHARED != MATMUL_BF16 && shared) {
			w.take(from, lane);
		} else {
			plain.take(from, lane);
			same_fragments(plain, w);
		}
	}
	__device__ __forceinline__ void multiply(const struct narrow_x<1> &x, bool shared, float (&sum)[1][4]) const
	{
		if constexpr (unit<SHARED>::scaled_halves) {
			if (!shared) {
				struct row_ready<MATMUL_BF16> plain;

				same_fragments(w, plain);
				plain.multiply(x, sum);
				return;
			}
		}
		w.multiply(x, sum);
	}
	template <typename From, typename To>
	static __device__ __forceinline__ void same_fragments(const From &from, To &to)
	{
#pragma unroll
		for (int i = 0; i < 16; i++)
			to.f[i] = from.f[i];
	}
};

/* The block's tile of a product of the normed rows. */
template <enum matmul_format SHARED, int ROWS>
static __device__ __forceinline__ void end_next(const struct end_params &a, struct end_shared &s,
						const struct end_block &b, uint32_t shared, float *sums, uint4 *own,
						const uint4 &norm, float scale, uint32_t warp, int lane)
{
	const struct matmul_params &p = b.shared ? a.shared : a.router;
	const uint32_t row = threadIdx.x / MATMUL_TILE, r = threadIdx.x % MATMUL_TILE;
	const uint32_t bytes = b.shared ? unit<SHARED>::bytes : unit<MATMUL_BF16>::bytes;
	const bool has = warp < p.n_slices;
	struct end_unit<SHARED> w;
	float sum[1][4];

	if (has) {
		ring_wait(shared_at(&s.come[warp][END_OUT_SLICES]), 0);
		w.take(shared + a.next_at + warp * bytes, b.shared, lane);
	}
	end_norm<ROWS>(a, s, b, norm, own, warp, lane);
	if (has) {
		w.multiply(end_columns<ROWS>(own, lane), b.shared, sum);
		end_put<ROWS>(sums, warp, sum, lane);
	}
	__syncthreads();
	if (threadIdx.x >= max(ROWS * MATMUL_TILE, WARP))
		return;	/* whole warps */
	const float v = __fmul_rn(end_fold<ROWS>(sums, p.n_slices, row < ROWS ? row : 0, r), scale);
	const float up = __shfl_down_sync(~0u, v, 8);

	if (row < a.rows && has_output(p, b.tile, r))
		store_out(p, b.tile, r, row, v, up);
}

/* ---- a block ------------------------------------------------------------------------------------ */

/* OUT: the first product's format; SHARED: of the shared expert's gate and up where they are a matrix of their own;
 * ROWS: at most. */
template <enum matmul_format OUT, enum matmul_format SHARED, int ROWS>
__global__ void __launch_bounds__(END_THREADS, 1) end_kernel(const __grid_constant__ struct end_params a)
{
	BLOCK_SHARED(shared_end);
	struct end_shared &s = *(struct end_shared *)shared_end;
	const uint32_t shared = shared_at(shared_end), warp = __shfl_sync(~0u, threadIdx.x / WARP, 0);
	const int lane = threadIdx.x % WARP;
	const struct end_block b = end_block_of(a);
	const uint32_t column = warp * MATMUL_SLICE + lane * 8;
	const uint32_t row = threadIdx.x / MATMUL_TILE, at = blockIdx.x * MATMUL_TILE + threadIdx.x % MATMUL_TILE;
	float *sums = (float *)(shared_end + end_sums_at());
	uint4 *own = (uint4 *)(shared_end + a.x_at) + warp * ROWS * end_x_row<ROWS>;
	uint4 norm = {};
	float scale = 1, next_scale = 1, old = 0;

	if (lane == 0)
		end_fetch<OUT, SHARED>(a, b, s, shared, warp);
	__syncwarp();
	/* What is older than the kernel before. */
	if (b.has_next && column < a.n)
		norm = *(const uint4 *)(a.norm + column);
	if (b.has_next && b.shared)
		next_scale = scale_of<SHARED>(tile_scales<SHARED>(a.shared, 0, b.tile), threadIdx.x % MATMUL_TILE);
	if (b.has_out) {
		scale = row_scale<OUT>(a.out, 0, blockIdx.x, threadIdx.x % MATMUL_TILE);
		if (row < a.rows && at < a.n)
			old = __bfloat162float(__ldcg(a.x + (size_t)row * a.n + at));
		end_out<OUT, ROWS>(a, s, shared, sums, own, warp, lane);
		__syncthreads();
		end_give<ROWS>(a, sums, scale, old);
	} else {
		chain_wait();
		chain_release();
	}
	end_clear(a);
	if (b.has_next)
		end_next<SHARED, ROWS>(a, s, b, shared, sums, own, norm, next_scale, warp, lane);
}

#endif
