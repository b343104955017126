/* bpe.h - byte-pair merging of one piece of text.
 *
 * A piece starts as its single bytes; the adjacent pair whose merge comes first in
 * tokenizer.json (the lowest rank) is joined, of equal ones the leftmost, until no
 * neighbours can be joined.
 *
 * DESIGN.  Three ways to the same ids:
 *  - a piece that is itself a token which its merges really produce is looked up
 *    (`whole` in vocab.h, worked out for every token when the tokenizer is
 *    opened): most pieces of most texts, so no cache of pieces is needed, and with
 *    none there is nothing to lock, to bound or to poison;
 *  - up to BPE_SHORT bytes: arrays on the stack, the lowest rank found by looking
 *    at all of them;
 *  - beyond: a linked list and a heap of (rank, position) whose outdated entries
 *    are recognised when they come up.  O(n log n), so a megabyte of one letter is
 *    slow only in proportion.
 *
 * The tables are read-only once filled; a scratch belongs to one thread.
 */
#ifndef HEARTH_WORKER_TEXT_BPE_H
#define HEARTH_WORKER_TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "worker/text/ids.h"
#include "worker/text/vocab.h"

#define BPE_SHORT 40		/* above it the heap is the faster one */
#define BPE_NONE UINT32_MAX

struct bpe_pair {
	uint32_t left, right;	/* ids; left BPE_NONE: empty slot */
	uint32_t rank, id;	/* place in the list of merges, and what they become */
};

struct bpe {
	const struct vocab *vocab;	/* borrowed */
	struct bpe_pair *pair;		/* (mask + 1), a power of two; open addressing */
	uint32_t mask;
	/* One bit for some 16 hashes of pairs: two look-ups in three are for pairs that
	 * nobody joins, and half a megabyte stays in a cache where 8 do not. */
	uint64_t *seen;
	uint32_t seen_mask;
	uint32_t byte_id[256];		/* the token of each single byte */
	uint32_t byte_rank[1 << 16];	/* the rank of each pair of bytes, first byte high */
};

/* What one call of bpe_encode() may need for a long piece; kept for the next. */
struct bpe_scratch {
	struct bpe_sym *sym;
	uint64_t *heap;
	size_t cap;
};

/* `vocab` is indexed and outlives this.  -EINVAL: it lacks a token for the byte
 * *ret_byte; -ENOMEM. */
int bpe_init(struct bpe *b, const struct vocab *vocab, size_t n_merges, unsigned *ret_byte);
void bpe_done(struct bpe *b);		/* a zeroed struct is fine */

/* Of two merges of one pair the later holds, as in the reference. */
void bpe_put(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);

/* To be called once all merges are in; marks the tokens of `vocab` that are whole.
 * 0 or -ENOMEM. */
int bpe_finish(struct bpe *b, struct vocab *vocab);

/* Appends the ids of a piece of n bytes, 0 < n < 2^31.  0 or -ENOMEM. */
int bpe_encode(const struct bpe *b, struct bpe_scratch *x, const char *piece, size_t n,
	       struct ids *out);

void bpe_scratch_done(struct bpe_scratch *x);

#endif
