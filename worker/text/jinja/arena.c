/* arena.c - see arena.h. */
#include "worker/text/jinja/arena.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* Under the address sanitizer each piece is an allocation of its own, so that
 * a step over its end is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_BLOCK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_BLOCK 1
#endif
#endif
#ifndef ARENA_BLOCK
#define ARENA_BLOCK 65536
#endif

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	alignas(max_align_t) char bytes[];
};

static struct arena_block *block_new(struct arena *a, size_t n)
{
	size_t cap = n > ARENA_BLOCK ? n : ARENA_BLOCK;
	struct arena_block *b;

	if (cap > a->limit || a->used > a->limit - cap)
		return NULL;
	b = calloc(1, sizeof(*b) + cap);
	if (!b)
		return NULL;
	a->used += cap;
	b->cap = cap;
	return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->top;
	size_t rounded;

	if (n > SIZE_MAX / 4)
		return NULL;
	rounded = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (ARENA_BLOCK == 1)
		rounded = n ? n : 1;
	if (!b || b->cap - b->used < rounded) {
		b = block_new(a, rounded);
		if (!b)
			return NULL;
		/* A large piece fills a block of its own; the open one stays on top. */
		if (a->top && rounded > ARENA_BLOCK / 4) {
			b->next = a->top->next;
			a->top->next = b;
		} else {
			b->next = a->top;
			a->top = b;
		}
	}
	b->used += rounded;
	return b->bytes + b->used - rounded;
}

void arena_done(struct arena *a)
{
	while (a->top) {
		struct arena_block *b = a->top;

		a->top = b->next;
		free(b);
	}
	a->used = 0;
}
