/* exact_book.c - see exact_book.h. */
#include "bench/exact_book.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int exact_book_new(uint32_t n_requests, uint32_t n_positions, struct exact_book *b)
{
	const size_t n = (size_t)n_requests * (n_positions + 1);

	*b = (struct exact_book){ .n_requests = n_requests,
				  .n_positions = n_positions,
				  .writing = true };
	b->marks = calloc(n, sizeof(*b->marks));
	b->tokens = calloc(n, sizeof(*b->tokens));
	b->n_tokens = calloc(n_requests, sizeof(*b->n_tokens));
	if (b->marks && b->tokens && b->n_tokens)
		return 0;
	exact_book_done(b);
	return -ENOMEM;
}

void exact_book_done(struct exact_book *b)
{
	free(b->marks);
	free(b->tokens);
	free(b->n_tokens);
	*b = (struct exact_book){ .marks = NULL };
}

void exact_book_compare(struct exact_book *b)
{
	b->writing = false;
	b->n_compared = b->n_wrong = 0;
	b->first_wrong[0] = '\0';
}

static void wrong(struct exact_book *b, const char *what, uint64_t id, uint32_t at)
{
	if (b->n_wrong++ == 0)
		snprintf(b->first_wrong, sizeof(b->first_wrong), "request %u, position %u: %s",
			 (uint32_t)id, at, what);
}

static const char *difference(const struct exact_mark *a, const struct exact_mark *b)
{
	return a->digest.hidden != b->digest.hidden ? "another hidden state" :
	       a->digest.logits != b->digest.logits ? "other logits" :
	       a->digest.state != b->digest.state ? "another recurrent state" :
	       a->n == b->n && a->digest.kv != b->digest.kv ? "other keys or values" : NULL;
}

void exact_book_step(struct exact_book *b, const struct seq *q, const struct sched_run *run)
{
	const uint32_t end = run->pos + run->n;
	const struct exact_mark m = { true, run->kind == ROW_PREFILL, run->n, run->result->digest };
	struct exact_mark *a = &b->marks[q->id * (b->n_positions + 1) + end];

	if (b->writing) {
		*a = m;
	} else if (!a->there || a->prefill != m.prefill) {
		wrong(b, "no step alone ended here by these kernels", q->id, end);
	} else {
		const char *what = difference(a, &m);

		b->n_compared++;
		if (what)
			wrong(b, what, q->id, end);
	}
}

void exact_book_answer(struct exact_book *b, const struct seq *q, enum seq_end how)
{
	uint32_t *tokens = b->tokens + q->id * (b->n_positions + 1);

	if (how != SEQ_END_LENGTH) {
		wrong(b,
		      how == SEQ_END_NO_NUMBER ? "its logits are no numbers" :
						 "it did not reach its end",
		      q->id, q->n_tokens);
		return;
	}
	if (b->writing) {
		b->n_tokens[q->id] = q->n_tokens;
		memcpy(tokens, q->tokens, q->n_tokens * sizeof(*tokens));
	} else if (q->n_tokens != b->n_tokens[q->id] ||
		   memcmp(tokens, q->tokens, q->n_tokens * sizeof(*tokens)) != 0) {
		wrong(b, "another answer", q->id, q->n_tokens);
	}
}
