/* soak.c - `hearth-bench soak`: see soak.h; what is done is in soak_run.h. */
#include "config.h"

#include "bench/soak.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "bench/number.h"
#include "bench/process.h"
#include "bench/soak_run.h"
#include "bench/target.h"
#include "kernels/measure.h"

enum { CHUNK_ROWS = 8 * STEP_GRID };

struct bench {
	struct target target;
	uint32_t minutes, seconds, slots, blocks, prompt, output, seed;
	struct soak soak;
};

enum { OPT_MINUTES = OPTS_LONG_ONLY, OPT_SECONDS, OPT_SLOTS,
       OPT_BLOCKS, OPT_PROMPT, OPT_OUTPUT, OPT_SEED, OPT_DUMP };

static const struct opts_row table[] = {
	TARGET_ROWS,
	{ OPT_MINUTES, "minutes", "N", "how long (default: 5)" },
	{ OPT_SECONDS, "seconds", "N", "instead of --minutes" },
	{ OPT_SLOTS, "slots", "N", "sequences that may run at the same time (default: 32)" },
	{ OPT_BLOCKS, "blocks", "N",
	  "of 64 positions, of keys and values (default: a quarter of what the slots could fill)" },
	{ OPT_PROMPT, "prompt", "N", "tokens of a prompt at most (default: 600)" },
	{ OPT_OUTPUT, "output", "N", "tokens of an answer at most (default: 200)" },
	{ OPT_SEED, "seed", "N", "of everything random (default: 1)" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fputs("usage: hearth-bench soak [options] MODEL\n"
	      "       hearth-bench soak [options] --dummy FORMAT [--shape SHAPE]\n", f);
	opts_print_help(table, f);
}

static bool take(int c, struct bench *b)
{
	switch (c) {
	case OPT_MINUTES: return number_of(optarg, 1, 10000, &b->minutes);
	case OPT_SECONDS: return number_of(optarg, 1, 600000, &b->seconds);
	case OPT_SLOTS: return number_of(optarg, 1, 1024, &b->slots);
	case OPT_BLOCKS: return number_of(optarg, 1, 1u << 24, &b->blocks);
	case OPT_PROMPT: return number_of(optarg, 1, 1u << 17, &b->prompt);
	case OPT_OUTPUT: return number_of(optarg, 1, 1u << 17, &b->output);
	case OPT_SEED: return number_of(optarg, 0, UINT32_MAX, &b->seed);
	default: return target_take(&b->target, c);
	}
}

/* 1: what was asked for is printed. */
static int options(int argc, char **argv, struct bench *b)
{
	bool ok = true;

	for (int c; ok && (c = opts_next(table, argc, argv)) != -1;) {
		switch (c) {
		case OPT_DUMP: opts_print_dump(table); return 1;
		case 'h': usage(stdout); return 1;
		case 'V': puts("hearth-bench " PACKAGE_VERSION); return 1;
		default: ok = take(c, b);
		}
	}
	return ok && target_rest(&b->target, argc, argv) ? 0 : -EINVAL;
}

static int open_all(struct bench *b, struct err *e)
{
	const uint32_t context = b->prompt + b->output, each = seq_blocks_for(context);
	struct device_limits limits = { .n_slots = b->slots,
					.max_rows = b->slots + CHUNK_ROWS,
					.max_context = context };
	int r = target_find(&b->target, e);

	if (r < 0)
		return r;
	limits.n_blocks = b->slots > 4 ? b->slots * each / 4 : each + 1;
	if (b->blocks)
		limits.n_blocks = b->blocks;
	if (limits.n_blocks < each)
		return err_set(e, -EINVAL, "--blocks: the longest request alone needs %u", each);
	b->soak = (struct soak){ .seed = b->seed,
				 .kind = { .seed = b->seed,
					   .n_ids = b->target.m.shape.n_token_ids,
					   .most_prompt = b->prompt,
					   .least_output = 1,
					   .most_output = b->output },
				 .config = { .n_slots = b->slots,
					     .n_blocks = limits.n_blocks,
					     .max_rows = limits.max_rows,
					     .max_context = context,
					     .max_queue = 2 * b->slots,
					     .prefill_rows = CHUNK_ROWS / 2,
					     .most_parts = b->target.m.shape.n_layers,
					     .replay_rows = 8 } };
	r = target_open(&b->target, limits, e);
	b->soak.device = b->target.d;
	return r;
}

/* A line a round, sums so far. */
static void told(void *ctx, const struct soak_result *s)
{
	struct bench *b = ctx;
	struct device_measures facts = { .free = 0 };
	struct process_use use = { .rss_kib = 0 };

	(void)process_read(getpid(), &use);
	(void)device_measure(b->target.d, MEASURE_DEVICE, &facts);
	printf("| %llu | %llu | %llu | %llu | %llu | %llu | %llu | %llu | %u | %llu | %llu | "
	       "%llu | %llu |\n",
	       (unsigned long long)s->n_rounds, (unsigned long long)s->n_sent,
	       (unsigned long long)s->n_answered, (unsigned long long)s->n_cancelled,
	       (unsigned long long)s->n_refused, (unsigned long long)s->stats.n_steps,
	       (unsigned long long)s->stats.n_output_tokens,
	       (unsigned long long)s->stats.n_preempted, s->least_free,
	       (unsigned long long)s->n_repeated,
	       (unsigned long long)(s->n_other_answer + s->n_failed + s->n_left_behind),
	       (unsigned long long)use.rss_kib >> 10, (unsigned long long)facts.free >> 20);
	fflush(stdout);
}

static int soak(struct bench *b)
{
	const double seconds = b->seconds ? b->seconds : 60.0 * b->minutes;
	struct soak_result s;
	int r;

	printf("%s on %s (%s); %u slots, %u blocks, prompts to %u and answers to %u tokens, "
	       "seed %u\n\n"
	       "| rounds | sent | answered | cancelled | refused | steps | tokens | preempted | "
	       "least free blocks | asked again | wrong | RSS MiB | device free MiB |\n"
	       "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
	       target_name(&b->target), b->target.device, device_numeric_text(b->target.d),
	       b->slots, b->soak.config.n_blocks, b->prompt, b->output, b->seed);
	r = soak_run(&b->soak, seconds, told, b, &s);
	if (r < 0) {
		fprintf(stderr, "hearth-bench soak: %s %s\n", strerror(-r),
			device_lost_text(b->target.d));
		return EX_SOFTWARE;
	}
	printf("\n%llu other answers, %llu failed, %llu rounds that left blocks, slots or requests "
	       "behind\n",
	       (unsigned long long)s.n_other_answer, (unsigned long long)s.n_failed,
	       (unsigned long long)s.n_left_behind);
	const bool nothing = !s.stats.n_short || !s.stats.n_preempted || !s.n_repeated;
	if (nothing)
		printf("blocks were never short, nothing preempted or nothing asked again: "
		       "this shows nothing\n");
	return nothing || s.n_other_answer || s.n_failed || s.n_left_behind;
}

int bench_soak_main(int argc, char **argv)
{
	struct bench b = { .target = TARGET_INIT,
			   .minutes = 5,
			   .slots = 32,
			   .prompt = 600,
			   .output = 200,
			   .seed = 1 };
	struct err e = { .code = 0 };
	int r = options(argc, argv, &b), code;

	if (r != 0) {
		if (r < 0)
			usage(stderr);
		return r < 0 ? EX_USAGE : 0;
	}
	if (open_all(&b, &e) < 0) {
		fprintf(stderr, "hearth-bench soak: %s\n", e.text);
		code = EX_CONFIG;
	} else {
		code = soak(&b);
	}
	target_close(&b.target);
	return code;
}
