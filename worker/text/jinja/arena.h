/* arena.h - memory that is given back all at once.
 *
 * What a parsed template consists of lives as long as the template, and what a
 * render makes lives as long as the render: neither needs to know who holds what.
 * The bytes handed out in all are limited, so that no template and no request
 * decides how much memory a process takes.  Not thread-safe.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_ARENA_H
#define HEARTH_WORKER_TEXT_JINJA_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *top;	/* newest first */
	size_t used, limit;		/* bytes taken from malloc() so far, at most */
};

#define ARENA_INIT(limit_) ((struct arena){ NULL, 0, (limit_) })

/* n bytes of zeros, aligned for anything; NULL beyond the limit or out of memory. */
void *arena_alloc(struct arena *a, size_t n);
void arena_done(struct arena *a);

#endif
