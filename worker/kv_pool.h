/* kv_pool.h - the KV-cache blocks of one device.
 *
 * A pool hands out block numbers, never addresses: the memory belongs to the device
 * (kernels/step.h) and numbers are what its attention indexes by.  A block used by
 * two sequences is one block with two holders.
 *
 * Not thread-safe: the engine thread is its only caller.
 *
 * Always true (kv_pool_check() aborts otherwise):
 *  1. a block is on the free list exactly when nobody holds it;
 *  2. n_free plus the number of held blocks is the size of the pool.
 */
#ifndef HEARTH_WORKER_KV_POOL_H
#define HEARTH_WORKER_KV_POOL_H

#include <stdint.h>

#include "kernels/step.h"

struct kv_pool;

/* -EINVAL: no blocks; -ENOMEM. */
int kv_pool_new(uint32_t n_blocks, struct kv_pool **ret);
struct kv_pool *kv_pool_free(struct kv_pool *p);	/* NULL ok; returns NULL */

/* Takes `n` blocks with one holder each: all of them, or -ENOSPC and none. */
int kv_pool_take(struct kv_pool *p, uint32_t n, kv_block *ret_blocks);

/* One more holder, one holder less.  The last drop frees the block. */
void kv_pool_share(struct kv_pool *p, kv_block b);
void kv_pool_drop(struct kv_pool *p, kv_block b);

uint32_t kv_pool_size(const struct kv_pool *p);
uint32_t kv_pool_n_free(const struct kv_pool *p);
uint32_t kv_pool_holders(const struct kv_pool *p, kv_block b);
void kv_pool_check(const struct kv_pool *p);

#endif
