/* wire_arena.h - memory of one unpacked message: given piece by piece, freed as a whole.
 *
 * The callbacks of a ProtobufCAllocator whose allocator_data is a `struct wire_arena **`,
 * NULL at first.  What protobuf-c gives back meanwhile stays until wire_arena_done().
 */
#ifndef HEARTH_PROTO_WIRE_ARENA_H
#define HEARTH_PROTO_WIRE_ARENA_H

#include <stddef.h>

struct wire_arena;

void *wire_arena_alloc(void *arena, size_t n);	/* NULL: out of memory */
void wire_arena_free(void *arena, void *p);	/* nothing happens */
void wire_arena_done(struct wire_arena *a);

#endif
