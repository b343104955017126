/* decode_cluster.cuh - the decode product for many columns, K cut over the blocks of a cluster.
 *
 * What many columns cost is the way of x: a block that has all of K reads all of x, 256 KB for 64
 * columns of 2,048, as much as its share of W; so the multiprocessors' way to L2 is what fills up.
 * Here a block has one slice of K, or two, for all row tiles of its cluster: its part of x comes
 * to shared memory once and stays (in fragment order, as in the wide form).  A round is a tile of
 * 16 rows for each warp: the same tiles in every block of the cluster, each with its own slices.
 * Slices' sums stay in the shared memory of the block that made them; after the cluster's barrier
 * each block takes some of the round's tiles, reads the sums of their slices from the others in the
 * order of slices, adds and writes.  There are two sets of buffers, so a round has one barrier; and
 * a warp's next unit of weights is on its way meanwhile, as in the other forms.
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_CLUSTER_CUH
#define HEARTH_KERNELS_CUDA_DECODE_CLUSTER_CUH

#include "kernels/cuda/decode_matmul_int.cuh"

#define CLUSTER_WARPS 8
#define CLUSTER_BLOCKS 8	/* of a cluster, at most: what every chip with clusters has */
#define CLUSTER_OWN 2		/* slices a block, at most */

/* 16-byte pieces: of one slice of x; of a warp's sums. */
template <int NT> constexpr uint32_t cluster_x = 8 * NT * WARP;
template <int NT> constexpr uint32_t cluster_sums = NT * WARP;

/* x of `own` slices, then [2][own][warp] sums. */
template <int NT> static inline size_t cluster_shared(uint32_t own)
{
	return (size_t)16 * own * (cluster_x<NT> + 2 * CLUSTER_WARPS * cluster_sums<NT>);
}

/* All threads of all blocks of the cluster; what they wrote to shared memory is seen after. */
static __device__ __forceinline__ void cluster_meet(void)
{
	__syncwarp();
	asm volatile("barrier.cluster.arrive.release.aligned;\n"
		     "barrier.cluster.wait.acquire.aligned;" ::
			     : "memory");
}

/* Sixteen bytes at this block's address `at` in the shared memory of block `rank`. */
static __device__ __forceinline__ float4 cluster_get(uint32_t at, uint32_t rank)
{
	float4 v;

	asm volatile("{ .reg .u32 there; mapa.shared::cluster.u32 there, %4, %5;\n"
		     "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there]; }"
		     : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
		     : "r"(at), "r"(rank));
	return v;
}

/* The block's slices of x, 8 NT columns from `first_col` on: [own][32 of K][column tile][lane].
 * What is not there becomes zero. */
template <int NT>
static __device__ __forceinline__ void cluster_load_x(const struct matmul_params &p, uint4 *to,
						      uint32_t rank, uint32_t first_col)
{
	const uint32_t lane = threadIdx.x % WARP;

#pragma unroll 4
	for (uint32_t piece = threadIdx.x / WARP; piece < p.k_warps * 8 * NT;
	     piece += CLUSTER_WARPS) {
		const uint32_t t = piece % NT, j = piece / NT % 8, i = piece / (8 * NT);
		const uint32_t col = first_col + 8 * t + lane / 4;
		const uint32_t k = (rank + i * p.k_blocks) * MATMUL_SLICE + 32 * j + lane % 4 * 8;
		const bool there = col < p.n_cols && k < p.k;
		const __nv_bfloat16 *from = there ? p.x + (size_t)col * p.ldx + k : p.x;

		asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
				     (uint32_t)__cvta_generic_to_shared(to + piece * WARP + lane)),
			     "l"(from), "r"(there ? 16 : 0)
			     : "memory");
	}
	asm volatile("cp.async.wait_all;" ::: "memory");
}

/* One unit times 8 NT columns; refills the unit from `next` when `more`. */
template <enum matmul_format F, int NT>
static __device__ __forceinline__ void cluster_unit(struct unit<F> &w, const uint4 *x,
						    const uint4 *next, bool more, int lane,
						    float sum[NT][4])
{
	float part[NT][4];	/* formats with scaled halves only */

#pragma unroll
	for (int t = 0; t < NT; t++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum[t][i] = 0;
#pragma unroll
	for (int j = 0; j < 8; j++) {
		uint4 b[NT];

		/* Not all to the front: there are no registers for it. */
		asm volatile("" ::: "memory");
#pragma unroll
		for (int t = 0; t < NT; t++)
			b[t] = x[(j * NT + t) * WARP];
#pragma unroll
		for (int odd = 0; odd < 2; odd++) {
			const int step = 2 * j + odd;
			struct frag f = w.frag_of(step);

#pragma unroll
			for (int t = 0; t < NT; t++)
				mma(sum[t], &f, odd ? b[t].z : b[t].x, odd ? b[t].w : b[t].y);
			w.refill(step, next, lane, more);
		}
		if constexpr (unit<F>::scaled_halves)
			if (j % 4 == 3)
				join_halves<4 * NT>(j / 4, w, &sum[0][0], &part[0][0]);
	}
	w.refill_scales(next, lane, more);
}

/* Where a warp is: its unit is that of (tile, own slice), of the columns from `col` on. */
struct cluster_at {
	uint32_t tile, own, col;
};

/* A block's part of the product. */
struct cluster_part {
	uint32_t begin, end;	/* the cluster's tiles */
	uint32_t rank, n_own;	/* the block in its cluster; its slices: rank, rank + blocks, ... */
};

/* The next place of this warp that has a unit; col is n_cols when there is none. */
template <int NT>
static __device__ __forceinline__ struct cluster_at
cluster_next(const struct matmul_params &p, const struct cluster_part &part, struct cluster_at at)
{
	if (++at.own < part.n_own)
		return at;
	at.own = 0;
	at.tile += CLUSTER_WARPS;
	if (at.tile < part.end)
		return at;
	at.tile = part.begin + threadIdx.x / WARP;
	at.col = min(at.col + 8 * NT, p.n_cols);
	return at;
}

template <enum matmul_format F>
static __device__ __forceinline__ const uint4 *cluster_unit_at(const struct matmul_params &p,
							       const struct cluster_part &part,
							       const struct cluster_at &at)
{
	const size_t index = (size_t)at.tile * p.n_slices + part.rank + at.own * p.k_blocks;

	return (const uint4 *)(p.w + index * unit<F>::bytes);
}

/* Of a round's tiles, this block's: adds their slices in order, wherever they are, and writes them.
 * A warp has eight columns.  `sums`: the round's buffers, by address in shared memory. */
template <enum matmul_format F, int NT>
static __device__ __forceinline__ void cluster_finish(const struct matmul_params &p,
						      const struct cluster_part &part,
						      uint32_t first_tile, uint32_t first_col,
						      uint32_t sums)
{
	const uint32_t lane = threadIdx.x % WARP, t = threadIdx.x / WARP, r = lane / 4;
	const uint32_t col = first_col + 8 * t + lane % 4 * 2;

	if (t >= NT || first_col + 8 * t >= p.n_cols)
		return;
	for (uint32_t i = part.rank; i < CLUSTER_WARPS && first_tile + i < part.end;
	     i += p.k_blocks) {
		const uint32_t tile = first_tile + i;
		const uint32_t at = sums + 16 * (i * cluster_sums<NT> + t * WARP + lane);
		const float *scales = tile_scales<F>(p, 0, tile);
		const float low = scale_of<F>(scales, r), high = scale_of<F>(scales, r + 8);
		float4 v = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);

		for (uint32_t own = 0, s = 0; s < p.n_slices; own++)
#pragma unroll 8
			for (uint32_t rank = 0; rank < p.k_blocks && s < p.n_slices; rank++, s++) {
				const float4 one = cluster_get(
					at + own * 16 * CLUSTER_WARPS * cluster_sums<NT>, rank);

				v.x = fold(v.x, one.x);
				v.y = fold(v.y, one.y);
				v.z = fold(v.z, one.z);
				v.w = fold(v.w, one.w);
			}
		const float a[2] = { __fmul_rn(v.x, low), __fmul_rn(v.y, low) },
			    b[2] = { __fmul_rn(v.z, high), __fmul_rn(v.w, high) };
#pragma unroll
		for (int e = 0; e < 2; e++) {
			if (col + e >= p.n_cols)
				break;
			if (tile >= p.n_plain) {
				store_out(p, tile, r, col + e, a[e], b[e]);
				continue;
			}
			if (has_output(p, tile, r))
				store_out(p, tile, r, col + e, a[e], 0);
			if (has_output(p, tile, r + 8))
				store_out(p, tile, r + 8, col + e, b[e], 0);
		}
	}
	__syncwarp();	/* the tensor core wants all lanes together */
}

template <enum matmul_format F, int NT>
__global__ void __launch_bounds__(CLUSTER_WARPS *WARP, 1)
	cluster_kernel(const __grid_constant__ struct matmul_params p)
{
	extern __shared__ uint4 shared_cluster[];
	const int lane = threadIdx.x % WARP;
	const uint32_t warp = threadIdx.x / WARP, a_round = 16 * CLUSTER_WARPS * cluster_sums<NT>;
	const uint32_t cluster = blockIdx.x / p.k_blocks, clusters = gridDim.x / p.k_blocks;
	const uint4 *x = shared_cluster + lane;
	const uint32_t sums = (uint32_t)__cvta_generic_to_shared(shared_cluster) +
			      p.k_warps * cluster_x<NT> * 16;
	struct cluster_part part;
	struct unit<F> w;
	uint32_t flip = 0;

	/* The first n_tiles % clusters clusters have one more. */
	const uint32_t each = p.n_tiles / clusters, extra = p.n_tiles % clusters;

	part.begin = cluster * each + min(cluster, extra);
	part.end = part.begin + each + (cluster < extra);
	part.rank = blockIdx.x % p.k_blocks;
	part.n_own = (p.n_slices - part.rank + p.k_blocks - 1) / p.k_blocks;

	struct cluster_at at = { part.begin + warp, 0, 0 };

	if (at.tile < part.end)
		w.load(cluster_unit_at<F>(p, part, at), lane);
	chain_wait();	/* the weights are on their way, x may not be there yet */
	chain_release();
	for (uint32_t col = 0; col < p.n_cols; col += 8 * NT) {
		__syncthreads();	/* nobody reads the columns before any more */
		cluster_load_x<NT>(p, shared_cluster, part.rank, col);
		__syncthreads();
		for (uint32_t first = part.begin; first < part.end; first += CLUSTER_WARPS) {
			const uint32_t to = sums + flip * p.k_warps * a_round;

			for (uint32_t own = 0; first + warp < part.end && own < part.n_own; own++) {
				const struct cluster_at next = cluster_next<NT>(p, part, at);
				float sum[NT][4];

				cluster_unit<F, NT>(w, x + own * cluster_x<NT>,
						    cluster_unit_at<F>(p, part, next),
						    next.col < p.n_cols, lane, sum);
				at = next;
				const uint32_t mine =
					to + own * a_round + 16 * (warp * cluster_sums<NT> + lane);
#pragma unroll
				for (int t = 0; t < NT; t++)
					asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(
							     mine + t * WARP * 16),
						     "f"(sum[t][0]), "f"(sum[t][1]), "f"(sum[t][2]),
						     "f"(sum[t][3])
						     : "memory");
			}
			cluster_meet();
			cluster_finish<F, NT>(p, part, first, col, to);
			flip ^= 1;
		}
	}
	cluster_meet();	/* the others have read this block's sums */
}

#endif
