/* decode_end.cu - launches of the end of a mixer. */
#include "kernels/cuda/decode_end.cuh"

#define END_SHARED_MAX (227u * 1024)	/* of a block, on Hopper */

/* A product of h, of as many rows as the first one. */
static bool next_ok(const struct decode_matmul_args *a, const struct mixer_end_args *e)
{
	return matmul_args_ok(a, END_MAX_ROWS) && a->x == e->h && a->n_rows == e->out.n_rows && a->k == e->out.n &&
	       a->ldx == e->out.n && !a->x_ordered;
}

static bool args_ok(const struct mixer_end_args *a)
{
	const struct decode_matmul_args *out = &a->out, *router = &a->router, *shared = a->shared;

	for (const struct mixer_end_clear &c : a->clear)
		if (c.n % 4 || (c.n && !aligned16(c.at)))
			return false;
	return matmul_args_ok(out, END_MAX_ROWS) && out->out == MATMUL_OUT_F32 && !out->n_swiglu && !out->x_ordered &&
	       out->n % 8 == 0 && out->n <= END_WARPS * MATMUL_SLICE && out->k <= END_OUT_SLICES * END_WARPS * MATMUL_SLICE &&
	       aligned16(a->x) && aligned16(a->h) && aligned16(a->norm) && aligned16(a->room) && next_ok(router, a) &&
	       router->format == MATMUL_BF16 && router->out == MATMUL_OUT_F32 &&
	       (!shared || (next_ok(shared, a) && shared->out == MATMUL_OUT_SWIGLU));
}

static uint32_t rows_of(const struct end_params &p)
{
	return p.rows == 1 ? 1 : END_MAX_ROWS;
}

/* Where in shared memory what lies is; answers with all that a block takes.  A tile of the products behind the norm has
 * room for the router's, whose units are the largest.  The rows of h have a place of their own, or that of the first
 * product's tile, which has been multiplied then; one row's x needs a place before. */
static uint32_t lay_out(struct end_params *p)
{
	const uint32_t rows = rows_of(*p), slices = p->out.n_slices > p->router.n_slices ? p->out.n_slices : p->router.n_slices;
	const uint32_t x_bytes = END_WARPS * rows * 16 * (rows > 1 ? end_x_row<END_MAX_ROWS> : end_x_row<1>);
	const uint32_t sums = slices * rows * END_COL * 4;
	uint32_t end;

	p->tile_at = (end_sums_at() + sums + 127) / 128 * 128;
	p->next_at = p->tile_at + (p->out.tile_bytes + 127) / 128 * 128;
	end = p->x_at = p->next_at + p->router.n_slices * MATMUL_BF16_UNIT;
	if (end + x_bytes <= END_SHARED_MAX)
		return end + x_bytes;
	p->x_at = p->tile_at;
	return rows > 1 && x_bytes <= p->out.tile_bytes ? end : UINT32_MAX;
}

/* What the arguments say, as far as the kernel can do it; answers with a block's shared memory, or 0. */
static uint32_t params_of(const struct mixer_end_args *a, struct end_params *ret)
{
	struct end_params p = {};

	if (device_major() != 9 || !args_ok(a))
		return 0;
	p.out = row_matrix_of(matmul_params_of(&a->out), a->out.format);
	p.router = matmul_params_of(&a->router);
	if (a->shared)
		p.shared = matmul_params_of(a->shared);
	p.in = (const __nv_bfloat16 *)a->out.x;
	p.x = (__nv_bfloat16 *)a->x;
	p.h = (__nv_bfloat16 *)a->h;
	p.norm = (const __nv_bfloat16 *)a->norm;
	p.room = a->room;
	p.clear[0] = a->clear[0];
	p.clear[1] = a->clear[1];
	p.rows = a->out.n_rows;
	p.n = a->out.n;
	p.k = a->out.k;
	p.ldx = a->out.ldx;
	p.eps = a->eps;

	const uint32_t sms = (uint32_t)device_sms(), shared = lay_out(&p);

	if (p.out.n_tiles > sms || p.router.n_tiles + p.shared.n_tiles > sms || shared > END_SHARED_MAX)
		return 0;
	*ret = p;
	return shared;
}

int mixer_end_fits(const struct mixer_end_args *a)
{
	struct end_params p;

	return params_of(a, &p) != 0;
}

typedef void (*end_kernel_type)(struct end_params);

template <enum matmul_format OUT, enum matmul_format SHARED>
static end_kernel_type kernel_of(uint32_t rows)
{
	return rows == 1 ? end_kernel<OUT, SHARED, 1> : end_kernel<OUT, SHARED, END_MAX_ROWS>;
}

template <enum matmul_format OUT>
static end_kernel_type kernel_of(enum matmul_format shared, uint32_t rows)
{
	return shared == MATMUL_BF16 ? kernel_of<OUT, MATMUL_BF16>(rows) :
	       shared == MATMUL_FP8  ? kernel_of<OUT, MATMUL_FP8>(rows) :
				       kernel_of<OUT, MATMUL_NVFP4>(rows);
}

int decode_mixer_end(const struct mixer_end_args *a, void *stream)
{
	const enum matmul_format out = a->out.format, next = a->shared ? a->shared->format : MATMUL_BF16;
	struct end_params p;
	const uint32_t shared = params_of(a, &p);

	if (!shared)
		return -EINVAL;

	const uint32_t rows = rows_of(p);
	const end_kernel_type kernel = out == MATMUL_BF16 ? kernel_of<MATMUL_BF16>(next, rows) :
				       out == MATMUL_FP8  ? kernel_of<MATMUL_FP8>(next, rows) :
							    kernel_of<MATMUL_NVFP4>(next, rows);

	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) != cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3((uint32_t)device_sms()), END_THREADS, shared, 1, (cudaStream_t)stream, p);
}
