/* decode_square.cu - launches of the square form and the choice of its layout. */
#include "kernels/cuda/decode_square_tall.cuh"
#include "kernels/cuda/tensor_map.cuh"

#define HOPPER_SHARED 232448	/* what a block may have there */
#define SQUARE_SPLIT_SLICES 24	/* of which the sums fit, beside x and weights */

/* Multiprocessors, when they are Hopper's; or 0.  A part of a GPU may have no room for clusters of
 * eight: it takes the other forms. */
static uint32_t hopper_sms(void)
{
	static int major;	/* of device 0 of this process: a worker has one */
	int device;

	if (!major && (cudaGetDevice(&device) != cudaSuccess ||
		       cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) !=
			       cudaSuccess))
		major = 0;
	return major == 9 && device_sms() >= 64 ? (uint32_t)device_sms() : 0;
}

/* Pieces of each of n rings in what is left of a block's shared memory; `most` KB of each, 0: all. */
template <enum matmul_format F>
static uint32_t ring_pieces(size_t fixed, uint32_t n, uint32_t most)
{
	const uint32_t fit = fixed < HOPPER_SHARED ?
				     (uint32_t)((HOPPER_SHARED - fixed) / n / piece_room<F>) :
				     0;

	return most ? min(fit, most * 1024 / 4096) : fit;
}

template <typename Kernel, typename... Args>
static int square_start(Kernel kernel, uint32_t blocks, size_t shared, uint32_t cluster, cudaStream_t stream,
			const Args &...args)
{
	if (!blocks ||
	    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) !=
		    cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), SQUARE_THREADS, shared, cluster, stream, args...);
}

template <enum matmul_format F, int N, int MG>
static int split_launch(const struct matmul_params &p, const struct square_layout &l, cudaStream_t stream)
{
	const uint32_t tiles = (uint32_t)l.tiles, passes = (p.n_tiles + tiles - 1) / tiles;
	struct square_params q = {};

	q.tiles = tiles;
	q.cluster = (uint32_t)l.cluster;
	q.k_groups = tiles <= 4 ? 2 : 1;
	q.stages = (uint32_t)l.stages;
	const size_t fixed = 1024 + (size_t)l.stages * x_stage<N> + SQUARE_STAGES * 16 +
			     (size_t)square_places<N>(q) * p.n_slices * WARP * 16;
	/* The last warps may have no tiles. */
	const uint32_t rings = q.k_groups == 2 ? 4 + tiles : min(tiles, (uint32_t)SQUARE_WARPS);

	q.ring = ring_pieces<F>(fixed, rings, (uint32_t)l.ring);
	if (!q.ring)
		return -EINVAL;
	return square_start(square_kernel<F, N, MG>, passes * q.cluster,
			    fixed + (size_t)rings * q.ring * piece_room<F>, q.cluster, stream, p, q);
}

/* p's x, in boxes of 64 columns of `rows` rows. */
static int x_map(CUtensorMap *ret, const struct matmul_params &p, uint32_t rows)
{
	const cuuint64_t dims[2] = { p.k, p.n_cols }, strides[1] = { (cuuint64_t)p.ldx * 2 };
	const cuuint32_t box[2] = { 64, rows };

	return tensor_map_make(ret, p.x, 2, dims, strides, box);
}

template <enum matmul_format F, int N>
static int tall_launch(const struct matmul_params &p, const struct square_layout &l, cudaStream_t stream)
{
	const uint32_t tiles = (uint32_t)l.tiles, passes = (p.n_tiles + tiles - 1) / tiles;
	const size_t fixed = 1024 + (size_t)l.stages * (x_stage<N> + TALL_BARRIERS);
	struct square_params q = {};
	CUtensorMap map;
	const int rc = x_map(&map, p, N / TALL_SHARE);

	if (rc)
		return rc;
	q.tiles = tiles;
	q.cluster = TALL_SHARE;
	q.k_groups = 1;
	q.stages = (uint32_t)l.stages;
	q.ordered = p.x_ordered;
	q.ring = ring_pieces<F>(fixed, tiles, (uint32_t)l.ring);
	if (!q.ring)
		return -EINVAL;
	return square_start(tall_kernel<F, N>,
			    min((passes + TALL_SHARE - 1) / TALL_SHARE, hopper_sms() / TALL_SHARE) * TALL_SHARE,
			    fixed + (size_t)tiles * q.ring * piece_room<F>, TALL_SHARE, stream, p, q, map);
}

template <enum matmul_format F, int N>
static int square_launch_cols(const struct matmul_params &p, const struct square_layout &l,
			      cudaStream_t stream)
{
	if (!l.split)
		return tall_launch<F, N>(p, l, stream);
	return l.tiles > SQUARE_WARPS ? split_launch<F, N, 2>(p, l, stream) :
					split_launch<F, N, 1>(p, l, stream);
}

template <enum matmul_format F>
static int square_launch_format(const struct matmul_params &p, const struct square_layout &l,
				cudaStream_t stream)
{
	return p.n_cols <= 16 ? square_launch_cols<F, 16>(p, l, stream) :
	       p.n_cols <= 32 ? square_launch_cols<F, 32>(p, l, stream) :
				square_launch_cols<F, 64>(p, l, stream);
}

static bool layout_ok(const struct square_layout *l)
{
	if (l->stages < 2 || l->stages > SQUARE_STAGES || l->ring < 0 || l->ring > 1024 || l->tiles < 1)
		return false;
	if (l->split)
		return l->tiles <= 2 * SQUARE_WARPS && (l->cluster == 1 || l->cluster == 2 ||
							l->cluster == 4 || l->cluster == 8);
	return l->tiles <= SQUARE_WARPS;
}

/* The sums of a tile's slices have to fit where few tiles make blocks share K. */
static bool square_splits(const struct matmul_params *p)
{
	return p->n_tiles <= 2 * hopper_sms();
}

bool matmul_square_fits(const struct matmul_params *p, enum matmul_format f)
{
	return (f == MATMUL_BF16 || f == MATMUL_FP8) && p->n_cols <= SQUARE_MAX_ROWS &&
	       hopper_sms() && (!square_splits(p) || p->n_slices <= SQUARE_SPLIT_SLICES);
}

int matmul_launch_square_as(const struct matmul_params *p, enum matmul_format f,
			    const struct square_layout *l, cudaStream_t stream)
{
	if ((f != MATMUL_BF16 && f != MATMUL_FP8) || p->n_cols > SQUARE_MAX_ROWS || !hopper_sms() ||
	    !layout_ok(l) || (p->x_ordered && l->split))
		return -EINVAL;
	return f == MATMUL_BF16 ? square_launch_format<MATMUL_BF16>(*p, *l, stream) :
				  square_launch_format<MATMUL_FP8>(*p, *l, stream);
}

/* Tall matrices: every multiprocessor the same number of tiles, in as few rounds as can be.  Others:
 * K shared, by as many clusters as an H200 can have at once (15 of 8 blocks). */
static struct square_layout square_choose(const struct matmul_params *p, enum matmul_format f)
{
	const uint32_t sms = hopper_sms() / 2 * 2;
	const uint32_t rounds = (p->n_tiles + sms * SQUARE_WARPS - 1) / (sms * SQUARE_WARPS);

	if (square_splits(p))
		return p->n_slices < 4	? (struct square_layout){ 2, 2, true, 2, 0 } :
		       p->n_slices < 16 ? (struct square_layout){ 8, 8, true, 2, 0 } :
		       f == MATMUL_FP8	? (struct square_layout){ 9, 8, true, 2, 4 } :
					  (struct square_layout){ 5, 4, true, 2, 8 };
	return { (int)((p->n_tiles + sms * rounds - 1) / (sms * rounds)), TALL_SHARE, false,
		 p->n_cols <= 32 ? 4 : 3, f == MATMUL_FP8 && rounds == 1 ? 8 : 0 };
}

bool matmul_square_orders(const struct matmul_params *p, enum matmul_format f)
{
	return p->k % 32 == 0 && !square_choose(p, f).split;
}

int matmul_launch_square(const struct decode_matmul_args *a, cudaStream_t stream)
{
	const struct matmul_params p = matmul_params_of(a);

	if (!matmul_square_fits(&p, a->format))
		return -EINVAL;
	const struct square_layout l = square_choose(&p, a->format);

	return matmul_launch_square_as(&p, a->format, &l, stream);
}
