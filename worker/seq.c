/* seq.c - see seq.h. */
#include "worker/seq.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BIT(state) (1u << (state))

/* the picture in seq.h */
static const unsigned may_go[SEQ_N_STATES] = {
	[SEQ_QUEUED] = BIT(SEQ_PREFILL) | BIT(SEQ_DONE),
	[SEQ_PREFILL] = BIT(SEQ_REPLAY) | BIT(SEQ_DECODE) | BIT(SEQ_QUEUED) | BIT(SEQ_DONE),
	[SEQ_REPLAY] = BIT(SEQ_DECODE) | BIT(SEQ_QUEUED) | BIT(SEQ_DONE),
	[SEQ_DECODE] = BIT(SEQ_QUEUED) | BIT(SEQ_DONE),
};

const char *seq_state_name(enum seq_state s)
{
	static const char *const names[SEQ_N_STATES] = { "queued", "prefill", "replay", "decode",
							 "done" };

	return (unsigned)s < SEQ_N_STATES ? names[s] : "?";
}

bool seq_may_go(enum seq_state from, enum seq_state to)
{
	return (unsigned)from < SEQ_N_STATES && (unsigned)to < SEQ_N_STATES &&
	       (may_go[from] & BIT(to));
}

void seq_go(struct seq *s, enum seq_state to)
{
	assert(seq_may_go(s->state, to));
	s->state = to;
}

static void *copy(const void *p, size_t n, size_t size)
{
	void *q = malloc(n ? n * size : 1);

	if (q && n)
		memcpy(q, p, n * size);
	return q;
}

static int copy_sampling(struct seq *s, const struct sampling *from)
{
	struct token_bias *bias = copy(from->bias, from->n_bias, sizeof(*bias));
	uint32_t *never = copy(from->never, from->n_never, sizeof(*never));

	s->sampling = *from;
	s->sampling.bias = bias;
	s->sampling.never = never;
	return bias && never ? 0 : -ENOMEM;
}

static bool spec_ok(const struct seq_spec *c)
{
	return c->n_prompt && c->max_output > c->n_known &&
	       c->max_output <= UINT32_MAX - STEP_GRID - c->n_prompt;
}

int seq_new(const struct seq_spec *c, struct seq **ret)
{
	struct seq *s;
	size_t n_all;

	if (!spec_ok(c))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->id = c->id;
	s->slot = SEQ_NO_SLOT;
	s->n_prompt = c->n_prompt;
	s->n_known = c->n_known;
	s->n_tokens = c->n_prompt + c->n_known;
	s->max_output = c->max_output;
	s->n_stop = c->n_stop;
	n_all = (size_t)c->n_prompt + c->max_output;
	s->tokens = malloc(n_all * sizeof(*s->tokens));
	s->blocks = calloc(seq_blocks_at_most(s), sizeof(*s->blocks));
	s->stop = copy(c->stop, c->n_stop, sizeof(*s->stop));
	if (copy_sampling(s, &c->sampling) < 0 || !s->tokens || !s->blocks || !s->stop) {
		seq_free(s);
		return -ENOMEM;
	}
	memcpy(s->tokens, c->prompt, c->n_prompt * sizeof(*s->tokens));
	if (c->n_known)
		memcpy(s->tokens + c->n_prompt, c->known, c->n_known * sizeof(*s->tokens));
	*ret = s;
	return 0;
}

struct seq *seq_free(struct seq *s)
{
	if (!s)
		return NULL;
	assert(s->n_blocks == 0 && s->slot == SEQ_NO_SLOT);
	free(s->tokens);
	free(s->blocks);
	free(s->stop);
	free((void *)(uintptr_t)s->sampling.bias);
	free((void *)(uintptr_t)s->sampling.never);
	free(s);
	return NULL;
}

uint32_t seq_blocks_to_start(const struct seq *s)
{
	return seq_blocks_for(s->n_tokens);
}

uint32_t seq_blocks_at_most(const struct seq *s)
{
	/* the last sample of all is never put into the state */
	return seq_blocks_for(s->n_prompt + s->max_output - 1);
}

/* ---- the next run ------------------------------------------------------------- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t next_prefill(const struct seq *s, uint32_t max_rows, struct plan_run *ret)
{
	uint32_t left = s->n_prompt - s->pos;
	uint32_t n = min_u32(left, max_rows);

	/* only the end of the prompt may leave the grid: numerics.md 1.3 */
	if (n < left)
		n -= n % STEP_GRID;
	ret->kind = ROW_PREFILL;
	ret->n = n;
	ret->tokens = s->tokens + s->pos;
	ret->sample = n == left && seq_n_output(s) == 0;
	return n;
}

static uint32_t next_replay(const struct seq *s, uint32_t max_rows, struct plan_run *ret)
{
	uint32_t left = s->n_tokens - s->pos;

	ret->kind = ROW_REPLAY;
	ret->n = min_u32(left, max_rows);
	ret->tokens = s->tokens + s->pos;
	ret->count = true;
	ret->sample = ret->n == left;
	return ret->n;
}

static uint32_t next_decode(const struct seq *s, uint32_t max_rows, struct plan_run *ret)
{
	if (seq_n_output(s) + s->n_flying >= s->max_output || max_rows == 0)
		return 0;
	ret->kind = ROW_DECODE;
	ret->input = IN_LAST_SAMPLE;
	ret->n = 1;
	ret->sample = true;
	return 1;
}

uint32_t seq_next_run(const struct seq *s, uint32_t max_rows, uint32_t replay_rows,
		      struct plan_run *ret)
{
	struct plan_run run = { .slot = s->slot, .pos = s->pos, .input = IN_TOKENS };
	uint32_t n = 0;

	if (s->paused)
		return 0;
	if (s->state == SEQ_PREFILL)
		n = next_prefill(s, max_rows, &run);
	else if (s->state == SEQ_REPLAY)
		n = next_replay(s, min_u32(max_rows, replay_rows), &run);
	else if (s->state == SEQ_DECODE)
		n = next_decode(s, max_rows, &run);
	if (!n)
		return 0;
	run.blocks = s->blocks;
	run.n_blocks = seq_blocks_for(s->pos + n);
	*ret = run;
	return n;
}

void seq_submitted(struct seq *s, const struct plan_run *run)
{
	s->pos += run->n;
	s->n_flying += run->sample;
	if (run->sample && s->state != SEQ_DECODE)
		seq_go(s, SEQ_DECODE);
	else if (s->state == SEQ_PREFILL && s->pos == s->n_prompt)
		seq_go(s, SEQ_REPLAY);
}

static bool is_stop(const struct seq *s, uint32_t token)
{
	for (uint32_t i = 0; i < s->n_stop; i++)
		if (s->stop[i] == token)
			return true;
	return false;
}

enum seq_end seq_sampled(struct seq *s, uint32_t token)
{
	assert(s->n_flying > 0 && seq_n_output(s) < s->max_output);
	s->n_flying--;
	s->tokens[s->n_tokens++] = token;
	if (is_stop(s, token))
		return SEQ_END_STOP;
	return seq_n_output(s) == s->max_output ? SEQ_END_LENGTH : SEQ_END_NOT_YET;
}

void seq_rewind(struct seq *s)
{
	assert(s->n_blocks == 0 && s->slot == SEQ_NO_SLOT);
	seq_go(s, SEQ_QUEUED);
	s->pos = 0;
	s->n_flying = 0;
	s->has_draft = false;
	s->n_preempted++;
}
