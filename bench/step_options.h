/* step_options.h - what `hearth-bench step` is asked for. */
#ifndef HEARTH_BENCH_STEP_OPTIONS_H
#define HEARTH_BENCH_STEP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/quantize.h"
#include "kernels/step.h"

enum { STEP_MAX_LIST = 16, STEP_MAX_BATCH = 256 };

enum step_format { STEP_MARKDOWN, STEP_CSV, STEP_JSON };

struct step_options {
	const char *model;		/* folder or hub id; NULL: made-up weights */
	const char *dummy, *shape;	/* recipe; "35b", "27b" or a folder with config.json */
	const char *device;
	enum quantize quantize;
	enum kv_format kv;
	uint32_t batch[STEP_MAX_LIST], n_batch, context[STEP_MAX_LIST], n_context;
	uint32_t prompt[STEP_MAX_LIST], n_prompt;	/* n_*: 0 for none */
	uint32_t steps, repeat, rows, threads;	/* rows, threads 0: the device's choice */
	uint64_t memory;		/* bytes that the device may take; 0: what is free */
	uint32_t ahead;			/* 1: the next step is submitted before one is collected */
	bool greedy, draft;
	enum step_format format;
	char command[512];		/* the command line, for who reads the table */
};

/* 0: go on; 1: what was asked for is printed; -EINVAL: one line on stderr. */
int step_options_parse(int argc, char **argv, struct step_options *ret);
/* The text of --help: to stdout, or to stderr for wrong usage. */
void step_options_help(bool wrong);

#endif
