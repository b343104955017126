/* cpu_mtp.c - the MTP head: what it must remember of every row, and its guess.
 *
 * Entry t combines the final-norm row of position t with the embedding of token t + 1,
 * rotated at position t.  Its keys and values depend on that row alone, not on attention,
 * so rows that propose nothing cost two small matrices.  The entry of a token that was
 * just sampled is used once, from outside the blocks, and is written when the token comes
 * back as input: its block may not be there yet.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

static float *last_hidden(const struct cpu_device *d, const float *state)
{
	return (float *)state + d->state_floats - d->base.shape.hidden;
}

/* Row `i` of the MTP input in p0: normed embedding of `token`, normed hidden. */
static void input_row(struct cpu_device *d, uint32_t i, uint32_t token, const float *h)
{
	const struct model_shape *s = &d->base.shape;
	float *out = d->room.p0 + (size_t)i * 2 * s->hidden;

	cpu_embed_row(d, token, d->room.xn + (size_t)i * s->hidden);
	d->path->norm(d->room.xn + (size_t)i * s->hidden, d->mtp_embed_norm, s->hidden, s->norm_eps,
		      d->round, out);
	d->path->norm(h, d->mtp_hidden_norm, s->hidden, s->norm_eps, d->round, out + s->hidden);
}

/* p0 to x (the layer's residual), keys and values in p1 and p2. */
static void front(struct cpu_device *d, const struct layer *l, uint32_t n)
{
	const struct model_shape *s = &d->base.shape;
	struct rooms *o = &d->room;
	size_t h = s->hidden, kvd = (size_t)s->n_kv_heads * s->head_dim;

	cpu_matmul1(d, &d->mtp_fc, o->p0, 2 * h, n, o->x, h);
	if (d->round)
		d->path->round(o->x, (uint32_t)(n * h));
	cpu_norm_rows(d, o->x, l->input_norm, n, o->xn, h);
	const struct mm_job jobs[2] = {
		{ &l->k, o->xn, h, n, o->p1, kvd, NULL },
		{ &l->v, o->xn, h, n, o->p2, kvd, NULL },
	};
	cpu_matmul(d, jobs, 2);
	cpu_rope_tables(d, n);
	cpu_kv_rows(d, l, n);
}

static void remember(struct cpu_device *d, const struct layer *l, const struct step *s)
{
	size_t hidden = d->base.shape.hidden;
	size_t kvd = (size_t)d->base.shape.n_kv_heads * d->base.shape.head_dim;
	uint32_t n = 0, at = 0;

	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];

		for (uint32_t k = 0; r->p.draft && k < r->p.n; k++) {
			if (r->p.pos + k == 0)
				continue;
			d->room.pos[n] = r->p.pos + k - 1;
			input_row(d, n++, d->room.token[r->row + k],
				  k ? d->room.h + (r->row + k - 1) * hidden :
				      last_hidden(d, r->state));
		}
	}
	if (n == 0)
		return;
	front(d, l, n);
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];

		for (uint32_t k = 0; r->p.draft && k < r->p.n; k++, at++) {
			if (r->p.pos + k == 0) {
				at--;
				continue;
			}
			cpu_kv_store(d, l, r->p.blocks, r->p.pos + k, d->room.p1 + at * kvd,
				     d->room.p2 + at * kvd);
		}
	}
}

static uint32_t arg_max(const float *x, uint32_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

/* The rest of the layer for the n rows that sampled, and their guesses. */
static void back(struct cpu_device *d, const struct layer *l, const struct step *s, uint32_t n,
		 struct run_result *results)
{
	const struct model_shape *m = &d->base.shape;
	struct rooms *o = &d->room;
	size_t h = m->hidden, qd = (size_t)m->n_q_heads * m->head_dim, v = pad16(m->vocab_rows);
	size_t kvd = (size_t)m->n_kv_heads * m->head_dim;
	uint32_t row = 0;

	memcpy(o->mk, o->p1, n * kvd * sizeof(float));
	memcpy(o->mv, o->p2, n * kvd * sizeof(float));
	cpu_matmul1(d, &l->q, o->xn, h, n, o->p0, 2 * qd);
	cpu_query_rows(d, l, n);
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct plan_run *p = &s->runs[i].p;

		if (!p->draft || !results[i].sampled)
			continue;
		for (uint32_t k = 0; k < m->n_kv_heads; k++)
			cpu_attend_row(d, l, p->blocks, 1, p->pos + p->n, o->mk + row * kvd,
				       o->mv + row * kvd, row, k, o->work[0]);
		row++;
	}
	cpu_matmul1(d, &l->o, o->mix, qd, n, o->y, h);
	d->path->add(o->x, o->y, (uint32_t)(n * h), d->round);
	cpu_norm_rows(d, o->x, l->post_norm, n, o->xn, h);
	cpu_mlp(d, l, n);
	d->path->add(o->x, o->y, (uint32_t)(n * h), d->round);
	cpu_norm_rows(d, o->x, d->mtp_norm, n, o->xn, h);
	cpu_matmul1(d, &d->head, o->xn, h, n, o->logits, v);
	row = 0;
	for (uint32_t i = 0; i < s->n_runs; i++)
		if (s->runs[i].p.draft && results[i].sampled) {
			results[i].drafted = true;
			results[i].draft = arg_max(o->logits + row++ * v, m->n_token_ids);
		}
}

void cpu_mtp(struct cpu_device *d, const struct step *s, struct run_result *results)
{
	const struct layer *l = &d->layers[d->base.shape.n_layers];
	size_t hidden = d->base.shape.hidden;
	uint32_t n = 0;

	remember(d, l, s);
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];

		if (!r->p.draft || !results[i].sampled)
			continue;
		d->room.pos[n] = r->p.pos + r->p.n - 1;
		input_row(d, n++, results[i].token, d->room.h + (r->row + r->p.n - 1) * hidden);
	}
	if (n) {
		front(d, l, n);
		back(d, l, s, n, results);
	}
}
