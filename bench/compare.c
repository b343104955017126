/* compare.c - `hearth-bench compare`: two devices, two checkpoints, or one with and without
 * a load-time option, on the same tokens.
 *
 * Reads sequences of token ids, one a line, and runs each teacher-forced through both: the first
 * half as a prompt (the prefill kernels), the rest as known answer (the decode kernels).  Says
 * how the distributions differ: KL from the first to the second, how often the most likely id
 * is another, how far apart the first one's two most likely logits are where it is, and the
 * mean log-likelihood of the text under each.
 */
#include "config.h"

#include "bench/compare.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "kernels/quantize.h"
#include "kernels/step.h"
#include "lib/opts.h"
#include "lib/own.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/hf_dir.h"

#define MAX_TOKENS 16384
#define ROWS 512
/* Logits so close that roundings in another order may choose between them. */
#define NEAR_TIE 0.02

struct side {
	const char *model, *device;
	enum quantize quantize;
	enum kv_format kv;
	enum fp4_prefill fp4;
	struct device *d;
	uint32_t vocab, n_ids, n_converted;
	float *logits;		/* [ROWS][vocab] */
};

struct tally {
	uint64_t positions, differ, apart;	/* apart: differ, and A's gap is above NEAR_TIE */
	double kl, kl_most, gap_most;	/* gap: where the most likely ids differ */
	double likelihood[2];
};

static int side_load(struct side *s, const struct model_shape *shape, const struct checkpoint *c,
		     struct err *e)
{
	struct quantized *weights;
	int r;

	if (quantized_new(shape, checkpoint_source(c), s->quantize, &weights) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = device_load(s->d, quantized_source(weights), NULL, NULL, e);
	s->n_converted = quantized_facts(weights)->n_matrices;
	if (r == 0 && *device_load_note(s->d))
		fprintf(stderr, "%s\n", device_load_note(s->d));
	quantized_free(weights);
	return r;
}

static int side_open(struct side *s, struct err *e)
{
	const struct device_limits l = { .n_slots = 1, .max_rows = ROWS, .max_context = MAX_TOKENS,
					 .n_blocks = MAX_TOKENS / STEP_GRID, .kv = s->kv,
					 .fp4 = s->fp4 };
	struct checkpoint *c = NULL;
	struct hf_config config;
	char *dir = NULL;
	int r = hf_dir_find(s->model, &dir, e);

	if (r == 0)
		r = hf_config_open(dir, &config, e);
	if (r == 0)
		r = checkpoint_open(dir, &config, &c, e);
	free(dir);
	if (r < 0)
		return r;
	s->vocab = config.shape.vocab_rows;
	s->n_ids = config.shape.n_token_ids;
	s->logits = malloc((size_t)ROWS * s->vocab * sizeof(float));
	r = s->logits ? device_open(s->device, &config.shape, &l, &s->d, e) : err_set(e, -ENOMEM, "out of memory");
	if (r == 0)
		r = side_load(s, &config.shape, c, e);
	checkpoint_close(c);
	return r;
}

static void side_close(struct side *s)
{
	device_close(s->d);
	free(s->logits);
}

/* Logits of n positions from `pos` on into s->logits. */
static int side_run(struct side *s, const uint32_t *tokens, uint32_t pos, uint32_t n, bool prompt)
{
	static kv_block blocks[MAX_TOKENS / STEP_GRID];
	const struct plan_run run = { .kind = prompt ? ROW_PREFILL : ROW_REPLAY, .pos = pos, .n = n,
				      .tokens = tokens + pos, .blocks = blocks,
				      .n_blocks = MAX_TOKENS / STEP_GRID, .logits = s->logits };
	const struct plan plan = { .runs = &run, .n_runs = 1 };
	struct run_result result;
	int r;

	for (uint32_t i = 0; i < MAX_TOKENS / STEP_GRID; i++)
		blocks[i] = i;
	r = device_submit(s->d, &plan);
	return r < 0 ? r : device_collect(s->d, &result, 1);
}

struct top {
	uint32_t id;
	double first, second, log_sum;
};

static struct top top_of(const float *x, uint32_t n)
{
	struct top t = { 0, -INFINITY, -INFINITY, 0 };
	double sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		if ((double)x[i] > t.first) {
			t.second = t.first;
			t.first = (double)x[i];
			t.id = i;
		} else if ((double)x[i] > t.second) {
			t.second = (double)x[i];
		}
	}
	for (uint32_t i = 0; i < n; i++)
		sum += exp((double)x[i] - t.first);
	t.log_sum = t.first + log(sum);
	return t;
}

static void count(struct tally *t, const float *a, const float *b, uint32_t n, const uint32_t *next)
{
	const struct top ta = top_of(a, n), tb = top_of(b, n);
	double kl = 0;

	for (uint32_t i = 0; i < n; i++) {
		const double pa = (double)a[i] - ta.log_sum;

		kl += exp(pa) * (pa - ((double)b[i] - tb.log_sum));
	}
	t->positions++;
	t->kl += kl;
	t->kl_most = fmax(t->kl_most, kl);
	if (ta.id != tb.id) {
		t->differ++;
		t->apart += ta.first - ta.second > NEAR_TIE;
		t->gap_most = fmax(t->gap_most, ta.first - ta.second);
	}
	if (next) {
		t->likelihood[0] += (double)a[*next] - ta.log_sum;
		t->likelihood[1] += (double)b[*next] - tb.log_sum;
	}
}

/* tally[0]: prompt positions, tally[1]: answer positions. */
static int compare_text(struct side side[2], const uint32_t *tokens, uint32_t n, struct tally tally[2])
{
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	const uint32_t prompt = n / 2 / STEP_GRID * STEP_GRID;

	for (int i = 0; i < 2; i++)
		if (slot_begin(side[i].d, 0, &greedy, NULL, 0) < 0)
			return -EINVAL;
	for (uint32_t pos = 0, many; pos < n; pos += many) {
		const bool is_prompt = pos < prompt;
		const uint32_t end = is_prompt ? prompt : n;

		many = end - pos < ROWS ? end - pos : ROWS;
		for (int i = 0; i < 2; i++) {
			int r = side_run(&side[i], tokens, pos, many, is_prompt);

			if (r < 0)
				return r;
		}
		for (uint32_t t = 0; t < many; t++)
			count(&tally[!is_prompt], side[0].logits + (size_t)t * side[0].vocab,
			      side[1].logits + (size_t)t * side[1].vocab, side[0].n_ids,
			      pos + t + 1 < n ? &tokens[pos + t + 1] : NULL);
	}
	return 0;
}

/* Ids of a line; how many, or -EINVAL for what is no id of the model. */
static int read_ids(char *line, uint32_t n_ids, uint32_t *ret)
{
	static const char between[] = " \t\n,]}";
	char *list = strchr(line, '[');		/* {"ids": [1, 2]}, as `text encode` says it */
	int n = 0;

	for (char *word = strtok(list ? list + 1 : line, between); word && n < MAX_TOKENS;
	     word = strtok(NULL, between), n++) {
		char *end;
		const unsigned long id = strtoul(word, &end, 10);

		if (*end || id >= n_ids)
			return -EINVAL;
		ret[n] = (uint32_t)id;
	}
	return n;
}

static void print(const char *name, const struct tally *t)
{
	const double n = t->positions ? (double)t->positions : 1;

	printf("| %s | %llu | %llu (%.3f %%) | %.4f | %llu | %.2e | %.2e | %.4f | %.4f |\n", name,
	       (unsigned long long)t->positions, (unsigned long long)t->differ, 100 * (double)t->differ / n,
	       t->gap_most, (unsigned long long)t->apart, t->kl / n, t->kl_most, t->likelihood[0] / n, t->likelihood[1] / n);
}

static void print_side(char letter, const struct side *s)
{
	printf("%c: %s on %s (%s)", letter, s->model, s->device, device_numeric_text(s->d));
	if (s->quantize)
		printf(", quantize %s: %u matrices", quantize_name(s->quantize), s->n_converted);
	printf("\n");
}

enum {
	OPT_DEVICE = OPTS_LONG_ONLY,
	OPT_WITH_DEVICE,
	OPT_WITH_MODEL,
	OPT_QUANTIZE,
	OPT_WITH_QUANTIZE,
	OPT_KV,
	OPT_WITH_KV, OPT_FP4, OPT_WITH_FP4,
	OPT_MOST_DIFFER,
	OPT_DUMP
};

static const struct opts_row rows[] = {
	{ OPT_DEVICE, "device", "DEVICE", "where MODEL runs: cpu or cuda:N (default: cpu)" },
	{ OPT_WITH_DEVICE, "with-device", "DEVICE", "where it is compared with (default: cpu)" },
	{ OPT_WITH_MODEL, "with-model", "MODEL",
	  "what it is compared with, of the same vocabulary (default: MODEL itself)" },
	{ OPT_QUANTIZE, "quantize", "WHAT",
	  "of MODEL becomes FP8 while loading: none, head, dense, head+dense (default: none)" },
	{ OPT_WITH_QUANTIZE, "with-quantize", "WHAT",
	  "the same of what it is compared with (default: none)" },
	{ OPT_KV, "kv", "FORMAT", "of keys and values: bf16 or fp8 (default: bf16)" },
	{ OPT_WITH_KV, "with-kv", "FORMAT",
	  "the same of what it is compared with (default: bf16)" },
	{ OPT_FP4, "prefill-fp4", "WHAT",
	  "prompts by NVFP4 matrices with activations in FP4: off, up or all (default: off)" },
	{ OPT_WITH_FP4, "with-prefill-fp4", "WHAT",
	  "the same of what it is compared with (default: off)" },
	{ OPT_MOST_DIFFER, "most-differ", "PERCENT",
	  "exit with 1 when the likeliest token differs at more positions (default: 100)" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fputs("usage: hearth-bench compare [options] MODEL < ids\n", f);
	opts_print_help(rows, f);
	fputs("ids: a sequence of token ids a line, as `hearth-worker text encode` gives them\n", f);
}

/* 1: what was asked for is printed. */
static int options(int argc, char **argv, struct side side[2], double *bar)
{
	int c;

	while ((c = opts_next(rows, argc, argv)) != -1) {
		switch (c) {
		case OPT_DEVICE: side[0].device = optarg; break;
		case OPT_WITH_DEVICE: side[1].device = optarg; break;
		case OPT_WITH_MODEL: side[1].model = optarg; break;
		case OPT_QUANTIZE: case OPT_WITH_QUANTIZE:
			if (quantize_parse(optarg, &side[c == OPT_WITH_QUANTIZE].quantize) < 0)
				return -EINVAL;
			break;
		case OPT_KV: case OPT_WITH_KV:
			if (kv_format_parse(optarg, &side[c == OPT_WITH_KV].kv) < 0)
				return -EINVAL;
			break;
		case OPT_FP4: case OPT_WITH_FP4:
			if (fp4_prefill_parse(optarg, &side[c == OPT_WITH_FP4].fp4) < 0)
				return -EINVAL;
			break;
		case OPT_MOST_DIFFER: *bar = strtod(optarg, NULL); break;
		case OPT_DUMP: opts_print_dump(rows); return 1;
		case 'h': usage(stdout); return 1;
		case 'V': puts("hearth-bench " PACKAGE_VERSION); return 1;
		default: return -EINVAL;
		}
	}
	if (optind + 1 != argc)
		return -EINVAL;
	side[0].model = argv[optind];
	side[1].model = side[1].model ? side[1].model : side[0].model;
	return 0;
}

static int compare_all(struct side side[2], struct tally tally[2], struct err *e)
{
	static uint32_t tokens[MAX_TOKENS];
	char *line = NULL;
	size_t room = 0;
	int r = 0;

	for (int number = 1; r >= 0 && getline(&line, &room, stdin) > 0; number++) {
		const int n = read_ids(line, side[0].n_ids, tokens);

		r = n;
		if (n < 0)
			err_set(e, n, "line %d: not a list of ids below %u", number, side[0].n_ids);
		else if (n > 1)
			r = compare_text(side, tokens, (uint32_t)n, tally);
		if (n >= 0 && r < 0)
			err_set(e, r, "line %d: %s", number, strerror(-r));
	}
	free(line);
	return r < 0 ? r : 0;
}

int bench_compare_main(int argc, char **argv)
{
	struct side side[2] = { { .device = "cpu" }, { .device = "cpu" } };
	struct tally tally[2] = { { .positions = 0 } };
	struct err e = { .code = 0 };
	double bar = 100;
	int r = options(argc, argv, side, &bar);

	if (r > 0)
		return 0;
	if (r < 0) {
		usage(stderr);
		return EX_USAGE;
	}
	r = side_open(&side[0], &e);
	if (r == 0)
		r = side_open(&side[1], &e);
	if (r == 0 && (side[0].vocab != side[1].vocab || side[0].n_ids != side[1].n_ids))
		r = err_set(&e, -EINVAL, "the two models do not have the same vocabulary");
	if (r == 0) {
		for (int i = 0; i < 2; i++)
			print_side((char)('A' + i), &side[i]);
		r = compare_all(side, tally, &e);
	}
	for (int i = 0; i < 2; i++)
		side_close(&side[i]);
	if (r < 0) {
		fprintf(stderr, "hearth-bench: %s\n", e.text);
		return EX_DATAERR;
	}
	printf("\n| part | positions | most likely differs | A's gap there, most | above %g | KL(A, B) mean | most | A: mean log-likelihood | B |\n"
	       "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n", NEAR_TIE);
	print("prompt", &tally[0]);
	print("answer", &tally[1]);
	for (int i = 0; i < 2; i++)
		if (100 * (double)tally[i].differ > bar * (double)tally[i].positions)
			return 1;
	return 0;
}
