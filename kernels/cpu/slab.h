/* slab.h - the memory of a CPU device: anonymous slabs, cut up and freed together.
 *
 * Slabs are taken one by one as they are needed, so that whoever watches the box can look between
 * them, and in large pages where the kernel gives them: a weight is read once a token, and
 * 4 KiB at a time the translation costs more than the read.  Nothing is locked.
 *
 * Thread: one.
 */
#ifndef HEARTH_KERNELS_CPU_SLAB_H
#define HEARTH_KERNELS_CPU_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_BYTES ((size_t)64 << 20)

struct slab {
	char *p;
	size_t bytes, used;
};

struct slabs {
	struct slab *list;
	uint32_t n, cap;
	uint32_t open;		/* that small pieces are cut from; n: none */
};

#define SLABS_INIT ((struct slabs){ NULL, 0, 0, 0 })

/* Zeroed, aligned to 64 bytes, readable for 64 bytes more than asked for.  NULL: no memory. */
void *slab_alloc(struct slabs *s, size_t bytes);
void slabs_free(struct slabs *s);

#endif
