/* sched_step.c - a step: planned, given to the device, and its results taken. */
#include <assert.h>
#include <errno.h>

#include "lib/clock.h"
#include "worker/sched_int.h"

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
		r = sched_grow(s, q, q->pos + 1);
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
	if (f->n && room->prefill > s->chunk.rows)
		room->prefill = s->chunk.rows;
	return 0;
}

/* Beside answers: the oldest prompt in parts, when it has more rows than fit whole. */
static void open_prompt(struct sched *s, const struct flight *f)
{
	struct open_prompt *o = &s->open;

	for (uint32_t i = 0; f->n && !o->seq && i < s->running.n; i++) {
		struct seq *q = s->running.p[i];
		uint32_t rows;

		if (q->state != SEQ_PREFILL || q->paused)
			continue;
		o->n_parts = chunk_parts(&s->chunk, q->pos, q->n_prompt - q->pos, &rows);
		if (o->n_parts < 2 || !seq_next_run(q, rows, 0, &o->run))
			return;
		o->run.draft = s->config.drafts;
		o->part = 0;
		o->seq = q;
	}
}

/* The next part of what is open; it is the plan's last run. */
static void plan_part(struct sched *s, struct flight *f, struct plan *plan)
{
	struct open_prompt *o = &s->open;

	plan->part = o->part;
	plan->n_parts = f->n_parts = o->n_parts;
	f->part = o->part;
	if (++o->part == o->n_parts) {
		plan_add(s, f, o->seq, &o->run);
		o->seq = NULL;
		return;
	}
	s->runs[f->n] = o->run;
	f->seq[f->n] = NULL;		/* nothing of it is a result yet */
	f->run[f->n++] = (struct sched_run){ o->run.kind, o->run.pos, o->run.n, NULL };
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

		if (q->state != SEQ_REPLAY && (!prefill || s->open.seq))
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

int sched_submit(struct sched *s)
{
	struct flight *f = &s->flights[(s->first_flight + s->n_flights) % STEP_AHEAD];
	struct room room = { s->config.max_rows, s->config.max_rows };
	struct plan plan = { .runs = s->runs };
	int r = sched_admit(s);

	if (r < 0)
		return r;
	f->n = f->n_parts = 0;
	r = plan_decode(s, f, &room);
	if (r < 0)
		return r;
	open_prompt(s, f);
	if (s->open.seq)
		room.rows -= s->open.run.n;
	plan_others(s, f, &room);
	if (s->open.seq)
		plan_part(s, f, &plan);
	if (!f->n)
		return 0;
	plan.n_runs = f->n;
	count_rows(s, f);
	tell_flying(s, s->n_flights + 1);
	f->submitted_ns = clock_ns();
	r = device_submit(s->device, &plan);
	if (r < 0)
		return r;
	s->n_flights++;
	s->stats.n_steps++;
	s->stats.n_parts += f->n_parts > 0;
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
		sched_end(s, q, SEQ_END_NO_NUMBER);	/* its token is not one */
		return;
	}
	if (r->sampled) {
		count_draft(s, q, r);
		how = seq_sampled(q, r->token);
		s->stats.n_output_tokens++;
	}
	s->sink.ran(s->sink.ctx, q, run);
	if (how != SEQ_END_NOT_YET)
		sched_end(s, q, how);
}

static struct chunk_work prompt_work(const struct flight *f)
{
	struct chunk_work sum = { 0, 0 };

	for (uint32_t i = 0; i < f->n; i++) {
		const struct chunk_work w = chunk_work(f->run[i].pos, f->run[i].n);

		if (f->run[i].kind != ROW_PREFILL)
			continue;
		sum.rows += w.rows;
		sum.keys += w.keys;
	}
	return sum;
}

/* The device did it since it was done with the step before, or since it got it. */
static void time_step(struct sched *s, const struct flight *f)
{
	const uint64_t now = clock_ns(), begin = f->submitted_ns > s->collected_ns ?
							 f->submitted_ns : s->collected_ns;

	s->collected_ns = now;
	if (f->told.rows[ROW_REPLAY] || (f->n_parts && !f->told.rows[ROW_DECODE]))
		return;
	if (!f->told.rows[ROW_DECODE])
		chunk_alone_took(&s->chunk, prompt_work(f), now - begin);
	else if (f->n_parts)
		chunk_part_took(&s->chunk, prompt_work(f), f->part, f->n_parts, now - begin);
	else if (f->told.rows[ROW_PREFILL])
		chunk_took(&s->chunk, prompt_work(f), now - begin);
	else
		chunk_answers_took(&s->chunk, now - begin);
}

int sched_collect(struct sched *s)
{
	struct flight *f = &s->flights[s->first_flight];
	int n = device_collect(s->device, s->results, s->config.n_slots);
	uint32_t n_sampled = 0, n_bad = 0;

	if (n < 0)
		return n;
	assert((uint32_t)n == f->n);
	time_step(s, f);
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
