/* sample.h - from logits to a token: docs/numerics.md, section 3. */
#ifndef HEARTH_KERNELS_CPU_SAMPLE_H
#define HEARTH_KERNELS_CPU_SAMPLE_H

#include "kernels/step.h"

struct sampler;		/* the parameters of a slot's sequence, and what was counted */

/* Copies all it is given. */
int sampler_new(const struct sampling *s, uint32_t vocab, const uint32_t *prompt,
		uint32_t n_prompt, struct sampler **ret);
struct sampler *sampler_free(struct sampler *s);	/* NULL ok */
void sampler_count(struct sampler *s, uint32_t token);	/* one more token of output */

/* Scratch for one call at a time: vocab entries each. */
struct sample_room {
	float *logits;
	uint32_t *ids;
};

/* logits [n_ids], raw; position: of the sampled token.  Fills token, logprob and top;
 * a logit that is no finite number: no_number, and token 0. */
void sampler_pick(const struct sampler *s, const float *logits, uint32_t n_ids, uint32_t position,
		  struct sample_room *room, struct run_result *ret);

#endif
