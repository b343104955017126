/* decode_square.cu - launches of the square form and the choice of its layout. */
#include "kernels/cuda/decode_square_split.cuh"
#include "kernels/cuda/decode_square_tall.cuh"
#include "kernels/cuda/tensor_map.cuh"

#define HOPPER_SHARED 232448	/* what a block may have there */
#define HOPPER_HALF   115712	/* and two of a multiprocessor each */

/* Multiprocessors, when they are Hopper's; or 0.  A part of a GPU may have no room for clusters of
 * eight: it takes the other forms. */
static uint32_t hopper_sms(void)
{
	return device_major() == 9 && device_sms() >= 64 ? (uint32_t)device_sms() : 0;
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
static int square_start(Kernel kernel, uint32_t blocks, uint32_t threads, size_t shared, uint32_t cluster,
			cudaStream_t stream, const Args &...args)
{
	if (!blocks ||
	    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) !=
		    cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), threads, shared, cluster, stream, args...);
}

/* p's x, in boxes of 64 columns of `rows` rows. */
static int x_map(CUtensorMap *ret, const struct matmul_params &p, uint32_t rows)
{
	const cuuint64_t dims[2] = { p.k, p.n_cols }, strides[1] = { (cuuint64_t)p.ldx * 2 };
	const cuuint32_t box[2] = { 64, rows };

	return tensor_map_make(ret, p.x, 2, dims, strides, box);
}

template <enum matmul_format F, int N>
static int split_launch(const struct matmul_params &p, const struct square_layout &l, cudaStream_t stream)
{
	const uint32_t tiles = (uint32_t)l.tiles, cluster = (uint32_t)l.cluster;
	const uint32_t slices = (p.n_slices + cluster - 1) / cluster;
	struct square_params q = {};
	CUtensorMap map;
	const int rc = x_map(&map, p, N);

	if (rc)
		return rc;
	q.tiles = tiles;
	q.cluster = cluster;
	q.ordered = p.x_ordered;
	size_t shared = 1024 + SPLIT_FIXED + split_first<F, N>(p, q) +
			(slices - 1) * split_part<F, N>(q);
	const size_t apart = 1024 + SPLIT_FIXED + split_sums<N>(p, q) + slices * split_part<F, N>(q);

	/* Two blocks of a multiprocessor are worth more than sums that wait for no room. */
	q.apart = apart <= (shared <= HOPPER_HALF ? HOPPER_HALF : HOPPER_SHARED);
	if (q.apart)
		shared = apart;
	if (slices > SPLIT_SLICES || cluster > p.n_slices || shared > HOPPER_SHARED)
		return -EINVAL;
	return square_start(split_kernel<F, N>, (p.n_tiles + tiles - 1) / tiles * cluster,
			    (tiles + 3) / 4 * 4 * WARP, shared, cluster, stream, p, q, map);
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
	q.stages = (uint32_t)l.stages;
	q.ordered = p.x_ordered;
	q.ring = ring_pieces<F>(fixed, tiles, (uint32_t)l.ring);
	if (!q.ring)
		return -EINVAL;
	return square_start(tall_kernel<F, N>,
			    min((passes + TALL_SHARE - 1) / TALL_SHARE, hopper_sms() / TALL_SHARE) * TALL_SHARE,
			    SQUARE_THREADS, fixed + (size_t)tiles * q.ring * piece_room<F>, TALL_SHARE, stream, p, q, map);
}

template <enum matmul_format F, int N>
static int square_launch_cols(const struct matmul_params &p, const struct square_layout &l,
			      cudaStream_t stream)
{
	return l.split ? split_launch<F, N>(p, l, stream) : tall_launch<F, N>(p, l, stream);
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
	if (l->split)
		return l->tiles >= 1 && l->tiles <= SPLIT_TILES &&
		       (l->cluster == 2 || l->cluster == 4 || l->cluster == 8);
	return l->stages >= 2 && l->stages <= TALL_STAGES && l->ring >= 0 && l->ring <= 1024 &&
	       l->tiles >= 1 && l->tiles <= SQUARE_WARPS;
}

/* Few tiles make blocks share K, of which each has one or two slices. */
static bool square_splits(const struct matmul_params *p)
{
	return p->n_tiles <= 2 * hopper_sms();
}

bool matmul_square_fits(const struct matmul_params *p, enum matmul_format f)
{
	return (f == MATMUL_BF16 || f == MATMUL_FP8) && p->n_cols <= SQUARE_MAX_ROWS &&
	       hopper_sms() &&
	       (!square_splits(p) || (p->n_slices > 1 && p->n_slices <= 8 * SPLIT_SLICES));
}

int matmul_launch_square_as(const struct matmul_params *p, enum matmul_format f,
			    const struct square_layout *l, cudaStream_t stream)
{
	if ((f != MATMUL_BF16 && f != MATMUL_FP8) || p->n_cols > SQUARE_MAX_ROWS || !hopper_sms() ||
	    !layout_ok(l))
		return -EINVAL;
	return f == MATMUL_BF16 ? square_launch_format<MATMUL_BF16>(*p, *l, stream) :
				  square_launch_format<MATMUL_FP8>(*p, *l, stream);
}

/* As many slices side by side as there are, and as many clusters as can be there at once: an H200's
 * multiprocessors come in groups, in which there is room for 15 clusters of eight or 30 of four. */
static struct square_layout split_choose(const struct matmul_params *p)
{
	const uint32_t sms = hopper_sms();
	const uint32_t cluster = p->n_slices >= 8 ? 8 : p->n_slices >= 4 ? 4 : 2;
	const uint32_t clusters = (cluster > 2 ? sms * 10 / 11 : sms) / cluster;
	const uint32_t tiles = (p->n_tiles + clusters - 1) / clusters;

	return { (int)min(tiles, (uint32_t)SPLIT_FITS), (int)cluster, true, 0, 0 };
}

/* Tall matrices: every multiprocessor the same number of tiles, in as few rounds as can be. */
static struct square_layout square_choose(const struct matmul_params *p, enum matmul_format f)
{
	const uint32_t sms = hopper_sms() / 2 * 2;
	const uint32_t rounds = (p->n_tiles + sms * SQUARE_WARPS - 1) / (sms * SQUARE_WARPS);

	if (square_splits(p))
		return split_choose(p);
	return { (int)((p->n_tiles + sms * rounds - 1) / (sms * rounds)), TALL_SHARE, false,
		 p->n_cols <= 32 ? 4 : 3, f == MATMUL_FP8 && rounds == 1 ? 8 : 0 };
}

bool matmul_square_orders(const struct matmul_params *p)
{
	return p->k % 32 == 0;
}

int matmul_launch_square(const struct decode_matmul_args *a, cudaStream_t stream)
{
	const struct matmul_params p = matmul_params_of(a);

	if (!matmul_square_fits(&p, a->format))
		return -EINVAL;
	const struct square_layout l = square_choose(&p, a->format);

	return matmul_launch_square_as(&p, a->format, &l, stream);
}
