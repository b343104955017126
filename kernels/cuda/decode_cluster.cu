/* decode_cluster.cu - launches of the cluster form. */
#include "kernels/cuda/decode_cluster.cuh"

/* Blocks of a cluster: a power of two, none without a slice. */
static uint32_t cluster_blocks(uint32_t n_slices)
{
	uint32_t blocks = CLUSTER_BLOCKS;

	while (blocks > n_slices)
		blocks /= 2;
	return blocks;
}

/* What a block of this chip may have; 0 when there is none. */
static size_t shared_of_chip(void)
{
	static int bytes;	/* of device 0 of this process: a worker has one */
	int device;

	if (!bytes && (cudaGetDevice(&device) != cudaSuccess ||
		       cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
					      device) != cudaSuccess))
		bytes = 0;
	return (size_t)bytes;
}

static uint32_t own_slices(uint32_t n_slices)
{
	const uint32_t blocks = cluster_blocks(n_slices);

	return (n_slices + blocks - 1) / blocks;
}

static int columns_tiles(uint32_t n_rows)
{
	return n_rows <= 32 ? 4 : 8;
}

bool matmul_cluster_fits(const struct decode_matmul_args *a)
{
	const uint32_t own = own_slices((a->k + MATMUL_SLICE - 1) / MATMUL_SLICE);

	return own <= CLUSTER_OWN &&
	       (columns_tiles(a->n_rows) == 4 ? cluster_shared<4>(own) : cluster_shared<8>(own)) <=
		       shared_of_chip();
}

/* How many clusters the device runs at once: the groups of multiprocessors that a cluster must lie
 * in are not all multiples of it. */
template <enum matmul_format F, int NT>
static int clusters_at_once(uint32_t blocks, uint32_t own)
{
	static int known[CLUSTER_BLOCKS + 1][CLUSTER_OWN + 1];
	int *n = &known[blocks][own];
	cudaLaunchAttribute attribute = {};
	cudaLaunchConfig_t c = {};

	if (blocks == 1)
		return device_sms();
	if (*n)
		return *n;
	attribute.id = cudaLaunchAttributeClusterDimension;
	attribute.val.clusterDim.x = blocks;
	attribute.val.clusterDim.y = 1;
	attribute.val.clusterDim.z = 1;
	c.gridDim = dim3((unsigned)device_sms() / blocks * blocks);
	c.blockDim = dim3(CLUSTER_WARPS * WARP);
	c.dynamicSmemBytes = cluster_shared<NT>(own);
	c.attrs = &attribute;
	c.numAttrs = 1;
	if (cudaOccupancyMaxActiveClusters(n, cluster_kernel<F, NT>, &c) != cudaSuccess)
		*n = 0;
	*n = min(*n, device_sms() / (int)blocks);
	return *n;
}

template <enum matmul_format F, int NT>
static int cluster_launch(struct matmul_params p, cudaStream_t stream)
{
	auto kernel = cluster_kernel<F, NT>;
	uint32_t clusters;
	size_t shared;

	p.k_blocks = cluster_blocks(p.n_slices);
	p.k_warps = own_slices(p.n_slices);
	shared = cluster_shared<NT>(p.k_warps);
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	clusters = min(p.n_tiles, (uint32_t)clusters_at_once<F, NT>(p.k_blocks, p.k_warps));
	if (!clusters)
		return -ENODEV;
	return chain_launch(kernel, dim3(clusters * p.k_blocks), CLUSTER_WARPS * WARP, shared,
			    p.k_blocks, stream, p);
}

template <enum matmul_format F>
static int cluster_by_cols(const struct decode_matmul_args *a, cudaStream_t stream)
{
	const struct matmul_params p = matmul_params_of(a);

	return columns_tiles(a->n_rows) == 4 ? cluster_launch<F, 4>(p, stream) :
					       cluster_launch<F, 8>(p, stream);
}

int matmul_launch_cluster(const struct decode_matmul_args *a, cudaStream_t stream)
{
	if (!matmul_cluster_fits(a))
		return -EINVAL;
	switch (a->format) {
	case MATMUL_BF16: return cluster_by_cols<MATMUL_BF16>(a, stream);
	case MATMUL_FP8: return cluster_by_cols<MATMUL_FP8>(a, stream);
	case MATMUL_NVFP4: return cluster_by_cols<MATMUL_NVFP4>(a, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}
