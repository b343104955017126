/* added.h - the added tokens (<|im_start|>, <think>, ...), found in a text.
 *
 * A trie over their bytes.  Found is what the reference's Aho-Corasick automaton
 * finds in leftmost-longest mode: the match that begins first, of those that begin
 * there the longest, then on behind it.  The cost of a position is bounded by the
 * longest added token, and nearly all end at its first byte.
 *
 * Filled when a tokenizer is opened, read-only and shared by threads after that.
 */
#ifndef HEARTH_WORKER_TEXT_ADDED_H
#define HEARTH_WORKER_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDED_MAX_BYTES 4096	/* of one added token */
#define ADDED_NONE UINT32_MAX

struct added_node {
	uint32_t child;		/* first child, 0: none */
	uint32_t next;		/* next sibling, 0: none */
	uint32_t id;		/* the token that ends here, or ADDED_NONE */
	uint8_t byte;
};

struct added {
	struct added_node *node;	/* (n); node[0] is the root */
	size_t n, cap;
	bool first[256];		/* some token begins with this byte */
};

struct added_hit {
	size_t from, to;
	uint32_t id;
};

void added_init(struct added *a);
void added_done(struct added *a);

/* -EEXIST: the text is there under another id; -EINVAL: empty or longer than
 * ADDED_MAX_BYTES; -ENOMEM. */
int added_put(struct added *a, const char *text, size_t n, uint32_t id);

/* The id of exactly this text, or ADDED_NONE. */
uint32_t added_get(const struct added *a, const char *text, size_t n);

/* The first match in s[from, n). */
bool added_find(const struct added *a, const char *s, size_t n, size_t from,
		struct added_hit *ret_hit);

#endif
