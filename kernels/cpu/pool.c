/* pool.c - a few threads that run one function together: see pool.h. */
#include "kernels/cpu/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define SPINS 1000	/* a step has tens of short regions: sleeping between them costs more */

struct member {
	struct pool *pool;
	pthread_t thread;
	uint32_t index;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	atomic_uint round, left;
	atomic_bool stop;
	pool_fn *fn;
	void *ctx;
	uint32_t n, n_threads;
	struct member *members;		/* n_threads - 1, indexes from 1 */
	uint32_t n_started;
};

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

static void run_share(struct pool *p, uint32_t index)
{
	for (uint32_t i = index; i < p->n; i += p->n_threads)
		p->fn(p->ctx, i);
}

static unsigned wait_round(struct pool *p, unsigned seen)
{
	for (int i = 0; i < SPINS; i++) {
		if (atomic_load(&p->round) != seen)
			return atomic_load(&p->round);
		relax();
	}
	pthread_mutex_lock(&p->lock);
	while (atomic_load(&p->round) == seen)
		pthread_cond_wait(&p->work, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return atomic_load(&p->round);
}

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct pool *p = m->pool;
	unsigned seen = 0;

	for (;;) {
		seen = wait_round(p, seen);
		if (atomic_load(&p->stop))
			return NULL;
		run_share(p, m->index);
		if (atomic_fetch_sub(&p->left, 1) == 1) {
			pthread_mutex_lock(&p->lock);
			pthread_cond_signal(&p->done);
			pthread_mutex_unlock(&p->lock);
		}
	}
}

static void start_round(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->round, 1);
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, pool_fn *fn, void *ctx, uint32_t n)
{
	p->fn = fn;
	p->ctx = ctx;
	p->n = n;
	if (p->n_threads == 1 || n <= 1) {
		for (uint32_t i = 0; i < n; i++)
			fn(ctx, i);
		return;
	}
	atomic_store(&p->left, p->n_threads - 1);
	start_round(p);
	run_share(p, 0);
	for (int i = 0; i < SPINS && atomic_load(&p->left); i++)
		relax();
	if (!atomic_load(&p->left))
		return;
	pthread_mutex_lock(&p->lock);
	while (atomic_load(&p->left))
		pthread_cond_wait(&p->done, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

uint32_t pool_threads(const struct pool *p)
{
	return p->n_threads;
}

static uint32_t cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	int n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > 64 ? 64 : (uint32_t)n;
}

int pool_new(uint32_t n_threads, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->done, NULL);
	p->n_threads = n_threads ? n_threads : cores();
	p->members = calloc(p->n_threads, sizeof(p->members[0]));
	if (!p->members) {
		pool_free(p);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i + 1 < p->n_threads; i++) {
		p->members[i] = (struct member){ .pool = p, .index = i + 1 };
		int r = pthread_create(&p->members[i].thread, NULL, member_main, &p->members[i]);
		if (r) {
			pool_free(p);
			return -r;
		}
		p->n_started++;
	}
	*ret = p;
	return 0;
}

struct pool *pool_free(struct pool *p)
{
	if (!p)
		return NULL;
	atomic_store(&p->stop, true);
	start_round(p);
	for (uint32_t i = 0; i < p->n_started; i++)
		pthread_join(p->members[i].thread, NULL);
	pthread_cond_destroy(&p->done);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p->members);
	free(p);
	return NULL;
}
