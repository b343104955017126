/* vocab.h - the tokens of a model: what bytes an id stands for, and the way back.
 *
 * Ids may have gaps.  Tokens are kept as raw bytes (not as tokenizer.json spells
 * them), added tokens as their literal text.  Only plain tokens are found by
 * bytes; added ones are looked for by added.h.
 *
 * Filled when a tokenizer is opened, read-only and shared by threads after that.
 */
#ifndef HEARTH_WORKER_TEXT_VOCAB_H
#define HEARTH_WORKER_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"

/* Ids from this on are refused: a wrong file must not make us allocate gigabytes. */
#define VOCAB_MAX_IDS (1u << 22)
#define VOCAB_MAX_TOKEN 0xffffffu	/* bytes of one token */

enum vocab_kind {
	VOCAB_NONE,		/* the id has no string */
	VOCAB_PLAIN,
	VOCAB_ADDED,		/* matched in the text before everything else */
	VOCAB_SPECIAL,		/* an added token that skip_special drops */
};

struct vocab_token {
	uint32_t at, n;		/* in vocab.bytes */
	enum vocab_kind kind;
};

/* `key` is the token itself, padded with zeros, when it has at most 8 bytes, else
 * a hash: most look-ups end in this one cache line. */
struct vocab_slot {
	uint64_t key;
	uint32_t id;
	uint32_t n : 31;	/* bytes of the token; 0: empty slot */
	uint32_t whole : 1;	/* merging these bytes gives this one token */
};

struct vocab {
	struct vocab_token *token;	/* (n_ids) */
	uint32_t n_ids;			/* the highest known id + 1 */
	uint32_t cap_ids;
	struct buf bytes;
	struct vocab_slot *slot;	/* (mask + 1), a power of two; open addressing */
	uint32_t mask;
	uint32_t max_plain;		/* bytes of the longest plain token */
};

void vocab_init(struct vocab *v);
void vocab_done(struct vocab *v);

/* Sets what `id` stands for, replacing what was there.  -ERANGE: id >=
 * VOCAB_MAX_IDS, n > VOCAB_MAX_TOKEN or 4 GiB in all; -ENOMEM. */
int vocab_set(struct vocab *v, uint32_t id, enum vocab_kind kind, const char *bytes, size_t n);

/* Builds the index over the tokens set so far as plain; to be called once.  A token
 * that is set again as an added one stays found.  -ENOMEM. */
int vocab_index(struct vocab *v);

/* The slot of a plain token, NULL when there is none. */
struct vocab_slot *vocab_find(const struct vocab *v, const char *bytes, size_t n);

static inline enum vocab_kind vocab_kind_of(const struct vocab *v, uint32_t id)
{
	return id < v->n_ids ? v->token[id].kind : VOCAB_NONE;
}

static inline const char *vocab_bytes(const struct vocab *v, uint32_t id, size_t *ret_n)
{
	*ret_n = v->token[id].n;
	return v->bytes.p + v->token[id].at;
}

#endif
