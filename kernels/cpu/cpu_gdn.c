/* cpu_gdn.c - Gated DeltaNet: a token at a time for answers, chunks of 64 for prompts.
 *
 * With G the running sum of g inside a chunk and D_rc = exp(G_r - G_c) for r >= c, the
 * rank-one updates of a chunk are one unit lower triangular system (the WY form):
 *	A_rc = beta_r (K_r . K_c) D_rc, r > c
 *	(I + A) U = beta V,   (I + A) W = beta exp(G) K
 *	V' = U - W S,   O_r = exp(G_r) Q_r S + sum_c (Q_r . K_c) D_rc V'_c
 *	S' = exp(G_last) S + sum_c exp(G_last - G_c) K_c^T V'_c
 * Decays are formed from differences G_r - G_c <= 0 only, so nothing overflows.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

struct gdn {
	struct cpu_device *d;
	const struct layer *l;
	const struct step *s;
	uint32_t c, vd;		/* channels, width of the values */
};

#define CONV_PART 256

static float *conv_state(const struct gdn *g, const struct run_rows *r)
{
	const struct model_shape *s = &g->d->base.shape;
	size_t states = (size_t)g->d->n_gdn * s->gdn_v_heads * s->gdn_head_dim * s->gdn_head_dim;

	return r->state + states + (size_t)g->l->place * (s->gdn_conv_width - 1) * g->c;
}

/* Some channels of one run: p0 to p2, and the window that the next run will see. */
static void conv_task(void *ctx, uint32_t task)
{
	const struct gdn *g = ctx;
	uint32_t parts = (g->c + CONV_PART - 1) / CONV_PART, taps = g->d->base.shape.gdn_conv_width;
	const struct run_rows *r = &g->s->runs[task / parts];
	uint32_t at = task % parts * CONV_PART, n = g->c - at < CONV_PART ? g->c - at : CONV_PART;
	const float *in = g->d->room.p0 + (size_t)r->row * g->c + at;
	float *past = conv_state(g, r) + at, keep[15 * CONV_PART];
	const float *u[16];

	for (uint32_t i = 0; i < r->p.n; i++) {
		for (uint32_t j = 0; j < taps; j++)
			u[j] = i + j < taps - 1 ? past + (size_t)(i + j) * g->c :
						  in + (size_t)(i + j + 1 - taps) * g->c;
		g->d->path->conv(u, g->l->conv + at, g->c, taps, n, g->d->round,
				 g->d->room.p2 + (size_t)(r->row + i) * g->c + at);
	}
	for (uint32_t j = 0; j < taps - 1; j++) {
		uint32_t i = r->p.n + j;

		memcpy(keep + j * CONV_PART,
		       i < taps - 1 ? past + (size_t)i * g->c : in + (size_t)(i + 1 - taps) * g->c,
		       n * sizeof(float));
	}
	for (uint32_t j = 0; j < taps - 1; j++)
		memcpy(past + (size_t)j * g->c, keep + j * CONV_PART, n * sizeof(float));
}

static void qk_task(void *ctx, uint32_t row)
{
	const struct gdn *g = ctx;
	const struct model_shape *s = &g->d->base.shape;
	uint32_t dim = s->gdn_head_dim, kd = s->gdn_k_heads * dim;
	float *p = g->d->room.p2 + (size_t)row * g->c;
	float scale = (float)(1 / sqrt((double)dim));

	for (uint32_t h = 0; h < s->gdn_k_heads; h++) {
		g->d->path->l2norm(p + h * dim, dim, scale);
		g->d->path->l2norm(p + kd + h * dim, dim, 1);
	}
}

static float head_g(const struct gdn *g, uint32_t row, uint32_t h)
{
	const float *p = g->d->room.p3 + (size_t)row * 2 * pad16(g->d->base.shape.gdn_v_heads);
	double x = (double)p[h] + (double)g->l->dt_bias[h];

	return (float)((double)g->l->a_decay[h] * (x > 20 ? x : log1p(exp(x))));
}

static float head_beta(const struct gdn *g, uint32_t row, uint32_t h)
{
	uint32_t v = pad16(g->d->base.shape.gdn_v_heads);
	double b = (double)g->d->room.p3[(size_t)row * 2 * v + v + h];

	return (float)(1 / (1 + exp(-b)));
}

/* Pointers to q, k, v of a row for value head h. */
static const float *qkv(const struct gdn *g, uint32_t row, uint32_t h, int part)
{
	const struct model_shape *s = &g->d->base.shape;
	uint32_t dim = s->gdn_head_dim, kh = h / (s->gdn_v_heads / s->gdn_k_heads);
	const float *p = g->d->room.p2 + (size_t)row * g->c;

	if (part < 2)
		return p + ((uint32_t)part * s->gdn_k_heads + kh) * dim;
	return p + (2 * s->gdn_k_heads + h) * dim;
}

static float decay(float from, float to)
{
	return (float)exp((double)to - (double)from);
}

struct chunk {
	float *k, *kt, *q, *x, *a, *p, *ks;
	float G[STEP_GRID], beta[STEP_GRID];
};

static void chunk_rooms(struct chunk *c, float *work, uint32_t dim)
{
	size_t n = (size_t)STEP_GRID * dim;

	c->k = work;
	c->kt = c->k + n;
	c->q = c->kt + n;
	c->x = c->q + n;		/* U and -W side by side */
	c->ks = c->kt;			/* kt, once the products are there */
	c->a = c->x + 2 * n;
	c->p = c->a + STEP_GRID * STEP_GRID;
}

static void chunk_fill(const struct gdn *g, struct chunk *c, uint32_t row, uint32_t n, uint32_t h,
		       uint32_t dim)
{
	float sum = 0;

	memset(c->kt, 0, (size_t)STEP_GRID * dim * sizeof(float));
	memset(c->a, 0, 2 * STEP_GRID * STEP_GRID * sizeof(float));
	for (uint32_t r = 0; r < n; r++) {
		const float *k = qkv(g, row + r, h, 1), *v = qkv(g, row + r, h, 2);
		float *x = c->x + (size_t)r * 2 * dim;

		sum += head_g(g, row + r, h);
		c->G[r] = sum;
		c->beta[r] = head_beta(g, row + r, h);
		float w = -c->beta[r] * decay(0, sum);
		memcpy(c->k + (size_t)r * dim, k, dim * sizeof(float));
		memcpy(c->q + (size_t)r * dim, qkv(g, row + r, h, 0), dim * sizeof(float));
		for (uint32_t i = 0; i < dim; i++) {
			c->kt[i * STEP_GRID + r] = k[i];
			x[i] = c->beta[r] * v[i];
			x[dim + i] = w * k[i];
		}
	}
}

static void chunk_decay(struct chunk *c, uint32_t n)
{
	for (uint32_t r = 0; r < n; r++)
		for (uint32_t j = 0; j < STEP_GRID; j++) {
			float *a = &c->a[r * STEP_GRID + j], *p = &c->p[r * STEP_GRID + j];
			float e = j <= r ? decay(c->G[j], c->G[r]) : 0;

			*a = j < r ? c->beta[r] * *a * e : 0;
			*p = j <= r ? *p * e : 0;
		}
}

static void chunk_run(const struct gdn *g, float *S, uint32_t row, uint32_t n, uint32_t h,
		      float *work)
{
	const struct cpu_path *o = g->d->path;
	uint32_t dim = g->d->base.shape.gdn_head_dim, ld = 2 * dim;
	float *out = g->d->room.mix + (size_t)row * g->vd + h * dim;
	struct chunk c;

	chunk_rooms(&c, work, dim);
	chunk_fill(g, &c, row, n, h, dim);
	o->gemm(n, STEP_GRID, dim, c.k, dim, c.kt, STEP_GRID, c.a, STEP_GRID);
	o->gemm(n, STEP_GRID, dim, c.q, dim, c.kt, STEP_GRID, c.p, STEP_GRID);
	chunk_decay(&c, n);
	o->solve(n, c.a, STEP_GRID, c.x, ld, ld);
	o->gemm(n, dim, dim, c.x + dim, ld, S, dim, c.x, ld);
	for (uint32_t r = 0; r < n; r++)
		memset(out + (size_t)r * g->vd, 0, dim * sizeof(float));
	o->gemm(n, dim, dim, c.q, dim, S, dim, out, g->vd);
	for (uint32_t r = 0; r < n; r++)
		o->scale(out + (size_t)r * g->vd, decay(0, c.G[r]), dim);
	o->gemm(n, dim, n, c.p, STEP_GRID, c.x, ld, out, g->vd);
	for (uint32_t r = 0; r < n; r++) {
		float e = decay(c.G[r], c.G[n - 1]);

		for (uint32_t i = 0; i < dim; i++)
			c.ks[i * STEP_GRID + r] = c.k[(size_t)r * dim + i] * e;
	}
	o->scale(S, decay(0, c.G[n - 1]), dim * dim);
	o->gemm(dim, dim, n, c.ks, STEP_GRID, c.x, ld, S, dim);
}

static void head_task(void *ctx, uint32_t task)
{
	const struct gdn *g = ctx;
	const struct model_shape *s = &g->d->base.shape;
	const struct run_rows *r = &g->s->runs[task / s->gdn_v_heads];
	uint32_t h = task % s->gdn_v_heads, dim = s->gdn_head_dim;
	float *S = r->state + ((size_t)g->l->place * s->gdn_v_heads + h) * dim * dim;
	float *work = g->d->room.work[task % pool_threads(g->d->pool)];

	for (uint32_t i = 0; i < r->p.n; i += r->p.kind == ROW_PREFILL ? STEP_GRID : 1) {
		uint32_t row = r->row + i, left = r->p.n - i;

		if (r->p.kind == ROW_PREFILL) {
			chunk_run(g, S, row, left < STEP_GRID ? left : STEP_GRID, h, work);
			continue;
		}
		g->d->path->gdn_step(S, dim, qkv(g, row, h, 0), qkv(g, row, h, 1),
				     qkv(g, row, h, 2), decay(0, head_g(g, row, h)),
				     head_beta(g, row, h),
				     g->d->room.mix + (size_t)row * g->vd + h * dim);
	}
}

static void out_task(void *ctx, uint32_t row)
{
	const struct gdn *g = ctx;
	const struct model_shape *s = &g->d->base.shape;

	for (uint32_t h = 0; h < s->gdn_v_heads; h++) {
		size_t at = (size_t)row * g->vd + h * s->gdn_head_dim;

		g->d->path->gated_norm(g->d->room.mix + at, g->l->gdn_norm, g->d->room.p1 + at,
				       s->gdn_head_dim, s->norm_eps, g->d->round,
				       g->d->room.mix + at);
	}
}

/* A row or three are done before a thread has woken up. */
static void spread(const struct gdn *g, pool_fn *fn, uint32_t n)
{
	struct gdn copy = *g;

	if (g->s->n_rows >= 4) {
		pool_run(g->d->pool, fn, &copy, n);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		fn(&copy, i);
}

void cpu_gdn(struct cpu_device *d, const struct layer *l, const struct step *s)
{
	const struct model_shape *m = &d->base.shape;
	struct gdn g = { d, l, s, gdn_channels(m), m->gdn_v_heads * m->gdn_head_dim };
	struct rooms *o = &d->room;
	size_t h = m->hidden, v = pad16(m->gdn_v_heads);
	uint32_t n = s->n_rows, parts = (g.c + CONV_PART - 1) / CONV_PART;
	const struct mm_job jobs[4] = {
		{ &l->qkv, o->xn, h, n, o->p0, g.c, o->prompt },
		{ &l->z, o->xn, h, n, o->p1, g.vd, o->prompt },
		{ &l->a, o->xn, h, n, o->p3, 2 * v, o->prompt },
		{ &l->b, o->xn, h, n, o->p3 + v, 2 * v, o->prompt },
	};

	cpu_matmul(d, jobs, 4);
	if (d->round) {
		d->path->round(o->p0, n * g.c);
		d->path->round(o->p1, n * g.vd);
		d->path->round(o->p3, (uint32_t)(n * 2 * v));
	}
	spread(&g, conv_task, s->n_runs * parts);
	spread(&g, qk_task, n);
	spread(&g, head_task, s->n_runs * m->gdn_v_heads);
	spread(&g, out_task, n);
	cpu_matmul1(d, &l->out, o->mix, g.vd, n, o->y, h);
}
