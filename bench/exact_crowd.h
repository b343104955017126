/* exact_crowd.h - requests through the scheduler, alone or among others. */
#ifndef HEARTH_BENCH_EXACT_CROWD_H
#define HEARTH_BENCH_EXACT_CROWD_H

#include "bench/exact_book.h"
#include "bench/random_request.h"

enum crowd_how {
	/* one after the other */
	CROWD_ALONE,
	/* all prompts first; then all decode, and no row of a prompt is among them */
	CROWD_DECODE,
	/* random arrival: rows of prompts beside decoding ones */
	CROWD_MIXED,
	/* the same with prompts in parts of 64 rows' worth, and blocks for about half of them: each is
	 * preempted now and then, and replayed */
	CROWD_PRESSED,
	CROWD_N
};
const char *crowd_how_name(enum crowd_how how);

struct crowd {
	struct device *device;
	const struct random_kind *kind;
	struct exact_book *book;
	uint32_t n_requests;	/* 0..n-1 */
	uint32_t n_slots;	/* sequences that run at the same time */
	uint32_t n_blocks;	/* of the device */
	uint32_t max_rows, max_context;
	uint32_t n_layers;
	uint64_t seed;		/* of arrivals and of force */
};

struct crowd_result {
	uint64_t n_steps, n_parts, n_preempted, n_replayed;
	uint32_t most_rows;	/* decode rows of one step */
	uint32_t n_full;	/* steps with n_slots of them */
};

/* Runs all requests to their ends; the book hears of every step.  What the device answers; -EPROTO:
 * blocks or slots were left behind. */
int crowd_run(const struct crowd *c, enum crowd_how how, struct crowd_result *ret);

#endif
