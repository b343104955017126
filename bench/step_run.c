/* step_run.c - see step_run.h. */
#include "bench/step_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "kernels/noise.h"
#include "lib/clock.h"

#define PROMPT_SEED 3

/* ---- room ------------------------------------------------------------------------------ */

int step_run_open(struct device *d, const struct step_options *o, const struct step_model *m,
		  const struct step_table *t, struct step_run *r)
{
	const uint32_t slots = t->limits.n_slots;
	struct device_measures what = { .n_classes = 0 };

	*r = (struct step_run){ .d = d, .o = o, .m = m, .t = t, .bytes = step_bytes_of(&m->shape, &m->traffic, o->kv,
								   !strcmp(o->device, "cpu")),
				.pages = t->limits.max_context / STEP_GRID };
	r->ids = calloc(t->limits.max_rows, sizeof(*r->ids));
	r->blocks = calloc((size_t)slots * r->pages, sizeof(*r->blocks));
	r->runs = calloc(slots, sizeof(*r->runs));
	r->results = calloc(slots, sizeof(*r->results));
	if (!r->ids || !r->blocks || !r->runs || !r->results)
		return -ENOMEM;
	r->reads_known = device_measure(d, MEASURE_READS, &what) == 0;
	r->step_bytes = what.step_bytes;
	r->expert_bytes = what.expert_bytes;
	r->profiles = device_profile(d, false) == 0;
	if (device_measure(d, MEASURE_STEPS, &what) < 0)
		return 0;
	r->n_classes = r->profiles ? what.n_classes : 0;
	for (uint32_t i = 0; i < r->n_classes; i++)
		r->class_name[i] = what.classes[i].name;
	return 0;
}

void step_run_close(struct step_run *r)
{
	free(r->states);
	free(r->ids);
	free(r->blocks);
	free(r->runs);
	free(r->results);
}

static double seconds_since(uint64_t begin)
{
	return (double)(clock_ns() - begin) / 1e9;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		const uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* Neighbours in a sequence are not neighbours in memory, as in a server that has run for a while. */
static void give_blocks(struct step_run *r, uint32_t slots, uint32_t pages)
{
	const uint64_t n = (uint64_t)slots * pages;
	uint64_t stride = 37;

	while (common_divisor(stride, n) != 1)
		stride++;
	for (uint32_t s = 0; s < slots; s++)
		for (uint32_t p = 0; p < pages; p++)
			r->blocks[(size_t)s * r->pages + p] = (kv_block)(((uint64_t)s * pages + p) * stride % n);
}

/* ---- prompts --------------------------------------------------------------------------- */

static int begin_slot(struct step_run *r, uint32_t slot)
{
	struct sampling s = { .temperature = 0.7f, .top_k = 20, .top_p = 0.95f, .repetition = 1, .seed = slot };

	if (r->o->greedy)
		s = (struct sampling){ .top_p = 1, .repetition = 1 };
	return slot_begin(r->d, slot, &s, NULL, 0);
}

static int submit_part(struct step_run *r, uint32_t slot, uint32_t at, uint32_t n, bool last)
{
	const struct plan_run run = { .slot = slot, .kind = ROW_PREFILL, .pos = at, .n = n, .tokens = r->ids,
				      .blocks = r->blocks + (size_t)slot * r->pages,
				      .n_blocks = (at + n + STEP_GRID - 1) / STEP_GRID, .sample = last,
				      .draft = r->o->draft };
	const struct plan plan = { .runs = &run, .n_runs = 1 };

	for (uint32_t i = 0; i < n; i++)
		r->ids[i] = noise_philox(PROMPT_SEED, at + i, r->n_prompts, 0, 0).w[0] % r->m->shape.n_token_ids;
	return device_submit(r->d, &plan);
}

static int collect(struct step_run *r, uint32_t n, bool sampled)
{
	int got = device_collect(r->d, r->results, n);

	if (got < 0)
		return got;
	for (uint32_t i = 0; i < n && sampled; i++) {
		if (!r->results[i].sampled || r->results[i].token >= r->m->shape.vocab_rows)
			return -EPROTO;
		r->sampled = XXH64(&r->results[i].token, sizeof(r->results[i].token), r->sampled);
	}
	return (uint32_t)got == n ? 0 : -EPROTO;
}

/* A new random prompt of n tokens in a slot, to its first sample. */
static int prompt(struct step_run *r, uint32_t slot, uint32_t n, double *ret_submit)
{
	const uint32_t rows = r->t->limits.max_rows / STEP_GRID * STEP_GRID;
	int rc = begin_slot(r, slot), flying = 0;

	for (uint32_t at = 0; rc == 0 && at < n; at += rows) {
		const uint32_t part = n - at < rows ? n - at : rows;
		const uint64_t begin = clock_ns();

		rc = submit_part(r, slot, at, part, at + part == n);
		*ret_submit += seconds_since(begin);
		flying += rc == 0;
		if (rc == 0 && flying > (int)r->o->ahead) {
			rc = collect(r, 1, at + part == n && !r->o->ahead);
			flying--;
		}
	}
	if (rc == 0 && flying)
		rc = collect(r, 1, true);
	r->n_prompts++;
	return rc;
}

static int ascending(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int profile_prompt(struct step_run *r, struct step_cell *c)
{
	struct device_measures what;
	double unused = 0;
	int rc = device_measure(r->d, MEASURE_STEPS, &what);

	if (rc == 0)
		rc = device_profile(r->d, true);
	if (rc == 0)
		rc = prompt(r, 0, c->tokens, &unused);
	if (rc == 0)
		rc = device_profile(r->d, false);
	if (rc == 0)
		rc = device_measure(r->d, MEASURE_STEPS, &what);
	for (uint32_t i = 0; rc == 0 && i < r->n_classes; i++)
		c->class_ms[i] = what.classes[i].ms;
	return rc;
}

static int measure_prompt(struct step_run *r, struct step_cell *c)
{
	const uint32_t rows = r->t->limits.max_rows / STEP_GRID * STEP_GRID, n = r->o->repeat;
	double took[64], submit = 0;
	int rc;

	give_blocks(r, 1, step_cell_blocks(c, r->o));
	rc = prompt(r, 0, c->tokens, &submit);		/* to warm up */
	c->steps = (c->tokens + rows - 1) / rows;
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		const uint64_t begin = clock_ns();

		submit = 0;
		rc = prompt(r, 0, c->tokens, &submit);
		took[i] = seconds_since(begin);
		if (i == 0 || took[i] < c->seconds) {
			c->seconds = took[i];
			c->in_submit = submit;
		}
	}
	if (rc < 0)
		return rc;
	qsort(took, n, sizeof(took[0]), ascending);
	c->median = (took[(n - 1) / 2] + took[n / 2]) / 2;
	return r->profiles ? profile_prompt(r, c) : 0;
}

/* ---- decode ---------------------------------------------------------------------------- */

/* Sequences that some cell of this context has. */
static uint32_t sequences(const struct step_run *r, uint32_t tokens)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->t->n; i++) {
		const struct step_cell *c = &r->t->cell[i];

		if (!c->prompt && !c->skipped && c->tokens == tokens && c->batch > n)
			n = c->batch;
	}
	return n;
}

/* All sequences of a context, one prompt after the other, and a copy of their states. */
static int fill(struct step_run *r, const struct step_cell *c)
{
	const uint32_t n = sequences(r, c->tokens);
	double unused = 0;
	int rc = 0;

	r->n_states = 0;
	free(r->states);
	r->states = malloc(n * state_bytes(r->d));
	if (!r->states)
		return -ENOMEM;
	give_blocks(r, n, step_cell_blocks(c, r->o));
	for (uint32_t s = 0; rc == 0 && s < n; s++) {
		rc = prompt(r, s, c->tokens, &unused);
		if (rc == 0)
			rc = state_save(r->d, s, r->states + s * state_bytes(r->d));
	}
	r->state_tokens = c->tokens;
	r->n_states = rc == 0 ? n : 0;
	return rc;
}

static int restore(struct step_run *r, const struct step_cell *c)
{
	int rc = 0;

	if (!r->n_states || r->state_tokens != c->tokens)
		return fill(r, c);
	for (uint32_t s = 0; rc == 0 && s < c->batch; s++)
		rc = state_restore(r->d, s, r->states + s * state_bytes(r->d));
	return rc;
}

static int submit_step(struct step_run *r, uint32_t batch, uint32_t pos, double *ret_submit)
{
	const struct plan plan = { .runs = r->runs, .n_runs = batch };
	const uint64_t begin = clock_ns();
	int rc;

	for (uint32_t s = 0; s < batch; s++)
		r->runs[s] = (struct plan_run){ .slot = s, .kind = ROW_DECODE, .input = IN_LAST_SAMPLE, .pos = pos,
						.n = 1, .blocks = r->blocks + (size_t)s * r->pages,
						.n_blocks = pos / STEP_GRID + 1, .sample = true,
						.draft = r->o->draft };
	rc = device_submit(r->d, &plan);
	*ret_submit += seconds_since(begin);
	return rc;
}

static int decode(struct step_run *r, uint32_t batch, uint32_t pos, uint32_t n, double *ret_submit)
{
	int rc = submit_step(r, batch, pos, ret_submit);

	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		if (r->o->ahead && i + 1 < n)
			rc = submit_step(r, batch, pos + i + 1, ret_submit);
		if (rc == 0)
			rc = collect(r, batch, true);
		if (rc == 0 && !r->o->ahead && i + 1 < n)
			rc = submit_step(r, batch, pos + i + 1, ret_submit);
	}
	return rc;
}

/* Steps with events between the kernels, behind those that were timed. */
static int profile_decode(struct step_run *r, struct step_cell *c, uint32_t pos, uint64_t *ret_experts)
{
	struct device_measures what;
	double unused = 0;
	int rc = device_profile(r->d, true);

	if (rc == 0)
		rc = decode(r, c->batch, pos, STEP_PROFILED, &unused);
	if (rc == 0)
		rc = device_profile(r->d, false);
	if (rc == 0)
		rc = device_measure(r->d, MEASURE_STEPS, &what);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < r->n_classes; i++)
		c->class_ms[i] = what.classes[i].ms / STEP_PROFILED;
	*ret_experts = what.experts_active;
	return 0;
}

/* experts: distinct, summed over layers, of a step in the mean; negative: nobody counted. */
static void count_bytes(const struct step_run *r, struct step_cell *c, double experts)
{
	const struct model_shape *s = &r->m->shape;
	const double length = c->tokens + STEP_WARM_UP + c->steps / 2.0;
	struct step_bytes kept = r->bytes;

	c->expected = s->n_experts ? traffic_experts(s, c->batch) : -1;
	if (s->n_experts && experts >= 0)
		c->experts = experts / s->n_layers;
	if (experts < 0)	/* then as if tokens chose independently */
		experts = s->n_experts ? c->expected * s->n_layers : 0;
	c->bytes = step_bytes_sum(&r->bytes, c->batch, experts, length);
	if (!r->reads_known)
		return;
	kept.always = (double)r->step_bytes;
	kept.expert = (double)r->expert_bytes;
	kept.row += step_bytes_logits(s);
	c->device_bytes = step_bytes_sum(&kept, c->batch, experts, length);
}

static int measure_decode(struct step_run *r, struct step_cell *c)
{
	const uint32_t n = r->o->steps, first = c->tokens + STEP_WARM_UP;
	struct device_measures what = { .experts_active = 0 };
	uint64_t experts = 0, begin;
	double unused = 0;
	int rc = restore(r, c);

	r->sampled = 0;	/* the prompts' were not this cell's alone */
	if (rc == 0)
		rc = decode(r, c->batch, c->tokens, STEP_WARM_UP, &unused);
	const bool counts = rc == 0 && device_measure(r->d, MEASURE_STEPS, &what) == 0;
	begin = clock_ns();
	if (rc == 0)
		rc = decode(r, c->batch, first, n, &c->in_submit);
	c->seconds = seconds_since(begin);
	c->steps = n;
	if (rc == 0 && counts)
		rc = device_measure(r->d, MEASURE_STEPS, &what);
	experts = what.experts_active;
	if (rc == 0 && r->profiles && counts)
		rc = profile_decode(r, c, first + n, &experts);
	if (rc == 0)
		count_bytes(r, c, counts ? (double)experts / (r->profiles ? STEP_PROFILED : n) : -1);
	return rc;
}

int step_run_cell(struct step_run *r, struct step_cell *c)
{
	int rc;

	r->sampled = 0;
	rc = c->prompt ? measure_prompt(r, c) : measure_decode(r, c);
	c->ids = r->sampled;
	return rc;
}
