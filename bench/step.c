/* step.c - `hearth-bench step`: how fast a device takes prompts and answers.
 *
 * Through submit() and collect() alone, no scheduler above: tokens are arbitrary, every
 * decoded row samples (arg-max).  Prompts go in steps of at most 512 rows.
 */
#include "config.h"

#include "bench/step.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "kernels/step.h"
#include "lib/opts.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/hf_dir.h"

#define CHUNK 512
#define MAX_LIST 16

struct bench {
	struct device *d;
	uint32_t vocab, per_seq;	/* blocks of a sequence */
	uint32_t answer;		/* tokens decoded a sequence */
	bool draft;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int step(struct bench *b, const struct plan_run *runs, uint32_t n, struct run_result *res)
{
	const struct plan p = { runs, n };
	int r = device_submit(b->d, &p);

	return r < 0 ? r : device_collect(b->d, res, n);
}

static void fill_blocks(const struct bench *b, uint32_t slot, kv_block *blocks)
{
	for (uint32_t i = 0; i < b->per_seq; i++)
		blocks[i] = slot * b->per_seq + i;
}

/* The prompt of one sequence; *ret_s is how long it took. */
static int prefill(struct bench *b, uint32_t slot, uint32_t n, kv_block *blocks, double *ret_s)
{
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	uint32_t tokens[CHUNK];
	struct run_result res;
	int r = slot_begin(b->d, slot, &greedy, NULL, 0);
	double start = now_s();

	fill_blocks(b, slot, blocks);
	for (uint32_t at = 0; r >= 0 && at < n; at += CHUNK) {
		uint32_t part = n - at < CHUNK ? n - at : CHUNK;
		struct plan_run run = { .slot = slot, .kind = ROW_PREFILL, .pos = at, .n = part,
					.tokens = tokens, .blocks = blocks, .n_blocks = b->per_seq,
					.sample = at + part == n, .draft = b->draft };

		for (uint32_t i = 0; i < part; i++)
			tokens[i] = ((at + i) * 2654435761u >> 8) % b->vocab;
		r = step(b, &run, 1, &res);
	}
	*ret_s = now_s() - start;
	return r < 0 ? r : 0;
}

static int decode(struct bench *b, uint32_t batch, uint32_t from, kv_block *blocks, double *ret_s)
{
	struct plan_run *runs = calloc(batch, sizeof(*runs));
	struct run_result *res = calloc(batch, sizeof(*res));
	int r = runs && res ? 0 : -ENOMEM;
	double start = now_s();

	for (uint32_t i = 0; r >= 0 && i < b->answer; i++) {
		for (uint32_t s = 0; s < batch; s++) {
			fill_blocks(b, s, blocks + (size_t)s * b->per_seq);
			runs[s] = (struct plan_run){ .slot = s, .kind = ROW_DECODE,
				.input = IN_LAST_SAMPLE, .pos = from + i, .n = 1,
				.blocks = blocks + (size_t)s * b->per_seq, .n_blocks = b->per_seq,
				.sample = true, .draft = b->draft };
		}
		r = step(b, runs, batch, res);
	}
	*ret_s = now_s() - start;
	free(runs);
	free(res);
	return r < 0 ? r : 0;
}

static int measure(struct bench *b, uint32_t batch, uint32_t context)
{
	kv_block *blocks = calloc((size_t)batch * b->per_seq, sizeof(*blocks));
	double pre = 0, dec = 0, t;
	int r = blocks ? 0 : -ENOMEM;

	for (uint32_t s = 0; r == 0 && s < batch; s++) {
		r = prefill(b, s, context, blocks, &t);
		pre += t;
	}
	if (r == 0)
		r = decode(b, batch, context, blocks, &dec);
	if (r == 0)
		printf("%6u %9u %14.0f %14.1f %12.1f\n", batch, context, batch * context / pre,
		       batch * b->answer / dec, b->answer / dec);
	fflush(stdout);
	free(blocks);
	return r;
}

/* "1,8,64" */
static uint32_t read_list(const char *s, uint32_t *list)
{
	uint32_t n = 0;
	char *end;

	for (; n < MAX_LIST && *s; s = *end == ',' ? end + 1 : end) {
		unsigned long x = strtoul(s, &end, 10);

		if (end == s || x == 0 || x > 1u << 20)
			return 0;
		list[n++] = (uint32_t)x;
	}
	return n;
}

struct options {
	const char *model, *device;
	uint32_t batch[MAX_LIST], n_batch, context[MAX_LIST], n_context, threads, answer;
	bool draft;
};

enum { OPT_DEVICE = OPTS_LONG_ONLY, OPT_BATCH, OPT_CONTEXT, OPT_TOKENS, OPT_THREADS, OPT_DRAFT, OPT_DUMP };

static const struct opts_row rows[] = {
	{ OPT_DEVICE, "device", "DEVICE", "cpu or cuda:N (default: cpu)" },
	{ OPT_BATCH, "batch", "N,N..", "answers at the same time (default: 1,8)" },
	{ OPT_CONTEXT, "context", "N,N..", "tokens of the prompt (default: 512,2048,8192)" },
	{ OPT_TOKENS, "tokens", "N", "tokens that are decoded after it (default: 64)" },
	{ OPT_THREADS, "threads", "N", "of the CPU back end (default: one a core)" },
	{ OPT_DRAFT, "draft", NULL, "let the MTP head guess beside it, where the model has one" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fputs("usage: hearth-bench step [options] MODEL\n", f);
	opts_print_help(rows, f);
}

/* 1: what was asked for is printed. */
static int parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = opts_next(rows, argc, argv)) != -1) {
		switch (c) {
		case OPT_DEVICE: o->device = optarg; break;
		case OPT_BATCH: o->n_batch = read_list(optarg, o->batch); break;
		case OPT_CONTEXT: o->n_context = read_list(optarg, o->context); break;
		case OPT_THREADS: o->threads = (uint32_t)strtoul(optarg, NULL, 10); break;
		case OPT_TOKENS: o->answer = (uint32_t)strtoul(optarg, NULL, 10); break;
		case OPT_DRAFT: o->draft = true; break;
		case OPT_DUMP: opts_print_dump(rows); return 1;
		case 'h': usage(stdout); return 1;
		case 'V': puts("hearth-bench " PACKAGE_VERSION); return 1;
		default: return -EINVAL;
		}
	}
	if (optind + 1 != argc || !o->n_batch || !o->n_context || !o->answer)
		return -EINVAL;
	o->model = argv[optind];
	return 0;
}

static uint32_t largest(const uint32_t *list, uint32_t n)
{
	uint32_t x = 0;

	for (uint32_t i = 0; i < n; i++)
		x = list[i] > x ? list[i] : x;
	return x;
}

static int open_device(const struct options *o, struct bench *b, struct err *e)
{
	struct device_limits l = { .n_slots = largest(o->batch, o->n_batch), .max_rows = CHUNK,
				   .n_threads = o->threads };
	struct checkpoint *c = NULL;
	struct hf_config config;
	char *dir = NULL;
	int r = hf_dir_find(o->model, &dir, e);

	if (r == 0)
		r = hf_config_open(dir, &config, e);
	if (r == 0)
		r = checkpoint_open(dir, &config, &c, e);
	free(dir);
	if (r < 0)
		return r;
	b->per_seq = (largest(o->context, o->n_context) + o->answer) / STEP_GRID + 1;
	b->vocab = config.shape.n_token_ids;
	b->answer = o->answer;
	b->draft = o->draft && config.shape.n_mtp_layers;
	l.n_blocks = l.n_slots * b->per_seq;
	l.max_context = b->per_seq * STEP_GRID;
	if (l.max_rows < l.n_slots)
		l.max_rows = l.n_slots;
	r = device_open(o->device, &config.shape, &l, &b->d, e);
	if (r == 0)
		r = device_load(b->d, checkpoint_source(c), NULL, NULL, e);
	checkpoint_close(c);
	return r;
}

int bench_step_main(int argc, char **argv)
{
	struct options o = { .device = "cpu", .batch = { 1, 8 }, .n_batch = 2,
			     .context = { 512, 2048, 8192 }, .n_context = 3, .answer = 64 };
	struct bench b = { .d = NULL };
	struct err e = { .code = 0 };
	int r = parse(argc, argv, &o);

	if (r > 0)
		return 0;
	if (r < 0) {
		usage(stderr);
		return EX_USAGE;
	}
	r = open_device(&o, &b, &e);
	if (r < 0) {
		fprintf(stderr, "hearth-bench: %s\n", e.text);
		device_close(b.d);
		return EX_CONFIG;
	}
	printf("%s on %s (%s), threads %u (0: all), %u tokens decoded, drafts %s\n", o.model, o.device,
	       device_numeric_text(b.d), o.threads, o.answer, b.draft ? "on" : "off");
	printf("%6s %9s %14s %14s %12s\n", "batch", "context", "prefill tok/s", "decode tok/s",
	       "per sequence");
	for (uint32_t i = 0; r == 0 && i < o.n_batch; i++)
		for (uint32_t k = 0; r == 0 && k < o.n_context; k++)
			r = measure(&b, o.batch[i], o.context[k]);
	device_close(b.d);
	if (r < 0)
		fprintf(stderr, "hearth-bench: %s\n", strerror(-r));
	return r < 0 ? EX_SOFTWARE : 0;
}
