/* sched.c - see sched.h. */
#include "worker/sched.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/kv_pool.h"

/* Sequences by age, oldest first. */
struct seq_list {
	struct seq **p;
	uint32_t n, cap;
};

/* A step in flight, run by run as it was planned. */
struct flight {
	uint32_t n;
	struct seq **seq;	/* NULL: ended, cancelled or preempted since */
	struct sched_run *run;
	struct step_flight told;
};

struct sched {
	struct device *device;		/* borrowed */
	struct sched_config config;
	struct sched_sink sink;
	struct kv_pool *pool;
	struct seq_list waiting;	/* QUEUED */
	struct seq_list running;	/* PREFILL, REPLAY, DECODE */
	uint32_t *free_slots, n_free_slots;
	uint32_t n_new;			/* of those waiting: never ran yet */
	uint64_t next_arrival;

	struct flight flights[STEP_AHEAD];
	uint32_t first_flight, n_flights;
	struct plan_run *runs;		/* of the plan being made; n_slots */
	struct run_result *results;	/* n_slots */

	struct sched_stats stats;
};

/* ---- lists ---------------------------------------------------------------------- */

static int list_add(struct seq_list *l, struct seq *q)
{
	uint32_t i;

	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 16;
		struct seq **p = realloc(l->p, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->p = p;
		l->cap = cap;
	}
	for (i = l->n; i > 0 && l->p[i - 1]->arrival > q->arrival; i--)
		l->p[i] = l->p[i - 1];
	l->p[i] = q;
	l->n++;
	return 0;
}

static void list_remove(struct seq_list *l, const struct seq *q)
{
	uint32_t i = 0;

	while (l->p[i] != q)
		i++;
	memmove(l->p + i, l->p + i + 1, (l->n - i - 1) * sizeof(*l->p));
	l->n--;
}

static struct seq *list_find(const struct seq_list *l, uint64_t id)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->p[i]->id == id)
			return l->p[i];
	return NULL;
}

static struct seq *find(const struct sched *s, uint64_t id)
{
	struct seq *q = list_find(&s->running, id);

	return q ? q : list_find(&s->waiting, id);
}

/* ---- making and ending ------------------------------------------------------------ */

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
	s->sink = *sink;
	r = allocate(s);
	if (r < 0) {
		sched_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void give_back(struct sched *s, struct seq *q);

struct sched *sched_free(struct sched *s)
{
	if (!s)
		return NULL;
	while (s->n_flights && device_collect(s->device, s->results, s->config.n_slots) >= 0)
		s->n_flights--;
	for (uint32_t i = 0; i < s->running.n; i++) {
		give_back(s, s->running.p[i]);
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
	r = list_add(&s->waiting, q);
	if (r == 0)
		s->n_new++;
	return r;
}

/* Blocks and slot; rows in flight may still write there, see sched.h. */
static void give_back(struct sched *s, struct seq *q)
{
	for (uint32_t i = 0; i < q->n_blocks; i++)
		kv_pool_drop(s->pool, q->blocks[i]);
	q->n_blocks = 0;
	if (q->slot != SEQ_NO_SLOT)
		s->free_slots[s->n_free_slots++] = q->slot;
	q->slot_was = q->slot;
	q->slot = SEQ_NO_SLOT;
}

/* Its results in flight will be dropped. */
static void forget(struct sched *s, const struct seq *q)
{
	for (uint32_t f = 0; f < STEP_AHEAD; f++)
		for (uint32_t i = 0; i < s->flights[f].n; i++)
			if (s->flights[f].seq[i] == q)
				s->flights[f].seq[i] = NULL;
}

static bool never_ran(const struct seq *q)
{
	return q->state == SEQ_QUEUED && q->n_preempted == 0;
}

static void end(struct sched *s, struct seq *q, enum seq_end how)
{
	if (q->state == SEQ_QUEUED) {
		s->n_new -= never_ran(q);
		list_remove(&s->waiting, q);
	} else {
		list_remove(&s->running, q);
	}
	forget(s, q);
	give_back(s, q);
	seq_go(q, SEQ_DONE);
	s->sink.done(s->sink.ctx, q, how);
	seq_free(q);
}

int sched_cancel(struct sched *s, uint64_t id)
{
	struct seq *q = find(s, id);

	if (!q)
		return -ENOENT;
	end(s, q, SEQ_END_CANCELLED);
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

/* ---- room ------------------------------------------------------------------------- */

static int preempt(struct sched *s, struct seq *q)
{
	int r = list_add(&s->waiting, q);

	if (r < 0)
		return r;
	list_remove(&s->running, q);
	forget(s, q);
	give_back(s, q);
	seq_rewind(q);
	s->stats.n_preempted++;
	return 0;
}

int sched_preempt(struct sched *s, uint64_t id)
{
	struct seq *q = list_find(&s->running, id);

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

/* As grow(), at the cost of others.  -ENOSPC: q itself was preempted.  The victims are
 * younger than q, or paused, so they have no run in the plan that is being made. */
static int grow_or_preempt(struct sched *s, struct seq *q, uint32_t n)
{
	int r;

	while ((r = grow(s, q, n)) == -ENOSPC) {
		struct seq *victim = youngest(s, true);

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

static struct seq *first_in_queue(const struct sched *s)
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
		end(s, q, SEQ_END_FAILED);
		return 0;
	}
	if (r == 0)
		r = list_add(&s->running, q);
	if (r < 0)
		return r;
	s->n_free_slots--;
	s->n_new -= never_ran(q);
	list_remove(&s->waiting, q);
	q->slot = slot;
	seq_go(q, SEQ_PREFILL);
	r = grow(s, q, q->n_tokens);
	assert(r == 0);
	return 0;
}

/* The head of the queue, as long as there is room; what is paused makes room. */
static int admit(struct sched *s)
{
	struct seq *q;
	int r = 0;

	while (r == 0 && (q = first_in_queue(s))) {
		struct seq *victim;

		if (has_room(s, q)) {
			r = start(s, q);
			continue;
		}
		victim = youngest(s, true);
		if (!victim)
			break;
		r = preempt(s, victim);
	}
	return r;
}

/* ---- a step ----------------------------------------------------------------------- */

struct room {
	uint32_t rows;		/* left in this step */
	uint32_t prefill;	/* of them, for prompts */
};

static void plan_add(struct sched *s, struct flight *f, struct seq *q, struct plan_run *run)
{
	run->draft = s->config.drafts;
	s->runs[f->n] = *run;
	f->seq[f->n] = q;
	f->run[f->n] = (struct sched_run){ run->kind, run->pos, run->n, NULL };
	f->n++;
	seq_submitted(q, run);
}

/* One row of each sequence that decodes, oldest first.  Growing may preempt, which takes
 * sequences off the list behind the present one. */
static int plan_decode(struct sched *s, struct flight *f, struct room *room)
{
	for (uint32_t i = 0; i < s->running.n; i++) {
		struct seq *q = s->running.p[i];
		struct plan_run run;
		int r;

		if (q->state != SEQ_DECODE || !seq_next_run(q, 1, 1, &run))
			continue;
		r = grow_or_preempt(s, q, q->pos + 1);
		if (r == -ENOSPC)
			break;		/* it was the youngest */
		if (r < 0)
			return r;
		/* a paused sequence before this one may have left the list */
		while (s->running.p[i] != q)
			i--;
		plan_add(s, f, q, &run);
		room->rows--;
	}
	if (f->n && room->prefill > s->config.prefill_rows)
		room->prefill = s->config.prefill_rows;
	return 0;
}

/* Prompts and replays, oldest first. */
static void plan_others(struct sched *s, struct flight *f, struct room *room)
{
	for (uint32_t i = 0; i < s->running.n; i++) {
		struct seq *q = s->running.p[i];
		bool prefill = q->state == SEQ_PREFILL;
		uint32_t max = prefill && room->prefill < room->rows ? room->prefill : room->rows;
		struct plan_run run;
		uint32_t n;

		if (q->state != SEQ_PREFILL && q->state != SEQ_REPLAY)
			continue;
		n = seq_next_run(q, max, s->config.replay_rows, &run);
		if (!n)
			continue;
		plan_add(s, f, q, &run);
		room->rows -= n;
		if (prefill)
			room->prefill -= n;
	}
}

/* Before the device gets it: a call that never returns is in flight too. */
static void tell_flying(const struct sched *s, uint32_t n)
{
	struct step_flight told[STEP_AHEAD];

	if (!s->sink.flying)
		return;
	for (uint32_t i = 0; i < n; i++)
		told[i] = s->flights[(s->first_flight + i) % STEP_AHEAD].told;
	s->sink.flying(s->sink.ctx, told, n);
}

static void count_rows(const struct sched *s, struct flight *f)
{
	f->told = (struct step_flight){ .step = s->stats.n_steps + 1, .n_runs = f->n };
	for (uint32_t i = 0; i < f->n; i++)
		f->told.rows[f->run[i].kind] += f->run[i].n;
}

/* 1: a step was submitted; 0: there is nothing to run. */
static int submit(struct sched *s)
{
	struct flight *f = &s->flights[(s->first_flight + s->n_flights) % STEP_AHEAD];
	struct room room = { s->config.max_rows, s->config.max_rows };
	struct plan plan = { .runs = s->runs };
	int r = admit(s);

	if (r < 0)
		return r;
	f->n = 0;
	r = plan_decode(s, f, &room);
	if (r < 0)
		return r;
	plan_others(s, f, &room);
	if (!f->n)
		return 0;
	plan.n_runs = f->n;
	count_rows(s, f);
	tell_flying(s, s->n_flights + 1);
	r = device_submit(s->device, &plan);
	if (r < 0)
		return r;
	s->n_flights++;
	s->stats.n_steps++;
	return 1;
}

static void count_draft(struct sched *s, struct seq *q, const struct run_result *r)
{
	if (r->sampled && q->has_draft) {
		s->stats.n_drafts++;
		s->stats.n_draft_hits += q->draft == r->token;
	}
	if (r->sampled)
		q->has_draft = r->drafted;
	if (r->drafted)
		q->draft = r->draft;
}

static void take_result(struct sched *s, struct seq *q, struct sched_run *run)
{
	const struct run_result *r = run->result;
	enum seq_end how = SEQ_END_NOT_YET;

	if (run->kind == ROW_PREFILL)
		s->stats.n_prompt_tokens += run->n;
	else if (run->kind == ROW_REPLAY)
		s->stats.n_replayed += run->n;
	if (r->sampled && r->no_number) {
		end(s, q, SEQ_END_NO_NUMBER);	/* its token is not one */
		return;
	}
	if (r->sampled) {
		count_draft(s, q, r);
		how = seq_sampled(q, r->token);
		s->stats.n_output_tokens++;
	}
	s->sink.ran(s->sink.ctx, q, run);
	if (how != SEQ_END_NOT_YET)
		end(s, q, how);
}

static int collect(struct sched *s)
{
	struct flight *f = &s->flights[s->first_flight];
	int n = device_collect(s->device, s->results, s->config.n_slots);
	uint32_t n_sampled = 0, n_bad = 0;

	if (n < 0)
		return n;
	assert((uint32_t)n == f->n);
	s->first_flight = (s->first_flight + 1) % STEP_AHEAD;
	s->n_flights--;
	for (uint32_t i = 0; i < f->n; i++) {
		f->run[i].result = &s->results[i];
		if (!f->seq[i])
			continue;
		n_sampled += s->results[i].sampled;
		n_bad += s->results[i].sampled && s->results[i].no_number;
		take_result(s, f->seq[i], &f->run[i]);
	}
	f->n = 0;
	tell_flying(s, s->n_flights);
	if (s->sink.collected)
		s->sink.collected(s->sink.ctx, n_sampled, n_bad);
	return 0;
}

int sched_turn(struct sched *s)
{
	int r = 0;

	if (s->n_flights < STEP_AHEAD)
		r = submit(s);
	if (r < 0)
		return r;
	/* the step just submitted runs while the one before it is looked at; alone, it is
	 * waited for only when nothing could follow it */
	if (s->n_flights == STEP_AHEAD || (s->n_flights && r == 0))
		return collect(s);
	return 0;
}

bool sched_idle(const struct sched *s)
{
	if (s->n_flights || first_in_queue(s))
		return false;
	for (uint32_t i = 0; i < s->running.n; i++)
		if (!s->running.p[i]->paused)
			return false;
	return true;
}

/* ---- looking ----------------------------------------------------------------------- */

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
		n_new += never_ran(s->waiting.p[i]);
	}
	assert(n_new == s->n_new);
	assert(n_held + kv_pool_n_free(s->pool) == s->config.n_blocks);
	assert(s->running.n + s->n_free_slots == s->config.n_slots);
}
