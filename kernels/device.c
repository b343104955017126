/* device.c - chooses a back end by name and checks what goes in: see step.h. */
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"

static int check_limits(const struct device_limits *l, struct err *e)
{
	if (l->n_slots == 0 || l->n_blocks == 0 || l->max_rows < STEP_GRID || l->max_context == 0)
		return err_set(e, -EINVAL, "device: %u slots, %u blocks, %u rows, context %u: each must "
			       "be positive, rows at least %d", l->n_slots, l->n_blocks, l->max_rows,
			       l->max_context, STEP_GRID);
	return 0;
}

static int open_named(const char *name, const struct model_shape *shape,
		      const struct device_limits *limits, struct device **ret, struct err *e)
{
	if (strcmp(name, "cpu") == 0)
		return cpu_device_open(shape, limits, ret, e);
	if (strncmp(name, "cuda:", 5) != 0)
		return err_set(e, -ENODEV, "device %s: not known (cpu, cuda:N)", name);
	if (!cuda_backend_open)
		return err_set(e, -ENODEV, "device %s: this program has no CUDA back end", name);
	return cuda_backend_open(name, shape, limits, ret, e);
}

int device_open(const char *name, const struct model_shape *shape,
		const struct device_limits *limits, struct device **ret, struct err *e)
{
	struct device *d;
	int r = check_limits(limits, e);

	if (r < 0)
		return r;
	uint8_t *seen = calloc(limits->n_slots, 1);
	if (!seen)
		return err_set(e, -ENOMEM, "out of memory");
	r = open_named(name, shape, limits, &d, e);
	if (r < 0) {
		free(seen);
		return r;
	}
	d->slot_seen = seen;
	*ret = d;
	return 0;
}

struct device *device_close(struct device *d)
{
	if (!d)
		return NULL;
	free(d->slot_seen);
	return d->backend->close(d);
}

void device_budget(const struct device *d, const struct weight_source *w, struct device_budget *ret)
{
	d->backend->budget(d, w, ret);
}

const char *device_numeric_text(const struct device *d)
{
	return d->backend->numeric_text(d);
}

const char *device_lost_text(struct device *d)
{
	return d->backend->lost_text ? d->backend->lost_text(d) : "";
}

const char *device_load_note(const struct device *d)
{
	return d->backend->load_note(d);
}

int device_load(struct device *d, const struct weight_source *w, device_progress *progress,
		void *ctx, struct err *e)
{
	if (d->loaded)
		return err_set(e, -EINVAL, "device: already loaded");
	int r = d->backend->load(d, w, progress, ctx, e);
	d->loaded = r == 0;
	return r;
}

/* ---- plans ------------------------------------------------------------------- */

static bool ids_ok(const struct device *d, const uint32_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] >= d->shape.vocab_rows)
			return false;
	return true;
}

static bool kind_ok(const struct plan_run *r)
{
	switch (r->kind) {
	case ROW_PREFILL:
		return r->input == IN_TOKENS && r->pos % STEP_GRID == 0;
	case ROW_DECODE:
		return r->n == 1;
	case ROW_REPLAY:
		return r->input == IN_TOKENS;
	}
	return false;
}

static bool run_ok(const struct device *d, const struct plan_run *r)
{
	if (r->slot >= d->limits.n_slots || r->n == 0 || !kind_ok(r) ||
	    r->n > d->limits.max_rows || r->pos > d->limits.max_context - r->n)
		return false;
	if (r->n_blocks < (r->pos + r->n + STEP_GRID - 1) / STEP_GRID)
		return false;
	for (uint32_t i = 0; i < r->n_blocks; i++)
		if (r->blocks[i] >= d->limits.n_blocks)
			return false;
	return r->input == IN_LAST_SAMPLE || (r->tokens && ids_ok(d, r->tokens, r->n));
}

static bool plan_ok(struct device *d, const struct plan *p)
{
	uint64_t rows = 0;
	bool ok = p->n_runs > 0 && p->n_runs <= d->limits.n_slots;

	memset(d->slot_seen, 0, d->limits.n_slots);
	for (uint32_t i = 0; ok && i < p->n_runs; i++) {
		const struct plan_run *r = &p->runs[i];

		ok = run_ok(d, r) && !d->slot_seen[r->slot];
		if (ok)
			d->slot_seen[r->slot] = 1;
		rows += r->n;
	}
	return ok && rows <= d->limits.max_rows;
}

static uint32_t n_prompts(const struct plan *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->n_runs; i++)
		n += p->runs[i].kind == ROW_PREFILL;
	return n;
}

static bool parts_ok(const struct device *d, const struct plan *p)
{
	const struct plan_run *r = &p->runs[p->n_runs - 1];

	if (p->n_parts < 2)
		return p->part == 0;
	if (p->n_parts > d->shape.n_layers || p->part >= p->n_parts || r->kind != ROW_PREFILL ||
	    n_prompts(p) != 1 || r->n > STEP_PART_ROWS)
		return false;
	return p->part == 0 ||
	       (d->open.n_parts == p->n_parts && d->open.next == p->part && d->open.slot == r->slot &&
		d->open.pos == r->pos && d->open.n == r->n);
}

static bool runs_on(const struct plan *p, uint32_t slot)
{
	for (uint32_t i = 0; i < p->n_runs; i++)
		if (p->runs[i].slot == slot)
			return true;
	return false;
}

/* What is open once p was taken. */
static void note_open(struct device *d, const struct plan *p)
{
	const struct plan_run *r = &p->runs[p->n_runs - 1];

	if (!n_prompts(p) && !runs_on(p, d->open.slot))
		return;
	memset(&d->open, 0, sizeof(d->open));
	if (p->n_parts < 2 || p->part + 1 == p->n_parts)
		return;
	d->open.slot = r->slot;
	d->open.pos = r->pos;
	d->open.n = r->n;
	d->open.next = p->part + 1;
	d->open.n_parts = p->n_parts;
}

int device_submit(struct device *d, const struct plan *p)
{
	if (!d->loaded || !plan_ok(d, p) || !parts_ok(d, p))
		return -EINVAL;
	int r = d->backend->submit(d, p);
	if (r == 0)
		note_open(d, p);
	return r;
}

int device_collect(struct device *d, struct run_result *ret, uint32_t n)
{
	return d->backend->collect(d, ret, n);
}

static bool sampling_is_ok(const struct device *d, const struct sampling *s)
{
	if (!(s->temperature >= 0) || !(s->top_p > 0 && s->top_p <= 1) ||
	    !(s->min_p >= 0 && s->min_p <= 1) || !(s->repetition > 0) || s->n_top > STEP_MAX_TOP ||
	    s->n_bias > STEP_MAX_BIAS || s->presence != s->presence || s->frequency != s->frequency)
		return false;
	for (uint32_t i = 0; i < s->n_bias; i++)
		if (s->bias[i].id >= d->shape.vocab_rows || s->bias[i].bias != s->bias[i].bias)
			return false;
	return ids_ok(d, s->never, s->n_never);
}

int slot_begin(struct device *d, uint32_t slot, const struct sampling *s, const uint32_t *prompt,
	       uint32_t n_prompt)
{
	if (!d->loaded || slot >= d->limits.n_slots || !sampling_is_ok(d, s) ||
	    !ids_ok(d, prompt, n_prompt))
		return -EINVAL;
	int r = d->backend->slot_begin(d, slot, s, prompt, n_prompt);
	if (r == 0 && d->open.slot == slot)
		memset(&d->open, 0, sizeof(d->open));
	return r;
}

size_t state_bytes(const struct device *d)
{
	return d->backend->state_bytes(d);
}

size_t block_bytes(const struct device *d)
{
	return d->backend->block_bytes(d);
}

int state_save(struct device *d, uint32_t slot, void *ret)
{
	return d->loaded && slot < d->limits.n_slots ? d->backend->state_save(d, slot, ret) : -EINVAL;
}

int state_restore(struct device *d, uint32_t slot, const void *from)
{
	return d->loaded && slot < d->limits.n_slots ? d->backend->state_restore(d, slot, from) :
						       -EINVAL;
}

int block_save(struct device *d, kv_block b, void *ret)
{
	return d->loaded && b < d->limits.n_blocks ? d->backend->block_save(d, b, ret) : -EINVAL;
}

int block_restore(struct device *d, kv_block b, const void *from)
{
	return d->loaded && b < d->limits.n_blocks ? d->backend->block_restore(d, b, from) : -EINVAL;
}

/* ---- measurements ------------------------------------------------------------ */

int device_measure(struct device *d, enum measure what, struct device_measures *ret)
{
	if (!d->loaded && (what == MEASURE_READS || what == MEASURE_STEPS))
		return -EINVAL;
	return d->backend->measure ? d->backend->measure(d, what, ret) : -ENOTSUP;
}

int device_profile(struct device *d, bool on)
{
	return d->backend->profile ? d->backend->profile(d, on) : -ENOTSUP;
}
