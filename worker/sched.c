/* sched.c - see sched.h: made and freed, what comes in and goes, a turn. */
#include "worker/sched.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "worker/sched_int.h"

static bool config_ok(const struct sched_config *c)
{
	return c->n_slots && c->n_blocks && c->max_context && c->replay_rows &&
	       c->n_slots < UINT32_MAX - STEP_GRID && c->max_rows >= c->n_slots + STEP_GRID &&
	       c->prefill_rows && c->prefill_rows % STEP_GRID == 0;
}

static int allocate(struct sched *s)
{
	uint32_t n = s->config.n_slots;

	s->free_slots = calloc(n, sizeof(*s->free_slots));
	s->runs = calloc(n, sizeof(*s->runs));
	s->results = calloc(n, sizeof(*s->results));
	if (!s->free_slots || !s->runs || !s->results)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		s->free_slots[s->n_free_slots++] = n - 1 - i;
	for (uint32_t i = 0; i < STEP_AHEAD; i++) {
		s->flights[i].seq = calloc(n, sizeof(*s->flights[i].seq));
		s->flights[i].run = calloc(n, sizeof(*s->flights[i].run));
		if (!s->flights[i].seq || !s->flights[i].run)
			return -ENOMEM;
	}
	return kv_pool_new(s->config.n_blocks, &s->pool);
}

int sched_new(struct device *d, const struct sched_config *c, const struct sched_sink *sink,
	      struct sched **ret)
{
	struct sched *s;
	int r;

	if (!config_ok(c))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->device = d;
	s->config = *c;
	s->chunk = (struct chunk){ .rows = c->prefill_rows, .most = c->max_rows - c->n_slots,
				   .pause_ns = c->pause_ns, .most_parts = c->most_parts };
	s->sink = *sink;
	r = allocate(s);
	if (r < 0) {
		sched_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct sched *sched_free(struct sched *s)
{
	if (!s)
		return NULL;
	while (s->n_flights && device_collect(s->device, s->results, s->config.n_slots) >= 0)
		s->n_flights--;
	for (uint32_t i = 0; i < s->running.n; i++) {
		sched_give_back(s, s->running.p[i]);
		seq_free(s->running.p[i]);
	}
	for (uint32_t i = 0; i < s->waiting.n; i++)
		seq_free(s->waiting.p[i]);
	for (uint32_t i = 0; i < STEP_AHEAD; i++) {
		free(s->flights[i].seq);
		free(s->flights[i].run);
	}
	kv_pool_free(s->pool);
	free(s->running.p);
	free(s->waiting.p);
	free(s->free_slots);
	free(s->runs);
	free(s->results);
	free(s);
	return NULL;
}

uint32_t sched_max_tokens(const struct sched_config *c)
{
	/* the last sample of all needs no place in a block, but this is no place to be clever */
	uint64_t pool = (uint64_t)c->n_blocks * STEP_GRID;

	return pool < c->max_context ? (uint32_t)pool : c->max_context;
}

int sched_add(struct sched *s, struct seq *q)
{
	int r;

	if (s->n_new >= s->config.max_queue)
		return -ENOBUFS;
	if ((uint64_t)q->n_prompt + q->max_output > sched_max_tokens(&s->config))
		return -E2BIG;
	q->arrival = s->next_arrival++;
	r = seq_list_add(&s->waiting, q);
	if (r == 0)
		s->n_new++;
	return r;
}

static struct seq *find(const struct sched *s, uint64_t id)
{
	struct seq *q = seq_list_find(&s->running, id);

	return q ? q : seq_list_find(&s->waiting, id);
}

int sched_cancel(struct sched *s, uint64_t id)
{
	struct seq *q = find(s, id);

	if (!q)
		return -ENOENT;
	sched_end(s, q, SEQ_END_CANCELLED);
	return 0;
}

int sched_pause(struct sched *s, uint64_t id, bool paused)
{
	struct seq *q = find(s, id);

	if (!q)
		return -ENOENT;
	q->paused = paused;
	return 0;
}

int sched_turn(struct sched *s)
{
	int r = 0;

	if (s->n_flights < STEP_AHEAD)
		r = sched_submit(s);
	if (r < 0)
		return r;
	/* the step just submitted runs while the one before it is looked at; alone, it is
	 * waited for only when nothing could follow it */
	if (s->n_flights == STEP_AHEAD || (s->n_flights && r == 0))
		return sched_collect(s);
	return 0;
}

bool sched_idle(const struct sched *s)
{
	if (s->n_flights || sched_first(s))
		return false;
	for (uint32_t i = 0; i < s->running.n; i++)
		if (!s->running.p[i]->paused)
			return false;
	return true;
}

void sched_stats(const struct sched *s, struct sched_stats *ret)
{
	*ret = s->stats;
	ret->n_running = s->running.n;
	ret->n_waiting = s->waiting.n;
	ret->n_new = s->n_new;
	ret->n_free_blocks = kv_pool_n_free(s->pool);
	ret->n_blocks = kv_pool_size(s->pool);
}

void sched_check(const struct sched *s)
{
	uint32_t n_held = 0, n_new = 0;

	kv_pool_check(s->pool);
	for (uint32_t i = 0; i < s->running.n; i++) {
		const struct seq *q = s->running.p[i];

		assert(q->slot < s->config.n_slots && q->n_blocks >= seq_blocks_for(q->pos));
		assert(i == 0 || q->arrival > s->running.p[i - 1]->arrival);
		n_held += q->n_blocks;
		for (uint32_t k = 0; k < q->n_blocks; k++)
			assert(kv_pool_holders(s->pool, q->blocks[k]) == 1);
		for (uint32_t k = 0; k < i; k++)
			assert(q->slot != s->running.p[k]->slot);
	}
	for (uint32_t i = 0; i < s->waiting.n; i++) {
		assert(s->waiting.p[i]->state == SEQ_QUEUED && !s->waiting.p[i]->n_blocks);
		n_new += seq_never_ran(s->waiting.p[i]);
	}
	assert(n_new == s->n_new);
	assert(n_held + kv_pool_n_free(s->pool) == s->config.n_blocks);
	assert(s->running.n + s->n_free_slots == s->config.n_slots);
}
