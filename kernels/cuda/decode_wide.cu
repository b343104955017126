/* decode_wide.cu - launches of the wide form and the choice of its layout. */
#include "kernels/cuda/decode_wide.cuh"

template <enum matmul_format F, int MT, int NT>
static int wide_launch(struct matmul_params p, const struct wide_layout *l, cudaStream_t stream)
{
	auto kernel = wide_kernel<F, MT, NT, true>;
	const size_t shared = wide_shared<MT, NT>(l->m_warps, l->k_warps);
	const uint32_t tiles = l->m_warps * MT;
	const dim3 grid((p.n_cols + 8 * NT - 1) / (8 * NT), (p.n_tiles + tiles - 1) / tiles);

	p.m_warps = l->m_warps;
	p.k_warps = l->k_warps;
	if (l->m_warps * l->k_warps > wide_warps<F, MT, NT> || shared > SHARED_MAX ||
	    grid.y > 65535)
		return -EINVAL;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, grid, l->m_warps * l->k_warps * WARP, shared, 1, stream, p);
}

template <enum matmul_format F>
static int wide_launch_format(const struct matmul_params *p, const struct wide_layout *l,
			      cudaStream_t stream)
{
	if (l->tiles == 1 && l->col_tiles == 4)
		return wide_launch<F, 1, 4>(*p, l, stream);
	if (l->tiles == 1 && l->col_tiles == 8)
		return wide_launch<F, 1, 8>(*p, l, stream);
	if constexpr (F == MATMUL_NVFP4)
		if (l->tiles == 2 && l->col_tiles == 8)
			return wide_launch<F, 2, 8>(*p, l, stream);
	return -EINVAL;
}

int matmul_launch_wide_as(const struct matmul_params *p, enum matmul_format f,
			  const struct wide_layout *l, cudaStream_t stream)
{
	/* With fewer slices than groups some groups would have no turn. */
	if (l->m_warps < 1 || l->k_warps < 1 || l->m_warps * l->k_warps > WIDE_WARPS ||
	    l->k_warps > WIDE_GROUPS || (uint32_t)l->k_warps > p->n_slices)
		return -EINVAL;
	switch (f) {
	case MATMUL_BF16: return wide_launch_format<MATMUL_BF16>(p, l, stream);
	case MATMUL_FP8: return wide_launch_format<MATMUL_FP8>(p, l, stream);
	case MATMUL_NVFP4: return wide_launch_format<MATMUL_NVFP4>(p, l, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

static uint32_t wide_blocks(const struct matmul_params *p, int m_warps, int col_tiles)
{
	return ((p->n_tiles + m_warps - 1) / m_warps) *
	       ((p->n_cols + 8 * col_tiles - 1) / (8 * col_tiles));
}

/* The layout with the least estimated time: waves of blocks times what a block takes, a line
 * fitted to docs/measurements/2026-11-21-cuda-probe-sweep.txt.  No bit depends on it. */
static struct wide_layout wide_choose(const struct matmul_params *p, enum matmul_format f, int sms)
{
	static const struct { int m_warps, k_warps, col_tiles, cost; } tried[] = {
		{ 2, 4, 4, 58 }, { 3, 4, 4, 72 }, { 4, 2, 4, 86 }, { 6, 2, 4, 114 },
		{ 4, 2, 8, 128 }, { 5, 2, 8, 150 }, { 6, 2, 8, 172 },
	};
	struct wide_layout best = { 1, 8, 6, 1 };
	uint64_t least = UINT64_MAX;

	/* So many blocks that several on a multiprocessor hide each other's waiting. */
	if (wide_blocks(p, 6, 8) > 8 * (uint32_t)sms)
		return f == MATMUL_NVFP4 ? (struct wide_layout){ 2, 8, 4, 1 } :
		       f == MATMUL_FP8 ? (struct wide_layout){ 1, 8, 4, 1 } : best;
	for (const auto &t : tried) {
		uint64_t waves = (wide_blocks(p, t.m_warps, t.col_tiles) + sms - 1) / sms;
		int k_warps = t.k_warps;

		if (f == MATMUL_FP8 && t.col_tiles == 8 && t.m_warps * t.k_warps > 8)
			continue;
		while ((uint32_t)k_warps > p->n_slices)
			k_warps /= 2;
		if (waves * t.cost >= least)
			continue;
		least = waves * t.cost;
		best = { 1, t.col_tiles, t.m_warps, k_warps };
	}
	return best;
}

int matmul_launch_wide(const struct decode_matmul_args *a, cudaStream_t stream)
{
	const struct matmul_params p = matmul_params_of(a);
	const int sms = device_sms();

	if (!sms)
		return -ENODEV;
	const struct wide_layout l = wide_choose(&p, a->format, sms);

	return matmul_launch_wide_as(&p, a->format, &l, stream);
}
