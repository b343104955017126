/* sched_room.c - blocks and slots: who gets them, who gives them back. */
#include <assert.h>
#include <errno.h>

#include "worker/sched_int.h"

void sched_give_back(struct sched *s, struct seq *q)
{
	for (uint32_t i = 0; i < q->n_blocks; i++)
		kv_pool_drop(s->pool, q->blocks[i]);
	q->n_blocks = 0;
	if (q->slot != SEQ_NO_SLOT)
		s->free_slots[s->n_free_slots++] = q->slot;
	q->slot_was = q->slot;
	q->slot = SEQ_NO_SLOT;
}

/* Its results in flight will be dropped, and what is open of its prompt is given up. */
static void forget(struct sched *s, const struct seq *q)
{
	if (s->open.seq == q)
		s->open.seq = NULL;
	for (uint32_t f = 0; f < STEP_AHEAD; f++)
		for (uint32_t i = 0; i < s->flights[f].n; i++)
			if (s->flights[f].seq[i] == q)
				s->flights[f].seq[i] = NULL;
}

bool seq_never_ran(const struct seq *q)
{
	return q->state == SEQ_QUEUED && q->n_preempted == 0;
}

void sched_end(struct sched *s, struct seq *q, enum seq_end how)
{
	if (q->state == SEQ_QUEUED) {
		s->n_new -= seq_never_ran(q);
		seq_list_remove(&s->waiting, q);
	} else {
		seq_list_remove(&s->running, q);
	}
	forget(s, q);
	sched_give_back(s, q);
	seq_go(q, SEQ_DONE);
	s->sink.done(s->sink.ctx, q, how);
	seq_free(q);
}

static int preempt(struct sched *s, struct seq *q)
{
	int r = seq_list_add(&s->waiting, q);

	if (r < 0)
		return r;
	seq_list_remove(&s->running, q);
	forget(s, q);
	sched_give_back(s, q);
	seq_rewind(q);
	s->stats.n_preempted++;
	return 0;
}

int sched_preempt(struct sched *s, uint64_t id)
{
	struct seq *q = seq_list_find(&s->running, id);

	return q ? preempt(s, q) : -ENOENT;
}

static struct seq *youngest(const struct sched *s, bool paused_only)
{
	for (uint32_t i = s->running.n; i > 0; i--)
		if (s->running.p[i - 1]->paused || !paused_only)
			return s->running.p[i - 1];
	return NULL;
}

/* Blocks for n positions.  0; -ENOSPC: the pool cannot give them. */
static int grow(struct sched *s, struct seq *q, uint32_t n)
{
	uint32_t need = seq_blocks_for(n);
	int r;

	if (need <= q->n_blocks)
		return 0;
	r = kv_pool_take(s->pool, need - q->n_blocks, q->blocks + q->n_blocks);
	if (r == 0)
		q->n_blocks = need;
	return r;
}

int sched_grow(struct sched *s, struct seq *q, uint32_t n)
{
	int r;

	while ((r = grow(s, q, n)) == -ENOSPC) {
		struct seq *victim = youngest(s, true);

		s->stats.n_short++;
		if (!victim)
			victim = youngest(s, false);
		r = preempt(s, victim);
		if (r < 0)
			return r;
		if (victim == q)
			return -ENOSPC;
	}
	return r;
}

/* Whether a sequence may start now.  A block for each that runs is left alone: else it
 * would be taken from the newcomer again a few tokens later. */
static bool has_room(const struct sched *s, const struct seq *q)
{
	uint32_t spare = s->running.n;

	return s->n_free_slots && kv_pool_n_free(s->pool) >= seq_blocks_to_start(q) + spare;
}

struct seq *sched_first(const struct sched *s)
{
	for (uint32_t i = 0; i < s->waiting.n; i++)
		if (!s->waiting.p[i]->paused)
			return s->waiting.p[i];
	return NULL;
}

static int start(struct sched *s, struct seq *q)
{
	uint32_t slot = s->free_slots[s->n_free_slots - 1];
	int r = slot_begin(s->device, slot, &q->sampling, q->tokens, q->n_prompt);

	if (r == -EINVAL || r == -ENOMEM) {	/* these parameters; the others can go on */
		sched_end(s, q, SEQ_END_FAILED);
		return 0;
	}
	if (r == 0)
		r = seq_list_add(&s->running, q);
	if (r < 0)
		return r;
	s->n_free_slots--;
	s->n_new -= seq_never_ran(q);
	seq_list_remove(&s->waiting, q);
	q->slot = slot;
	seq_go(q, SEQ_PREFILL);
	r = grow(s, q, q->n_tokens);
	assert(r == 0);
	return 0;
}

int sched_admit(struct sched *s)
{
	struct seq *q;
	int r = 0;

	while (r == 0 && (q = sched_first(s))) {
		struct seq *victim;

		if (has_room(s, q)) {
			r = start(s, q);
			continue;
		}
		s->stats.n_short += s->n_free_slots > 0;
		victim = youngest(s, true);
		if (!victim)
			break;
		r = preempt(s, victim);
	}
	return r;
}
