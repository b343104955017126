/* cpu_step.c - one step: embed, layers, head, samples, drafts, digests. */
#include <string.h>

#include "kernels/cpu/cpu.h"

static void fill_rows(struct cpu_device *d, const struct step *s)
{
	size_t h = d->base.shape.hidden;

	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];

		for (uint32_t k = 0; k < r->p.n; k++) {
			uint32_t row = r->row + k;
			uint32_t t = r->p.input == IN_LAST_SAMPLE ? d->slots[r->p.slot].last :
								    r->p.tokens[k];

			d->room.token[row] = t;
			d->room.pos[row] = r->p.pos + k;
			d->room.run[row] = i;
			d->room.prompt[row] = r->p.kind == ROW_PREFILL;
			cpu_embed_row(d, t, d->room.x + row * h);
		}
	}
	cpu_rope_tables(d, s->n_rows);
}

static void run_layers(struct cpu_device *d, const struct step *s, uint32_t from, uint32_t to)
{
	struct rooms *o = &d->room;
	uint32_t h = d->base.shape.hidden, n = s->n_rows;

	for (uint32_t i = from; i < to; i++) {
		const struct layer *l = &d->layers[i];

		cpu_norm_rows(d, o->x, l->input_norm, n, o->xn, h);
		if (l->mixer == MIXER_GDN)
			cpu_gdn(d, l, s);
		else
			cpu_attention(d, l, s);
		d->path->add(o->x, o->y, n * h, d->round);
		cpu_norm_rows(d, o->x, l->post_norm, n, o->xn, h);
		cpu_mlp(d, l, n);
		d->path->add(o->x, o->y, n * h, d->round);
	}
}

/* Raw logits of all rows of the runs that ask; 16 rows at a time through `logits`. */
static void give_logits(struct cpu_device *d, const struct run_rows *r)
{
	const struct model_shape *m = &d->base.shape;
	size_t h = m->hidden, v = m->vocab_rows, ld = pad16(m->vocab_rows);

	for (uint32_t k = 0; k < r->p.n; k++) {
		cpu_matmul1(d, &d->head, d->room.h + (r->row + k) * h, h, 1, d->room.logits, ld);
		memcpy(r->p.logits + k * v, d->room.logits, v * sizeof(float));
	}
}

/* Logits of the last row of each run that needs them; a row a run. */
static void last_logits(struct cpu_device *d, const struct step *s)
{
	const struct model_shape *m = &d->base.shape;
	size_t h = m->hidden, ld = pad16(m->vocab_rows);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];

		if (r->p.sample || d->base.limits.digests)
			memcpy(d->room.xn + n++ * h, d->room.h + (r->row + r->p.n - 1) * h,
			       h * sizeof(float));
	}
	if (n)
		cpu_matmul1(d, &d->head, d->room.xn, h, n, d->room.logits, ld);
}

static void sample_run(struct cpu_device *d, const struct run_rows *r, const float *logits,
		       struct run_result *ret)
{
	struct slot *slot = &d->slots[r->p.slot];

	sampler_pick(slot->sampler, logits, d->base.shape.n_token_ids, r->p.pos + r->p.n,
		     &d->sample, ret);
	slot->last = ret->token;
	sampler_count(slot->sampler, ret->token);
}

static void sample_all(struct cpu_device *d, const struct step *s, struct run_result *results)
{
	size_t ld = pad16(d->base.shape.vocab_rows);
	uint32_t n = 0;

	last_logits(d, s);
	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];
		const float *logits = d->room.logits + n * ld;

		memset(&results[i], 0, sizeof(results[i]));
		results[i].slot = r->p.slot;
		for (uint32_t k = 0; r->p.count && k < r->p.n; k++)
			sampler_count(d->slots[r->p.slot].sampler, d->room.token[r->row + k]);
		if (r->p.sample)
			sample_run(d, r, logits, &results[i]);
		if (d->base.limits.digests)
			cpu_digest(d, s, r, logits, &results[i].digest);
		n += r->p.sample || d->base.limits.digests;
	}
}

static void keep_hidden(struct cpu_device *d, const struct step *s)
{
	size_t h = d->base.shape.hidden;

	for (uint32_t i = 0; i < s->n_runs; i++) {
		const struct run_rows *r = &s->runs[i];

		memcpy(r->state + d->state_floats - h, d->room.h + (r->row + r->p.n - 1) * h,
		       h * sizeof(float));
	}
}

/* What comes after the last layer. */
static void finish(struct cpu_device *d, const struct step *s, struct run_result *results)
{
	uint32_t h = d->base.shape.hidden;

	cpu_norm_rows(d, d->room.x, d->final_norm, s->n_rows, d->room.h, h);
	for (uint32_t i = 0; i < s->n_runs; i++)
		if (s->runs[i].p.logits)
			give_logits(d, &s->runs[i]);
	sample_all(d, s, results);
	if (d->base.shape.n_mtp_layers)
		cpu_mtp(d, s, results);
	keep_hidden(d, s);
}

static void run_whole(struct cpu_device *d, const struct step *s, struct run_result *results)
{
	fill_rows(d, s);
	run_layers(d, s, 0, d->base.shape.n_layers);
	finish(d, s, results);
}

/* One prompt, of which `s` has the part that is due. */
static void run_part(struct cpu_device *d, const struct step *s, struct run_result *result)
{
	const uint32_t layers = d->base.shape.n_layers;
	const size_t bytes = (size_t)s->n_rows * d->base.shape.hidden * sizeof(float);

	fill_rows(d, s);
	if (s->part > 0)
		memcpy(d->room.x, d->room.open, bytes);
	run_layers(d, s, s->part * layers / s->n_parts, (s->part + 1) * layers / s->n_parts);
	if (s->part + 1 < s->n_parts) {
		memcpy(d->room.open, d->room.x, bytes);
		*result = (struct run_result){ .slot = s->runs[0].p.slot };
		return;
	}
	finish(d, s, result);
}

void cpu_run_step(struct cpu_device *d, const struct step *s, struct run_result *results)
{
	struct step others = { s->runs, s->n_runs - 1, 0, 0, 0 };
	struct run_rows last;

	if (s->n_parts < 2) {
		run_whole(d, s, results);
		return;
	}
	last = s->runs[others.n_runs];
	others.n_rows = s->n_rows - last.p.n;
	last.row = 0;
	if (others.n_runs)
		run_whole(d, &others, results);
	run_part(d, &(struct step){ &last, 1, last.p.n, s->part, s->n_parts },
		 &results[others.n_runs]);
}
