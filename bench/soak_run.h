/* soak_run.h - random requests through the scheduler with too little memory: arrival, cancellation,
 * pauses, preemption.
 *
 * In rounds: for some seconds requests come, then no more, until all are over; then every block and
 * slot must be free.  Now and then a request is one that was answered before: its answer must be
 * the same.
 */
#ifndef HEARTH_BENCH_SOAK_RUN_H
#define HEARTH_BENCH_SOAK_RUN_H

#include "bench/random_request.h"
#include "worker/sched.h"

struct soak {
	struct device *device;
	struct random_kind kind;
	struct sched_config config;
	uint64_t seed;
};

struct soak_result {
	uint64_t n_sent, n_answered, n_cancelled, n_refused;	/* refused: the queue was full */
	uint64_t n_repeated, n_rounds;
	uint64_t n_other_answer, n_failed, n_left_behind;	/* what must stay 0 */
	struct sched_stats stats;				/* sums over rounds */
	uint32_t least_free;					/* blocks */
};

/* `seconds` of it, and until the last round is over.  `told` after each round.  What the device
 * answers. */
int soak_run(const struct soak *k, double seconds,
	     void (*told)(void *ctx, const struct soak_result *so_far), void *ctx,
	     struct soak_result *ret);

#endif
