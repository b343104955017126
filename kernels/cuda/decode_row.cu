/* decode_row.cu - launches of the experts of one row. */
#include "kernels/cuda/decode_row.cuh"

#define ROW_SHARED_MAX (227u * 1024)	/* of a block, on Hopper */

static struct row_matrix matrix_of(const struct matmul_params &p, enum matmul_format f)
{
	return { p.w, p.row_scale, p.n_tiles, p.n_slices,
		 (uint32_t)(p.n_slices * matmul_unit_bytes(f)) };
}

/* The first product, with its choice: what the kernel does, and no less than decode_experts() asks for. */
static bool first_ok(const struct decode_experts_args *up)
{
	const struct route_args *c = up->choice;

	return c && matmul_experts_ok(up, 1) && matmul_list_ok(up) && c->top <= ROW_TOP &&
	       up->format != MATMUL_BF16 && up->out == MATMUL_OUT_SWIGLU && !up->list_settled &&
	       (!c->list_shared || up->without_last);
}

/* And the second, with the shared expert's: one of the experts, or a matrix of its own. */
static bool sum_ok(const struct experts_sum_args *s, const struct decode_experts_args *up)
{
	const struct decode_experts_args *down = &s->experts;
	const struct route_args *c = up->choice;

	return matmul_experts_ok(down, 1) && down->format == up->format && up->n == 2 * down->k &&
	       down->out == MATMUL_OUT_F32 && down->n_slots == up->n_slots &&
	       down->n_experts >= route_listed(*c) &&
	       (s->last     ? c->shared && matmul_last_ok(s->last, down) :
		!c->shared ||
			down->n_experts > c->experts);
}

/* What the arguments say, as far as the kernel can do it. */
static bool row_params_of(const struct experts_row_args *a, struct row_params *ret)
{
	const struct decode_experts_args *up = &a->first, *down = &a->sum.experts;
	const struct decode_matmul_args *last = a->sum.last;
	const struct route_args *c = up->choice;
	struct row_params p = {};

	if (device_major() != 9 || !aligned16(a->room) || !first_ok(up) || !sum_ok(&a->sum, up))
		return false;
	p.up = matrix_of(matmul_params_of_experts(up, NULL), up->format);
	p.down = matrix_of(matmul_params_of_experts(down, NULL), down->format);
	p.x = (const __nv_bfloat16 *)up->x;
	p.k = up->k;
	p.inter = p.last_k = down->k;
	p.n = down->n;
	p.y = (float *)down->y;
	p.room = a->room;
	p.choice = *c;
	p.x_settled = a->x_settled;
	if (last) {
		p.last = matrix_of(matmul_params_of(last), last->format);
		p.last_x = (const __nv_bfloat16 *)last->x;
		p.last_k = last->k;
	} else if (c->shared) {
		p.last = p.down;
		p.last.w += (size_t)c->experts * p.down.n_tiles * p.down.tile_bytes;
		if (p.last.scale)
			p.last.scale += (size_t)c->experts * p.down.n_tiles * MATMUL_TILE;
		p.last_x = (const __nv_bfloat16 *)down->x + (size_t)c->top * down->ldx;
	}
	p.each = (c->top * p.up.n_tiles + p.down.n_tiles - 1) / p.down.n_tiles;
	*ret = p;
	return p.up.n_slices <= ROW_SLICES && p.each <= ROW_TILES &&
	       p.down.n_tiles <= (uint32_t)device_sms() && row_layout_of(p).end <= ROW_SHARED_MAX;
}

int experts_row_fits(const struct experts_row_args *a)
{
	struct row_params p;

	return row_params_of(a, &p);
}

template <enum matmul_format F>
static void (*kernel_of(enum matmul_format last))(struct row_params)
{
	switch (last) {
	case MATMUL_BF16: return row_kernel<F, MATMUL_BF16>;
	case MATMUL_FP8: return row_kernel<F, MATMUL_FP8>;
	case MATMUL_NVFP4: return row_kernel<F, MATMUL_NVFP4>;
	case MATMUL_N_FORMATS: break;
	}
	return NULL;
}

int decode_experts_row(const struct experts_row_args *a, void *stream)
{
	const enum matmul_format f = a->first.format, last = a->sum.last ? a->sum.last->format : f;
	struct row_params p;

	if (!row_params_of(a, &p))
		return -EINVAL;

	void (*kernel)(struct row_params) = f == MATMUL_FP8 ? kernel_of<MATMUL_FP8>(last) :
							      kernel_of<MATMUL_NVFP4>(last);
	const uint32_t shared = row_layout_of(p).end;

	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) !=
	    cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(p.down.n_tiles), ROW_THREADS, shared, 1, (cudaStream_t)stream, p);
}
