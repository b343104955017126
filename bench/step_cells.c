/* step_cells.c - see step_cells.h. */
#include "bench/step_cells.h"

#include <errno.h>
#include <stdio.h>

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint32_t blocks_of(uint32_t positions)
{
	return (positions + STEP_GRID - 1) / STEP_GRID;
}

/* Positions of a sequence at the cell's end. */
static uint32_t positions_of(const struct step_cell *c, const struct step_options *o)
{
	return c->tokens + (c->prompt ? 0 : STEP_WARM_UP + o->steps + STEP_PROFILED);
}

uint32_t step_cell_blocks(const struct step_cell *c, const struct step_options *o)
{
	return blocks_of(positions_of(c, o));
}

static void add(struct step_table *t, bool prompt, uint32_t batch, uint32_t tokens)
{
	struct step_cell *c = &t->cell[t->n++];

	*c = (struct step_cell){ .prompt = prompt, .batch = batch, .tokens = tokens, .median = -1, .bytes = -1,
				 .device_bytes = -1, .experts = -1, .expected = -1 };
	for (int i = 0; i < MEASURE_MAX_CLASSES; i++)
		c->class_ms[i] = -1;
}

static void list_cells(const struct step_options *o, struct step_table *t)
{
	for (uint32_t i = 0; i < o->n_prompt; i++)
		add(t, true, 1, o->prompt[i]);
	for (uint32_t i = 0; i < o->n_context; i++)
		for (uint32_t k = 0; k < o->n_batch; k++)
			add(t, false, o->batch[k], o->context[i]);
}

static void skip_positions(const struct step_options *o, const struct step_model *m, struct step_table *t,
			   step_skip *skip, void *ctx)
{
	char why[160];

	for (uint32_t i = 0; i < t->n; i++) {
		struct step_cell *c = &t->cell[i];

		if (positions_of(c, o) <= m->shape.max_positions)
			continue;
		c->skipped = true;
		snprintf(why, sizeof(why), "needs %u positions, the model has %u", positions_of(c, o),
			 m->shape.max_positions);
		skip(ctx, c, why);
	}
}

/* ---- memory ---------------------------------------------------------------------------- */

/* What the cells that are left need; false: none is. */
static bool limits_of(const struct step_options *o, const struct step_table *t, struct device_limits *ret)
{
	uint32_t rows = o->rows ? o->rows : t->facts.prompt_rows, longest = 0;

	*ret = (struct device_limits){ .n_threads = o->threads, .kv = o->kv };
	for (uint32_t i = 0; i < t->n; i++) {
		const struct step_cell *c = &t->cell[i];
		const uint32_t blocks = step_cell_blocks(c, o);

		if (c->skipped)
			continue;
		ret->n_slots = larger(ret->n_slots, c->batch);
		ret->n_blocks = larger(ret->n_blocks, c->batch * blocks);
		ret->max_context = larger(ret->max_context, blocks * STEP_GRID);
		longest = larger(longest, blocks_of(c->tokens) * STEP_GRID);
	}
	ret->max_rows = larger(larger(rows < longest ? rows : longest, ret->n_slots), STEP_GRID);
	return ret->n_slots > 0;
}

static struct step_cell *most_blocks(const struct step_options *o, struct step_table *t)
{
	struct step_cell *most = NULL;

	for (uint32_t i = 0; i < t->n; i++) {
		struct step_cell *c = &t->cell[i];

		if (!c->skipped && (!most || c->batch * step_cell_blocks(c, o) >=
						     most->batch * step_cell_blocks(most, o)))
			most = c;
	}
	return most;
}

static int budget_of(const struct step_options *o, const struct step_model *m, const struct device_limits *l,
		     struct device_budget *ret, struct err *e)
{
	struct device *d;
	int r = device_open(o->device, &m->shape, l, &d, e);

	if (r < 0)
		return r;
	device_budget(d, &m->source, ret);
	device_close(d);
	return 0;
}

static double gb(uint64_t bytes)
{
	return (double)bytes / 1e9;
}

/* Drops the cell with the most blocks until the rest fits. */
static int skip_memory(const struct step_options *o, const struct step_model *m, struct step_table *t,
		       step_skip *skip, void *ctx, struct err *e)
{
	uint64_t need = 0;
	char why[160];

	while (limits_of(o, t, &t->limits)) {
		int r = budget_of(o, m, &t->limits, &t->budget, e);

		if (r < 0)
			return r;
		need = t->budget.weights + t->budget.kv + t->budget.states + t->budget.workspace;
		if (!t->memory || need <= t->memory)
			return 0;
		struct step_cell *c = most_blocks(o, t);

		c->skipped = true;
		snprintf(why, sizeof(why), "with it the device needs %.3f GB and may take %.3f", gb(need), gb(t->memory));
		skip(ctx, c, why);
	}
	return need ? err_set(e, -ENOMEM, "not one cell fits into %.3f GB: the last needs %.3f (weights %.3f)",
			      gb(t->memory), gb(need), gb(t->budget.weights)) :
		      err_set(e, -ENOMEM, "not one cell is left");
}

/* The smallest device, for its word on itself. */
static int describe(const struct step_options *o, const struct step_model *m, struct step_table *t, struct err *e)
{
	const struct device_limits least = { .n_slots = 1, .n_blocks = 1, .max_rows = STEP_GRID,
					     .max_context = STEP_GRID, .n_threads = o->threads, .kv = o->kv };
	struct device *d;
	int r = device_open(o->device, &m->shape, &least, &d, e);

	if (r < 0)
		return r;
	t->facts = (struct device_measures){ .device = "not known", .prompt_rows = 512 };
	r = device_measure(d, MEASURE_DEVICE, &t->facts);
	device_close(d);
	if (r < 0 && r != -ENOTSUP)
		return err_set(e, r, "%s: it does not say what it is", o->device);
	/* a little stays for what drivers and allocators round up */
	t->memory = o->memory ? o->memory : t->facts.free / 100 * 97;
	return 0;
}

int step_table_plan(const struct step_options *o, const struct step_model *m, struct step_table *t,
		    step_skip *skip, void *ctx, struct err *e)
{
	*t = (struct step_table){ .n = 0 };
	list_cells(o, t);
	int r = describe(o, m, t, e);

	if (r < 0)
		return r;
	skip_positions(o, m, t, skip, ctx);
	return skip_memory(o, m, t, skip, ctx, e);
}
