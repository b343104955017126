/* serve_job.c - requests under way: from the engine's events to Deltas and Dones. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "worker/serve_int.h"

enum {
	PAUSE_TOKENS = 256,	/* unsent tokens of a choice without credit: it is paused */
	SILENT_TOKENS = 32,	/* tokens without text (markup held back) that wait for some */
	PROGRESS_MS = 250,
};

struct job *job_find(const struct serve *s, uint64_t request)
{
	for (size_t i = 0; i < s->n_jobs; i++)
		if (s->jobs[i]->request == request)
			return s->jobs[i];
	return NULL;
}

int job_add(struct serve *s, struct job *j)
{
	if (s->n_jobs == s->cap_jobs) {
		size_t cap = s->cap_jobs ? 2 * s->cap_jobs : 64;
		struct job **p = realloc(s->jobs, cap * sizeof(struct job *));

		if (!p)
			return -ENOMEM;
		s->jobs = p;
		s->cap_jobs = cap;
	}
	s->jobs[s->n_jobs++] = j;
	return 0;
}

struct job *job_free(struct job *j)
{
	if (!j)
		return NULL;
	for (uint32_t i = 0; i < j->n_choices; i++)
		generation_free(j->choices[i].gen);
	free(j->choices);
	free(j);
	return NULL;
}

/* ---- ends ------------------------------------------------------------------------------ */

/* The answer as the model wanted it, or as far as it may go: what was held back comes out. */
static void end_well(struct choice *c, bool length)
{
	if (generation_finish(c->gen, length) < 0) {
		c->finish = HW__FINISH__FAILED;
		c->why = "out of memory";
	} else if (length) {
		c->finish = HW__FINISH__LENGTH;
	} else {
		c->finish = generation_counts(c->gen).n_calls ? HW__FINISH__TOOL_CALLS :
								HW__FINISH__STOP;
	}
	c->ended = true;
}

/* Cut off: the engine is told, and what was said and not sent stays unsaid. */
static void end_badly(struct serve *s, struct choice *c, Hw__Finish how, const char *why)
{
	if (c->seq_id && engine_cancel(s->engine, c->seq_id) < 0)
		s->quit = true;		/* no memory for a word */
	gen_out_clear(generation_out(c->gen));
	c->finish = how;
	c->why = why;
	c->ended = true;
}

void job_end(struct serve *s, struct job *j, Hw__Finish how, const char *why)
{
	for (uint32_t i = 0; i < j->n_choices; i++)
		if (!j->choices[i].ended)
			end_badly(s, &j->choices[i], how, why);
}

void jobs_drop(struct serve *s)
{
	for (size_t i = 0; i < s->n_jobs; i++) {
		job_end(s, s->jobs[i], HW__FINISH__CANCELLED, NULL);
		job_free(s->jobs[i]);
	}
	s->n_jobs = 0;
}

void jobs_deadlines(struct serve *s, uint64_t now)
{
	for (size_t i = 0; i < s->n_jobs; i++)
		if (s->jobs[i]->deadline_ns && now >= s->jobs[i]->deadline_ns)
			job_end(s, s->jobs[i], HW__FINISH__CANCELLED, "the deadline has passed");
}

/* ---- events ---------------------------------------------------------------------------- */

static void on_token(struct serve *s, struct job *j, struct choice *c,
		     const struct engine_event *ev)
{
	struct gen_logprob t = { .token = ev->token, .logprob = ev->logprob, .n_top = ev->n_top };
	int r;

	for (uint32_t i = 0; i < ev->n_top; i++) {
		t.top[i].id = ev->top[i].id;
		t.top[i].logprob = ev->top[i].logprob;
	}
	if (!j->first_token_ns)
		j->first_token_ns = ev->time_ns;
	r = generation_push(c->gen, &t);
	if (r < 0) {
		end_badly(s, c, HW__FINISH__FAILED, "out of memory");
	} else if (r > 0) {
		/* a stop string: the engine does not know; a stop id: it does */
		(void)engine_cancel(s->engine, c->seq_id);
		end_well(c, false);
	}
}

static void log_no_number(const struct serve *s, const struct job *j, const struct engine_event *ev)
{
	char slot[16], pos[16];

	snprintf(slot, sizeof(slot), "%" PRIu32, ev->slot);
	snprintf(pos, sizeof(pos), "%" PRIu32, ev->pos);
	log_event(LOG_ERROR, EVENT_NO_NUMBER,
		  LOG_FIELDS({ "ALIAS", s->o->alias }, { "SLOT", slot }, { "POSITION", pos }),
		  "%s: a NaN or an infinity among the logits of slot %s at position %s (prompt of "
		  "%" PRIu32 " tokens); this answer is ended",
		  s->o->alias, slot, pos, j->n_prompt);
}

static void on_engine_done(struct serve *s, struct job *j, struct choice *c,
			   const struct engine_event *ev)
{
	const enum seq_end how = ev->end;

	switch (how) {
	case SEQ_END_STOP:
	case SEQ_END_LENGTH:
		end_well(c, how == SEQ_END_LENGTH);
		break;
	case SEQ_END_FAILED:
		end_badly(s, c, HW__FINISH__FAILED, "the engine could not run this request");
		break;
	case SEQ_END_NO_NUMBER:
		log_no_number(s, j, ev);
		end_badly(s, c, HW__FINISH__FAILED, "the model produced no number");
		break;
	case SEQ_END_CANCELLED:
	case SEQ_END_NOT_YET:
		end_badly(s, c, HW__FINISH__CANCELLED, NULL);
		break;
	}
}

static struct job *job_of_seq(const struct serve *s, uint64_t seq_id)
{
	for (size_t i = 0; i < s->n_jobs; i++)
		if (s->jobs[i]->serial == seq_id / MAX_CHOICES)
			return s->jobs[i];
	return NULL;
}

void job_event(struct serve *s, const struct engine_event *ev)
{
	struct job *j = job_of_seq(s, ev->id);
	struct choice *c = j ? &j->choices[ev->id % MAX_CHOICES] : NULL;

	if (!c || c->ended)
		return;		/* the last words of something cancelled */
	switch (ev->kind) {
	case ENGINE_PROGRESS:
		/* after a preemption it starts over; nobody wants to see that */
		if (ev->prompt_done > j->prompt_done)
			j->prompt_done = ev->prompt_done;
		break;
	case ENGINE_TOKEN:
		j->prompt_done = j->n_prompt;
		on_token(s, j, c, ev);
		break;
	case ENGINE_DONE:
		on_engine_done(s, j, c, ev);
		break;
	case ENGINE_LOST:
		break;		/* the loop's */
	}
}

/* ---- what is sent ------------------------------------------------------------------------ */

/* Text leaves with the ids it came from; ids alone wait a little for text. */
static bool worth_sending(const struct choice *c, const struct gen_out *out)
{
	if (c->ended)
		return !gen_out_empty(out);
	return (out->tokens.n && (out->n_pieces || out->n_logprobs)) ||
	       out->tokens.n >= SILENT_TOKENS;
}

static void set_pause(struct serve *s, struct choice *c, bool paused)
{
	if (c->paused == paused || c->ended || !c->seq_id)
		return;
	if (engine_pause(s->engine, c->seq_id, paused) == 0)
		c->paused = paused;
}

static void flush_choice(struct serve *s, struct job *j, uint32_t i, bool hold)
{
	struct choice *c = &j->choices[i];
	struct gen_out *out = generation_out(c->gen);

	if (c->done)
		return;
	while (j->credit && worth_sending(c, out) && !s->link_failed) {
		j->credit--;
		send_delta(s, j, i);
	}
	set_pause(s, c, hold || out->tokens.n >= PAUSE_TOKENS);
	if (c->ended && gen_out_empty(out))
		send_done(s, j, i);
}

static void flush_progress(struct serve *s, struct job *j, uint64_t now)
{
	if (j->first_token_ns || j->prompt_done <= j->told_done ||
	    now - j->told_ns < PROGRESS_MS * NS_PER_MS)
		return;
	j->told_done = j->prompt_done;
	j->told_ns = now;
	send_progress(s, j, 0);
}

/* The mean time between ends is what a queue's place costs. */
static void note_end(struct serve *s, uint64_t now)
{
	double gap;

	if (s->last_end_ns && s->n_jobs > 1) {
		gap = (double)(now - s->last_end_ns) / (double)NS_PER_MS;
		s->end_gap_ms += 0.2 * (gap - s->end_gap_ms);
	}
	s->last_end_ns = now;
}

static bool job_over(const struct job *j)
{
	for (uint32_t i = 0; i < j->n_choices; i++)
		if (!j->choices[i].done)
			return false;
	return true;
}

void jobs_flush(struct serve *s)
{
	uint64_t now = clock_ns();
	size_t kept = 0;

	for (size_t i = 0; i < s->n_jobs; i++) {
		struct job *j = s->jobs[i];

		flush_progress(s, j, now);
		/* memory is red: all but the oldest stand still until it is not */
		for (uint32_t k = 0; k < j->n_choices; k++)
			flush_choice(s, j, k, s->level == GRANT_RED && i > 0);
		if (job_over(j)) {
			note_end(s, now);
			job_free(j);
		} else {
			s->jobs[kept++] = j;
		}
	}
	s->n_jobs = kept;
}
