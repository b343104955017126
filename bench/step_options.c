/* step_options.c - see step_options.h. */
#include "config.h"

#include "bench/step_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/number.h"
#include "lib/opts.h"

enum {
	OPT_DEVICE = OPTS_LONG_ONLY,
	OPT_DUMMY,
	OPT_SHAPE,
	OPT_QUANTIZE,
	OPT_KV,
	OPT_BATCH,
	OPT_CONTEXT,
	OPT_PROMPT,
	OPT_STEPS,
	OPT_TOKENS,
	OPT_REPEAT,
	OPT_ROWS,
	OPT_MEMORY,
	OPT_AHEAD,
	OPT_GREEDY,
	OPT_DRAFT,
	OPT_THREADS,
	OPT_FORMAT,
	OPT_DUMP
};

static const struct opts_row rows[] = {
	{ OPT_DEVICE, "device", "DEVICE", "cpu or cuda:N (default: cpu)" },
	{ OPT_DUMMY, "dummy", "FORMAT",
	  "no MODEL: weights made up in bf16, fp8, nvfp4 or nvfp4-fp8" },
	{ OPT_SHAPE, "shape", "SHAPE",
	  "of --dummy: 35b, 27b or a folder with config.json (default: 35b)" },
	{ OPT_QUANTIZE, "quantize", "WHAT",
	  "becomes FP8 while loading: none, head, dense, "
	  "head+dense (default: none)" },
	{ OPT_KV, "kv", "FORMAT", "of keys and values: bf16 or fp8 (default: bf16)" },
	{ OPT_BATCH, "batch", "N,N..",
	  "sequences that decode together (default: 1,8,16,64; cpu: 1,8)" },
	{ OPT_CONTEXT, "context", "N,N..",
	  "tokens before the first step, multiples of 64, 0: no decoding "
	  "(default: 1024,8192; cpu: 512,2048)" },
	{ OPT_PROMPT, "prompt", "N,N..",
	  "tokens of a prompt alone, 0: no prompts (default: 256,2048,8192,32768; "
	  "cpu: 256,2048)" },
	{ OPT_STEPS, "steps", "N", "decode steps that are timed (default: 512; cpu: 64)" },
	{ OPT_TOKENS, "tokens", "N", "the same as --steps" },
	{ OPT_REPEAT, "repeat", "N", "times a prompt is timed, after one to warm up (default: 4)" },
	{ OPT_ROWS, "rows", "N",
	  "of a prompt in one step, a multiple of 64 (default: what the device likes)" },
	{ OPT_MEMORY, "memory", "GIB", "that the device may take (default: what is free)" },
	{ OPT_AHEAD, "ahead", "0|1",
	  "1: submit a step before the last one is collected (default: 1)" },
	{ OPT_GREEDY, "greedy", NULL, "arg-max instead of temperature 0.7, top_k 20, top_p 0.95" },
	{ OPT_DRAFT, "draft", NULL, "let the MTP head guess beside it, where the model has one" },
	{ OPT_THREADS, "threads", "N", "of the CPU back end (default: one a core)" },
	{ OPT_FORMAT, "format", "FORMAT", "markdown, csv or json (default: markdown)" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

void step_options_help(bool wrong)
{
	FILE *f = wrong ? stderr : stdout;

	fputs("usage: hearth-bench step [options] MODEL\n"
	      "       hearth-bench step [options] --dummy FORMAT [--shape SHAPE]\n", f);
	opts_print_help(rows, f);
}

static int refuse(const char *option, const char *value)
{
	fprintf(stderr, "hearth-bench step: --%s: '%s' is not possible, see --help\n", option, value);
	return -EINVAL;
}

static bool format(const char *s, enum step_format *ret)
{
	static const char *const names[] = { "markdown", "csv", "json" };

	for (int i = 0; i < 3; i++)
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum step_format)i;
			return true;
		}
	return false;
}

static bool take_cells(int c, struct step_options *o)
{
	switch (c) {
	case OPT_BATCH:
		return number_list(optarg, STEP_MAX_BATCH, 1, o->batch, STEP_MAX_LIST,
				   &o->n_batch) &&
		       o->n_batch;
	case OPT_CONTEXT:
		return number_list(optarg, 1u << 20, STEP_GRID, o->context, STEP_MAX_LIST,
				   &o->n_context);
	case OPT_PROMPT:
		return number_list(optarg, 1u << 20, 1, o->prompt, STEP_MAX_LIST, &o->n_prompt);
	case OPT_STEPS: case OPT_TOKENS: return number_of(optarg, 2, 1u << 20, &o->steps);
	case OPT_REPEAT: return number_of(optarg, 1, 64, &o->repeat);
	case OPT_ROWS:
		return number_of(optarg, STEP_GRID, 1u << 20, &o->rows) && o->rows % STEP_GRID == 0;
	default: return false;
	}
}

static bool take(int c, struct step_options *o)
{
	switch (c) {
	case OPT_DEVICE: o->device = optarg; return true;
	case OPT_DUMMY: o->dummy = optarg; return true;
	case OPT_SHAPE: o->shape = optarg; return true;
	case OPT_QUANTIZE: return quantize_parse(optarg, &o->quantize) == 0;
	case OPT_KV: return kv_format_parse(optarg, &o->kv) == 0;
	case OPT_MEMORY: return number_gibibytes(optarg, &o->memory);
	case OPT_AHEAD: return number_of(optarg, 0, 1, &o->ahead);
	case OPT_GREEDY: o->greedy = true; return true;
	case OPT_DRAFT: o->draft = true; return true;
	case OPT_THREADS: return number_of(optarg, 0, 1024, &o->threads);
	case OPT_FORMAT: return format(optarg, &o->format);
	default: return take_cells(c, o);
	}
}

/* What suits the device, before the options are read. */
static void defaults(int argc, char **argv, struct step_options *ret)
{
	*ret = (struct step_options){ .device = "cpu", .batch = { 1, 8, 16, 64 }, .n_batch = 4,
				      .context = { 1024, 8192 }, .n_context = 2,
				      .prompt = { 256, 2048, 8192, 32768 }, .n_prompt = 4, .steps = 512,
				      .repeat = 4, .ahead = 1 };
	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], "cuda:", 5) == 0 || strncmp(argv[i], "--device=cuda:", 14) == 0)
			return;
	ret->n_batch = ret->n_prompt = 2;
	ret->context[0] = 512;
	ret->context[1] = 2048;
	ret->steps = 64;
}

static void keep_command(int argc, char **argv, struct step_options *o)
{
	size_t at = (size_t)snprintf(o->command, sizeof(o->command), "hearth-bench");

	for (int i = 0; i < argc && at < sizeof(o->command); i++)
		at += (size_t)snprintf(o->command + at, sizeof(o->command) - at, " %s", argv[i]);
}

/* MODEL or --dummy, and something to measure. */
static int check(int argc, char **argv, struct step_options *o)
{
	if (optind < argc)
		o->model = argv[optind];
	if (optind + (o->dummy ? 0 : 1) != argc) {
		fprintf(stderr, "hearth-bench step: it takes one MODEL, or --dummy and none\n");
		return -EINVAL;
	}
	if (o->shape && !o->dummy)
		return refuse("shape", o->shape);
	if (!o->n_prompt && !o->n_context) {
		fprintf(stderr, "hearth-bench step: neither prompts nor contexts: nothing to measure\n");
		return -EINVAL;
	}
	if (!o->shape)
		o->shape = "35b";
	return 0;
}

static int printed(int c)
{
	if (c == 'h')
		step_options_help(false);
	else if (c == 'V')
		puts("hearth-bench " PACKAGE_VERSION);
	else
		opts_print_dump(rows);
	return 1;
}

static const char *name_of(int key)
{
	const struct opts_row *r = rows;

	while (r->name && r->key != key)
		r++;
	return r->name ? r->name : "?";
}

int step_options_parse(int argc, char **argv, struct step_options *ret)
{
	int c;

	defaults(argc, argv, ret);
	keep_command(argc, argv, ret);
	while ((c = opts_next(rows, argc, argv)) != -1) {
		if (c == 'h' || c == 'V' || c == OPT_DUMP)
			return printed(c);
		if (c == '?') {
			step_options_help(true);
			return -EINVAL;
		}
		if (!take(c, ret))
			return refuse(name_of(c), optarg);
	}
	c = check(argc, argv, ret);
	if (c < 0)
		step_options_help(true);
	return c;
}
