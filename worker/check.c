/* check.c - see check.h. */
#include "config.h"

#include "worker/check.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "kernels/quantize.h"
#include "lib/clock.h"
#include "lib/opts.h"
#include "lib/own.h"
#include "worker/chip.h"
#include "worker/text_model.h"
#include "worker/traffic.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/hf_dir.h"
#include "worker/weights/scan.h"

enum { EX_MODEL = EX_CONFIG };
#define DEFAULT_CONTEXT 8192
#define DEFAULT_STREAMS 16
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)

struct check {
	const char *name;
	uint32_t context, streams;	/* 0: not given */
	bool all;			/* read every byte */
	enum quantize quantize;
	enum kv_format kv;
	char *dir;
	struct hf_config config;
	struct checkpoint *weights;
	struct quantized *quantized;
	struct text_model text;
	struct traffic traffic;
	double open_s;
};

static void check_done(struct check *c)
{
	text_model_done(&c->text);
	quantized_free(c->quantized);
	checkpoint_close(c->weights);
	free(c->dir);
}

static int open_all(struct check *c, struct err *e)
{
	uint64_t begin = clock_ns();
	int r = hf_dir_find(c->name, &c->dir, e);

	if (r == 0)
		r = hf_config_open(c->dir, &c->config, e);
	if (r == 0)
		r = checkpoint_open(c->dir, &c->config, &c->weights, e);
	c->open_s = (double)(clock_ns() - begin) / 1e9;
	if (r == 0)
		r = text_model_open(c->dir, &c->text, e);
	if (r == 0 && tokenizer_n_ids(c->text.tokenizer) > c->config.shape.vocab_rows)
		r = err_set(e, -EINVAL, "%s: the tokenizer has %u ids, the embedding %u rows", c->dir,
			    tokenizer_n_ids(c->text.tokenizer), c->config.shape.vocab_rows);
	if (r == 0 && quantized_new(&c->config.shape, checkpoint_source(c->weights), c->quantize,
				    &c->quantized) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	if (r == 0 &&
	    traffic_count(&c->config.shape, quantized_source(c->quantized), &c->traffic) < 0)
		r = err_set(e, -EINVAL, "%s: the weights cannot be counted", c->dir);
	if (r < 0)
		return r;
	if (c->context > c->config.shape.max_positions)
		return err_set(e, -EINVAL, "context %u: this model has %u positions", c->context,
			       c->config.shape.max_positions);
	if (c->context == 0)
		c->context = c->config.shape.max_positions < DEFAULT_CONTEXT ?
				     c->config.shape.max_positions : DEFAULT_CONTEXT;
	return 0;
}

/* ---- printing ------------------------------------------------------------------------------ */

static double mb(uint64_t bytes)
{
	return (double)bytes / 1e6;
}

static void print_model(const struct check *c)
{
	const struct model_shape *s = &c->config.shape;
	const struct checkpoint_facts *f = checkpoint_facts(c->weights);
	uint32_t attention = 0;
	char line[512];

	for (uint32_t i = 0; i < s->n_layers; i++)
		attention += s->mixer[i] == MIXER_ATTENTION;
	printf("model    %s\n", c->dir);
	printf("shape    %u layers (%u DeltaNet, %u attention), hidden %u, vocabulary %u (%u ids), %u positions\n",
	       s->n_layers, s->n_layers - attention, attention, s->hidden, s->vocab_rows,
	       tokenizer_n_ids(c->text.tokenizer), s->max_positions);
	if (s->n_experts)
		printf("         %u experts, %u used, of %u; shared expert %u\n", s->n_experts,
		       s->n_experts_used, s->expert_inter, s->shared_inter);
	printf("files    %u with %u tensors, checked in %.2f s\n", f->n_files, f->n_tensors, c->open_s);
	printf("chat     %s\n", c->text.chat ? "template found" : "no template: completions only");
	for (uint32_t i = 0; checkpoint_note(c->weights, i, line, sizeof(line)); i++)
		printf("note     %s\n", line);
}

static void print_quantize(const struct check *c)
{
	const struct quantize_facts *f = quantized_facts(c->quantized);

	if (c->quantize && !f->n_matrices)
		printf("quantize %s: no such matrix that is not quantised already\n",
		       quantize_name(c->quantize));
	else if (c->quantize)
		printf("quantize %s: %u matrices become FP8 per row while they are loaded, %.1f MB "
		       "become %.1f\n",
		       quantize_name(c->quantize), f->n_matrices, mb(f->bytes_before),
		       mb(f->bytes_after));
}

static void print_kinds(const struct traffic_row *row)
{
	const char *comma = "";

	for (int k = 0; k < KIND_N; k++)
		if (row->matrices[k]) {
			printf("%s%u %s", comma, row->matrices[k], traffic_kind_name((enum traffic_kind)k));
			comma = ", ";
		}
	printf("\n");
}

static void print_classes(const struct traffic *t)
{
	printf("\n%-14s %12s %14s  %s\n", "class", "MB", "MB a token", "matrices");
	for (int i = 0; i < TRAFFIC_N; i++) {
		const struct traffic_row *row = &t->row[i];

		if (!row->bytes && !row->token_bytes)
			continue;
		printf("%-14s %12.1f %14.1f  ", traffic_class_name((enum traffic_class)i), mb(row->bytes),
		       mb(row->token_bytes));
		print_kinds(row);
	}
	printf("%-14s %12.1f %14.1f\n", "all", mb(t->bytes), mb(t->token_bytes));
}

static uint64_t state_of(const struct check *c, bool cpu)
{
	return traffic_state_bytes(&c->config.shape) + (cpu ? 0 : traffic_kept_bytes(&c->config.shape));
}

static uint64_t needed(const struct check *c, uint64_t weights, bool cpu)
{
	const struct model_shape *s = &c->config.shape;

	return weights +
	       (uint64_t)c->streams * ((uint64_t)c->context * traffic_kv_bytes(s, c->kv, true) +
				       state_of(c, cpu));
}

static void print_budget(const struct check *c)
{
	const struct model_shape *s = &c->config.shape;
	uint64_t kv = (uint64_t)c->streams * c->context * traffic_kv_bytes(s, c->kv, true);
	uint64_t state = c->streams * state_of(c, false);

	printf("\nmemory for %u streams of %u tokens\n", c->streams, c->context);
	printf("  weights   %12.1f MB in the %s formats\n", mb(c->traffic.bytes),
	       quantized_facts(c->quantized)->n_matrices ? "converted" : "checkpoint's");
	printf("  KV        %12.1f MB, %" PRIu64 " bytes a token, %s\n", mb(kv),
	       traffic_kv_bytes(s, c->kv, true), c->kv == KV_FP8 ? "FP8" : "BF16");
	printf("  states    %12.1f MB, %" PRIu64 " bytes a stream\n", mb(state), state_of(c, false));
	printf("  together  %12.1f MB; the workspace of a step comes on top, the worker prints it\n",
	       mb(needed(c, c->traffic.bytes, false)));
}

static void print_chip(const struct check *c, const struct chip *chip)
{
	const struct model_shape *s = &c->config.shape;
	uint32_t each = chip->cpu ? 2 : 0, rows[2] = { 1, c->streams };
	uint64_t elements = 0;

	for (int i = 0; i < TRAFFIC_N; i++)
		elements += c->traffic.row[i].elements;
	uint64_t need = needed(c, chip->cpu ? 2 * elements : c->traffic.bytes, chip->cpu);

	printf("  %-28s %6.0f %s", chip->name, chip->bytes_per_s / 1e9,
	       chip->measured ? "measured" : "data sheet");
	if (chip->memory && need > chip->memory) {
		printf("  does not fit: %.1f of %.1f GB\n", (double)need / 1e9, (double)chip->memory / 1e9);
		return;
	}
	for (int i = 0; i < (c->streams > 1 ? 2 : 1); i++) {
		double bytes = traffic_step(&c->traffic, s, c->kv, rows[i], c->context, each);
		double roof = chip->bytes_per_s / bytes * rows[i];

		printf("  %9.1f %9.1f", roof, 0.75 * roof);
	}
	printf("\n");
}

static void print_speed(const struct check *c)
{
	struct chip chip;

	printf("\npredicted decode tok/s at %u tokens of context: bytes of a step over the memory's speed,\n"
	       "and three quarters of that; no drafts%s\n", c->context,
	       c->config.shape.n_experts ? "; experts met as if tokens chose independently" : "");
	printf("  %-28s %6s %10s  %9s %9s", "chip", "GB/s", "", "1 stream", "x 0.75");
	if (c->streams > 1)
		printf("  %2u streams %8s", c->streams, "x 0.75");
	printf("\n");
	for (uint32_t i = 0; chip_known(i, &chip); i++)
		print_chip(c, &chip);
	if (chip_gpu_here(&chip)) {
		strcat(chip.name, ", in this machine");
		print_chip(c, &chip);
	}
	if (chip_cpu_here(&chip))
		print_chip(c, &chip);
	printf("  (the CPU back end keeps weights in bfloat16, and computes before it is bound by memory)\n");
}

static int read_everything(const struct check *c, struct err *e)
{
	uint64_t begin = clock_ns(), bytes = 0;
	int r = scan_weights(&c->config.shape, checkpoint_source(c->weights), &bytes, e);
	double s = (double)(clock_ns() - begin) / 1e9;

	if (r == 0)
		printf("bytes    all %.1f MB read, every number finite, %.2f s\n", mb(bytes), s);
	return r;
}

/* ---- the program ------------------------------------------------------------------------------ */

enum { OPT_CONTEXT = OPTS_LONG_ONLY, OPT_STREAMS, OPT_QUANTIZE, OPT_KV, OPT_ALL, OPT_DUMP };

static const struct opts_row rows[] = {
	{ OPT_CONTEXT, "context", "TOKENS",
	  "of a stream, for memory and speed (default: " TEXT_OF(DEFAULT_CONTEXT) " or the model's)" },
	{ OPT_STREAMS, "streams", "N",
	  "answers at the same time (default: " TEXT_OF(DEFAULT_STREAMS) ")" },
	{ OPT_QUANTIZE, "quantize", "WHAT",
	  "as if a worker converted to FP8: none, head, dense or head+dense (default: none)" },
	{ OPT_KV, "kv", "FORMAT", "of keys and values: bf16 or fp8 (default: bf16)" },
	{ OPT_ALL, "all", NULL, "read every byte and look for what is no finite number" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void help(FILE *f)
{
	fputs("usage: hearth-worker check MODEL [options]\n", f);
	opts_print_help(rows, f);
	fputs("MODEL is a folder, or a hub id in the local cache.  Needs no GPU.\n", f);
}

static bool number(const char *text, uint32_t max, uint32_t *ret)
{
	char *end;
	unsigned long x = strtoul(text, &end, 10);

	*ret = (uint32_t)x;
	return *text >= '0' && *text <= '9' && !*end && x >= 1 && x <= max;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct check *c)
{
	bool ok = true;
	int o;

	while (ok && (o = opts_next(rows, argc, argv)) != -1) {
		switch (o) {
		case 'h': help(stdout); return 0;
		case 'V': puts("hearth-worker " PACKAGE_VERSION); return 0;
		case OPT_DUMP: opts_print_dump(rows); return 0;
		case OPT_ALL: c->all = true; break;
		case OPT_CONTEXT: ok = number(optarg, 1u << 30, &c->context); break;
		case OPT_STREAMS: ok = number(optarg, 1024, &c->streams); break;
		case OPT_KV: ok = kv_format_parse(optarg, &c->kv) == 0; break;
		case OPT_QUANTIZE: ok = quantize_parse(optarg, &c->quantize) == 0; break;
		default: ok = false;
		}
		if (!ok && o != '?')
			fprintf(stderr,
				"hearth-worker check: '%s' is out of range, or no such word\n",
				optarg);
	}
	if (ok && optind == argc - 1) {
		c->name = argv[optind];
		return -1;
	}
	help(stderr);
	return EX_USAGE;
}

int check_main(int argc, char **argv)
{
	struct check c = { .streams = DEFAULT_STREAMS };
	struct err e = { .code = 0 };
	int r = parse(argc, argv, &c);

	if (r >= 0)
		return r;
	r = open_all(&c, &e);
	if (r == 0) {
		print_model(&c);
		print_quantize(&c);
		if (c.all)
			r = read_everything(&c, &e);
	}
	if (r == 0) {
		print_classes(&c.traffic);
		print_budget(&c);
		print_speed(&c);
	} else {
		fflush(stdout);
		fprintf(stderr, "hearth-worker check: %s\n", e.text);
	}
	check_done(&c);
	return r == 0 ? 0 : EX_MODEL;
}
