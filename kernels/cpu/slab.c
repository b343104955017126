/* slab.c - see slab.h. */
#include "kernels/cpu/slab.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define LARGE_PAGE ((size_t)2 << 20)
#define ALIGN	   ((size_t)64)

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* At a multiple of LARGE_PAGE: more is mapped, and what stands over goes back. */
static char *map(size_t bytes)
{
	size_t all = bytes + LARGE_PAGE;
	char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	size_t before = round_up((uintptr_t)p, LARGE_PAGE) - (uintptr_t)p;
	if (before)
		(void)munmap(p, before);
	if (all - before - bytes)
		(void)munmap(p + before + bytes, all - before - bytes);
	(void)madvise(p + before, bytes, MADV_HUGEPAGE);
	ASAN_POISON_MEMORY_REGION(p + before, bytes);
	return p + before;
}

static struct slab *new_slab(struct slabs *s, size_t bytes)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap * 2 + 16;
		struct slab *more = realloc(s->list, cap * sizeof(*more));

		if (!more)
			return NULL;
		s->list = more;
		s->cap = cap;
	}
	char *p = map(bytes);
	if (!p)
		return NULL;
	s->list[s->n] = (struct slab){ p, bytes, 0 };
	return &s->list[s->n++];
}

/* A large piece has a slab of its own, and small ones go on filling the open one. */
static struct slab *slab_with(struct slabs *s, size_t bytes)
{
	if (bytes > SLAB_BYTES / 4) {
		struct slab *own = new_slab(s, round_up(bytes, LARGE_PAGE));

		if (own && s->open == s->n - 1)	/* none was open */
			s->open = s->n;
		return own;
	}
	if (s->open < s->n && s->list[s->open].bytes - s->list[s->open].used >= bytes)
		return &s->list[s->open];
	s->open = s->n;
	return new_slab(s, SLAB_BYTES);
}

void *slab_alloc(struct slabs *s, size_t bytes)
{
	if (bytes > SIZE_MAX / 2)
		return NULL;
	/* twice ALIGN: what may be read behind it, and what sanitizers may not */
	size_t need = round_up(bytes, ALIGN) + 2 * ALIGN;
	struct slab *x = slab_with(s, need);

	if (!x)
		return NULL;
	char *p = x->p + x->used;
	x->used += need;
	ASAN_UNPOISON_MEMORY_REGION(p, bytes + ALIGN);
	return p;
}

void slabs_free(struct slabs *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		ASAN_UNPOISON_MEMORY_REGION(s->list[i].p, s->list[i].bytes);
		(void)munmap(s->list[i].p, s->list[i].bytes);
	}
	free(s->list);
	*s = SLABS_INIT;
}
