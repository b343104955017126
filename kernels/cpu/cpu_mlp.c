/* cpu_mlp.c - matrices over many rows, norms, and the feed-forward part: dense, or experts.
 *
 * Experts: the rows that chose an expert are gathered, run through it together, and each
 * row then adds its results in the order of its slots, the shared expert last.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define SMALL_WORK 1000000	/* products that are done before sharing them out pays */

struct mm_share {
	struct cpu_device *d;
	const struct mm_job *jobs;
	uint32_t n_jobs, n_shares;
	uint64_t total;		/* groups times rows times columns */
};

static uint64_t job_cost(const struct mm_job *j)
{
	return (uint64_t)j->n * j->w->cols;
}

/* Share t takes the groups whose first unit of cost lies in its part of the whole. */
static void matmul_share(void *ctx, uint32_t t)
{
	struct mm_share *m = ctx;
	uint64_t lo = m->total * t / m->n_shares, hi = m->total * (t + 1) / m->n_shares, at = 0;

	for (uint32_t i = 0; i < m->n_jobs; i++) {
		const struct mm_job *j = &m->jobs[i];
		uint64_t c = job_cost(j), end = at + c * j->w->groups;

		if (c && end > lo && at < hi) {
			uint64_t g0 = lo > at ? (lo - at + c - 1) / c : 0;
			uint64_t g1 = hi < end ? (hi - at + c - 1) / c : j->w->groups;

			cpu_matmul_groups(m->d->path, j->w, (uint32_t)g0, (uint32_t)g1, j->x,
					  j->ldx, j->n, j->out, j->ldo);
		}
		at = end;
	}
}

void cpu_matmul(struct cpu_device *d, const struct mm_job *jobs, uint32_t n_jobs)
{
	struct mm_share m = { .d = d, .jobs = cpu_fp4_jobs(d, jobs, n_jobs), .n_jobs = n_jobs };

	for (uint32_t i = 0; i < n_jobs; i++)
		m.total += job_cost(&jobs[i]) * jobs[i].w->groups;
	m.n_shares = m.total * LANES < SMALL_WORK ? 1 : pool_threads(d->pool);
	pool_run(d->pool, matmul_share, &m, m.n_shares);
}

void cpu_norm_rows(struct cpu_device *d, const float *x, const float *w, uint32_t n, float *out,
		   size_t ldo)
{
	uint32_t h = d->base.shape.hidden;

	for (uint32_t r = 0; r < n; r++)
		d->path->norm(x + (size_t)r * h, w, h, d->base.shape.norm_eps, d->round,
			      out + r * ldo);
}

void cpu_embed_row(const struct cpu_device *d, uint32_t token, float *out)
{
	size_t h = d->base.shape.hidden;

	if (d->round)
		d->path->widen(d->embed16 + token * h, h, out);
	else
		memcpy(out, d->embed + token * h, h * sizeof(float));
}

/* ---- dense ------------------------------------------------------------------------------ */

static void dense(struct cpu_device *d, const struct layer *l, uint32_t n)
{
	const struct model_shape *s = &d->base.shape;
	struct rooms *o = &d->room;
	size_t in = pad16(s->dense_inter), h = s->hidden;
	const struct mm_job jobs[2] = {
		{ &l->gate[0], o->xn, h, n, o->sg, in, o->prompt },
		{ &l->up[0], o->xn, h, n, o->su, in, o->prompt },
	};

	cpu_matmul(d, jobs, 2);
	d->path->silu_mul(o->sg, o->su, (uint32_t)(n * in), d->round, o->sg);
	cpu_matmul1(d, &l->down[0], o->sg, in, n, o->y, h);
}

/* ---- experts ----------------------------------------------------------------------------- */

/* The largest logits, lower id first on ties; softmax over them into the front of `logits`. */
static void choose(float *logits, uint32_t n, uint32_t used, uint32_t *ids)
{
	double e[64], sum = 0;

	for (uint32_t k = 0; k < used; k++) {
		uint32_t best = UINT32_MAX;

		for (uint32_t i = 0; i < n; i++) {
			bool taken = false;

			for (uint32_t j = 0; j < k; j++)
				taken = taken || ids[j] == i;
			if (!taken && (best == UINT32_MAX || logits[i] > logits[best]))
				best = i;
		}
		ids[k] = best;
	}
	for (uint32_t k = 0; k < used; k++) {
		e[k] = exp((double)logits[ids[k]] - (double)logits[ids[0]]);
		sum += e[k];
	}
	for (uint32_t k = 0; k < used; k++)
		logits[k] = (float)(e[k] / sum);
}

/* Rows sorted by expert: where[row][slot] is the place; answers the first place of each
 * expert's rows through the jobs. */
static uint32_t gather(struct cpu_device *d, const struct layer *l, uint32_t n)
{
	const struct model_shape *s = &d->base.shape;
	struct rooms *o = &d->room;
	uint32_t used = s->n_experts_used, at = 0, n_jobs = 0;
	size_t h = s->hidden, in = pad16(s->expert_inter);

	for (uint32_t x = 0; x < s->n_experts; x++) {
		uint32_t first = at;

		for (uint32_t i = 0; i < n * used; i++)
			if (o->chosen[i] == x) {
				memcpy(o->ex + at * h, o->xn + i / used * h, h * sizeof(float));
				o->gathered_prompt[at] = o->prompt[i / used];
				o->where[i] = at++;
			}
		if (at == first)
			continue;
		o->jobs[n_jobs++] = (struct mm_job){ &l->gate[x], o->ex + first * h, h, at - first,
						     o->eg + first * in, in,
						     o->gathered_prompt + first };
		o->jobs[n_jobs++] = (struct mm_job){ &l->up[x], o->ex + first * h, h, at - first,
						     o->eu + first * in, in,
						     o->gathered_prompt + first };
	}
	if (l < d->layers + s->n_layers)	/* not the MTP layer */
		d->experts_active += n_jobs / 2;
	return n_jobs;
}

/* The same experts once more, from the product to the width of the model. */
static void down_jobs(struct cpu_device *d, const struct layer *l, uint32_t *n_jobs)
{
	const struct model_shape *s = &d->base.shape;
	struct rooms *o = &d->room;
	size_t in = pad16(s->expert_inter);
	uint32_t n = 0;

	for (uint32_t i = 0; i < *n_jobs; i += 2) {
		struct mm_job *j = &o->jobs[i];
		size_t first = (size_t)(j->out - o->eg) / in;

		o->jobs[n++] =
			(struct mm_job){ &l->down[j->w - l->gate],  o->eg + first * in, in, j->n,
					 o->ey + first * s->hidden, s->hidden,
					 o->gathered_prompt + first };
	}
	*n_jobs = n;
}

static void combine(void *ctx, uint32_t r)
{
	struct cpu_device *d = ctx;
	const struct model_shape *s = &d->base.shape;
	struct rooms *o = &d->room;
	size_t h = s->hidden, used = s->n_experts_used;
	float *y = o->y + r * h;

	memset(y, 0, h * sizeof(float));
	for (size_t k = 0; k < used; k++)
		d->path->axpy(y, o->route[r * pad16(s->n_experts) + k],
			      o->ey + o->where[r * used + k] * h, s->hidden);
	if (s->shared_inter) {
		double score = (double)o->score[r * LANES];

		d->path->axpy(y, (float)(1 / (1 + exp(-score))), o->sy + r * h, s->hidden);
	}
}

static void experts(struct cpu_device *d, const struct layer *l, uint32_t n)
{
	const struct model_shape *s = &d->base.shape;
	struct rooms *o = &d->room;
	size_t h = s->hidden, in = pad16(s->expert_inter), sin = pad16(s->shared_inter);
	uint32_t used = s->n_experts_used, e = pad16(s->n_experts), x = s->n_experts;

	cpu_matmul1(d, &l->router, o->xn, h, n, o->route, e);
	for (uint32_t r = 0; r < n; r++)
		choose(o->route + (size_t)r * e, s->n_experts, used, o->chosen + (size_t)r * used);
	uint32_t n_jobs = gather(d, l, n), routed = n_jobs;
	if (s->shared_inter) {
		o->jobs[n_jobs++] = (struct mm_job){ &l->gate[x], o->xn, h, n, o->sg, sin, o->prompt };
		o->jobs[n_jobs++] = (struct mm_job){ &l->up[x], o->xn, h, n, o->su, sin, o->prompt };
		o->jobs[n_jobs++] = (struct mm_job){ &l->score, o->xn, h, n, o->score, LANES, o->prompt };
	}
	cpu_matmul(d, o->jobs, n_jobs);
	d->path->silu_mul(o->eg, o->eu, (uint32_t)(n * used * in), d->round, o->eg);
	down_jobs(d, l, &routed);
	if (s->shared_inter) {
		d->path->silu_mul(o->sg, o->su, (uint32_t)(n * sin), d->round, o->sg);
		o->jobs[routed++] = (struct mm_job){ &l->down[x], o->sg, sin, n, o->sy, h, o->prompt };
	}
	cpu_matmul(d, o->jobs, routed);
	for (uint32_t r = 0; r < n; r++)
		combine(d, r);
}

void cpu_mlp(struct cpu_device *d, const struct layer *l, uint32_t n_rows)
{
	if (d->base.shape.n_experts)
		experts(d, l, n_rows);
	else
		dense(d, l, n_rows);
}
