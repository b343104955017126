/* random_request.c - see random_request.h. */
#include "bench/random_request.h"

#include <errno.h>
#include <stdlib.h>

#include "kernels/noise.h"
#include "lib/own.h"

/* Counters of the noise: what a number is for. */
enum { FOR_PROMPT = 1, FOR_LENGTH, FOR_OUTPUT, FOR_BELOW };

static uint32_t word(uint64_t seed, uint32_t a, uint32_t b, uint32_t what)
{
	return noise_philox(seed, a, b, what, 3).w[0];
}

uint32_t random_below(uint64_t seed, uint32_t a, uint32_t b, uint32_t n)
{
	return word(seed, a, b, FOR_BELOW) % n;
}

static uint32_t prompt_length(const struct random_kind *k, uint32_t which)
{
	static const uint32_t edges[] = { 1, STEP_GRID - 1, STEP_GRID, STEP_GRID + 1,
					  2 * STEP_GRID };
	const uint32_t x = word(k->seed, which, 0, FOR_LENGTH);
	const uint32_t edge = edges[x / 4 % (sizeof(edges) / sizeof(edges[0]))];

	return x % 4 == 0 && edge <= k->most_prompt ? edge : 1 + x / 4 % k->most_prompt;
}

static struct sampling sampling_of(const struct random_kind *k, uint32_t which)
{
	static const struct token_bias bias[] = { { 3, 2.5f }, { 9, -4.0f } };
	struct sampling s = { .temperature = which % 4 ? 0.9f : 0,
			      .top_p = 1,
			      .repetition = 1,
			      .seed = k->seed + which,
			      .choice = which % 3 };

	if (which % 4 == 2) {
		s.top_k = 20;
		s.top_p = 0.95f;
		s.min_p = 0.01f;
	} else if (which % 4 == 3) {
		s.repetition = 1.2f;
		s.presence = 0.5f;
		s.frequency = 0.3f;
		s.bias = bias;
		s.n_bias = k->n_ids > 9 ? 2 : 0;
	}
	return s;
}

int random_request(const struct random_kind *k, uint32_t which, uint64_t id, struct seq **ret)
{
	const uint32_t n = prompt_length(k, which), span = k->most_output - k->least_output + 1;
	CLEANUP(freep) uint32_t *ids = calloc(n, sizeof(*ids));
	struct seq_spec spec = { .id = id,
				 .prompt = ids,
				 .n_prompt = n,
				 .sampling = sampling_of(k, which),
				 .max_output = k->least_output +
					       word(k->seed, which, 0, FOR_OUTPUT) % span };

	if (!ids)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		ids[i] = word(k->seed, which, i, FOR_PROMPT) % k->n_ids;
	return seq_new(&spec, ret);
}
