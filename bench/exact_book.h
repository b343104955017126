/* exact_book.h - what each request's steps showed when it was alone, and whether they show it
 * again.
 *
 * A step is known by the position at which it ended and by whether prefill or decode kernels
 * computed it; its digest (kernels/step.h) says hidden state, logits, state and the keys and values
 * it wrote.  First a book is written, then it is compared with.
 */
#ifndef HEARTH_BENCH_EXACT_BOOK_H
#define HEARTH_BENCH_EXACT_BOOK_H

#include "worker/sched.h"

struct exact_mark {
	bool there, prefill;
	uint32_t n;			/* rows */
	struct step_digest digest;
};

struct exact_book {
	uint32_t n_requests, n_positions;
	struct exact_mark *marks;	/* [request][position at the end] */
	uint32_t *tokens;		/* [request][position] */
	uint32_t *n_tokens;		/* [request]; 0: not written yet */
	bool writing;
	/* since exact_book_compare() */
	uint64_t n_compared, n_wrong;
	char first_wrong[256];		/* "" when none is */
};

/* Requests 0..n_requests-1, none longer than n_positions.  -ENOMEM. */
int exact_book_new(uint32_t n_requests, uint32_t n_positions, struct exact_book *ret);
void exact_book_done(struct exact_book *b);
/* From now on it is compared with; counts from 0. */
void exact_book_compare(struct exact_book *b);
/* A step of request q->id was computed. */
void exact_book_step(struct exact_book *b, const struct seq *q, const struct sched_run *run);
/* Its last word: all tokens, prompt and output. */
void exact_book_answer(struct exact_book *b, const struct seq *q, enum seq_end how);

#endif
