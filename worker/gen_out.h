/* gen_out.h - what a choice has said and nobody has been told yet.
 *
 * Pieces of text by channel, the ids behind them, and log-probabilities, in order.  Text
 * of the same channel joins the piece before it, so what arrives in one wake, or while
 * a reader is slow, leaves as few pieces.  Pieces are offsets into one buffer.
 */
#ifndef HEARTH_WORKER_GEN_OUT_H
#define HEARTH_WORKER_GEN_OUT_H

#include "kernels/step.h"
#include "lib/buf.h"
#include "worker/text/ids.h"

enum gen_channel { GEN_CONTENT, GEN_REASONING, GEN_CALL_BEGIN, GEN_CALL_ARGS };

#define GEN_CALL_ID_BYTES 30	/* "call_" + 24 hex digits, terminated */

struct gen_piece {
	enum gen_channel channel;
	size_t from, n;			/* of gen_out.text */
	uint32_t call;			/* CALL_*: index among this choice's calls */
	char call_id[GEN_CALL_ID_BYTES];/* CALL_BEGIN */
};

struct gen_logprob {
	uint32_t token;
	float logprob;
	uint32_t n_top;
	struct {
		uint32_t id;
		float logprob;
	} top[STEP_MAX_TOP];
};

struct gen_out {
	struct buf text;
	struct gen_piece *pieces;
	size_t n_pieces, cap_pieces;
	struct ids tokens;
	struct gen_logprob *logprobs;
	size_t n_logprobs, cap_logprobs;
};

/* Zeroed memory is empty. */
void gen_out_done(struct gen_out *o);
void gen_out_clear(struct gen_out *o);	/* keeps the memory */
bool gen_out_empty(const struct gen_out *o);

/* Each answers 0 or -ENOMEM.  call_id: for CALL_BEGIN, else NULL. */
int gen_out_text(struct gen_out *o, enum gen_channel c, uint32_t call, const char *call_id,
		 const char *p, size_t n);
int gen_out_token(struct gen_out *o, uint32_t id);
int gen_out_logprob(struct gen_out *o, const struct gen_logprob *l);

#endif
