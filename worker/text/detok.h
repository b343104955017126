/* detok.h - ids to text, one at a time.
 *
 * The bytes of consecutive plain tokens are one run of UTF-8; a character may be
 * spread over several tokens.  After each token everything is given out that can
 * no longer change; an incomplete character at the end (at most 3 bytes) is held
 * until the next token completes it or detok_finish() makes it a U+FFFD.  An added
 * token is put out as its own text and ends the run before it; a skipped special
 * or unknown one does nothing at all.  tokenizer_decode() is this over all ids, so
 * the pieces of a stream always add up to it.
 *
 * Belongs to one thread; holds no memory: may be copied and just dropped.
 */
#ifndef HEARTH_WORKER_TEXT_DETOK_H
#define HEARTH_WORKER_TEXT_DETOK_H

#include "worker/text/tokenizer.h"

struct detok {
	const struct tokenizer *t;	/* borrowed */
	bool skip_special;
	uint8_t n_held;
	char held[4];			/* the beginning of a character */
};

void detok_init(struct detok *d, const struct tokenizer *t, bool skip_special);
int detok_push(struct detok *d, uint32_t id, struct buf *out);	/* 0 or -ENOMEM */
int detok_finish(struct detok *d, struct buf *out);		/* 0 or -ENOMEM */

#endif
