/* cpu_room.c - the rooms of a step, and what all of a device takes in bytes. */
#include "kernels/cpu/cpu.h"
#include "kernels/weight_stream.h"

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

static bool alloc_fp4(struct cpu_device *d)
{
	const struct model_shape *s = &d->base.shape;
	size_t row = cpu_fp4_room(s);
	struct fp4_room *o = &d->room.fp4;

	o->x = cpu_alloc(d, d->base.limits.max_rows * row, sizeof(float));
	o->codes = cpu_alloc(d, row / 2, 1);
	o->scales = cpu_alloc(d, row / 16, 1);
	o->jobs = cpu_alloc(d, 2 * (size_t)s->n_experts + 8, sizeof(struct mm_job));
	return o->x && o->codes && o->scales && o->jobs;
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
		{ &o->open, rows * w[0] },
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
	o->prompt = cpu_alloc(d, rows, sizeof(bool));
	o->gathered_prompt = cpu_alloc(d, rows * (used + 1), sizeof(bool));
	o->work = cpu_alloc(d, pool_threads(d->pool), sizeof(float *));
	d->sample.ids = cpu_alloc(d, s->vocab_rows, 4);
	if (!o->token || !o->pos || !o->run || !o->chosen || !o->where || !o->jobs || !o->work ||
	    !d->sample.ids || !o->prompt || !o->gathered_prompt || (d->fp4_used && !alloc_fp4(d)))
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

/* All formats are held as BF16. */
void cpu_budget(const struct device *base, const struct weight_source *source, struct device_budget *ret)
{
	const struct cpu_device *d = (const struct cpu_device *)base;
	const struct model_shape *s = &base->shape;
	const struct device_limits *l = &base->limits;
	uint32_t w[12];
	size_t row = row_floats(s, w) + 2 * (size_t)w[0] + w[10] + w[11] + 16 +
		     (size_t)s->n_experts_used * 2 * (w[0] + pad16(s->expert_inter)) +
		     2 * (size_t)s->n_kv_heads * s->head_dim;

	(void)source;
	ret->weights = weight_elements(s) * (d->round ? 2 : 4);
	ret->kv = (uint64_t)l->n_blocks * d->block_bytes;
	ret->states = (uint64_t)l->n_slots * d->state_floats * 4;
	if (d->fp4 != FP4_PREFILL_OFF)
		row += cpu_fp4_room(s);
	ret->workspace = (uint64_t)l->max_rows * row * 4 +
			 (uint64_t)l->n_slots * pad16(s->vocab_rows) * 4 +
			 pool_threads(d->pool) * work_floats(s) * 4;
	/* weights pass through a room that is given back before any of these is taken */
	if (ret->kv + ret->states + ret->workspace < WEIGHT_ROOM)
		ret->workspace = WEIGHT_ROOM - ret->kv - ret->states;
}
