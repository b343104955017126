/* wire_arena.c - see wire_arena.h. */
#include "proto/wire_arena.h"

#include <stdint.h>
#include <stdlib.h>

struct wire_arena {
	struct wire_arena *next;
	size_t used, size;
	_Alignas(max_align_t) unsigned char bytes[];
};

enum { PIECE_BYTES = 1000, ALIGN = _Alignof(max_align_t) };

static struct wire_arena *grow(struct wire_arena **at, size_t n)
{
	size_t size = n > PIECE_BYTES ? n : PIECE_BYTES;
	struct wire_arena *a = malloc(sizeof(*a) + size);

	if (!a)
		return NULL;
	*a = (struct wire_arena){ .next = *at, .size = size };
	*at = a;
	return a;
}

void *wire_arena_alloc(void *arena, size_t n)
{
	struct wire_arena **at = arena, *a = *at;
	void *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = (n + ALIGN - 1) / ALIGN * ALIGN;
	if (!a || a->size - a->used < n)
		a = grow(at, n);
	if (!a)
		return NULL;
	p = a->bytes + a->used;
	a->used += n;
	return p;
}

void wire_arena_free(void *arena, void *p)
{
	(void)arena, (void)p;
}

void wire_arena_done(struct wire_arena *a)
{
	while (a) {
		struct wire_arena *next = a->next;

		free(a);
		a = next;
	}
}
