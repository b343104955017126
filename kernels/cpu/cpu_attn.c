/* cpu_attn.c - gated attention over paged keys and values.
 *
 * One block of 64 positions at a time with a running softmax: the order of every sum
 * depends on the row's own position only.  A prompt's rows go in tiles of 16 positions
 * (on a grid from the start of the sequence), all query heads of a KV head together.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define TILE 16

/* ---- positions ---------------------------------------------------------------------------- */

void cpu_rope_tables(struct cpu_device *d, uint32_t n_rows)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t half = s->rotary_dim / 2, ld = pad16(s->rotary_dim);

	for (uint32_t r = 0; r < n_rows; r++)
		for (uint32_t j = 0; j < half; j++) {
			double pos = d->room.pos[r], a = pos * d->inv_freq[j];

			if (!d->round)	/* as the float32 reference forms its angles */
				a = (double)((float)pos * (float)d->inv_freq[j]);
			float c = (float)(cos(a) * s->yarn_attention_factor);
			float sn = (float)(sin(a) * s->yarn_attention_factor);
			d->room.cos[r * ld + j] = d->round ? round_bf16(c) : c;
			d->room.sin[r * ld + j] = d->round ? round_bf16(sn) : sn;
		}
}

/* Norm, then rotation, then one rounding. */
static void head_row(struct cpu_device *d, float *x, const float *w, uint32_t row)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t half = s->rotary_dim / 2, ld = pad16(s->rotary_dim);
	const float *c = d->room.cos + (size_t)row * ld, *sn = d->room.sin + (size_t)row * ld;

	d->path->norm(x, w, s->head_dim, s->norm_eps, false, x);
	for (uint32_t j = 0; j < half; j++) {
		float a = x[j], b = x[j + half];

		x[j] = a * c[j] - b * sn[j];
		x[j + half] = b * c[j] + a * sn[j];
	}
	if (d->round)
		d->path->round(x, s->head_dim);
}

void cpu_kv_rows(struct cpu_device *d, const struct layer *l, uint32_t n_rows)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t kvd = s->n_kv_heads * s->head_dim;

	if (d->round) {
		d->path->round(d->room.p1, n_rows * kvd);
		d->path->round(d->room.p2, n_rows * kvd);
	}
	for (uint32_t r = 0; r < n_rows; r++)
		for (uint32_t h = 0; h < s->n_kv_heads; h++)
			head_row(d, d->room.p1 + (size_t)r * kvd + h * s->head_dim, l->k_norm, r);
}

struct attn {
	struct cpu_device *d;
	const struct layer *l;
	const struct step *s;
};

static void query_task(void *ctx, uint32_t r)
{
	const struct attn *a = ctx;
	const struct model_shape *s = &a->d->base.shape;
	uint32_t dim = s->head_dim;
	float *p = a->d->room.p0 + (size_t)r * s->n_q_heads * 2 * dim;

	if (a->d->round)
		a->d->path->round(p, s->n_q_heads * 2 * dim);
	for (uint32_t h = 0; h < s->n_q_heads; h++)
		head_row(a->d, p + (size_t)h * 2 * dim, a->l->q_norm, r);
}

void cpu_query_rows(struct cpu_device *d, const struct layer *l, uint32_t n_rows)
{
	struct attn a = { d, l, NULL };

	pool_run(d->pool, query_task, &a, n_rows);
}

/* ---- attention of some queries ------------------------------------------------------------- */

/* `m` queries that read one KV head: rows of q at stride ldq. */
struct queries {
	uint32_t m;
	const float *q[TILE];		/* of tile row i: its first head, heads 2 dim apart */
	uint32_t end[TILE];		/* places up to which row i sees */
	uint32_t rows, heads;		/* m = rows * heads; query = head * rows + row */
	float *scores, *acc, *max, *sum, *k, *v;
};

static void queries_init(const struct cpu_device *d, struct queries *q, uint32_t rows, float *work)
{
	const struct model_shape *s = &d->base.shape;

	q->rows = rows;
	q->heads = s->n_q_heads / s->n_kv_heads;
	q->m = rows * q->heads;
	q->k = work;
	q->v = q->k + (size_t)STEP_GRID * s->head_dim;
	q->scores = q->v + (size_t)STEP_GRID * s->head_dim;
	q->acc = q->scores + (size_t)q->m * STEP_GRID;
	q->max = q->acc + (size_t)q->m * s->head_dim;
	q->sum = q->max + q->m;
	memset(q->acc, 0, (size_t)q->m * s->head_dim * sizeof(float));
	memset(q->scores, 0, (size_t)q->m * STEP_GRID * sizeof(float));
	for (uint32_t i = 0; i < q->m; i++) {
		q->max[i] = -INFINITY;
		q->sum[i] = 0;
	}
}

/* Keys k and values v (float) of one block whose places begin at `at`. */
static void queries_block(const struct cpu_device *d, struct queries *q, const float *k,
			  const float *v, uint32_t at, uint32_t first, uint32_t end, size_t ldq)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t dim = s->head_dim, all = end - at < STEP_GRID ? end - at : STEP_GRID;
	float scale = (float)(1 / sqrt((double)dim));

	memset(q->scores, 0, (size_t)q->m * STEP_GRID * sizeof(float));
	for (uint32_t h = 0; h < q->heads; h++)
		d->path->gemm(q->rows, STEP_GRID, dim, q->q[0] + (size_t)h * 2 * dim, ldq, k, STEP_GRID,
			      q->scores + (size_t)h * q->rows * STEP_GRID, STEP_GRID);
	for (uint32_t i = 0; i < q->m; i++) {
		uint32_t own = q->end[i % q->rows], lo = first > at ? first - at : 0;
		uint32_t hi = own > at ? own - at : 0;
		float corr;

		hi = hi < STEP_GRID ? hi : STEP_GRID;
		if (lo >= hi) {
			memset(q->scores + (size_t)i * STEP_GRID, 0, STEP_GRID * sizeof(float));
			continue;
		}
		d->path->softmax64(q->scores + (size_t)i * STEP_GRID, lo, hi, scale, d->round,
				   &q->max[i], &q->sum[i], &corr);
		d->path->scale(q->acc + (size_t)i * dim, corr, dim);
	}
	d->path->gemm(q->m, dim, all, q->scores, STEP_GRID, v, dim, q->acc, dim);
}

static void queries_run(struct cpu_device *d, const struct layer *l, struct queries *q,
			const kv_block *blocks, uint32_t first, uint32_t end, uint32_t kv_head,
			size_t ldq)
{
	for (uint32_t at = 0; at < end; at += STEP_GRID) {
		struct kv_view kv = cpu_kv_view(d, l->place, blocks[at / STEP_GRID], kv_head);
		const float *k, *v;

		cpu_kv_read(d, &kv, q->k, q->v, &k, &v);
		queries_block(d, q, k, v, at, first, end, ldq);
	}
}

/* Divides by the sums, gates, and puts the rows where the output matrix reads them. */
static void queries_done(struct cpu_device *d, struct queries *q, uint32_t row, uint32_t kv_head)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t dim = s->head_dim;

	for (uint32_t i = 0; i < q->m; i++) {
		uint32_t r = i % q->rows, h = kv_head * q->heads + i / q->rows;
		const float *gate = q->q[r] + (size_t)(i / q->rows) * 2 * dim + dim;
		float *acc = q->acc + (size_t)i * dim;

		d->path->scale(acc, 1.0f / q->sum[i], dim);
		d->path->sigmoid_mul(acc, gate, dim, d->round,
				     d->room.mix + ((size_t)(row + r) * s->n_q_heads + h) * dim);
	}
}

static const float *query_at(const struct cpu_device *d, uint32_t row, uint32_t kv_head)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t group = s->n_q_heads / s->n_kv_heads;

	return d->room.p0 + ((size_t)row * s->n_q_heads + kv_head * group) * 2 * s->head_dim;
}

void cpu_attend_row(struct cpu_device *d, const struct layer *l, const kv_block *blocks,
		    uint32_t first, uint32_t end, const float *ek, const float *ev, uint32_t row,
		    uint32_t kv_head, float *work)
{
	uint32_t dim = d->base.shape.head_dim;
	struct queries q;

	queries_init(d, &q, 1, work);
	q.q[0] = query_at(d, row, kv_head);
	q.end[0] = end;
	queries_run(d, l, &q, blocks, first, end, kv_head, 0);
	if (ek) {	/* one more block, of one place */
		memset(q.k, 0, (size_t)STEP_GRID * dim * sizeof(float));
		for (uint32_t i = 0; i < dim; i++)
			q.k[i * STEP_GRID] = ek[kv_head * dim + i];
		memcpy(q.v, ev + kv_head * dim, dim * sizeof(float));
		q.end[0] = 1;
		queries_block(d, &q, q.k, q.v, 0, 0, 1, 0);
	}
	queries_done(d, &q, row, kv_head);
}

/* ---- a layer --------------------------------------------------------------------------------- */

static uint32_t tile_rows(const struct run_rows *r)
{
	return r->p.kind == ROW_PREFILL ? TILE : 1;
}

static void attend_task(void *ctx, uint32_t task)
{
	const struct attn *a = ctx;
	const struct model_shape *s = &a->d->base.shape;
	float *work = a->d->room.work[task % pool_threads(a->d->pool)];
	uint32_t kv_head = task % s->n_kv_heads, tile = task / s->n_kv_heads, i = 0;
	struct queries q;

	for (; i < a->s->n_runs; i++) {
		uint32_t t = tile_rows(&a->s->runs[i]), n = (a->s->runs[i].p.n + t - 1) / t;

		if (tile < n)
			break;
		tile -= n;
	}
	const struct run_rows *r = &a->s->runs[i];
	uint32_t t = tile_rows(r), at = tile * t, n = r->p.n - at < t ? r->p.n - at : t;

	queries_init(a->d, &q, n, work);
	for (uint32_t k = 0; k < n; k++) {
		q.q[k] = query_at(a->d, r->row + at + k, kv_head);
		q.end[k] = r->p.pos + at + k + 1;
	}
	queries_run(a->d, a->l, &q, r->p.blocks, 0, q.end[n - 1], kv_head,
		    (size_t)s->n_q_heads * 2 * s->head_dim);
	queries_done(a->d, &q, r->row + at, kv_head);
}

void cpu_attention(struct cpu_device *d, const struct layer *l, const struct step *s)
{
	const struct model_shape *m = &d->base.shape;
	struct attn a = { d, l, s };
	struct rooms *o = &d->room;
	size_t h = m->hidden, qd = (size_t)m->n_q_heads * m->head_dim;
	size_t kvd = (size_t)m->n_kv_heads * m->head_dim;
	uint32_t n = s->n_rows, tasks = 0;
	const struct mm_job jobs[3] = {
		{ &l->q, o->xn, h, n, o->p0, 2 * qd, o->prompt },
		{ &l->k, o->xn, h, n, o->p1, kvd, o->prompt },
		{ &l->v, o->xn, h, n, o->p2, kvd, o->prompt },
	};

	cpu_matmul(d, jobs, 3);
	cpu_query_rows(d, l, n);
	cpu_kv_rows(d, l, n);
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];
		uint32_t t = tile_rows(r);

		for (uint32_t k = 0; k < r->p.n; k++)
			cpu_kv_store(d, l, r->p.blocks, r->p.pos + k, o->p1 + (r->row + k) * kvd,
				     o->p2 + (r->row + k) * kvd);
		tasks += (r->p.n + t - 1) / t * m->n_kv_heads;
	}
	pool_run(d->pool, attend_task, &a, tasks);
	cpu_matmul1(d, &l->o, o->mix, qd, n, o->y, h);
}
