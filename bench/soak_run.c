/* soak_run.c - see soak_run.h. */
#include "bench/soak_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"

enum { MAX_OPEN = 512, N_KNOWN = 16 };
#define ROUND_NS (10 * NS_PER_S)

/* An answer, to compare with. */
struct known {
	uint32_t *tokens, n;
};

struct run {
	const struct soak *k;
	struct sched *sched;
	struct known known[N_KNOWN];	/* of requests 0..N_KNOWN-1 */
	struct {
		uint64_t id;
		uint32_t which;
		bool paused;
	} open[MAX_OPEN];
	uint32_t n_open, turn;
	uint64_t next_id;
	struct soak_result *ret;
};

static uint32_t chance(const struct run *r, uint32_t what, uint32_t n)
{
	return random_below(r->k->seed, r->turn, what, n);
}

static void on_ran(void *ctx, const struct seq *q, const struct sched_run *run)
{
	(void)ctx, (void)q, (void)run;
}

static int remember(struct known *w, const struct seq *q)
{
	w->tokens = malloc(q->n_tokens * sizeof(*w->tokens));
	if (!w->tokens)
		return -ENOMEM;
	memcpy(w->tokens, q->tokens, q->n_tokens * sizeof(*w->tokens));
	w->n = q->n_tokens;
	return 0;
}

/* The whole answer to request `which`. */
static void answered(struct run *r, uint32_t which, const struct seq *q)
{
	struct known *w = which < N_KNOWN ? &r->known[which] : NULL;

	r->ret->n_answered++;
	if (!w)
		return;
	if (!w->tokens) {
		r->ret->n_failed += remember(w, q) < 0;
		return;
	}
	r->ret->n_repeated++;
	if (w->n != q->n_tokens || memcmp(w->tokens, q->tokens, w->n * sizeof(*w->tokens)) != 0)
		r->ret->n_other_answer++;
}

static void on_done(void *ctx, const struct seq *q, enum seq_end how)
{
	struct run *r = ctx;
	uint32_t i = 0;

	while (i < r->n_open && r->open[i].id != q->id)
		i++;
	if (i == r->n_open) {		/* a last word about nobody */
		r->ret->n_failed++;
		return;
	}
	if (how == SEQ_END_LENGTH)
		answered(r, r->open[i].which, q);
	else if (how == SEQ_END_CANCELLED)
		r->ret->n_cancelled++;
	else
		r->ret->n_failed++;
	r->open[i] = r->open[--r->n_open];
}

static int send(struct run *r)
{
	const uint32_t which =
		chance(r, 1, 3) == 0 ? chance(r, 2, N_KNOWN) : N_KNOWN + (uint32_t)r->next_id;
	struct seq *q;
	int rc = random_request(&r->k->kind, which, r->next_id, &q);

	if (rc < 0)
		return rc;
	rc = sched_add(r->sched, q);
	if (rc < 0) {
		seq_free(q);
		r->ret->n_refused += rc == -ENOBUFS;
		return rc == -ENOBUFS ? 0 : rc;
	}
	r->open[r->n_open].id = r->next_id++;
	r->open[r->n_open].which = which;
	r->open[r->n_open++].paused = false;
	r->ret->n_sent++;
	return 0;
}

/* What happens to those that are open: words about them, and memory taken away. */
static void disturb(struct run *r)
{
	const uint32_t i = r->n_open ? chance(r, 3, r->n_open) : 0;

	if (!r->n_open)
		return;
	switch (chance(r, 4, 30)) {
	case 0:
		(void)sched_cancel(r->sched, r->open[i].id);
		break;
	case 1: case 2:
		(void)sched_preempt(r->sched, r->open[i].id);	/* it may be waiting */
		break;
	case 3:
		if (sched_pause(r->sched, r->open[i].id, !r->open[i].paused) == 0)
			r->open[i].paused = !r->open[i].paused;
		break;
	default:
		break;
	}
}

static void wake_all(struct run *r)
{
	for (uint32_t i = 0; i < r->n_open; i++) {
		(void)sched_pause(r->sched, r->open[i].id, false);
		r->open[i].paused = false;
	}
}

static int turn(struct run *r, bool more)
{
	struct sched_stats s;
	int rc = 0;

	for (uint32_t n = more && chance(r, 5, 3) == 0 ? 1 + chance(r, 6, 4) : 0;
	     rc == 0 && n && r->n_open < MAX_OPEN; n--, r->turn++)
		rc = send(r);
	if (more)
		disturb(r);
	else
		wake_all(r);
	if (rc == 0)
		rc = sched_turn(r->sched);
	sched_check(r->sched);
	sched_stats(r->sched, &s);
	if (s.n_free_blocks < r->ret->least_free)
		r->ret->least_free = s.n_free_blocks;
	r->turn++;
	return rc;
}

static void add_up(struct sched_stats *sum, const struct sched_stats *s)
{
	sum->n_steps += s->n_steps;
	sum->n_prompt_tokens += s->n_prompt_tokens;
	sum->n_output_tokens += s->n_output_tokens;
	sum->n_replayed += s->n_replayed;
	sum->n_preempted += s->n_preempted;
	sum->n_short += s->n_short;
}

static int round_of(struct run *r, uint64_t until)
{
	const struct sched_sink sink = { r, on_ran, on_done, NULL, NULL };
	struct sched_stats s;
	int rc = sched_new(r->k->device, &r->k->config, &sink, &r->sched);

	if (rc < 0)
		return rc;
	do
		rc = turn(r, clock_ns() < until);
	while (rc == 0 && (clock_ns() < until || !sched_idle(r->sched)));
	sched_stats(r->sched, &s);
	if (rc == 0 && (s.n_running || s.n_waiting || s.n_free_blocks != s.n_blocks || r->n_open))
		r->ret->n_left_behind++;
	add_up(&r->ret->stats, &s);
	r->ret->n_rounds++;
	r->sched = sched_free(r->sched);
	r->n_open = 0;
	return rc;
}

int soak_run(const struct soak *k, double seconds,
	     void (*told)(void *ctx, const struct soak_result *so_far), void *ctx,
	     struct soak_result *ret)
{
	const uint64_t end = clock_ns() + (uint64_t)(seconds * 1e9);
	CLEANUP(freep) struct run *r = calloc(1, sizeof(*r));
	int rc = 0;

	*ret = (struct soak_result){ .least_free = k->config.n_blocks };
	if (!r)
		return -ENOMEM;
	r->k = k;
	r->ret = ret;
	for (uint64_t now = clock_ns(); rc == 0 && now < end; now = clock_ns()) {
		rc = round_of(r, now + ROUND_NS < end ? now + ROUND_NS : end);
		if (rc == 0)
			told(ctx, ret);
	}
	for (uint32_t i = 0; i < N_KNOWN; i++)
		free(r->known[i].tokens);
	return rc;
}
