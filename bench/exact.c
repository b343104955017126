/* exact.c - `hearth-bench exact`: points 1 and 4 of docs/numerics.md on a real shape and a real
 * device.
 *
 * Requests of all kinds (greedy, sampled, penalised; prompts around the prefill grid) are first
 * computed one after the other, and the CRCs of hidden state, logits, state and KV are kept for
 * every step.  Then the same requests run among 1, 3, 8, .. rows: all decoding at once, with
 * prompts mixed in, and preempted and replayed.  Each step must show the CRCs that it had alone,
 * each answer its tokens.
 */
#include "config.h"

#include "bench/exact.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bench/exact_crowd.h"
#include "bench/number.h"
#include "bench/target.h"
#include "lib/clock.h"

enum { MAX_ROWS = 256, MAX_LIST = 16, SEED = 20261121 };
enum { CHUNK_ROWS = 4 * STEP_GRID };

struct exact {
	struct target target;
	uint32_t rows[MAX_LIST], n_rows, most_prompt, most_output;
	uint32_t requests;	/* in a smaller crowd so many come by, one after the other */
	struct device_limits limits;
	struct random_kind kind;
	struct exact_book book;
	bool failed;
};

enum { OPT_ROWS = OPTS_LONG_ONLY, OPT_REQUESTS, OPT_PROMPT, OPT_OUTPUT, OPT_DUMP };

static const struct opts_row table[] = {
	TARGET_ROWS,
	{ OPT_ROWS, "rows", "N,N..", "sequences that decode together (default: 1,3,8,17,64,200)" },
	{ OPT_REQUESTS, "requests", "N", "that come by where fewer are at a time (default: 24)" },
	{ OPT_PROMPT, "prompt", "N", "tokens of a prompt at most (default: 200)" },
	{ OPT_OUTPUT, "output", "N", "tokens of an answer at most, half at least (default: 28)" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fputs("usage: hearth-bench exact [options] MODEL\n"
	      "       hearth-bench exact [options] --dummy FORMAT [--shape SHAPE]\n", f);
	opts_print_help(table, f);
}

/* 1: what was asked for is printed. */
static int options(int argc, char **argv, struct exact *x)
{
	bool ok = true;

	for (int c; ok && (c = opts_next(table, argc, argv)) != -1;) {
		switch (c) {
		case OPT_ROWS:
			ok = number_list(optarg, MAX_ROWS, 1, x->rows, MAX_LIST, &x->n_rows) &&
			     x->n_rows;
			break;
		case OPT_REQUESTS: ok = number_of(optarg, 1, 4096, &x->requests); break;
		case OPT_OUTPUT: ok = number_of(optarg, 8, 8192, &x->most_output); break;
		case OPT_PROMPT: ok = number_of(optarg, 1, 8192, &x->most_prompt); break;
		case OPT_DUMP: opts_print_dump(table); return 1;
		case 'h': usage(stdout); return 1;
		case 'V': puts("hearth-bench " PACKAGE_VERSION); return 1;
		default: ok = target_take(&x->target, c);
		}
	}
	return ok && target_rest(&x->target, argc, argv) ? 0 : -EINVAL;
}

/* Sequences that there are at most. */
static uint32_t most_requests(const struct exact *x)
{
	uint32_t most = x->requests;

	for (uint32_t i = 0; i < x->n_rows; i++)
		most = x->rows[i] > most ? x->rows[i] : most;
	return most;
}

static int open_all(struct exact *x, struct err *e)
{
	const uint32_t context = x->most_prompt + x->most_output, n = most_requests(x);
	int r = target_find(&x->target, e);

	if (r < 0)
		return r;
	x->kind = (struct random_kind){ .seed = SEED,
					.n_ids = x->target.m.shape.n_token_ids,
					.most_prompt = x->most_prompt,
					.least_output = x->most_output / 2,
					.most_output = x->most_output };
	/* One more each: the scheduler starts nobody who would take the next block of one that runs, and all are
	 * to run at once. */
	x->limits = (struct device_limits){ .n_slots = n,
					    .n_blocks = n * (seq_blocks_for(context) + 1),
					    .max_rows = n + CHUNK_ROWS,
					    .max_context = context,
					    .digests = true };
	r = target_open(&x->target, x->limits, e);
	if (r == 0 && exact_book_new(n, context, &x->book) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	return r;
}

static void print_row(struct exact *x, uint32_t rows, enum crowd_how how,
		      const struct crowd_result *c, double seconds)
{
	const struct exact_book *b = &x->book;
	const bool idle = how == CROWD_DECODE && !c->n_full;

	printf("| %u | %s | %llu | %u (%u) | %llu | %llu | %llu | %llu | %llu | %.0f |\n", rows,
	       crowd_how_name(how), (unsigned long long)c->n_steps, c->most_rows, c->n_full,
	       (unsigned long long)c->n_parts,
	       (unsigned long long)c->n_preempted, (unsigned long long)c->n_replayed,
	       (unsigned long long)b->n_compared, (unsigned long long)b->n_wrong, seconds);
	fflush(stdout);
	if (b->n_wrong)
		fprintf(stderr, "hearth-bench exact: %u rows, %s: %s\n", rows, crowd_how_name(how),
			b->first_wrong);
	if (idle)
		fprintf(stderr, "hearth-bench exact: no step had %u rows\n", rows);
	x->failed |= b->n_wrong || idle;
}

static int crowd(struct exact *x, uint32_t rows, enum crowd_how how)
{
	const uint32_t many = how == CROWD_DECODE || rows > x->requests ? rows : x->requests;
	const struct crowd c = { .device = x->target.d,
				 .kind = &x->kind,
				 .book = &x->book,
				 .n_slots = rows,
				 .n_requests = how == CROWD_ALONE ? x->book.n_requests : many,
				 .n_blocks = x->limits.n_blocks,
				 .max_rows = x->limits.max_rows,
				 .max_context = x->limits.max_context,
				 .n_layers = x->target.m.shape.n_layers,
				 .seed = SEED + rows };
	const uint64_t begin = clock_ns();
	struct crowd_result result;
	int r;

	if (how != CROWD_ALONE || !x->book.writing)
		exact_book_compare(&x->book);
	r = crowd_run(&c, how, &result);
	if (r == 0)
		print_row(x, rows, how, &result, (double)(clock_ns() - begin) / 1e9);
	return r;
}

static int run_all(struct exact *x)
{
	int r;

	printf("%s on %s (%s); %u requests, prompts to %u tokens\n\n"
	       "| rows | how | steps | decode rows of one, most (steps with all) | with a part of a "
	       "prompt | preempted | replayed | steps compared | differ | s |\n"
	       "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
	       target_name(&x->target), x->target.device, device_numeric_text(x->target.d),
	       x->book.n_requests, x->most_prompt);
	r = crowd(x, 1, CROWD_ALONE);
	exact_book_compare(&x->book);
	for (uint32_t i = 0; r == 0 && i < x->n_rows; i++)
		for (int how = CROWD_DECODE; r == 0 && how < CROWD_N; how++)
			r = crowd(x, x->rows[i], (enum crowd_how)how);
	return r;
}

int bench_exact_main(int argc, char **argv)
{
	struct exact x = { .target = TARGET_INIT,
			   .rows = { 1, 3, 8, 17, 64, 200 },
			   .n_rows = 6,
			   .requests = 24,
			   .most_prompt = 200,
			   .most_output = 28 };
	struct err e = { .code = 0 };
	int r = options(argc, argv, &x), code = 0;

	if (r != 0) {
		if (r < 0)
			usage(stderr);
		return r < 0 ? EX_USAGE : 0;
	}
	if (open_all(&x, &e) < 0) {
		fprintf(stderr, "hearth-bench exact: %s\n", e.text);
		code = EX_CONFIG;
	} else if ((r = run_all(&x)) < 0) {
		fprintf(stderr, "hearth-bench exact: %s\n",
			r == -EPROTO ? "blocks or slots were left behind" : strerror(-r));
		code = EX_SOFTWARE;
	}
	exact_book_done(&x.book);
	target_close(&x.target);
	return code ? code : x.failed;
}
