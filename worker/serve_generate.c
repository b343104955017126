/* serve_generate.c - a Generate: checked, turned into sequences, accepted or refused.
 *
 * Nothing in the message is trusted but what proto/wire.c has checked.  Either the engine has
 * all of the request's sequences and Accepted was sent, or Refused was and nothing is left.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/own.h"
#include "worker/prompt.h"
#include "worker/serve_int.h"

enum { MAX_NOTES = 4, MEMORY_RETRY_MS = 5000 };

/* All that is worked out before the engine is asked. */
struct request {
	const Hw__Generate *g;
	struct prompt prompt;
	struct sampling sampling;
	struct token_bias bias[STEP_MAX_BIAS];
	uint32_t stop_ids[GEN_MAX_EOS + STOP_MAX_STRINGS];
	uint32_t n_stop_ids;
	struct stop_string stops[STOP_MAX_STRINGS];
	uint32_t max_output;
	char clamped[96];		/* a note; empty: nothing */
};

struct refusal {
	Hw__Refusal reason;
	const char *param;
	uint32_t retry_after_ms;
	struct err e;
};

static int refuse(struct refusal *why, Hw__Refusal reason, const char *param, int code)
{
	why->reason = reason;
	why->param = param;
	return code;
}

/* ---- parameters --------------------------------------------------------------------- */

static void take_sampling(struct sampling *s, const Hw__Sampling *m)
{
	if (m->has_temperature)
		s->temperature = m->temperature;
	if (m->has_top_p)
		s->top_p = m->top_p;
	if (m->has_top_k)
		s->top_k = m->top_k;
	if (m->has_min_p)
		s->min_p = m->min_p;
	if (m->has_presence_penalty)
		s->presence = m->presence_penalty;
	if (m->has_frequency_penalty)
		s->frequency = m->frequency_penalty;
	if (m->has_repetition_penalty)
		s->repetition = m->repetition_penalty;
	s->logprob = m->has_logprobs && m->logprobs;
	s->n_top = s->logprob && m->has_top_logprobs ? m->top_logprobs : 0;
	if (m->has_seed)
		s->seed = m->seed;
}

static int read_bias(const struct serve *s, struct request *q, struct refusal *why)
{
	const Hw__Sampling *m = q->g->sampling;

	for (size_t i = 0; m && i < m->n_bias; i++) {
		uint32_t id = m->bias[i]->token;

		if (!tokenizer_id_known(s->model->tokenizer, id))
			return refuse(why, HW__REFUSAL__BAD_REQUEST, "logit_bias",
				      err_set(&why->e, -EINVAL,
					      "logit_bias: this model has no token %" PRIu32, id));
		q->bias[i] = (struct token_bias){ id, m->bias[i]->bias };
	}
	q->sampling.bias = q->bias;
	q->sampling.n_bias = m ? (uint32_t)m->n_bias : 0;
	return 0;
}

static int read_sampling(const struct serve *s, struct request *q, struct refusal *why)
{
	const Hw__Generate *g = q->g;
	const char *param, *range;

	q->sampling = s->model->gen.sampling;
	/* by itself as good as any seed; reported, so that the answer can be made again */
	if (getrandom(&q->sampling.seed, sizeof(q->sampling.seed), 0) < 0)
		q->sampling.seed = clock_ns();
	if (g->sampling)
		take_sampling(&q->sampling, g->sampling);
	if (!sampling_ok(&q->sampling, &param, &range))
		return refuse(why, HW__REFUSAL__BAD_REQUEST, param,
			      err_set(&why->e, -EINVAL, "%s must be %s", param, range));
	if (g->has_echo && g->echo && q->sampling.logprob)
		return refuse(why, HW__REFUSAL__UNSUPPORTED, "logprobs",
			      err_set(&why->e, -ENOTSUP,
				      "log-probabilities of the prompt (echo with logprobs) are "
				      "not computed by this model's worker"));
	return read_bias(s, q, why);
}

static int read_stops(const struct serve *s, struct request *q, struct refusal *why)
{
	const struct gen_config *gen = &s->model->gen;
	const Hw__Generate *g = q->g;

	if (g->n_stop > STOP_MAX_STRINGS || g->n_stop_token > STOP_MAX_STRINGS)
		return refuse(why, HW__REFUSAL__BAD_REQUEST, "stop",
			      err_set(&why->e, -EINVAL, "stop: more than %d", STOP_MAX_STRINGS));
	for (size_t i = 0; i < g->n_stop; i++)
		q->stops[i] = (struct stop_string){ (const char *)g->stop[i].data,
						    g->stop[i].len };
	for (size_t i = 0; i < g->n_stop_token; i++)
		q->stop_ids[q->n_stop_ids++] = g->stop_token[i];
	if (g->has_ignore_eos && g->ignore_eos) {
		q->sampling.never = gen->eos;
		q->sampling.n_never = gen->n_eos;
		return 0;
	}
	for (uint32_t i = 0; i < gen->n_eos; i++)
		q->stop_ids[q->n_stop_ids++] = gen->eos[i];
	return 0;
}

/* ---- prompt and lengths --------------------------------------------------------------- */

static int read_prompt(const struct serve *s, struct request *q, struct refusal *why)
{
	const Hw__Generate *g = q->g;
	int r;

	if (g->has_chat)
		r = prompt_from_chat(s->model, (const char *)g->chat.data, g->chat.len,
				     &q->prompt, &why->param, &why->e);
	else if (g->has_text)
		r = prompt_from_text(s->model, (const char *)g->text.data, g->text.len,
				     &q->prompt, &why->param, &why->e);
	else
		r = prompt_from_ids(s->model, g->token, g->n_token, &q->prompt, &why->param,
				    &why->e);
	if (r < 0)
		return refuse(why, r == -ENOTSUP ? HW__REFUSAL__UNSUPPORTED :
						   HW__REFUSAL__BAD_REQUEST, why->param, r);
	return 0;
}

static int read_lengths(const struct serve *s, struct request *q, struct refusal *why)
{
	const Hw__Generate *g = q->g;
	uint32_t context = sched_max_tokens(engine_config(s->engine));
	uint32_t left;

	if (q->prompt.ids.n >= context)
		return refuse(why, HW__REFUSAL__CONTEXT_LENGTH, g->has_chat ? "messages" : "prompt",
			      err_set(&why->e, -E2BIG,
				      "the prompt has %zu tokens; this model's maximum context "
				      "length is %" PRIu32 " tokens, prompt and answer together",
				      q->prompt.ids.n, context));
	left = context - (uint32_t)q->prompt.ids.n;
	q->max_output = left;
	if (g->has_max_tokens && g->max_tokens == 0)
		return refuse(why, HW__REFUSAL__BAD_REQUEST, "max_tokens",
			      err_set(&why->e, -EINVAL, "max_tokens must be 1 or more"));
	if (g->has_max_tokens && g->max_tokens <= left)
		q->max_output = g->max_tokens;
	else if (g->has_max_tokens)
		snprintf(q->clamped, sizeof(q->clamped),
			 "max_tokens %" PRIu32 " lowered to %" PRIu32 " (context)",
			 g->max_tokens, left);
	return 0;
}

static int check_known(const struct serve *s, const struct request *q, struct refusal *why)
{
	const Hw__Generate *g = q->g;

	if (g->n_known && g->n != 1)
		return refuse(why, HW__REFUSAL__BAD_REQUEST, "n",
			      err_set(&why->e, -EINVAL, "known tokens belong to one choice"));
	if (g->n_known > q->max_output)
		return refuse(why, HW__REFUSAL__BAD_REQUEST, "known",
			      err_set(&why->e, -EINVAL, "%zu known tokens, the answer has %" PRIu32
				      " at most", g->n_known, q->max_output));
	for (size_t i = 0; i < g->n_known; i++)
		if (!tokenizer_id_known(s->model->tokenizer, g->known[i]))
			return refuse(why, HW__REFUSAL__BAD_REQUEST, "known",
				      err_set(&why->e, -EINVAL, "this model has no token %" PRIu32,
					      g->known[i]));
	return 0;
}

static int check_first(const struct serve *s, const Hw__Generate *g, struct refusal *why)
{
	uint32_t max_queue = engine_config(s->engine)->max_queue;

	if (s->draining)
		return refuse(why, HW__REFUSAL__DRAINING, NULL,
			      err_set(&why->e, -ESHUTDOWN, "this worker is stopping"));
	if (s->level >= GRANT_YELLOW) {
		why->retry_after_ms = MEMORY_RETRY_MS;
		return refuse(why, HW__REFUSAL__QUEUE_FULL, NULL,
			      err_set(&why->e, -ENOBUFS, "memory is short on this worker's box"));
	}
	if (strcmp(g->model, s->o->alias))
		return refuse(why, HW__REFUSAL__UNSUPPORTED, "model",
			      err_set(&why->e, -ENOENT, "this worker serves '%s'", s->o->alias));
	if (job_find(s, g->request))
		return refuse(why, HW__REFUSAL__BAD_REQUEST, NULL,
			      err_set(&why->e, -EEXIST, "this request is already running here"));
	if (g->n > max_queue)
		return refuse(why, HW__REFUSAL__BAD_REQUEST, "n",
			      err_set(&why->e, -EINVAL, "n: at most %" PRIu32 " choices",
				      max_queue));
	return 0;
}

static int read_request(const struct serve *s, struct request *q, struct refusal *why)
{
	int r = check_first(s, q->g, why);

	if (r == 0)
		r = read_sampling(s, q, why);
	if (r == 0)
		r = read_stops(s, q, why);
	if (r == 0)
		r = read_prompt(s, q, why);
	if (r == 0)
		r = read_lengths(s, q, why);
	return r == 0 ? check_known(s, q, why) : r;
}

/* ---- the job ----------------------------------------------------------------------------- */

static struct job *job_new(struct serve *s, const struct request *q)
{
	const Hw__Generate *g = q->g;
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->choices = calloc(g->n, sizeof(*j->choices));
	if (!j->choices)
		return job_free(j);
	j->request = g->request;
	j->serial = ++s->next_serial;
	j->credit = g->credit;
	j->n_prompt = (uint32_t)q->prompt.ids.n;
	j->logprobs = q->sampling.logprob;
	j->first_choice = g->first_choice;
	j->n_choices = g->n;
	j->accepted_ns = clock_ns();
	if (g->has_deadline_ms && g->deadline_ms)
		j->deadline_ns = j->accepted_ns + g->deadline_ms * NS_PER_MS;
	return j;
}

static int echo_prompt(const struct serve *s, const struct request *q, struct generation *gen)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	const Hw__Generate *g = q->g;
	const char *p = (const char *)g->text.data;
	size_t n = g->text.len;
	int r;

	if (!g->has_text) {
		r = tokenizer_decode(s->model->tokenizer, q->prompt.ids.p, q->prompt.ids.n, false,
				     &text);
		if (r < 0)
			return r;
		p = text.p;
		n = text.n;
	}
	return n ? gen_out_text(generation_out(gen), GEN_CONTENT, 0, NULL, p, n) : 0;
}

static int make_generation(const struct serve *s, const struct request *q, uint32_t choice,
			   struct generation **ret, struct err *e)
{
	const Hw__Generate *g = q->g;
	const XXH128_hash_t key = XXH3_128bits_withSeed(q->prompt.ids.p,
							q->prompt.ids.n * sizeof(uint32_t),
							q->sampling.seed);
	const struct gen_spec spec = {
		.tokenizer = s->model->tokenizer,
		.parse = q->prompt.chat ? &q->prompt.parse : NULL,
		.stops = q->stops, .n_stops = g->n_stop,
		.stop_ids = q->stop_ids, .n_stop_ids = q->n_stop_ids,
		.logprobs = q->sampling.logprob,
		.call_key = { key.low64, key.high64 },
		.choice = choice,
	};
	int r = generation_new(&spec, ret, e);

	if (r == 0 && g->has_echo && g->echo && !g->n_known && !q->prompt.chat)
		r = echo_prompt(s, q, *ret);
	return r;
}

/* Feeds what the client has.  When the answer ends among that, only Done is left to say. */
static int feed_known(const struct request *q, struct choice *c)
{
	const Hw__Generate *g = q->g;
	bool length = false;
	size_t used;
	int r = generation_known(c->gen, g->known, g->n_known, &used);

	if (r == 0) {
		length = g->n_known == q->max_output;
		r = length;
	}
	if (r <= 0)
		return r;
	if (generation_finish(c->gen, length) < 0)
		return -ENOMEM;
	c->finish = length ? HW__FINISH__LENGTH : generation_counts(c->gen).n_calls ?
		    HW__FINISH__TOOL_CALLS : HW__FINISH__STOP;
	c->ended = true;
	return 0;
}

static int make_seq(const struct request *q, const struct job *j, uint32_t i, struct seq **ret)
{
	const Hw__Generate *g = q->g;
	struct seq_spec spec = {
		.id = j->serial * MAX_CHOICES + i,
		.prompt = q->prompt.ids.p, .n_prompt = j->n_prompt,
		.known = g->known, .n_known = (uint32_t)g->n_known,
		.max_output = q->max_output,
		.sampling = q->sampling,
		.stop = q->stop_ids, .n_stop = q->n_stop_ids,
	};

	spec.sampling.choice = g->first_choice + i;
	return seq_new(&spec, ret);
}

static int make_choices(const struct serve *s, const struct request *q, struct job *j,
			struct seq **seqs, uint32_t *n_seqs, struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; i < j->n_choices && r == 0; i++) {
		struct choice *c = &j->choices[i];

		r = make_generation(s, q, j->first_choice + i, &c->gen, e);
		if (r == 0)
			r = feed_known(q, c);
		if (r == 0 && !c->ended) {
			r = make_seq(q, j, i, &seqs[*n_seqs]);
			if (r == 0)
				c->seq_id = seqs[(*n_seqs)++]->id;
		}
	}
	return r;
}

static uint32_t retry_after(const struct serve *s)
{
	double ms = s->end_gap_ms;	/* until somebody ends, and the queue moves by one */

	return ms < 250 ? 250 : ms > 60000 ? 60000 : (uint32_t)ms;
}

static int give_to_engine(struct serve *s, struct seq **seqs, uint32_t n, struct refusal *why)
{
	int r = n ? engine_add(s->engine, seqs, n) : 0;

	if (r == -ENOBUFS) {
		why->retry_after_ms = retry_after(s);
		return refuse(why, HW__REFUSAL__QUEUE_FULL, NULL,
			      err_set(&why->e, r, "the queue of this worker is full (%" PRIu32
				      " wait)", engine_config(s->engine)->max_queue));
	}
	return r;
}

static int start(struct serve *s, const struct request *q, struct job *j, struct refusal *why)
{
	struct seq **seqs = calloc(j->n_choices, sizeof(struct seq *));
	uint32_t n = 0;
	int r;

	if (!seqs)
		return -ENOMEM;
	r = make_choices(s, q, j, seqs, &n, &why->e);
	if (r == -EINVAL)
		(void)refuse(why, HW__REFUSAL__BAD_REQUEST, NULL, r);
	if (r == 0)
		r = job_add(s, j);
	if (r == 0) {
		r = give_to_engine(s, seqs, n, why);
		if (r < 0)
			s->n_jobs--;	/* job_add() put it last */
	}
	for (uint32_t i = 0; i < n && r < 0; i++)
		seq_free(seqs[i]);
	free(seqs);
	return r;
}

static void accept(struct serve *s, const struct request *q, const struct job *j)
{
	const char *notes[MAX_NOTES];
	size_t n = 0;

	if (q->prompt.note.n)
		notes[n++] = q->prompt.note.p;
	if (q->clamped[0])
		notes[n++] = q->clamped;
	send_accepted(s, j, q->sampling.seed, notes, n);
}

void on_generate(struct serve *s, const Hw__Generate *g)
{
	struct request *q = calloc(1, sizeof(*q));
	struct refusal why = { .reason = HW__REFUSAL__UNSUPPORTED };
	struct job *j = NULL;
	int r = -ENOMEM;

	if (q) {
		q->g = g;
		r = read_request(s, q, &why);
	}
	if (r == 0) {
		j = job_new(s, q);
		r = j ? start(s, q, j, &why) : -ENOMEM;
	}
	if (r == 0) {
		accept(s, q, j);
	} else {
		if (!why.e.code)
			err_set(&why.e, r, "the worker cannot take it: %s", strerror(-r));
		send_refused(s, g->request, why.reason, why.e.text, why.param,
			     why.retry_after_ms);
		job_free(j);
	}
	if (q)
		prompt_done(&q->prompt);
	free(q);
}
