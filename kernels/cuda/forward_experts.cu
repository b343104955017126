/* forward_experts.cu - a layer of experts: who goes where, their products, the shared one's. */
#include <algorithm>

#include "kernels/cuda/forward_int.h"
#include "kernels/cuda/route.h"

static constexpr uint32_t SHARED_BESIDE_ROWS = 8;


uint32_t slots_of(const struct cuda_device *d)
{
	return d->m.n_experts_used + (d->m.shared_inter ? 1 : 0);
}

struct strided shared_act(const struct cuda_device *d)
{
	const struct workspace *s = &d->ws;
	const uint32_t inter = d->m.expert_inter;

	if (!d->w.shared_beside)
		return { (char *)s->shared_act, d->m.shared_inter };
	return { (char *)s->act + (size_t)d->m.n_experts_used * inter * 2, slots_of(d) * inter };
}

static __global__ void active_kernel(uint64_t *sum, const uint32_t *n, uint32_t shared)
{
	*sum += *n - shared;
}

/* Whether the shared expert's gate and up are a product of their own behind the choice of experts, which
 * needs neither that nor the router: it runs beside both.  Where a mixer's end makes h, that is too late: they are a
 * part of it. */
static bool shared_behind(const struct cuda_device *d, uint32_t rows, const struct layer_weights *w)
{
	return w->shared_in.n && rows > ROUTE_FEW_ROWS && !expert_ends_mixers(d, rows);
}

static struct decode_matmul_args shared_in_args(const struct cuda_device *d, uint32_t rows,
						const struct layer_weights *w)
{
	const struct strided act = shared_act(d);

	return product_args(rows, w->shared_in,
			    { d->ws.h, act.at, d->m.hidden, d->m.hidden, act.ld, MATMUL_OUT_SWIGLU });
}

/* The router; with `one`, what stands behind its rows: the shared expert's gate and up. */
static struct decode_matmul_args router_args(const struct cuda_device *d, uint32_t rows, const struct layer_weights *w,
					     bool one)
{
	const struct workspace *s = &d->ws;
	const uint32_t hidden = d->m.hidden;
	const struct strided act = shared_act(d);

	return product_args(rows, w->router, { s->h, s->router, hidden, hidden, w->router.n, MATMUL_OUT_F32,
					       one ? w->shared_in.n : 0, act.ld, act.at });
}

/* The router, and of few rows the shared expert's gate and up: one product if they have one format, or
 * one launch. */
static int multiply_router(struct cuda_device *d, uint32_t rows, const struct layer_weights *w)
{
	const bool alone = !w->shared_in.n || shared_behind(d, rows, w), one = !alone && shared_in_follows(w);
	const struct decode_matmul_args router = router_args(d, rows, w, one);

	if (alone || one)
		return decode_matmul(&router, d->stream);
	const struct decode_matmul_args shared = shared_in_args(d, rows, w);

	return decode_matmul_pair(&router, &shared, d->stream);
}

/* Whether the products with experts choose for themselves: a launch less, and a choice in every block.
 * The ring form of quantised experts has more blocks and less to hide them behind: fewer rows (measured,
 * docs/kernel-experiments.md). */
static bool experts_choose(const struct cuda_device *d, uint32_t rows,
			   const struct layer_weights *w)
{
	const enum matmul_format f = w->expert_gate_up.format;
	const uint32_t most = f == MATMUL_BF16 ? ROUTE_FEW_ROWS : f == MATMUL_NVFP4 ? 6 : 2;

	return rows <= most && d->m.n_experts <= ROUTE_FEW_EXPERTS && d->m.hidden <= MATMUL_CHOOSE_MAX_K &&
	       d->m.expert_inter <= MATMUL_CHOOSE_MAX_K;
}

/* Who goes where. */
static struct route_args choice_of(const struct cuda_device *d, uint32_t rows,
				   const struct layer_weights *w, bool list_shared)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	struct route_args c = {};

	c.logits = s->router;
	c.rows = rows;
	c.experts = m->n_experts;
	c.stride = w->router.n;
	c.top = m->n_experts_used;
	c.shared = m->shared_inter != 0;
	c.list_shared = list_shared;
	c.early = shared_behind(d, rows, w);
	c.ids = s->choice;
	c.weights = s->choice_weight;
	c.list = expert_list_at(s->list, rows, slots_of(d), m->n_experts + 1);
	return c;
}

static int choose(struct cuda_device *d, const struct layer_weights *w, const struct route_args *c)
{
	int rc = expert_ends_mixers(d, c->rows) ? 0 : multiply_router(d, c->rows, w);

	if (!rc && !experts_choose(d, c->rows, w))
		rc = route(c, d->stream);
	if (!rc && shared_behind(d, c->rows, w)) {
		struct decode_matmul_args shared = shared_in_args(d, c->rows, w);

		shared.x_settled = 1;
		rc = decode_matmul(&shared, d->stream);
	}
	pass_mark(d, CLASS_ROUTER);
	return rc;
}

/* Whether the last product adds the slots up: a sum instead of nine outputs to add, and no second choice
 * at its head.  Beyond these rows what several of them chose is read too often (measured,
 * docs/kernel-experiments.md). */
static bool experts_sum(const struct cuda_device *d, uint32_t rows, const struct layer_weights *w)
{
	const uint32_t most = w->expert_down.format == MATMUL_BF16 ? 1 : 2;

	return rows <= most && slots_of(d) <= EXPERTS_SUM_SLOTS;
}

/* The last product, of what the first left in each slot. */
static void down_args(const struct cuda_device *d, const struct layer_weights *w,
		      struct decode_experts_args *a)
{
	a->w = w->expert_down.w;
	a->row_scale = w->expert_down.row_scale;
	a->format = w->expert_down.format;
	a->x = d->ws.act;
	a->y = d->ws.expert_y;
	a->n = d->m.hidden;
	a->k = d->m.expert_inter;
	a->ldx = d->m.expert_inter;
	a->ldy = d->m.hidden;
	a->x_per_slot = 1;
	a->list_settled = 1;
	a->without_last = 0;
	a->out = MATMUL_OUT_F32;
}

/* The shared expert's last product, where it is a matrix of its own. */
static struct decode_matmul_args shared_args(const struct cuda_device *d, uint32_t rows,
					     const struct layer_weights *w)
{
	const struct model_shape *m = &d->m;
	const struct strided act = shared_act(d);

	return product_args(rows, w->down,
			    { act.at, d->ws.expert_y + m->n_experts_used * m->hidden, m->shared_inter,
			      act.ld, slots_of(d) * m->hidden, MATMUL_OUT_F32 });
}

/* The last product, from the first one's arguments.  The shared expert is on the list, or its last product is done
 * beside the others. */
static int multiply_down(struct cuda_device *d, const struct layer_weights *w,
			 const struct route_args *c, struct decode_experts_args a)
{
	const bool beside = d->m.shared_inter && !c->list_shared;
	const struct decode_matmul_args shared = shared_args(d, c->rows, w);

	down_args(d, w, &a);
	if (experts_sum(d, c->rows, w)) {
		const struct experts_sum_args sum = { a, beside ? &shared : NULL, c->ids,
						      c->weights };

		return decode_experts_sum(&sum, d->stream);
	}
	return beside ? decode_experts_beside(&a, &shared, d->stream) : decode_experts(&a, d->stream);
}

/* The first product, of normed rows. */
static struct decode_experts_args up_args(const struct cuda_device *d, const struct layer_weights *w,
					  const struct route_args *c)
{
	const struct model_shape *m = &d->m;
	struct decode_experts_args a = {};

	a.w = w->expert_gate_up.w;
	a.row_scale = w->expert_gate_up.row_scale;
	a.format = w->expert_gate_up.format;
	a.x = d->ws.h;
	a.y = d->ws.act;
	a.list = &c->list;
	a.choice = experts_choose(d, c->rows, w) ? c : NULL;
	a.n_rows = c->rows;
	a.n_slots = slots_of(d);
	a.n_experts = m->n_experts + (c->list_shared ? 1 : 0);
	a.n = 2 * m->expert_inter;
	a.k = m->hidden;
	a.ldx = m->hidden;
	a.ldy = m->expert_inter;
	a.out = MATMUL_OUT_SWIGLU;
	a.without_last = c->list_shared;
	return a;
}

/* The experts of one row in one kernel, and what is borrowed by its arguments. */
struct row_plan {
	struct experts_row_args args;
	struct decode_matmul_args shared;	/* its last matrix */
	struct experts_row_next next;
	bool fits;
};

/* Words of the rooms through which the kernel's blocks give each other act, and the residual row. */
static uint32_t row_act_words(const struct cuda_device *d)
{
	return d->m.n_experts_used * d->m.expert_inter / 2;
}

uint32_t expert_room_words(const struct cuda_device *d)
{
	return d->m.n_experts ? (row_act_words(d) + d->m.hidden / 2 + 3) / 4 * 4 : 0;
}

/* With the first products of the layer that follows, where they fit; the last layer's norm is followed by the head. */
static void row_plan_next(const struct cuda_device *d, uint32_t layer, struct row_plan *p)
{
	struct decode_matmul_args in[STACK_MAX];
	const uint32_t n = layer + 1 < d->m.n_layers ? mixer_in_args(d, 1, layer + 1, in) : 0;

	if (!n || n > EXPERTS_ROW_PRODUCTS)
		return;
	std::copy(in, in + n, p->next.product);
	p->next.n_products = n;
	p->next.x = d->ws.x;
	p->next.norm = d->w.layer[layer + 1].input_norm;
	p->next.eps = d->m.norm_eps;
	p->next.room = d->ws.row_room + row_act_words(d);
	p->args.next = &p->next;
	if (!experts_row_fits(&p->args))
		p->args.next = NULL;
}

static void row_plan_of(const struct cuda_device *d, uint32_t layer, const struct route_args *c, struct row_plan *p)
{
	const struct layer_weights *w = &d->w.layer[layer];

	*p = {};
	p->args.first = up_args(d, w, c);
	p->args.sum.experts = p->args.first;
	down_args(d, w, &p->args.sum.experts);
	if (d->m.shared_inter && !c->list_shared) {
		p->shared = shared_args(d, c->rows, w);
		p->args.sum.last = &p->shared;
	}
	/* The residual before the router clears it (expert_clear()), in every layer and pass anew: it waited for the
	 * kernels that used it before, and it has ended when this one begins, since the router's product begins between
	 * them (launch.cuh).  x is as old, and so is the residual row.  Where a mixer's end does all of that, it is the
	 * kernel just before. */
	p->args.room = d->ws.row_room;
	p->args.x_settled = !expert_ends_mixers(d, c->rows);
	p->fits = experts_row_fits(&p->args);
	if (p->fits)
		row_plan_next(d, layer, p);
}

static int experts(struct cuda_device *d, const struct layer_weights *w, const struct route_args *c,
		   const struct row_plan *row)
{
	int rc;

	if (row->fits) {
		rc = decode_experts_row(&row->args, d->stream);
	} else {
		rc = decode_experts(&row->args.first, d->stream);
		rc = rc ? rc : multiply_down(d, w, c, row->args.first);
	}
	if (d->profile)
		active_kernel<<<1, 1, 0, d->stream>>>(d->ws.active, c->list.n_active,
						      c->list_shared ? 1 : 0);
	pass_mark(d, CLASS_EXPERTS);
	return rc;
}

/* One of the experts while there are few rows; a matrix of its own when each of its tiles would be work
 * for many.  The same bits. */
static bool lists_shared(const struct cuda_device *d, uint32_t rows)
{
	return rows <= SHARED_BESIDE_ROWS && d->w.shared_beside;
}

static void layer_plan(const struct cuda_device *d, uint32_t rows, uint32_t layer, struct route_args *choice,
		       struct row_plan *row)
{
	*choice = choice_of(d, rows, &d->w.layer[layer], lists_shared(d, rows));
	row_plan_of(d, layer, choice, row);
}

/* ---- the end of a mixer ------------------------------------------------------------------- */

/* Two rooms through which its blocks give each other residual rows, in turns: a layer's end clears the other, that of
 * the layer before; the last layer's is cleared by the residual behind its experts.  So between passes both are all
 * zeros, as they are when the device is opened. */
static uint32_t end_room_each(const struct cuda_device *d)
{
	return END_MAX_ROWS * d->m.hidden / 2;
}

uint32_t mixer_end_room_words(const struct cuda_device *d)
{
	return d->m.n_experts ? 2 * end_room_each(d) : 0;
}

static struct mixer_end_clear end_room(const struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	return { d->ws.end_room + layer % 2 * end_room_each(d), rows * d->m.hidden / 2 };
}

/* What ends a layer's mixer, and what is borrowed by its arguments. */
struct end_plan {
	struct mixer_end_args args;
	struct decode_matmul_args shared;
};

static void end_plan_of(const struct cuda_device *d, uint32_t rows, uint32_t layer, struct end_plan *p)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const bool one = shared_in_follows(w);

	*p = {};
	p->args.out = mixer_out_args(d, rows, layer);
	p->args.x = d->ws.x;
	p->args.h = d->ws.h;
	p->args.norm = w->post_norm;
	p->args.eps = d->m.norm_eps;
	p->args.room = end_room(d, rows, layer).at;
	p->args.router = router_args(d, rows, w, one);
	if (w->shared_in.n && !one) {
		p->shared = shared_in_args(d, rows, w);
		p->args.shared = &p->shared;
	}
	p->args.clear[0] = end_room(d, rows, layer + 1);
	if (rows == 1)	/* whose experts may be one kernel */
		p->args.clear[1] = { d->ws.row_room, expert_room_words(d) };
}

/* Before experts in BF16, whose kernels begin beside the router's, nothing is won (measured,
 * docs/kernel-experiments.md). */
static bool ends_mixers(const struct cuda_device *d, uint32_t rows)
{
	bool all = d->m.n_experts;

	for (uint32_t l = 0; all && l < d->m.n_layers; l++) {
		struct end_plan p;

		end_plan_of(d, rows, l, &p);
		all = d->w.layer[l].expert_gate_up.format != MATMUL_BF16 && mixer_end_fits(&p.args);
	}
	return all;
}

void expert_plan_load(struct cuda_device *d)
{
	for (uint32_t rows = 1; rows <= END_MAX_ROWS; rows++)
		d->ends_mixers[rows] = ends_mixers(d, rows);
}

bool expert_ends_mixers(const struct cuda_device *d, uint32_t rows)
{
	return rows <= END_MAX_ROWS && d->ends_mixers[rows];
}

int expert_mixer_end(struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	struct end_plan p;

	end_plan_of(d, rows, layer, &p);
	return decode_mixer_end(&p.args, d->stream);
}

/* ---- a layer -------------------------------------------------------------------------------- */

void expert_clear(const struct cuda_device *d, uint32_t rows, uint32_t layer,
		  struct residual_add_args *ret)
{
	struct route_args c;
	struct row_plan row;

	layer_plan(d, rows, layer, &c, &row);
	ret->clear = d->ws.row_room;
	ret->n_clear = row.fits ? expert_room_words(d) : 0;
}

bool expert_began(const struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	struct route_args c;
	struct row_plan row;

	if (!layer || !d->m.n_experts)
		return false;
	layer_plan(d, rows, layer - 1, &c, &row);
	return row.args.next;
}

int expert_layer(struct cuda_device *d, uint32_t rows, uint32_t layer, const void *next_norm)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	struct residual_add_args a = {};
	struct route_args c;
	struct row_plan row;

	layer_plan(d, rows, layer, &c, &row);

	int rc = choose(d, w, &c);

	rc = rc ? rc : experts(d, w, &c, &row);
	if (row.args.next)
		return rc;
	a.y = s->expert_y;
	if (experts_sum(d, rows, w)) {
		a.slots = 1;
	} else {
		a.weight = s->choice_weight;
		a.slots = slots_of(d);
	}
	a.ordered = mixer_orders(d, rows, layer + 1);
	if (expert_ends_mixers(d, rows) && layer + 1 == d->m.n_layers) {
		a.clear = end_room(d, rows, layer).at;
		a.n_clear = end_room(d, rows, layer).n;
	}
	return rc ? rc : pass_add(d, rows, next_norm, a);
}
