/* generation.h - sampled ids of one choice to what a client is told.
 *
 *	ids -> bytes (text/detok) -> stop strings (stop_match) -> channels (text/out_parser)
 *	    -> pieces (gen_out)
 *
 * Everything that has come out after k tokens is a function of those k tokens alone: they
 * are fed one by one, whatever arrives together.  So a second worker that is given the
 * first k tokens stands exactly where the first one stood: generation_known() feeds them
 * and forgets what comes out, since the client has it.
 *
 * Belongs to one thread.
 */
#ifndef HEARTH_WORKER_GENERATION_H
#define HEARTH_WORKER_GENERATION_H

#include "worker/gen_out.h"
#include "worker/stop_match.h"
#include "worker/text/out_parser.h"
#include "worker/text/tokenizer.h"

struct generation;

struct gen_spec {
	const struct tokenizer *tokenizer;	/* borrowed while the generation lives */
	const struct out_options *parse;	/* NULL: plain text, one channel */
	const struct stop_string *stops;
	size_t n_stops;
	const uint32_t *stop_ids;		/* end the answer and are not part of its text */
	size_t n_stop_ids;
	bool logprobs;
	/* Call ids are a hash of these: equal for a continuation, different between turns. */
	uint64_t call_key[2];
	uint32_t choice;
};

/* -EINVAL: stop strings (stop_match.h), or tools that are no list; -ENOMEM. */
int generation_new(const struct gen_spec *spec, struct generation **ret, struct err *e);
struct generation *generation_free(struct generation *g);	/* NULL ok */

/* One more token; with its log-probabilities when asked for.  0; 1: the answer ends here (a
 * stop string is complete, or this is a stop id): no more tokens; -ENOMEM. */
int generation_push(struct generation *g, const struct gen_logprob *token);
/* Tokens whose text the client already has.  As generation_push(); *ret_used: how many
 * were looked at when the answer ends among them. */
int generation_known(struct generation *g, const uint32_t *ids, size_t n, size_t *ret_used);
/* No more tokens.  length_limit: cut there, not ended by the model.  0 or -ENOMEM. */
int generation_finish(struct generation *g, bool length_limit);

/* What was said since the caller last cleared it. */
struct gen_out *generation_out(struct generation *g);

struct gen_counts {
	uint32_t n_output;	/* tokens, stop id included */
	uint32_t n_reasoning;	/* of them */
	uint32_t n_calls;
};
struct gen_counts generation_counts(const struct generation *g);

#endif
