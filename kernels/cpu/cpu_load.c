/* cpu_load.c - weights into the layout of path.h, and the rooms of a step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dequant.h"
#include "lib/own.h"

void *cpu_alloc(struct cpu_device *d, size_t n, size_t size)
{
	void *p;

	if (d->n_owned == d->cap_owned) {
		size_t cap = d->cap_owned * 2 + 256;
		void **more = realloc(d->owned, cap * sizeof(more[0]));

		if (!more)
			return NULL;
		d->owned = more;
		d->cap_owned = cap;
	}
	p = calloc(n + 16, size);
	if (p)
		d->owned[d->n_owned++] = p;
	return p;
}

/* ---- matrices and vectors --------------------------------------------------------------- */

struct loader {
	struct cpu_device *d;
	const struct weight_source *w;
	device_progress *progress;
	void *ctx;
	struct err *e;
	uint64_t done;
	uint32_t layer;
	int r;			/* the first failure */
};

static bool find(struct loader *l, enum weight_slot slot, uint32_t expert, uint32_t rows,
		 uint32_t cols, struct weight_ref *ret)
{
	if (l->r < 0)
		return false;
	l->r = l->w->find(l->w->ctx, slot, slot < W_PER_LAYER ? 0 : l->layer, expert, ret);
	if (l->r < 0) {
		l->r = err_set(l->e, -EINVAL, "layer %u: no %s", l->layer, weight_slot_name(slot));
	} else if (ret->rows != rows || ret->cols != cols) {
		l->r = err_set(l->e, -EINVAL, "%s: expected [%u, %u], found [%u, %u]", ret->name, rows,
			       cols, ret->rows, ret->cols);
	}
	return l->r == 0;
}

static void done(struct loader *l, const struct weight_ref *w)
{
	l->done += weight_data_bytes(w) + weight_scale_bytes(w);
	if (l->r == 0 && l->progress)
		l->r = l->progress(l->ctx, l->done, l->w->total_bytes);
}

static void *room_for(struct loader *l, size_t n, size_t size)
{
	void *p = l->r == 0 ? cpu_alloc(l->d, n, size) : NULL;

	if (!p && l->r == 0)
		l->r = err_set(l->e, -ENOMEM, "out of memory for the weights");
	return p;
}

/* What is no matrix is never quantised. */
static bool find_plain(struct loader *l, enum weight_slot slot, uint32_t rows, uint32_t cols,
		       struct weight_ref *ret)
{
	if (!find(l, slot, 0, rows, cols, ret))
		return false;
	if (!weight_is_plain(ret->format))
		l->r = err_set(l->e, -ENOTSUP, "%s: %s, and only a matrix may be", ret->name,
			       weight_format_name(ret->format));
	return l->r == 0;
}

/* A vector as float32, `plus` added. */
static float *vector(struct loader *l, enum weight_slot slot, uint32_t n, float plus)
{
	struct weight_ref w;
	float *p;

	if (!find_plain(l, slot, 1, n, &w) || !(p = room_for(l, pad16(n), 4)))
		return NULL;
	for (uint32_t i = 0; i < n; i++)
		p[i] = dequant_element(w.data, w.format, i) + plus;
	done(l, &w);
	return p;
}

/* A row of operands into its lane of its group. */
static void pack_row(const float *row, uint32_t r, struct mat *m)
{
	uint32_t pairs = (m->cols + 1) / 2, *word = m->data;
	float *f = m->data;

	for (uint32_t c = 0; c < m->cols; c++) {
		if (m->f32) {
			f[((size_t)(r / LANES) * m->cols + c) * LANES + r % LANES] = row[c];
		} else {
			uint32_t bits = bf16_bits(row[c]);

			word[((size_t)(r / LANES) * pairs + c / 2) * LANES + r % LANES] |=
				c % 2 ? bits << 16 : bits;
		}
	}
}

static void pack(struct loader *l, const struct weight_ref *w, struct mat *m)
{
	CLEANUP(freep) float *row = malloc((size_t)w->cols * sizeof(*row));

	if (!row) {
		l->r = err_set(l->e, -ENOMEM, "out of memory for the weights");
		return;
	}
	for (uint32_t r = 0; r < w->rows; r++) {
		dequant_operands(w, r, row);
		for (uint32_t c = 0; c < w->cols && !weight_is_plain(w->format); c++)
			if (row[c] != row[c]) {
				l->r = err_set(l->e, -EINVAL, "%s: not a number at [%u, %u]", w->name,
					       r, c);
				return;
			}
		pack_row(row, r, m);
	}
}

/* The factors of a quantised matrix, as path.h wants them. */
static void put_factors(struct loader *l, const struct weight_ref *w, struct mat *m)
{
	bool per_row = dequant_factor_per_row(w);
	uint32_t n = per_row ? LANES : weight_scale_cols(w);	/* of a group */

	if (!per_row && (w->span_rows % LANES || w->span_cols % 2)) {
		l->r = err_set(l->e, -ENOTSUP, "%s: scales for blocks of %u x %u", w->name, w->span_rows,
			       w->span_cols);
		return;
	}
	m->factor = room_for(l, (size_t)m->groups * n, sizeof(float));
	m->block_cols = per_row ? 0 : w->span_cols;
	for (uint32_t i = 0; l->r == 0 && i < m->groups * n; i++) {
		uint32_t row = per_row ? i : i / n * LANES, col = per_row ? 0 : i % n * w->span_cols;

		if (row >= w->rows)
			break;
		m->factor[i] = dequant_factor(w, row, col);
		if (!isfinite(m->factor[i]))
			l->r = err_set(l->e, -EINVAL, "%s: the scale of [%u, %u] is not a finite number",
				       w->name, row, col);
	}
}

static void matrix(struct loader *l, enum weight_slot slot, uint32_t expert, uint32_t rows,
		   uint32_t cols, struct mat *m)
{
	struct weight_ref w;

	if (!find(l, slot, expert, rows, cols, &w))
		return;
	*m = (struct mat){ .rows = rows, .cols = cols, .groups = pad16(rows) / 16,
			   .f32 = !l->d->round };
	m->data = room_for(l, (size_t)m->groups * LANES * (m->f32 ? cols : (cols + 1) / 2), 4);
	if (m->data)
		pack(l, &w, m);
	if (l->r == 0 && !weight_is_plain(w.format))
		put_factors(l, &w, m);
	if (l->r == 0)
		done(l, &w);
}

/* ---- layers -------------------------------------------------------------------------- */

static void load_gdn(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t c = gdn_channels(s), vd = s->gdn_v_heads * s->gdn_head_dim;
	struct weight_ref w;

	matrix(l, W_GDN_QKV, 0, c, s->hidden, &y->qkv);
	matrix(l, W_GDN_Z, 0, vd, s->hidden, &y->z);
	matrix(l, W_GDN_A, 0, s->gdn_v_heads, s->hidden, &y->a);
	matrix(l, W_GDN_B, 0, s->gdn_v_heads, s->hidden, &y->b);
	matrix(l, W_GDN_OUT, 0, s->hidden, vd, &y->out);
	y->a_decay = vector(l, W_GDN_A_LOG, s->gdn_v_heads, 0);
	y->dt_bias = vector(l, W_GDN_DT_BIAS, s->gdn_v_heads, 0);
	y->gdn_norm = vector(l, W_GDN_NORM, s->gdn_head_dim, 0);
	for (uint32_t h = 0; y->a_decay && h < s->gdn_v_heads; h++)
		y->a_decay[h] = (float)-exp((double)y->a_decay[h]);
	if (!find_plain(l, W_GDN_CONV, c, s->gdn_conv_width, &w))
		return;
	y->conv = room_for(l, (size_t)c * s->gdn_conv_width, 4);
	for (uint32_t i = 0; y->conv && i < c; i++)
		for (uint32_t j = 0; j < s->gdn_conv_width; j++)
			y->conv[(size_t)j * c + i] = dequant_element(w.data, w.format, (size_t)i * s->gdn_conv_width + j);
	done(l, &w);
}

static void load_attention(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t qd = s->n_q_heads * s->head_dim, kvd = s->n_kv_heads * s->head_dim;

	matrix(l, W_Q, 0, 2 * qd, s->hidden, &y->q);
	matrix(l, W_K, 0, kvd, s->hidden, &y->k);
	matrix(l, W_V, 0, kvd, s->hidden, &y->v);
	matrix(l, W_O, 0, s->hidden, qd, &y->o);
	y->q_norm = vector(l, W_Q_NORM, s->head_dim, 1);
	y->k_norm = vector(l, W_K_NORM, s->head_dim, 1);
}

static void load_mlp(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t n = s->n_experts;

	y->gate = room_for(l, n + 1, sizeof(struct mat));
	y->up = room_for(l, n + 1, sizeof(struct mat));
	y->down = room_for(l, n + 1, sizeof(struct mat));
	if (l->r < 0)
		return;
	if (n)
		matrix(l, W_ROUTER, 0, n, s->hidden, &y->router);
	for (uint32_t x = 0; x < n; x++) {
		matrix(l, W_EXPERT_GATE, x, s->expert_inter, s->hidden, &y->gate[x]);
		matrix(l, W_EXPERT_UP, x, s->expert_inter, s->hidden, &y->up[x]);
		matrix(l, W_EXPERT_DOWN, x, s->hidden, s->expert_inter, &y->down[x]);
	}
	if (n && s->shared_inter) {
		matrix(l, W_SHARED_GATE, 0, s->shared_inter, s->hidden, &y->gate[n]);
		matrix(l, W_SHARED_UP, 0, s->shared_inter, s->hidden, &y->up[n]);
		matrix(l, W_SHARED_DOWN, 0, s->hidden, s->shared_inter, &y->down[n]);
		matrix(l, W_SHARED_SCORE, 0, 1, s->hidden, &y->score);
	}
	if (!n) {
		matrix(l, W_MLP_GATE, 0, s->dense_inter, s->hidden, &y->gate[0]);
		matrix(l, W_MLP_UP, 0, s->dense_inter, s->hidden, &y->up[0]);
		matrix(l, W_MLP_DOWN, 0, s->hidden, s->dense_inter, &y->down[0]);
	}
}

static void load_embedding(struct loader *l)
{
	struct cpu_device *d = l->d;
	size_t n = (size_t)d->base.shape.vocab_rows * d->base.shape.hidden;
	struct weight_ref w;

	if (!find_plain(l, W_EMBED, d->base.shape.vocab_rows, d->base.shape.hidden, &w))
		return;
	if (d->round)
		d->embed16 = room_for(l, n, 2);
	else
		d->embed = room_for(l, n, 4);
	for (size_t i = 0; l->r == 0 && i < n; i++) {
		float x = dequant_element(w.data, w.format, i);

		if (d->round)
			d->embed16[i] = bf16_bits(x);
		else
			d->embed[i] = x;
	}
	done(l, &w);
}

int cpu_load_weights(struct cpu_device *d, const struct weight_source *w,
		     device_progress *progress, void *ctx, struct err *e)
{
	const struct model_shape *s = &d->base.shape;
	struct loader l = { .d = d, .w = w, .progress = progress, .ctx = ctx, .e = e };
	uint32_t n = s->n_layers + s->n_mtp_layers, gdn = 0, attn = 0;

	load_embedding(&l);
	matrix(&l, W_HEAD, 0, s->vocab_rows, s->hidden, &d->head);
	d->final_norm = vector(&l, W_FINAL_NORM, s->hidden, 1);
	if (s->n_mtp_layers) {
		matrix(&l, W_MTP_FC, 0, s->hidden, 2 * s->hidden, &d->mtp_fc);
		d->mtp_embed_norm = vector(&l, W_MTP_EMBED_NORM, s->hidden, 1);
		d->mtp_hidden_norm = vector(&l, W_MTP_HIDDEN_NORM, s->hidden, 1);
		d->mtp_norm = vector(&l, W_MTP_NORM, s->hidden, 1);
	}
	d->layers = room_for(&l, n, sizeof(d->layers[0]));
	for (uint32_t i = 0; l.r == 0 && i < n; i++) {
		struct layer *y = &d->layers[i];

		l.layer = i;
		y->mixer = i < s->n_layers ? (enum mixer_kind)s->mixer[i] : MIXER_ATTENTION;
		y->place = y->mixer == MIXER_GDN ? gdn++ : attn++;
		y->input_norm = vector(&l, W_INPUT_NORM, s->hidden, 1);
		y->post_norm = vector(&l, W_POST_NORM, s->hidden, 1);
		if (y->mixer == MIXER_GDN)
			load_gdn(&l, y);
		else
			load_attention(&l, y);
		load_mlp(&l, y);
	}
	return l.r;
}

/* ---- rooms --------------------------------------------------------------------------- */

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static size_t work_floats(const struct model_shape *s)
{
	size_t group = s->n_q_heads / s->n_kv_heads;
	size_t attn = 16 * group * (64 + s->head_dim + 2) + 2 * 64 * (size_t)s->head_dim;
	size_t gdn = 64 * (size_t)s->gdn_head_dim * 6 + 3 * 64 * 64;

	return (attn > gdn ? attn : gdn) + 64;
}

static size_t row_floats(const struct model_shape *s, uint32_t width[12])
{
	uint32_t qd = s->n_q_heads * s->head_dim, kvd = s->n_kv_heads * s->head_dim;
	uint32_t vd = s->gdn_v_heads * s->gdn_head_dim, c = gdn_channels(s);
	uint32_t inter = s->n_experts ? s->shared_inter : s->dense_inter;
	const uint32_t w[12] = {
		s->hidden, s->hidden, s->hidden,			/* x xn h */
		larger(larger(c, 2 * qd), 2 * s->hidden),		/* p0 */
		larger(vd, kvd), larger(c, kvd),			/* p1 p2 */
		2 * pad16(s->gdn_v_heads), larger(vd, qd), s->hidden,	/* p3 mix y */
		pad16(s->n_experts), pad16(inter), s->rotary_dim,	/* route sg/su cos+sin */
	};
	size_t sum = 0;

	for (int i = 0; i < 12; i++) {
		width[i] = pad16(w[i]);
		sum += width[i];
	}
	return sum;
}

int cpu_alloc_rooms(struct cpu_device *d)
{
	const struct model_shape *s = &d->base.shape;
	size_t rows = d->base.limits.max_rows, used = s->n_experts_used;
	struct rooms *o = &d->room;
	uint32_t w[12];

	row_floats(s, w);
	size_t kvd = (size_t)s->n_kv_heads * s->head_dim;
	const struct {
		float **at;
		size_t n;
	} f[] = {
		{ &o->x, rows * w[0] }, { &o->xn, rows * w[1] }, { &o->h, rows * w[2] },
		{ &o->p0, rows * w[3] }, { &o->p1, rows * w[4] }, { &o->p2, rows * w[5] },
		{ &o->p3, rows * w[6] }, { &o->mix, rows * w[7] }, { &o->y, rows * w[8] },
		{ &o->route, rows * w[9] }, { &o->sg, rows * w[10] }, { &o->su, rows * w[10] },
		{ &o->cos, rows * w[11] }, { &o->sin, rows * w[11] }, { &o->sy, rows * w[0] },
		{ &o->score, rows * 16 }, { &o->ex, rows * used * w[0] },
		{ &o->eg, rows * used * pad16(s->expert_inter) },
		{ &o->eu, rows * used * pad16(s->expert_inter) }, { &o->ey, rows * used * w[0] },
		{ &o->mk, rows * kvd }, { &o->mv, rows * kvd },
		{ &o->logits, (size_t)d->base.limits.n_slots * pad16(s->vocab_rows) },
		{ &d->sample.logits, s->vocab_rows },
	};
	for (size_t i = 0; i < sizeof(f) / sizeof(f[0]); i++)
		if (!(*f[i].at = cpu_alloc(d, f[i].n, sizeof(float))))
			return -ENOMEM;
	o->token = cpu_alloc(d, rows, 4);
	o->pos = cpu_alloc(d, rows, 4);
	o->run = cpu_alloc(d, rows, 4);
	o->chosen = cpu_alloc(d, rows * (used + 1), 4);
	o->where = cpu_alloc(d, rows * (used + 1), 4);
	o->jobs = cpu_alloc(d, 2 * (size_t)s->n_experts + 8, sizeof(struct mm_job));
	o->work = cpu_alloc(d, pool_threads(d->pool), sizeof(float *));
	d->sample.ids = cpu_alloc(d, s->vocab_rows, 4);
	if (!o->token || !o->pos || !o->run || !o->chosen || !o->where || !o->jobs || !o->work ||
	    !d->sample.ids)
		return -ENOMEM;
	for (uint32_t t = 0; t < pool_threads(d->pool); t++)
		if (!(o->work[t] = cpu_alloc(d, work_floats(s), sizeof(float))))
			return -ENOMEM;
	return 0;
}

static uint64_t weight_elements(const struct model_shape *s)
{
	uint64_t h = s->hidden, vd = (uint64_t)s->gdn_v_heads * s->gdn_head_dim;
	uint64_t gdn = h * (gdn_channels(s) + 2 * vd + 2 * (uint64_t)s->gdn_v_heads);
	uint64_t attn = h * s->head_dim * (3 * (uint64_t)s->n_q_heads + 2 * (uint64_t)s->n_kv_heads);
	uint64_t mlp = 3 * h * s->dense_inter;
	uint64_t sum = 2 * h * s->vocab_rows;

	if (s->n_experts)
		mlp = 3 * h * ((uint64_t)s->n_experts * s->expert_inter + s->shared_inter) +
		      h * s->n_experts;
	for (uint32_t i = 0; i < s->n_layers; i++)
		sum += mlp + (s->mixer[i] == MIXER_GDN ? gdn : attn);
	return sum + s->n_mtp_layers * (mlp + attn + 2 * h * h);
}

void cpu_budget(const struct device *base, struct device_budget *ret)
{
	const struct cpu_device *d = (const struct cpu_device *)base;
	const struct model_shape *s = &base->shape;
	const struct device_limits *l = &base->limits;
	uint32_t w[12];
	size_t row = row_floats(s, w) + (size_t)w[0] + w[10] + w[11] + 16 +
		     (size_t)s->n_experts_used * 2 * (w[0] + pad16(s->expert_inter)) +
		     2 * (size_t)s->n_kv_heads * s->head_dim;

	ret->weights = weight_elements(s) * (d->round ? 2 : 4);
	ret->kv = (uint64_t)l->n_blocks * d->block_elems * (d->round ? 2 : 4);
	ret->states = (uint64_t)l->n_slots * d->state_floats * 4;
	ret->workspace = (uint64_t)l->max_rows * row * 4 +
			 (uint64_t)l->n_slots * pad16(s->vocab_rows) * 4 +
			 pool_threads(d->pool) * work_floats(s) * 4;
}
