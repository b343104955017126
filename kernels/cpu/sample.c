/* sample.c - from logits to a token: see sample.h. */
#include "kernels/cpu/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/noise.h"

struct sampler {
	struct sampling p;
	struct token_bias *bias;
	uint32_t *never;
	uint32_t vocab;
	uint32_t *counts;	/* of output; NULL when no penalty asks */
	uint8_t *in_prompt;	/* NULL likewise */
};

struct sampler *sampler_free(struct sampler *s)
{
	if (!s)
		return NULL;
	free(s->bias);
	free(s->never);
	free(s->counts);
	free(s->in_prompt);
	free(s);
	return NULL;
}

static bool has_penalty(const struct sampling *p)
{
	return p->repetition != 1 || p->presence != 0 || p->frequency != 0;
}

static void *copy_of(const void *from, size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);

	if (p && bytes)
		memcpy(p, from, bytes);
	return p;
}

int sampler_new(const struct sampling *p, uint32_t vocab, const uint32_t *prompt,
		uint32_t n_prompt, struct sampler **ret)
{
	struct sampler *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->p = *p;
	s->vocab = vocab;
	s->bias = copy_of(p->bias, p->n_bias * sizeof(p->bias[0]));
	s->never = copy_of(p->never, p->n_never * sizeof(p->never[0]));
	if (has_penalty(p)) {
		s->counts = calloc(vocab, sizeof(s->counts[0]));
		s->in_prompt = calloc(vocab, 1);
	}
	if (!s->bias || !s->never || (has_penalty(p) && (!s->counts || !s->in_prompt))) {
		sampler_free(s);
		return -ENOMEM;
	}
	s->p.bias = s->bias;
	s->p.never = s->never;
	for (uint32_t i = 0; s->in_prompt && i < n_prompt; i++)
		s->in_prompt[prompt[i]] = 1;
	*ret = s;
	return 0;
}

void sampler_count(struct sampler *s, uint32_t token)
{
	if (s->counts && token < s->vocab)
		s->counts[token]++;
}

/* ---- the order of application ---------------------------------------------------- */

static void adjust(const struct sampler *s, float *x, uint32_t n)
{
	for (uint32_t i = 0; i < s->p.n_bias; i++)
		if (s->bias[i].id < n)
			x[s->bias[i].id] += s->bias[i].bias;
	for (uint32_t i = 0; i < s->p.n_never; i++)
		if (s->never[i] < n)
			x[s->never[i]] = -INFINITY;
	for (uint32_t i = 0; s->counts && i < n; i++) {
		uint32_t c = s->counts[i];

		if (c || s->in_prompt[i])
			x[i] = x[i] > 0 ? x[i] / s->p.repetition : x[i] * s->p.repetition;
		if (c)
			x[i] = x[i] - (float)c * s->p.frequency - s->p.presence;
	}
}

static uint32_t arg_max(const float *x, uint32_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

static bool before(const float *x, uint32_t a, uint32_t b)
{
	return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* Sifts down in a heap whose root is the one that comes last. */
static void sift(const float *x, uint32_t *ids, uint32_t i, uint32_t n)
{
	for (;;) {
		uint32_t c = 2 * i + 1, t = ids[i];

		if (c >= n)
			return;
		if (c + 1 < n && before(x, ids[c], ids[c + 1]))
			c++;
		if (!before(x, t, ids[c]))
			return;
		ids[i] = ids[c];
		ids[c] = t;
		i = c;
	}
}

/* The first k of ids by (logit, lower id), sorted; answers how many there are. */
static uint32_t keep_first(const float *x, uint32_t *ids, uint32_t n, uint32_t k)
{
	if (k > n)
		k = n;
	for (uint32_t i = k / 2; i-- > 0;)
		sift(x, ids, i, k);
	for (uint32_t i = k; i < n; i++)
		if (before(x, ids[i], ids[0])) {
			ids[0] = ids[i];
			sift(x, ids, 0, k);
		}
	for (uint32_t m = k; m > 1; m--) {
		uint32_t t = ids[0];

		ids[0] = ids[m - 1];
		ids[m - 1] = t;
		sift(x, ids, 0, m - 1);
	}
	return k;
}

/* The smallest set whose probability reaches top_p; ids are sorted. */
static uint32_t cut_top_p(const float *x, const uint32_t *ids, uint32_t n, float top_p)
{
	double total = 0, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		total += exp((double)x[ids[i]] - (double)x[ids[0]]);
	for (uint32_t i = 0; i < n; i++) {
		sum += exp((double)x[ids[i]] - (double)x[ids[0]]);
		if (sum >= (double)top_p * total)
			return i + 1;
	}
	return n;
}

static uint32_t candidates(const struct sampler *s, const float *x, uint32_t n, uint32_t *ids)
{
	float best = x[arg_max(x, n)];
	double floor_ = s->p.min_p > 0 ? (double)best + log((double)s->p.min_p) : -INFINITY;
	uint32_t m = 0;

	for (uint32_t i = 0; i < n; i++)
		if (x[i] > -INFINITY && (double)x[i] >= floor_)
			ids[m++] = i;
	if (s->p.top_k || s->p.top_p < 1)
		m = keep_first(x, ids, m, s->p.top_k ? s->p.top_k : m);
	if (s->p.top_p < 1)
		m = cut_top_p(x, ids, m, s->p.top_p);
	return m;
}

static uint32_t draw(const struct sampler *s, const float *x, const uint32_t *ids, uint32_t n,
		     uint32_t position)
{
	double best = -INFINITY;
	uint32_t at = ids[0];

	for (uint32_t i = 0; i < n; i++) {
		double u = (double)noise_uniform(s->p.seed, s->p.choice, position, ids[i]);
		double v = (double)x[ids[i]] - log(-log(u));

		if (v > best) {
			best = v;
			at = ids[i];
		}
	}
	return at;
}

static double log_sum_exp(const float *x, uint32_t n)
{
	double best = (double)x[arg_max(x, n)], sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += exp((double)x[i] - best);
	return best + log(sum);
}

static void report(const struct sampler *s, const float *raw, uint32_t n, uint32_t *ids,
		   struct run_result *ret)
{
	double lse = log_sum_exp(raw, n);

	ret->logprob = (float)((double)raw[ret->token] - lse);
	for (uint32_t i = 0; i < n; i++)
		ids[i] = i;
	ret->n_top = s->p.n_top ? keep_first(raw, ids, n, s->p.n_top) : 0;
	for (uint32_t i = 0; i < ret->n_top; i++) {
		ret->top[i].id = ids[i];
		ret->top[i].logprob = (float)((double)raw[ids[i]] - lse);
	}
}

/* Copies n logits; true: one of them is NaN or infinite.  A look at the exponents of what is copied
 * anyway. */
static bool take_logits(const float *from, uint32_t n, float *to)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, &from[i], sizeof(bits));
		bad |= (bits & 0x7f800000u) == 0x7f800000u;
		to[i] = from[i];
	}
	return bad;
}

void sampler_pick(const struct sampler *s, const float *logits, uint32_t n_ids, uint32_t position,
		  struct sample_room *room, struct run_result *ret)
{
	float *x = room->logits;

	ret->sampled = true;
	ret->no_number = take_logits(logits, n_ids, x);
	if (ret->no_number) {
		ret->token = 0;
		return;
	}
	adjust(s, x, n_ids);
	ret->token = arg_max(x, n_ids);
	if (s->p.temperature > 0) {
		for (uint32_t i = 0; i < n_ids; i++)
			x[i] = x[i] / s->p.temperature;
		uint32_t n = candidates(s, x, n_ids, room->ids);
		if (n > 0)
			ret->token = draw(s, x, room->ids, n, position);
	}
	if (s->p.logprob || s->p.n_top)
		report(s, logits, n_ids, room->ids, ret);
}
