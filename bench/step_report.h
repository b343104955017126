/* step_report.h - a table of cells as markdown, CSV or JSON, on stdout.
 *
 * Every cell is written as soon as it is measured, so that a run that is cut short leaves what it had.
 *
 *	begin -> { condition | skipped } ... -> { cell } ... -> end
 *
 * Markdown: conditions as a list, a table of prompts, one of decode, and at the end one of time by class.  CSV:
 * conditions as lines with a '#', then a header and a line a cell; empty is not known.  JSON: one object with
 * "conditions", "skipped" and "cells"; null is not known.
 */
#ifndef HEARTH_BENCH_STEP_REPORT_H
#define HEARTH_BENCH_STEP_REPORT_H

#include "bench/step_run.h"

struct step_report {
	enum step_format format;
	const struct step_run *run;	/* from the first cell on */
	double roof;			/* bytes a second; 0: not known */
	uint32_t n_conditions, n_skipped, n_cells;
	bool prompts, decodes;		/* the table was begun */
	const struct step_cell *measured[STEP_MAX_CELLS];	/* n_cells, borrowed until the end */
};

void step_report_begin(struct step_report *p, enum step_format format);
/* A condition in words. */
void step_report_condition(struct step_report *p, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* One that is a number; `unit` for people. */
void step_report_number(struct step_report *p, const char *key, double x, const char *unit);
/* After all conditions. */
void step_report_skipped(struct step_report *p, const struct step_cell *c, const char *why);
void step_report_cell(struct step_report *p, const struct step_cell *c);
/* error: NULL or why the run was cut short. */
void step_report_end(struct step_report *p, const char *error);
/* Where there is no report: for JSON an object with "error" alone. */
void step_report_failed(enum step_format format, const char *error);

#endif
