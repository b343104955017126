/* decode_args.cu - what the decode products are asked for: checked, and as their kernels take it. */
#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/route_choice.cuh"

static bool shape_ok(uint32_t n, uint32_t k, uint32_t ldx, uint32_t ldy, enum matmul_out out)
{
	const bool pairs = out == MATMUL_OUT_SWIGLU;

	if ((unsigned)out > MATMUL_OUT_SWIGLU || (pairs && n % MATMUL_TILE))
		return false;
	return n && n <= UINT32_MAX - MATMUL_TILE && k && k % 8 == 0 && k <= MATMUL_MAX_K &&
	       ldx >= k && ldx % 8 == 0 && ldy >= (pairs ? n / 2 : n);
}

bool matmul_args_ok(const struct decode_matmul_args *a, uint32_t max_rows)
{
	return aligned16(a->w) && aligned16(a->x) && a->y && a->n_rows && a->n_rows <= max_rows &&
	       shape_ok(a->n, a->k, a->ldx, a->ldy, a->out) &&
	       (unsigned)a->format < MATMUL_N_FORMATS &&
	       (!a->row_scale || (a->format != MATMUL_BF16 && aligned16(a->row_scale))) &&
	       (!a->n_swiglu ||
		(a->out != MATMUL_OUT_SWIGLU && a->y_swiglu && a->n_swiglu % MATMUL_TILE == 0 &&
		 a->n_swiglu <= UINT32_MAX / 2 - a->n && a->ldy_swiglu >= a->n_swiglu / 2));
}

/* Rows of W and where they go; plain ones first. */
static void outputs(struct matmul_params *p, enum matmul_out out, void *y, uint32_t n, uint32_t ldy)
{
	const uint32_t tiles = (n + MATMUL_TILE - 1) / MATMUL_TILE;

	if (out == MATMUL_OUT_SWIGLU) {
		p->n_swiglu = n;
		p->y_swiglu = y;
		p->ldy_swiglu = ldy;
	} else {
		p->n = n;
		p->y = y;
		p->ldy = ldy;
		p->n_plain = tiles;
		p->out = out;
	}
	p->n_tiles += tiles;
}

struct matmul_params matmul_params_of(const struct decode_matmul_args *a)
{
	struct matmul_params p = {};

	p.w = (const char *)a->w;
	p.x = (const __nv_bfloat16 *)a->x;
	p.row_scale = a->row_scale;
	p.k = a->k;
	p.ldx = a->ldx;
	p.n_cols = a->n_rows;
	p.n_slices = (a->k + MATMUL_SLICE - 1) / MATMUL_SLICE;
	p.k_blocks = 1;
	p.x_settled = a->x_settled;
	p.x_ordered = a->x_ordered;
	outputs(&p, a->out, a->y, a->n, a->ldy);
	if (a->n_swiglu)
		outputs(&p, MATMUL_OUT_SWIGLU, a->y_swiglu, a->n_swiglu, a->ldy_swiglu);
	return p;
}

/* ---- experts ----------------------------------------------------------------- */

bool matmul_experts_ok(const struct decode_experts_args *a, uint32_t max_rows)
{
	return aligned16(a->w) && aligned16(a->x) && a->y && a->n_rows && a->n_rows <= max_rows &&
	       a->n_slots && a->n_slots <= 16 && a->n_experts &&
	       a->n_experts <= MATMUL_MAX_EXPERTS && a->n <= MATMUL_MAX_EXPERT_ROWS &&
	       (unsigned)a->format < MATMUL_N_FORMATS &&
	       (a->format != MATMUL_BF16 || !a->row_scale) &&
	       shape_ok(a->n, a->k, a->ldx, a->ldy, a->out);
}

bool matmul_list_ok(const struct decode_experts_args *a)
{
	const struct route_args *c = a->choice;

	if (!c)
		return a->list;
	return route_args_ok(*c, ROUTE_FEW_ROWS) && c->experts <= ROUTE_FEW_EXPERTS && c->rows == a->n_rows &&
	       route_slots(*c) == a->n_slots && route_listed(*c) == a->n_experts &&
	       a->k <= MATMUL_CHOOSE_MAX_K;
}

struct matmul_params matmul_params_of_experts(const struct decode_experts_args *a,
					      const struct expert_list *list)
{
	struct matmul_params p = {};

	p.w = (const char *)a->w;
	p.x = (const __nv_bfloat16 *)a->x;
	p.row_scale = a->row_scale;
	p.k = a->k;
	p.ldx = a->ldx;
	p.n_slices = (a->k + MATMUL_SLICE - 1) / MATMUL_SLICE;
	outputs(&p, a->out, a->y, a->n, a->ldy);
	if (list) {
		p.list = *list;
		p.list_bytes = (uint32_t)((char *)(list->pair + a->n_rows * a->n_slots) -
					  (char *)list->n_active);
	}
	p.n_slots = a->n_slots;
	p.x_per_slot = a->x_per_slot;
	p.list_settled = a->list_settled;
	p.without_last = a->without_last;
	return p;
}

bool matmul_last_ok(const struct decode_matmul_args *last, const struct decode_experts_args *e)
{
	return matmul_args_ok(last, MATMUL_MAX_ROWS) && last->n == e->n && last->n_rows == e->n_rows &&
	       last->out == MATMUL_OUT_F32 && !last->n_swiglu && !last->x_ordered;
}
