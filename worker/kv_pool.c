/* kv_pool.c - see kv_pool.h.  A stack of free numbers and a count of holders. */
#include "worker/kv_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct kv_pool {
	uint32_t n_blocks;
	uint32_t n_free;
	uint32_t *holders;	/* n_blocks */
	kv_block *free;		/* a stack: the block freed last is taken first */
};

int kv_pool_new(uint32_t n_blocks, struct kv_pool **ret)
{
	struct kv_pool *p;

	if (!n_blocks)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->n_blocks = p->n_free = n_blocks;
	p->holders = calloc(n_blocks, sizeof(*p->holders));
	p->free = calloc(n_blocks, sizeof(*p->free));
	if (!p->holders || !p->free) {
		kv_pool_free(p);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n_blocks; i++)
		p->free[i] = n_blocks - 1 - i;
	*ret = p;
	return 0;
}

struct kv_pool *kv_pool_free(struct kv_pool *p)
{
	if (!p)
		return NULL;
	free(p->holders);
	free(p->free);
	free(p);
	return NULL;
}

int kv_pool_take(struct kv_pool *p, uint32_t n, kv_block *ret_blocks)
{
	if (n > p->n_free)
		return -ENOSPC;
	for (uint32_t i = 0; i < n; i++) {
		kv_block b = p->free[--p->n_free];

		p->holders[b] = 1;
		ret_blocks[i] = b;
	}
	return 0;
}

void kv_pool_share(struct kv_pool *p, kv_block b)
{
	assert(b < p->n_blocks && p->holders[b] > 0);
	p->holders[b]++;
}

void kv_pool_drop(struct kv_pool *p, kv_block b)
{
	assert(b < p->n_blocks && p->holders[b] > 0);
	if (--p->holders[b] == 0)
		p->free[p->n_free++] = b;
}

uint32_t kv_pool_size(const struct kv_pool *p)
{
	return p->n_blocks;
}

uint32_t kv_pool_n_free(const struct kv_pool *p)
{
	return p->n_free;
}

uint32_t kv_pool_holders(const struct kv_pool *p, kv_block b)
{
	assert(b < p->n_blocks);
	return p->holders[b];
}

void kv_pool_check(const struct kv_pool *p)
{
	uint32_t n_held = 0;

	for (uint32_t i = 0; i < p->n_blocks; i++)
		n_held += p->holders[i] > 0;
	assert(n_held + p->n_free == p->n_blocks);
	for (uint32_t i = 0; i < p->n_free; i++)
		assert(p->free[i] < p->n_blocks && p->holders[p->free[i]] == 0);
}
