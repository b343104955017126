/* step.c - `hearth-bench step`: how fast a device takes prompts and answers.
 *
 * Which cells fit (step_cells.c), the device, each cell through submit() and collect() alone (step_run.c), and a
 * table with every condition beside it (step_report.c, step_conditions.c).
 */
#include "bench/step.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "bench/step_conditions.h"
#include "bench/step_options.h"

/* Lines for cells that are left out, until there is a report. */
struct skipped {
	struct {
		struct step_cell cell;
		char why[160];
	} list[STEP_MAX_CELLS];
	uint32_t n;
};

struct bench {
	struct step_options o;
	struct step_model m;
	struct step_table t;
	struct step_run run;
	struct step_report report;
	struct skipped skipped;
	struct device *d;
	double roof;
};

static void note_skipped(void *ctx, const struct step_cell *c, const char *why)
{
	struct skipped *s = ctx;

	s->list[s->n].cell = *c;
	snprintf(s->list[s->n].why, sizeof(s->list[s->n].why), "%s", why);
	s->n++;
}

/* Where there is no report. */
static void print_skipped(const struct skipped *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		const struct step_cell *c = &s->list[i].cell;

		fprintf(stderr, "skipped: %s %u, batch %u: %s\n", c->prompt ? "prompt" : "context", c->tokens,
			c->batch, s->list[i].why);
	}
}

/* A device with the limits of the table, loaded. */
static int open_device(struct bench *b, struct err *e)
{
	struct device_measures what = { .read_roof = 0 };
	int r = device_open(b->o.device, &b->m.shape, &b->t.limits, &b->d, e);

	if (r < 0)
		return r;
	if (device_measure(b->d, MEASURE_ROOF, &what) == 0)
		b->roof = what.read_roof;
	return device_load(b->d, &b->m.source, NULL, NULL, e);
}

static int prepare(struct bench *b, struct err *e)
{
	int r = step_model_open(b->o.model, b->o.dummy, b->o.shape, b->o.quantize, &b->m, e);

	if (r == 0 && b->o.draft && !b->m.shape.n_mtp_layers)
		r = err_set(e, -EINVAL, "--draft: this model has no MTP layer");
	if (r == 0)
		r = step_table_plan(&b->o, &b->m, &b->t, note_skipped, &b->skipped, e);
	if (r == 0)
		r = open_device(b, e);
	if (r == 0 && (r = step_run_open(b->d, &b->o, &b->m, &b->t, &b->run)) < 0)
		err_set(e, r, "%s", strerror(-r));
	return r;
}

static int measure_all(struct bench *b)
{
	char text[256];
	int r = 0;

	step_report_begin(&b->report, b->o.format);
	b->report.run = &b->run;
	b->report.roof = b->roof;
	step_conditions(&b->report, &b->run);
	for (uint32_t i = 0; i < b->skipped.n; i++)
		step_report_skipped(&b->report, &b->skipped.list[i].cell, b->skipped.list[i].why);
	for (uint32_t i = 0; r == 0 && i < b->t.n; i++) {
		struct step_cell *c = &b->t.cell[i];

		if (c->skipped)
			continue;
		r = step_run_cell(&b->run, c);
		if (r == 0)
			step_report_cell(&b->report, c);
		else
			snprintf(text, sizeof(text), "%s of %u, batch %u: %s%s%s", c->prompt ? "prompt" : "context",
				 c->tokens, c->batch, strerror(-r), *device_lost_text(b->d) ? ": " : "",
				 device_lost_text(b->d));
	}
	step_report_end(&b->report, r < 0 ? text : NULL);
	if (r < 0)
		fprintf(stderr, "hearth-bench step: %s\n", text);
	return r;
}

static void close_all(struct bench *b)
{
	step_run_close(&b->run);
	device_close(b->d);
	step_model_close(&b->m);
}

int bench_step_main(int argc, char **argv)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct err e = { .code = 0 };
	int r = b ? step_options_parse(argc, argv, &b->o) : -ENOMEM;

	if (r != 0) {
		free(b);
		return r > 0 ? 0 : r == -ENOMEM ? EX_OSERR : EX_USAGE;
	}
	if (prepare(b, &e) < 0) {
		print_skipped(&b->skipped);
		fprintf(stderr, "hearth-bench step: %s\n", e.text);
		step_report_failed(b->o.format, e.text);
		r = EX_CONFIG;
	} else {
		r = measure_all(b) < 0 ? EX_SOFTWARE : 0;
	}
	close_all(b);
	free(b);
	return r;
}
