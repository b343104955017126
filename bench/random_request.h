/* random_request.h - made-up requests: each a function of its number, so that it can be asked
 * again. */
#ifndef HEARTH_BENCH_RANDOM_REQUEST_H
#define HEARTH_BENCH_RANDOM_REQUEST_H

#include "worker/seq.h"

/* What may be asked for; lengths are drawn evenly, with the edges of the prefill grid more often
 * than others. */
struct random_kind {
	uint64_t seed;
	uint32_t n_ids;				/* ids below this */
	uint32_t most_prompt;			/* >= 1 */
	uint32_t least_output, most_output;	/* >= 1 */
};

/* Request `which` under the name `id`.  A quarter each is greedy, sampled, sampled from a cut tail
 * (top_k, top_p, min_p), and sampled with penalties and biases.  -ENOMEM. */
int random_request(const struct random_kind *k, uint32_t which, uint64_t id, struct seq **ret);
/* A number below n that belongs to (seed, a, b). */
uint32_t random_below(uint64_t seed, uint32_t a, uint32_t b, uint32_t n);

#endif
