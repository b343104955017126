/* ids.h - a growing run of token ids.
 *
 * Always true: `n <= cap`.  A failed append leaves the run as it was.  Not
 * thread-safe.
 */
#ifndef HEARTH_WORKER_TEXT_IDS_H
#define HEARTH_WORKER_TEXT_IDS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct ids {
	uint32_t *p;		/* owned; NULL while empty */
	size_t n;		/* in use */
	size_t cap;		/* allocated */
};

#define IDS_INIT ((struct ids){ NULL, 0, 0 })

static inline void ids_done(struct ids *l)	/* frees; l is IDS_INIT again */
{
	free(l->p);
	*l = IDS_INIT;
}

static inline void ids_donep(struct ids *l)	/* for CLEANUP() */
{
	ids_done(l);
}

static inline void ids_clear(struct ids *l)	/* empties, keeps the memory */
{
	l->n = 0;
}

/* Room for `more` ids after n.  0 or -ENOMEM. */
static inline int ids_reserve(struct ids *l, size_t more)
{
	size_t cap = l->cap < 32 ? 32 : l->cap;
	uint32_t *p;

	if (l->cap - l->n >= more)
		return 0;
	if (more > SIZE_MAX / 16 || l->n > SIZE_MAX / 16)
		return -ENOMEM;
	while (cap < l->n + more)
		cap *= 2;
	p = realloc(l->p, cap * sizeof(*p));
	if (!p)
		return -ENOMEM;
	l->p = p;
	l->cap = cap;
	return 0;
}

static inline int ids_push(struct ids *l, uint32_t id)	/* 0 or -ENOMEM */
{
	if (l->n == l->cap && ids_reserve(l, 1) < 0)
		return -ENOMEM;
	l->p[l->n++] = id;
	return 0;
}

#endif
