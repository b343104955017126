/* pool.h - a few threads that run one function together.
 *
 * pool_run() calls fn(ctx, i) for every i of 0..n-1, task i on thread i % threads, and
 * returns when all are done.  Nothing may depend on who runs what: tasks write to places
 * of their own.  One caller at a time.
 */
#ifndef HEARTH_KERNELS_CPU_POOL_H
#define HEARTH_KERNELS_CPU_POOL_H

#include <stdint.h>

struct pool;
typedef void pool_fn(void *ctx, uint32_t task);

/* The caller counts as one thread.  0: one a core that this process may use, 64 at most. */
int pool_new(uint32_t n_threads, struct pool **ret);
struct pool *pool_free(struct pool *p);			/* NULL ok */
uint32_t pool_threads(const struct pool *p);
void pool_run(struct pool *p, pool_fn *fn, void *ctx, uint32_t n);

#endif
