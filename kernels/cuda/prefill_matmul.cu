/* prefill_matmul.cu - see prefill_matmul.h.
 *
 * A block of eight warps has 128 rows of W and PREFILL_COLS rows of x.  A warp has a tile of 16 rows of W and all columns:
 * 128 sums a lane.  Its weights go from memory to registers a unit ahead, as in the decode kernels; x passes through
 * shared memory in stages of 64 columns, swizzled by 128 bytes.  On Hopper four warps multiply together (wgmma, one stage
 * is multiplied while the next is queued); elsewhere each by itself (mma.sync), in the same layout of sums.
 *
 * FP8 in blocks: the sums are kept in units of the scale of the 128 columns being added, and are brought to the next scale
 * (struct fp8_scale) where the next 128 begin.
 */
#include "kernels/cuda/prefill_matmul.h"

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/wgmma_weights.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#else
#define HOPPER 0
#endif

namespace {

constexpr int WARPS = 8, THREADS = WARPS * WARP;
constexpr int COLS = PREFILL_COLS, HALF = COLS / 2, HALVES = COLS / HALF;
constexpr int STAGE_K = 64, STAGE_BYTES = COLS * STAGE_K * 2;
/* Three are 96 KB, what sm_12x has.  On Hopper a stage is still read by the other four warps when these have finished it,
 * so its place is filled one stage later. */
constexpr int STAGES_HOPPER = 5, STAGES_ELSE = 3;
constexpr int STAGES = HOPPER ? STAGES_HOPPER : STAGES_ELSE, AHEAD = HOPPER ? STAGES - 2 : STAGES - 1;
constexpr int COPIES = COLS / (THREADS / 8);	/* 16 bytes each, a thread and stage */

typedef __nv_bfloat16 bf16;

struct sums {
	float h[HALVES][HALF / 2];	/* [half][4 j + i]: column tile j of 8, i as mma's accumulator */
};

/* Which pairs or rows of x a block has. */
struct tile_of_x {
	const uint32_t *pair;	/* NULL: rows first .. first + n - 1 */
	uint32_t first, n;
	uint32_t expert, index;	/* and whose weights */

	__device__ uint32_t row(uint32_t i) const { return pair ? pair[i] : first + i; }
};

/* This thread's part of stage `k_block`: chunk tid % 8 of the rows tid / 8, tid / 8 + 32, ... */
__device__ void stage_load(const matmul_params &p, const uint32_t (&row)[COPIES], uint32_t n, char *stage, uint32_t k_block)
{
	const uint32_t chunk = threadIdx.x % 8, k = k_block * STAGE_K + chunk * 8;

#pragma unroll
	for (int i = 0; i < COPIES; i++) {
		const uint32_t r = threadIdx.x / 8 + i * (THREADS / 8);

		if (i * (THREADS / 8) >= (int)n)
			break;		/* nobody multiplies these */
		const bf16 *from = p.x + (size_t)row[i] * p.ldx + k;

		/* Bytes that are not there arrive as zeros; their address is not read. */
		asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::
			     "r"(smem_address(stage) + r * (STAGE_K * 2) + ((chunk ^ (r & 7)) * 16)), "l"(from),
			     "r"(r < n && k < p.k ? 16 : 0) : "memory");
	}
}

/* What 128 columns of 8 rows are multiplied with, sums being in units of it.  A scale more than 2^60 times smaller
 * than the one before counts as 2^60 times smaller: what it scales is far below the sums' last bit. */
struct fp8_scale {
	float low = 0, high = 0;	/* rows g and g + 8; 0: nothing was added yet */

	/* Returns what sums are multiplied with to be in units of `next`. */
	static __device__ float change(float *unit, float next)
	{
		const float least = fabsf(*unit) * 0x1p-60f, was = *unit;

		*unit = fabsf(next) < least ? copysignf(least, next) : next;
		return __fdividef(was, *unit);	/* within 2 ulp */
	}
	__device__ void change(sums &s, float next_low, float next_high)
	{
		const float by_low = change(&low, next_low), by_high = change(&high, next_high);

#pragma unroll
		for (int h = 0; h < HALVES; h++)
#pragma unroll
			for (int i = 0; i < HALF / 2; i++)
				s.h[h][i] = __fmul_rn(s.h[h][i], i % 4 < 2 ? by_low : by_high);
	}
};

#if HOPPER
/* Fragments of STEPS steps.  The tensor core reads them from registers while the program goes on. */
template <int STEPS> struct frags {
	struct frag f[STEPS];

	template <enum matmul_format F> __device__ void take(const struct unit<F> &w, int first)
	{
#pragma unroll
		for (int i = 0; i < STEPS; i++)
			f[i] = w.frag_of(first + i);
	}
	/* Until here they stay where they are. */
	__device__ void keep()
	{
#pragma unroll
		for (int i = 0; i < STEPS; i++)
#pragma unroll
			for (int j = 0; j < 4; j++)
				asm volatile("" : "+r"(f[i].r[j])::"memory");
	}
};

template <int N, int STEPS> __device__ void multiply_cols(sums &s, const frags<STEPS> &w, uint32_t x)
{
	wgmma_fence();
#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		const uint32_t at = x + i * 32;

		if (N == 32)
			wgmma_64x32(s.h[0], w.f[i], wgmma_rows(at));
		else if (N == 64)
			wgmma_64x64(s.h[0], w.f[i], wgmma_rows(at));
		else
			wgmma_64x128(s.h[0], w.f[i], wgmma_rows(at));
		if (N == COLS)
			wgmma_64x128(s.h[1], w.f[i], wgmma_rows(at + HALF * STAGE_K * 2));
	}
	wgmma_commit();
}

/* x: shared address of the first step's columns.  No more columns than there are; n is the same for the whole block. */
template <int STEPS> __device__ void multiply_steps(sums &s, const frags<STEPS> &w, uint32_t x, uint32_t n)
{
	if (n > HALF)
		multiply_cols<COLS>(s, w, x);
	else if (n > 64)
		multiply_cols<HALF>(s, w, x);
	else if (n > 32)
		multiply_cols<64>(s, w, x);
	else
		multiply_cols<32>(s, w, x);
}

/* A tile's weights on their way through the tensor core: stage after stage of a unit, then of the next.  Quantised ones
 * are expanded into two sets of registers in turn, two steps each. */
template <enum matmul_format F> struct tile_weights {
	struct unit<F> w;
	frags<2> set[2];

	/* Multiplies a stage and asks for what follows: the unit at `next`, if there is `more`.  When it returns, the stage
	 * before is done with. */
	__device__ void stage(sums &s, fp8_scale *scale, const uint4 *next, bool more, int quarter, const char *x, uint32_t n)
	{
#pragma unroll
		for (int half = 0; half < 2; half++) {
			set[half].take(w, quarter * 4 + half * 2);
			if constexpr (F == MATMUL_FP8)
				if (quarter % 2 == 0 && half == 0) {
					wgmma_wait<0>();
					set[1].keep();
					scale->change(s, w.low[quarter / 2], w.high[quarter / 2]);
				}
			multiply_steps(s, set[half], smem_address(x) + half * 64, n);
			wgmma_wait<1>();
			set[1 - half].keep();
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.refill(quarter * 4 + i, next, threadIdx.x % WARP, more);
		if (quarter == 3)
			w.refill_scales(next, threadIdx.x % WARP, more);
	}
};

template <> struct tile_weights<MATMUL_BF16> {
	struct unit<MATMUL_BF16> w;
	bool begun = false;

	/* `next` stands right behind where w came from. */
	__device__ void stage(sums &s, fp8_scale *, const uint4 *next, bool more, int quarter, const char *x, uint32_t n)
	{
		frags<4> now;

		now.take(w, quarter * 4);
		multiply_steps(s, now, smem_address(x), n);
		wgmma_wait<1>();	/* the stage before is done with; its weights may go */
		if (quarter) {
			refill(quarter - 1, next, more);
		} else if (begun) {	/* what the last unit's end left is this one's */
			refill(3, next - unit<MATMUL_BF16>::bytes / 16, true);
		}
		begun = true;
	}
	__device__ void refill(int quarter, const uint4 *from, bool more)
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.refill(quarter * 4 + i, from, threadIdx.x % WARP, more);
	}
};
#else
__device__ void ldmatrix4(uint32_t (&r)[4], uint32_t at)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

template <enum matmul_format F>
__device__ void multiply_stage(sums &s, const struct unit<F> &w, int quarter, const char *stage, uint32_t n)
{
	/* Matrices of a load: chunks 2i and 2i + 1 of rows 0-7, then of rows 8-15. */
	const uint32_t lane = threadIdx.x % WARP, row = lane % 8 + lane / 16 * 8, odd = lane / 8 % 2;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		const struct frag f = w.frag_of(quarter * 4 + i);

#pragma unroll
		for (int h = 0; h < HALVES; h++) {
#pragma unroll
			for (int j = 0; j < HALF / 16; j++) {
				if (h * HALF + j * 16 >= (int)n)
					break;
				const uint32_t r = h * HALF + j * 16 + row;
				uint32_t b[4];

				ldmatrix4(b, smem_address(stage) + r * (STAGE_K * 2) + (((2 * i + odd) ^ (r & 7)) * 16));
				mma(&s.h[h][8 * j], &f, b[0], b[1]);
				mma(&s.h[h][8 * j + 4], &f, b[2], b[3]);
			}
		}
	}
}

template <enum matmul_format F> struct tile_weights {
	struct unit<F> w;

	/* Multiplies a stage and asks for what follows: the unit at `next`, if there is `more`. */
	__device__ void stage(sums &s, fp8_scale *scale, const uint4 *next, bool more, int quarter, const char *x, uint32_t n)
	{
		if constexpr (F == MATMUL_FP8)
			if (quarter % 2 == 0)
				scale->change(s, w.low[quarter / 2], w.high[quarter / 2]);
		multiply_stage<F>(s, w, quarter, x, n);
#pragma unroll
		for (int i = 0; i < 4; i++)
			w.refill(quarter * 4 + i, next, threadIdx.x % WARP, more);
		if (quarter == 3)
			w.refill_scales(next, threadIdx.x % WARP, more);
	}
};
#endif

/* The sums of 16 rows of W with all columns of the tile, in units of *scale. */
template <enum matmul_format F>
__device__ void multiply_tile(const matmul_params &p, const tile_of_x &x, uint32_t tile, char *stages, sums &s,
			      fp8_scale *scale)
{
	const uint32_t n_blocks = (p.k + STAGE_K - 1) / STAGE_K, unit_uint4 = unit<F>::bytes / 16;
	const uint4 *from = (const uint4 *)(p.w + ((size_t)x.expert * p.n_tiles + min(tile, p.n_tiles - 1)) * p.n_slices *
							  unit<F>::bytes);
	uint32_t row[COPIES];
	struct tile_weights<F> weights;

#pragma unroll
	for (int i = 0; i < COPIES; i++) {
		const uint32_t r = threadIdx.x / 8 + i * (THREADS / 8), pair = x.row(min(r, x.n - 1));

		row[i] = x.pair && !p.x_per_slot ? pair / p.n_slots : pair;
	}
#pragma unroll
	for (int h = 0; h < HALVES; h++)
#pragma unroll
		for (int i = 0; i < HALF / 2; i++)
			s.h[h][i] = 0;
	weights.w.load(from, threadIdx.x % WARP);
#pragma unroll
	for (int i = 0; i < AHEAD; i++) {
		if (i < (int)n_blocks)
			stage_load(p, row, x.n, stages + i * STAGE_BYTES, i);
		asm volatile("cp.async.commit_group;" ::: "memory");
	}
	uint32_t at = 0, to = AHEAD;	/* stages: multiplied now; loaded now */
	for (uint32_t slice = 0; slice < p.n_slices; slice++) {
		const bool more = slice + 1 < p.n_slices;

#pragma unroll
		for (int quarter = 0; quarter < 4; quarter++) {
			const uint32_t block = slice * 4 + quarter;

			if (block >= n_blocks)
				break;
			asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 1) : "memory");
#if HOPPER
			asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
			/* The stage is there for all, and nobody reads the place that is filled next. */
			__syncthreads();
			weights.stage(s, scale, from + unit_uint4, more, quarter, stages + at * STAGE_BYTES, x.n);
			if (block + AHEAD < n_blocks)
				stage_load(p, row, x.n, stages + to * STAGE_BYTES, block + AHEAD);
			asm volatile("cp.async.commit_group;" ::: "memory");
			at = at + 1 == STAGES ? 0 : at + 1;
			to = to + 1 == STAGES ? 0 : to + 1;
		}
		from += unit_uint4;
	}
#if HOPPER
	wgmma_wait<0>();
#endif
}

/* Two columns of eight rows, a lane has (row g, columns 2q and 2q + 1): now (column g, rows 2q and 2q + 1). */
__device__ uint32_t transpose(float a, float b)
{
	const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
	uint32_t r;

	asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(*(const uint32_t *)&v));
	return r;
}

__device__ float swiglu(float gate, float up)
{
	return __fmul_rn(__fmul_rn(gate, __fdiv_rn(1.0f, 1.0f + expf(-gate))), up);
}

/* Output rows of the columns that a lane stores, asked for before the first store: the compiler must not move a load of
 * the list over a store. */
struct out_rows {
	uint32_t row[COLS / 8];

	__device__ out_rows(const tile_of_x &x, uint32_t offset)
	{
#pragma unroll
		for (int j = 0; j < COLS / 8; j++)
			row[j] = x.row(min(j * 8 + offset, x.n - 1));
	}
};

/* What the sums of rows g and g + 8 of a tile are multiplied with. */
struct row_scales {
	float low, high;
};

/* SwiGLU of a tile in turns: eight outputs a column. */
__device__ void store_pairs(const matmul_params &p, const tile_of_x &x, uint32_t tile, const sums &s, row_scales scale)
{
	const uint32_t lane = threadIdx.x % WARP, g = lane / 4, q = lane % 4;
	const out_rows to(x, g);
	bf16 *y = (bf16 *)p.y_swiglu + prefill_column((tile - p.n_plain) * 8 + 2 * q);

#pragma unroll
	for (int j = 0; j < COLS / 8; j++) {
		const float *v = &s.h[j / (HALF / 8)][j % (HALF / 8) * 4];

		if (j * 8 >= (int)x.n)
			break;
		const uint32_t word = transpose(swiglu(__fmul_rn(v[0], scale.low), __fmul_rn(v[2], scale.high)),
						swiglu(__fmul_rn(v[1], scale.low), __fmul_rn(v[3], scale.high)));
		if (j * 8 + g < x.n)
			*(uint32_t *)(y + (size_t)to.row[j] * p.ldy_swiglu) = word;
	}
}

/* Two neighbours of a row of y, as far as they are there. */
__device__ void store_word(const matmul_params &p, bf16 *to, uint32_t row, uint32_t word)
{
	if (row + 1 < p.n && !(p.ldy % 2)) {
		*(uint32_t *)to = word;
	} else {
		for (uint32_t i = 0; i < 2; i++)
			if (row + i < p.n)
				to[i] = __ushort_as_bfloat16((unsigned short)(word >> 16 * i));
	}
}

__device__ void store_bf16(const matmul_params &p, const tile_of_x &x, uint32_t tile, const sums &s, row_scales scale)
{
	const uint32_t lane = threadIdx.x % WARP, g = lane / 4, q = lane % 4, row = tile * MATMUL_TILE + 2 * q;
	const out_rows to(x, g);

#pragma unroll
	for (int j = 0; j < COLS / 8; j++) {
		const float *v = &s.h[j / (HALF / 8)][j % (HALF / 8) * 4];

		if (j * 8 >= (int)x.n)
			break;
		const uint32_t upper = transpose(__fmul_rn(v[0], scale.low), __fmul_rn(v[1], scale.low));
		const uint32_t lower = transpose(__fmul_rn(v[2], scale.high), __fmul_rn(v[3], scale.high));
		bf16 *y = (bf16 *)p.y + (size_t)to.row[j] * p.ldy + row;

		if (j * 8 + g < x.n) {
			store_word(p, y, row, upper);
			store_word(p, y + 8, row + 8, lower);
		}
	}
}

__device__ void store_f32(const matmul_params &p, const tile_of_x &x, uint32_t tile, const sums &s, row_scales scale)
{
	const uint32_t lane = threadIdx.x % WARP, row = tile * MATMUL_TILE + lane / 4, q = lane % 4;

#pragma unroll
	for (int odd = 0; odd < 2; odd++) {
		const out_rows to(x, 2 * q + odd);

#pragma unroll
		for (int j = 0; j < COLS / 8; j++) {
			const float *v = &s.h[j / (HALF / 8)][j % (HALF / 8) * 4 + odd];
			float *y = (float *)p.y + (size_t)to.row[j] * p.ldy + row;

			if (j * 8 + 2 * q + odd >= x.n)
				break;
			if (row < p.n)
				y[0] = __fmul_rn(v[0], scale.low);
			if (row + 8 < p.n)
				y[8] = __fmul_rn(v[2], scale.high);
		}
	}
}

/* unit: what the sums are in units of. */
template <enum matmul_format F>
__device__ void store_tile(const matmul_params &p, const tile_of_x &x, uint32_t tile, const sums &s, row_scales unit)
{
	const uint32_t g = threadIdx.x % WARP / 4;

	if (tile >= p.n_tiles)
		return;
	const float *scales = tile_scales<F>(p, x.expert, tile);
	const struct row_scales scale = { __fmul_rn(unit.low, scale_of<F>(scales, g)),
					  __fmul_rn(unit.high, scale_of<F>(scales, g + 8)) };

	if (tile >= p.n_plain)
		store_pairs(p, x, tile, s, scale);
	else if (p.out == MATMUL_OUT_BF16)
		store_bf16(p, x, tile, s, scale);
	else
		store_f32(p, x, tile, s, scale);
}

/* Blocks that run together should share what they read: eight tiles of x, then the next rows of W. */
__device__ void place_dense(const matmul_params &p, uint32_t row_blocks, uint32_t *ret_row, tile_of_x *ret)
{
	const uint32_t col_tiles = (p.n_cols + COLS - 1) / COLS, group = blockIdx.x / (8 * row_blocks);
	const uint32_t in = blockIdx.x % (8 * row_blocks), wide = min(8u, col_tiles - group * 8);

	*ret_row = in / wide;
	ret->pair = NULL;
	ret->expert = ret->index = 0;
	ret->first = (group * 8 + in % wide) * COLS;
	ret->n = min((uint32_t)COLS, p.n_cols - ret->first);
}

__device__ bool place_expert(const matmul_params &p, const uint32_t *n_tiles, const uint32_t *tiles, tile_of_x *ret)
{
	if (blockIdx.y >= *n_tiles)
		return false;
	const uint32_t t = tiles[blockIdx.y], index = t >> 16, first = p.list.offset[index] + (t & 0xffff) * COLS;

	if (p.without_last && index + 1 == *p.list.n_active)
		return false;
	ret->pair = p.list.pair + first;
	ret->first = 0;
	ret->n = min((uint32_t)COLS, p.list.offset[index + 1] - first);
	ret->expert = p.list.active[index];
	ret->index = index;
	return true;
}

template <enum matmul_format F, bool EXPERTS>
__global__ void __launch_bounds__(THREADS, 1)
	prefill_kernel(const __grid_constant__ matmul_params p, uint32_t row_blocks, const uint32_t *n_tiles, const uint32_t *tiles)
{
	extern __shared__ char raw[];
	char *stages = raw + (1024 - smem_address(raw) % 1024) % 1024;
	uint32_t row_block = blockIdx.x, tile;
	struct tile_of_x x;
	struct fp8_scale scale;
	struct sums s;

	chain_wait();
	chain_release();
	if (EXPERTS) {
		if (!place_expert(p, n_tiles, tiles, &x))
			return;
	} else {
		place_dense(p, row_blocks, &row_block, &x);
	}
	tile = row_block * WARPS + threadIdx.x / WARP;
	multiply_tile<F>(p, x, tile, stages, s, &scale);
	store_tile<F>(p, x, tile, s, F == MATMUL_FP8 ? row_scales{ scale.low, scale.high } : row_scales{ 1, 1 });
}

bool hopper_here(void)
{
	static int major;
	int device;

	if (!major && (cudaGetDevice(&device) != cudaSuccess ||
		       cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess))
		major = 0;
	return major == 9;
}

template <enum matmul_format F, bool EXPERTS>
int launch(const matmul_params &p, const struct prefill_list *list, uint32_t max_tiles, cudaStream_t stream)
{
	auto kernel = prefill_kernel<F, EXPERTS>;
	const size_t shared = (hopper_here() ? STAGES_HOPPER : STAGES_ELSE) * STAGE_BYTES + 1024;
	const uint32_t row_blocks = (p.n_tiles + WARPS - 1) / WARPS, col_tiles = (p.n_cols + COLS - 1) / COLS;
	const dim3 grid = EXPERTS ? dim3(row_blocks, max_tiles) : dim3(row_blocks * col_tiles);

	static_assert(STAGES_ELSE * STAGE_BYTES + 1024 <= SHARED_MAX, "fits every device");
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, grid, THREADS, shared, 1, stream, p, row_blocks,
			    (const uint32_t *)(list ? list->n_tiles : NULL), (const uint32_t *)(list ? list->tile : NULL));
}

template <bool EXPERTS>
int launch_format(const matmul_params &p, enum matmul_format f, const struct prefill_list *list, uint32_t max_tiles,
		  cudaStream_t stream)
{
	switch (f) {
	case MATMUL_BF16: return launch<MATMUL_BF16, EXPERTS>(p, list, max_tiles, stream);
	case MATMUL_FP8: return launch<MATMUL_FP8, EXPERTS>(p, list, max_tiles, stream);
	case MATMUL_NVFP4: return launch<MATMUL_NVFP4, EXPERTS>(p, list, max_tiles, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

bool aligned16(const void *p)
{
	return p && !((uintptr_t)p % 16);
}

/* ---- the list ------------------------------------------------------------------ */

constexpr int LIST_WARPS_ = 8, LIST_BLOCK = LIST_WARPS_ * WARP;
constexpr uint32_t LIST_RUN = 256, LIST_PAIRS = LIST_WARPS_ * LIST_RUN;	/* of a warp, of a block */

struct list_work {
	const uint32_t *ids;
	uint32_t n_pairs, n_experts, n_blocks;
	struct prefill_list to;
	uint32_t *count;	/* [n_blocks][n_experts]: a block's pairs of an expert, then the place of the first */
};

uint32_t list_blocks(uint32_t n_pairs)
{
	return (n_pairs + LIST_PAIRS - 1) / LIST_PAIRS;
}

/* This warp's pairs in order; place(pair, id, rank): `count` has how many of an id came before. */
template <class Place> __device__ void each_pair(const list_work &w, uint32_t *count, Place place)
{
	const uint32_t lane = threadIdx.x % WARP, begin = blockIdx.x * LIST_PAIRS + threadIdx.x / WARP * LIST_RUN;

	for (uint32_t first = begin; first < min(w.n_pairs, begin + LIST_RUN); first += WARP) {
		const uint32_t pair = first + lane, asked = pair < w.n_pairs ? w.ids[pair] : ~0u;
		const uint32_t id = asked < w.n_experts ? asked : ~0u;	/* the others are nobody's */
		const uint32_t same = __match_any_sync(~0u, id), before = __popc(same & ((1u << lane) - 1));
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
	__shared__ uint32_t pairs[MATMUL_MAX_EXPERTS], active[MATMUL_MAX_EXPERTS], tiles[MATMUL_MAX_EXPERTS];
	const uint32_t e = threadIdx.x;
	uint32_t n = 0;

	chain_wait();
	chain_release();
	for (uint32_t b = 0; e < w.n_experts && b < w.n_blocks; b++)
		n += w.count[b * w.n_experts + e];
	const uint32_t n_tiles = (n + COLS - 1) / COLS;
	pairs[e] = n;
	active[e] = n > 0;
	tiles[e] = n_tiles;
	__syncthreads();
	for (uint32_t d = 1; d < MATMUL_MAX_EXPERTS; d *= 2) {
		const uint32_t a = e >= d ? pairs[e - d] : 0, b = e >= d ? active[e - d] : 0, c = e >= d ? tiles[e - d] : 0;

		__syncthreads();
		pairs[e] += a;
		active[e] += b;
		tiles[e] += c;
		__syncthreads();
	}
	const uint32_t first = pairs[e] - n, index = active[e] - (n > 0), tile = tiles[e] - n_tiles;

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
	if (e == MATMUL_MAX_EXPERTS - 1) {
		*w.to.list.n_active = active[e];
		*w.to.n_tiles = tiles[e];
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

int prefill_matmul(const struct decode_matmul_args *a, void *stream)
{
	const matmul_params p = matmul_params_of(a);

	if (!matmul_args_ok(a, PREFILL_MAX_ROWS) || a->ldx % 32 || a->k % 32)
		return -EINVAL;
	return launch_format<false>(p, a->format, NULL, 0, (cudaStream_t)stream);
}

int prefill_experts(const struct decode_experts_args *a, const struct prefill_list *list, void *stream)
{
	const matmul_params p = matmul_params_of_experts(a, &list->list);

	if (!matmul_experts_ok(a, PREFILL_MAX_ROWS) || a->ldx % 32 || a->k % 32)
		return -EINVAL;
	return launch_format<true>(p, a->format, list, prefill_max_tiles(a->n_rows, a->n_slots, a->n_experts),
				   (cudaStream_t)stream);
}

uint32_t prefill_max_tiles(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	return n_rows * n_slots / COLS + n_experts;
}

size_t prefill_list_bytes(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	return expert_list_bytes(n_rows, n_slots, n_experts) + 16 +
	       align16(4 * (size_t)list_blocks(n_rows * n_slots) * n_experts) +
	       align16(4 * (size_t)prefill_max_tiles(n_rows, n_slots, n_experts));
}

/* Behind the list: n_tiles (and three words unused), the counts that the building needs, the tiles. */
struct prefill_list prefill_list_at(void *mem, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	char *at = (char *)mem + expert_list_bytes(n_rows, n_slots, n_experts);
	struct prefill_list l;

	l.list = expert_list_at(mem, n_rows, n_slots, n_experts);
	l.n_tiles = (uint32_t *)at;
	l.tile = (uint32_t *)(at + 16 + align16(4 * (size_t)list_blocks(n_rows * n_slots) * n_experts));
	return l;
}

int prefill_list_build(const uint32_t *ids, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts,
		       const struct prefill_list *list, void *stream)
{
	const list_work w = { ids, n_rows * n_slots, n_experts, list_blocks(n_rows * n_slots), *list, list->n_tiles + 4 };
	cudaStream_t s = (cudaStream_t)stream;
	int rc;

	if (!ids || !n_rows || n_rows > PREFILL_MAX_ROWS || !n_slots || n_slots > 16 || !n_experts ||
	    n_experts > MATMUL_MAX_EXPERTS)
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
	return chain_launch(order_kernel, dim3((uint32_t)((n / 4 + 255) / 256)), 256, 0, 1, (cudaStream_t)stream, (uint4 *)x, n);
}
