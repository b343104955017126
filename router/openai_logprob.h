/* openai_logprob.h - log-probabilities of tokens in the two shapes of the dialect.
 *
 * Chat wants a list of objects.  Completions want parallel lists; they are kept as four
 * growing texts in one buffer of records until they are written.
 */
#ifndef HEARTH_ROUTER_OPENAI_LOGPROB_H
#define HEARTH_ROUTER_OPENAI_LOGPROB_H

#include "router/openai_out.h"

/* Appends d's to `state`; text_offset counts the characters' bytes before each token. */
void oa_add_logprobs(enum oa_kind kind, const Hw__Delta *d, uint32_t *text_offset,
		     struct buf *state);
/* Writes the member's value from `state`. */
void oa_put_logprobs(enum oa_kind kind, const struct buf *state, struct buf *out);

#endif
