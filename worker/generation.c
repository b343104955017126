/* generation.c - see generation.h. */
#include "worker/generation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "lib/own.h"
#include "worker/text/detok.h"

/* Log-probabilities are asked of the tokens of the content.  Which a token belongs to is
 * known when text comes out, perhaps some tokens later: until then it waits here. */
struct undecided {
	struct gen_logprob *p;
	size_t n, cap;
};

struct generation {
	const struct tokenizer *tokenizer;
	struct detok detok;
	struct stop_match *stops;
	struct out_parser *parser;	/* NULL: plain */
	uint32_t *stop_ids;
	size_t n_stop_ids;
	bool logprobs;
	uint64_t call_key[2];
	uint32_t choice;

	bool in_reasoning;
	bool has_think_end;
	uint32_t think_end;		/* the id of </think> */
	bool content_begun;
	bool content_came;		/* during the present token */
	struct undecided undecided;
	struct buf bytes, text;		/* of the present token */
	struct gen_out out;
	struct gen_counts counts;
};

struct generation *generation_free(struct generation *g)
{
	if (!g)
		return NULL;
	stop_match_free(g->stops);
	out_parser_free(g->parser);
	free(g->stop_ids);
	free(g->undecided.p);
	buf_done(&g->bytes);
	buf_done(&g->text);
	gen_out_done(&g->out);
	free(g);
	return NULL;
}

static int init(struct generation *g, const struct gen_spec *spec, struct err *e)
{
	int r = stop_match_new(spec->stops, spec->n_stops, &g->stops);

	if (r == -EINVAL)
		return err_set(e, r, "stop: at most %d strings of 1 to %d bytes of UTF-8",
			       STOP_MAX_STRINGS, STOP_MAX_BYTES);
	if (r == 0 && spec->parse)
		r = out_parser_new(spec->parse, &g->parser, e);
	if (r < 0)
		return r;
	g->stop_ids = malloc((spec->n_stop_ids + 1) * sizeof(*g->stop_ids));
	if (!g->stop_ids)
		return err_set(e, -ENOMEM, "out of memory");
	if (spec->n_stop_ids)
		memcpy(g->stop_ids, spec->stop_ids, spec->n_stop_ids * sizeof(*g->stop_ids));
	g->n_stop_ids = spec->n_stop_ids;
	return 0;
}

int generation_new(const struct gen_spec *spec, struct generation **ret, struct err *e)
{
	struct generation *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->tokenizer = spec->tokenizer;
	detok_init(&g->detok, spec->tokenizer, true);
	g->logprobs = spec->logprobs;
	memcpy(g->call_key, spec->call_key, sizeof(g->call_key));
	g->choice = spec->choice;
	g->in_reasoning = spec->parse && spec->parse->thinking;
	g->has_think_end = tokenizer_find(spec->tokenizer, "</think>", &g->think_end) == 0;
	r = init(g, spec, e);
	if (r < 0) {
		generation_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

/* ---- text to channels ------------------------------------------------------------- */

static void make_call_id(const struct generation *g, uint32_t index, char *ret)
{
	const uint64_t key[] = { g->call_key[0], g->call_key[1], g->choice, index };
	const XXH128_hash_t h = XXH3_128bits(key, sizeof(key));

	snprintf(ret, GEN_CALL_ID_BYTES, "call_%016llx%08llx", (unsigned long long)h.high64,
		 (unsigned long long)(h.low64 & 0xffffffffu));
}

static int say(struct generation *g, enum gen_channel c, uint32_t call, const char *call_id,
	       const char *p, size_t n)
{
	if (c != GEN_REASONING)
		g->in_reasoning = false;
	g->content_came |= c == GEN_CONTENT;
	return gen_out_text(&g->out, c, call, call_id, p, n);
}

static int on_parsed(void *ctx, const struct out_event *ev)
{
	struct generation *g = ctx;
	char id[GEN_CALL_ID_BYTES];

	switch (ev->kind) {
	case OUT_REASONING:
		return say(g, GEN_REASONING, 0, NULL, ev->p, ev->n);
	case OUT_CONTENT:
		return say(g, GEN_CONTENT, 0, NULL, ev->p, ev->n);
	case OUT_CALL_BEGIN:
		g->counts.n_calls++;
		make_call_id(g, ev->index, id);
		return say(g, GEN_CALL_BEGIN, ev->index, id, ev->p, ev->n);
	case OUT_CALL_ARGS:
		return say(g, GEN_CALL_ARGS, ev->index, NULL, ev->p, ev->n);
	case OUT_CALL_END:
		return 0;
	}
	return 0;
}

/* What passed the stop strings: g->text. */
static int parse(struct generation *g)
{
	int r = 0;

	if (!g->text.n)
		return 0;
	if (g->parser)
		r = out_parser_feed(g->parser, g->text.p, g->text.n, on_parsed, g);
	else
		r = say(g, GEN_CONTENT, 0, NULL, g->text.p, g->text.n);
	buf_clear(&g->text);
	return r;
}

/* ---- log-probabilities --------------------------------------------------------------- */

static int wait_undecided(struct generation *g, const struct gen_logprob *l)
{
	struct undecided *u = &g->undecided;

	if (u->n == u->cap) {
		size_t cap = u->cap ? 2 * u->cap : 8;
		struct gen_logprob *p = realloc(u->p, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		u->p = p;
		u->cap = cap;
	}
	u->p[u->n++] = *l;
	return 0;
}

/* Tokens at the end that are wholly inside what a stop string may still take. */
static size_t held_tokens(const struct generation *g)
{
	size_t held = stop_match_held(g->stops), n = 0;

	for (size_t i = g->undecided.n; i > 0 && held; i--) {
		size_t bytes = 0;

		(void)tokenizer_bytes(g->tokenizer, g->undecided.p[i - 1].token, &bytes);
		if (bytes > held)
			break;
		held -= bytes;
		n++;
	}
	return n;
}

static bool blank(const struct generation *g, uint32_t token)
{
	size_t n = 0;
	const char *p = tokenizer_bytes(g->tokenizer, token, &n);

	for (size_t i = 0; p && i < n; i++)
		if (!strchr(" \t\r\n", p[i]))
			return false;
	return true;
}

/* Content came out: the tokens that wait were content, but for markup (an added token is
 * one of its own), the white space trimmed before the content begins, and what a stop
 * string or the parser still holds at the end. */
static int decide(struct generation *g)
{
	struct undecided *u = &g->undecided;
	size_t n = u->n - held_tokens(g), rest = u->n - n;

	if (g->parser && n && tokenizer_is_added(g->tokenizer, u->p[n - 1].token)) {
		n--;
		rest++;
	}
	for (size_t i = 0; i < n; i++) {
		const struct gen_logprob *l = &u->p[i];
		bool markup = g->parser && tokenizer_is_added(g->tokenizer, l->token);

		if (markup || (g->parser && !g->content_begun && blank(g, l->token)))
			continue;
		g->content_begun = true;
		if (gen_out_logprob(&g->out, l) < 0)
			return -ENOMEM;
	}
	memmove(u->p, u->p + n, rest * sizeof(*u->p));
	u->n = rest;
	return 0;
}

/* ---- tokens ---------------------------------------------------------------------------- */

static bool is_stop_id(const struct generation *g, uint32_t id)
{
	for (size_t i = 0; i < g->n_stop_ids; i++)
		if (g->stop_ids[i] == id)
			return true;
	return false;
}

/* g->bytes through stop strings and parser. */
static int pass(struct generation *g)
{
	int stopped = stop_match_push(g->stops, g->bytes.p, g->bytes.n, &g->text);
	int r = stopped;

	buf_clear(&g->bytes);
	if (r >= 0)
		r = parse(g);
	return r < 0 ? r : stopped;
}

static void count_token(struct generation *g, uint32_t id)
{
	if (g->has_think_end && id == g->think_end)
		g->in_reasoning = false;
	g->counts.n_output++;
	g->counts.n_reasoning += g->in_reasoning;
}

int generation_push(struct generation *g, const struct gen_logprob *token)
{
	int r;

	if (is_stop_id(g, token->token)) {
		g->counts.n_output++;
		return 1;
	}
	if (gen_out_token(&g->out, token->token) < 0 ||
	    (g->logprobs && wait_undecided(g, token) < 0) ||
	    detok_push(&g->detok, token->token, &g->bytes) < 0)
		return -ENOMEM;
	g->content_came = false;
	r = pass(g);
	if (r < 0)
		return r;
	count_token(g, token->token);
	if (!g->logprobs)
		return r;
	if (g->content_came)
		return decide(g) < 0 ? -ENOMEM : r;
	if (g->in_reasoning)
		g->undecided.n = 0;
	return r;
}

int generation_known(struct generation *g, const uint32_t *ids, size_t n, size_t *ret_used)
{
	int r = 0;
	size_t i;

	for (i = 0; i < n && r == 0; i++) {
		const struct gen_logprob token = { .token = ids[i] };

		r = generation_push(g, &token);
		gen_out_clear(&g->out);
	}
	/* what the first worker sampled them with is not known here: better none than a wrong
	 * one */
	g->undecided.n = 0;
	*ret_used = i;
	return r;
}

int generation_finish(struct generation *g, bool length_limit)
{
	int r = detok_finish(&g->detok, &g->bytes);

	g->content_came = false;
	if (r == 0)
		r = pass(g);
	if (r >= 0)
		r = stop_match_finish(g->stops, &g->text);
	if (r >= 0)
		r = parse(g);
	if (r >= 0 && g->parser)
		r = out_parser_finish(g->parser, length_limit, on_parsed, g);
	if (r >= 0 && g->logprobs && g->content_came)
		r = decide(g);
	return r < 0 ? r : 0;
}

struct gen_out *generation_out(struct generation *g)
{
	return &g->out;
}

struct gen_counts generation_counts(const struct generation *g)
{
	return g->counts;
}
