/* decode_wide.cu - launches of the wide form, the choice of its layout, and the merge of a
 * split K. */
#include "kernels/cuda/decode_wide.cuh"

/* Folds the slices of four rows of one column. */
__global__ void __launch_bounds__(256) merge_kernel(const __grid_constant__ struct matmul_params p)
{
	const uint32_t rows = p.n_tiles * MATMUL_TILE;
	const uint32_t row = (blockIdx.x * 256 + threadIdx.x) * 4, col = blockIdx.y;
	const float4 *from = (const float4 *)(p.partial + (size_t)col * rows + row);
	const size_t slice_float4 = (size_t)p.n_cols * rows / 4;
	float v[4] = { -0.0f, -0.0f, -0.0f, -0.0f };

	if (row >= p.n)
		return;
#pragma unroll 8
	for (uint32_t s = 0; s < p.n_slices; s++) {
		float4 part = from[s * slice_float4];

		v[0] = fold(v[0], part.x);
		v[1] = fold(v[1], part.y);
		v[2] = fold(v[2], part.z);
		v[3] = fold(v[3], part.w);
	}
	for (int i = 0; i < 4 && row + i < p.n; i++)
		store_out(p, (size_t)col * p.ldy + row + i, __fmul_rn(v[i], p.scale));
}

/* ---- launches -------------------------------------------------------------- */

template <enum matmul_format F, int MT, int NT>
static int wide_launch(struct matmul_params p, const struct wide_layout *l, cudaStream_t stream)
{
	void (*kernel)(struct matmul_params) = p.partial ? split_kernel<F, MT, NT> :
							   wide_kernel<F, MT, NT, true>;
	const size_t shared = wide_shared<MT, NT>(l->m_warps, l->k_warps);
	const uint32_t tiles = l->m_warps * MT;
	const dim3 grid((p.n_cols + 8 * NT - 1) / (8 * NT), (p.n_tiles + tiles - 1) / tiles, l->parts);

	p.m_warps = l->m_warps;
	p.k_warps = l->k_warps;
	if (l->m_warps * l->k_warps > wide_warps<F, MT> || shared > SHARED_MAX || grid.y > 65535)
		return -EINVAL;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) !=
	    cudaSuccess)
		return -ENODEV;
	kernel<<<grid, l->m_warps * l->k_warps * WARP, shared, stream>>>(p);
	if (p.partial) {
		const dim3 merge((p.n_tiles * MATMUL_TILE + 1023) / 1024, p.n_cols);

		merge_kernel<<<merge, 256, 0, stream>>>(p);
	}
	return cuda_code(cudaGetLastError());
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
	/* Turns: with fewer slices than groups some groups would have none to take. */
	if (l->m_warps < 1 || l->k_warps < 1 || l->m_warps * l->k_warps > WIDE_WARPS || !l->parts ||
	    l->parts * l->k_warps > p->n_slices || (l->parts > 1 && !p->partial))
		return -EINVAL;
	switch (f) {
	case MATMUL_BF16: return wide_launch_format<MATMUL_BF16>(p, l, stream);
	case MATMUL_FP8: return wide_launch_format<MATMUL_FP8>(p, l, stream);
	case MATMUL_NVFP4: return wide_launch_format<MATMUL_NVFP4>(p, l, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

/* Rows so that the blocks are about as many as the multiprocessors, K for the rest of the warps. */
static struct wide_layout wide_choose(const struct matmul_params *p, enum matmul_format f, int sms)
{
	uint32_t each = (p->n_tiles + sms - 1) / sms;
	struct wide_layout l = { 1, p->n_cols > 32 ? 8 : 4, 0, 1, 1 };

	l.m_warps = (int)(each < 4 ? 4 : each > 6 ? 6 : each);
	if (f == MATMUL_FP8)
		l.m_warps = 4;
	l.k_warps = p->n_slices > 1 ? 2 : 1;
	return l;
}

int matmul_launch_wide(const struct decode_matmul_args *a, bool split, cudaStream_t stream)
{
	struct matmul_params p = matmul_params_of(a);
	const int sms = device_sms();
	struct wide_layout l;

	if (!sms)
		return -ENODEV;
	l = wide_choose(&p, a->format, sms);
	/* AUTO asks for a split wherever there is room for it; it pays where blocks are few. */
	if (split && (a->form == MATMUL_SPLIT || p.n_tiles * 2 < (uint32_t)(sms * l.m_warps))) {
		uint32_t groups = (p.n_tiles + l.m_warps - 1) / l.m_warps;

		if (!a->workspace || (uintptr_t)a->workspace % 16)
			return -EINVAL;
		l.parts = max(1u, min(p.n_slices / l.k_warps, (uint32_t)sms / groups));
		p.partial = (float *)a->workspace;
	}
	return matmul_launch_wide_as(&p, a->format, &l, stream);
}

size_t decode_matmul_workspace(uint32_t n_rows, uint32_t n, uint32_t k)
{
	size_t rows = (size_t)(n + MATMUL_TILE - 1) / MATMUL_TILE * MATMUL_TILE;

	return (k + MATMUL_SLICE - 1) / MATMUL_SLICE * rows * n_rows * sizeof(float);
}
