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

template <enum matmul_format F, int MT, int NT, bool SPLIT>
static int wide_launch(const struct matmul_params *p, const struct wide_layout *l,
		       cudaStream_t stream)
{
	void (*kernel)(struct matmul_params) = SPLIT ? split_kernel<F, MT, NT> :
						       wide_kernel<F, MT, NT, true>;
	const int shared = STAGES * stage_uint4<NT> * 16;
	const uint32_t rows = l->warps * MT;
	const dim3 grid((p->n_cols + 8 * NT - 1) / (8 * NT), (p->n_tiles + rows - 1) / rows, l->parts);

	if (shared > SHARED_MAX || grid.y > 65535)
		return -EINVAL;
	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared) !=
	    cudaSuccess)
		return -ENODEV;
	kernel<<<grid, l->warps * WARP, shared, stream>>>(*p);
	if (SPLIT) {
		const dim3 merge((p->n_tiles * MATMUL_TILE + 1023) / 1024, p->n_cols);

		merge_kernel<<<merge, 256, 0, stream>>>(*p);
	}
	return cuda_code(cudaGetLastError());
}

template <enum matmul_format F>
static int wide_launch_format(const struct matmul_params *p, const struct wide_layout *l,
			      cudaStream_t stream)
{
	const bool split = p->partial;

	if (l->tiles == 1 && l->col_tiles == 4)
		return split ? wide_launch<F, 1, 4, true>(p, l, stream) :
			       wide_launch<F, 1, 4, false>(p, l, stream);
	if (l->tiles == 1 && l->col_tiles == 8)
		return split ? wide_launch<F, 1, 8, true>(p, l, stream) :
			       wide_launch<F, 1, 8, false>(p, l, stream);
	if constexpr (F == MATMUL_NVFP4)
		if (l->tiles == 2 && l->col_tiles == 8)
			return split ? wide_launch<F, 2, 8, true>(p, l, stream) :
				       wide_launch<F, 2, 8, false>(p, l, stream);
	return -EINVAL;
}

int matmul_launch_wide_as(const struct matmul_params *p, enum matmul_format f,
			  const struct wide_layout *l, cudaStream_t stream)
{
	if (l->warps < 1 || l->warps > WIDE_WARPS || !l->parts || l->parts > p->n_slices)
		return -EINVAL;
	switch (f) {
	case MATMUL_BF16: return wide_launch_format<MATMUL_BF16>(p, l, stream);
	case MATMUL_FP8: return wide_launch_format<MATMUL_FP8>(p, l, stream);
	case MATMUL_NVFP4: return wide_launch_format<MATMUL_NVFP4>(p, l, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

/* Warps so that the blocks along N are about as many as the multiprocessors. */
static int wide_warps(uint32_t n_tiles, int sms)
{
	uint32_t each = (n_tiles + sms - 1) / sms;

	return (int)(each < 4 ? 4 : each > WIDE_WARPS ? WIDE_WARPS : each);
}

int matmul_launch_wide(const struct decode_matmul_args *a, bool split, cudaStream_t stream)
{
	struct matmul_params p = matmul_params_of(a);
	const int sms = device_sms();
	struct wide_layout l = { 1, a->n_rows > 32 ? 8 : 4, 0, 1 };

	if (!sms)
		return -ENODEV;
	l.warps = wide_warps(p.n_tiles, sms);
	/* AUTO asks for a split wherever there is room for it; it pays where blocks are few. */
	if (split && (a->form == MATMUL_SPLIT || p.n_tiles * 2 < (uint32_t)(sms * l.warps))) {
		uint32_t groups;

		if (!a->workspace || (uintptr_t)a->workspace % 16)
			return -EINVAL;
		l.warps = WIDE_WARPS;
		groups = (p.n_tiles + l.warps - 1) / l.warps;
		l.parts = max(1u, min(p.n_slices, (uint32_t)sms / groups));
		p.partial = (float *)a->workspace;
	}
	return matmul_launch_wide_as(&p, a->format, &l, stream);
}

size_t decode_matmul_workspace(uint32_t n_rows, uint32_t n, uint32_t k)
{
	size_t rows = (size_t)(n + MATMUL_TILE - 1) / MATMUL_TILE * MATMUL_TILE;

	return (k + MATMUL_SLICE - 1) / MATMUL_SLICE * rows * n_rows * sizeof(float);
}
