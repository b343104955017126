/* decode_row.cu - launches of the experts of one row. */
#include "kernels/cuda/decode_row.cuh"

#define ROW_SHARED_MAX (227u * 1024)	/* of a block, on Hopper */

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

static bool product_ok(const struct decode_matmul_args *a, uint32_t k)
{
	return matmul_args_ok(a, 1) && a->k == k && a->out == MATMUL_OUT_BF16 && !a->n_swiglu && !a->x_ordered;
}

static struct row_product product_of(const struct decode_matmul_args *a, uint32_t blocks)
{
	struct row_product p = {};

	p.m = row_matrix_of(matmul_params_of(a), a->format);
	p.y = (__nv_bfloat16 *)a->y;
	p.n = a->n;
	p.each = (p.m.n_tiles + blocks - 1) / blocks;
	/* As many slices as a place has room for. */
	p.stage_shift = a->format == MATMUL_BF16 ? 1 : 2;
	p.stages = (p.m.n_slices + (1u << p.stage_shift) - 1) >> p.stage_shift;
	p.stage_bytes = (uint32_t)matmul_unit_bytes(a->format) << p.stage_shift;
	return p;
}

/* Places of stages, from `begin` to `end`. */
static uint32_t places_in(struct row_next *n, uint32_t begin, uint32_t end)
{
	const uint32_t before = n->n_places;

	for (; n->n_places < ROW_PLACES && begin + ROW_PLACE <= end; begin += ROW_PLACE)
		n->place[n->n_places++] = begin;
	return n->n_places - before;
}

/* Stages have places: every one its own, or as many readers as the one before it had. */
static bool stages_fit(const struct row_product &p, uint32_t places)
{
	const bool whole = p.stages == 1 || p.m.n_slices % (1u << p.stage_shift) == 0;

	return p.each <= ROW_TILES && places >= ROW_GROUPS * p.stages && (whole || p.each * p.stages <= places);
}

/* What follows, beside experts whose parameters are all there but p->next. */
static bool next_of(const struct experts_row_next *a, struct row_params *p)
{
	const struct row_layout l = row_layout_of(*p);
	const uint32_t sms = (uint32_t)device_sms(), experts = p->down.n_tiles;
	struct row_next n = {};

	if (!a->n_products || a->n_products > EXPERTS_ROW_PRODUCTS || p->n % 8 || p->n > ROW_SLICES * MATMUL_SLICE || !aligned16(a->x) ||
	    !aligned16(a->norm) || !aligned16(a->room) || !product_ok(&a->product[0], p->n) ||
	    a->product[0].format == MATMUL_NVFP4)
		return false;
	n.first = product_of(&a->product[0], a->n_products == 1 ? sms : experts);
	if (a->n_products == 2) {
		if (!product_ok(&a->product[1], p->n) || a->product[1].format != MATMUL_BF16 || experts >= sms)
			return false;
		n.beside = product_of(&a->product[1], sms - experts);
	}
	n.x = (__nv_bfloat16 *)a->x;
	n.norm = (const __nv_bfloat16 *)a->norm;
	n.room = a->room;
	n.eps = a->eps;
	n.n_free = places_in(&n, l.end, ROW_SHARED_MAX);
	n.n_up = places_in(&n, l.up, l.end);
	places_in(&n, l.down, l.up);
	p->next = n;
	return n.n_places > ROW_AHEAD && stages_fit(n.first, n.n_places) && stages_fit(n.beside, n.n_places);
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
	p.up = row_matrix_of(matmul_params_of_experts(up, NULL), up->format);
	p.down = row_matrix_of(matmul_params_of_experts(down, NULL), down->format);
	p.x = (const __nv_bfloat16 *)up->x;
	p.k = up->k;
	p.inter = p.last_k = down->k;
	p.n = down->n;
	p.y = (float *)down->y;
	p.room = a->room;
	p.choice = *c;
	p.x_settled = a->x_settled;
	if (last) {
		p.last = row_matrix_of(matmul_params_of(last), last->format);
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
	const bool fits = p.up.n_slices <= ROW_SLICES && p.each <= ROW_TILES &&
			  p.down.n_tiles <= (uint32_t)device_sms() && row_layout_of(p).end <= ROW_SHARED_MAX &&
			  (!a->next || next_of(a->next, &p));

	*ret = p;
	return fits;
}

int experts_row_fits(const struct experts_row_args *a)
{
	struct row_params p;

	return row_params_of(a, &p);
}

typedef void (*row_kernel_type)(struct row_params);

template <enum matmul_format F, enum matmul_format LAST>
static row_kernel_type kernel_of(const struct experts_row_next *next)
{
	if (!next)
		return row_kernel<F, LAST, MATMUL_N_FORMATS>;
	return next->product[0].format == MATMUL_FP8 ? row_kernel<F, LAST, MATMUL_FP8> :
						       row_kernel<F, LAST, MATMUL_BF16>;
}

template <enum matmul_format F>
static row_kernel_type kernel_of(enum matmul_format last, const struct experts_row_next *next)
{
	switch (last) {
	case MATMUL_BF16: return kernel_of<F, MATMUL_BF16>(next);
	case MATMUL_FP8: return kernel_of<F, MATMUL_FP8>(next);
	case MATMUL_NVFP4: return kernel_of<F, MATMUL_NVFP4>(next);
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

	const row_kernel_type kernel = f == MATMUL_FP8 ? kernel_of<MATMUL_FP8>(last, a->next) :
							 kernel_of<MATMUL_NVFP4>(last, a->next);
	const uint32_t shared = a->next ? ROW_SHARED_MAX : row_layout_of(p).end;
	const uint32_t blocks = a->next ? (uint32_t)device_sms() : p.down.n_tiles;

	if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) !=
	    cudaSuccess)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), ROW_THREADS, shared, 1, (cudaStream_t)stream, p);
}
