/* openai_sampling.c - how tokens are drawn: the fields that fill Hw__Sampling. */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "router/openai_field.h"
#include "router/route.h"

enum { MAX_BIAS = 1024 };

static int take_real(struct oa_request *r, const struct oa_field *f, const json_t *v,
		     struct oa_error *e)
{
	char *s = (char *)&r->sampling;
	double x = 0;

	if (jx_double(v, &x) < 0 || !isfinite(x))
		return oa_bad(e, f, "must be a number");
	if (x < f->min || x > f->max)
		return oa_error_set(e, 400, "invalid_value", f->name,
				    "%s: %g is not between %g and %g", f->name, x, f->min, f->max);
	*(float *)(s + f->offset) = (float)x;
	*(protobuf_c_boolean *)(s + f->has) = 1;
	return 0;
}

static int take_top_k(struct oa_request *r, const struct oa_field *f, const json_t *v,
		      struct oa_error *e)
{
	int64_t x = 0;
	int rc = oa_get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	r->sampling.has_top_k = 1;
	r->sampling.top_k = x < 0 ? 0 : (uint32_t)x;	/* -1 is how others say "off" */
	return 0;
}

static int take_seed(struct oa_request *r, const struct oa_field *f, const json_t *v,
		     struct oa_error *e)
{
	int64_t x = 0;

	if (jx_int64(v, &x) < 0)
		return oa_bad(e, f, "must be a whole number of 64 bits");
	r->sampling.has_seed = 1;
	r->sampling.seed = (uint64_t)x;
	return 0;
}

static int parse_token_id(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long x;

	errno = 0;
	x = strtoul(s, &end, 10);
	if (*s < '0' || *s > '9' || *end || errno || x > UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)x;
	return 0;
}

static int take_bias(struct oa_request *r, const struct oa_field *f, const json_t *v,
		     struct oa_error *e)
{
	const char *key;
	json_t *value;
	size_t n = json_object_size(v);

	if (!json_is_object(v))
		return oa_bad(e, f, "must be an object of token ids");
	if (n > MAX_BIAS)
		return oa_bad(e, f, "has more than 1024 entries");
	r->sampling.bias = calloc(n ? n : 1, sizeof(*r->sampling.bias));
	if (!r->sampling.bias)
		return oa_no_memory(e);
	json_object_foreach((json_t *)v, key, value) {
		Hw__TokenBias *b = malloc(sizeof(*b));
		double x = 0;

		if (!b)
			return oa_no_memory(e);
		hw__token_bias__init(b);
		r->sampling.bias[r->sampling.n_bias++] = b;
		if (parse_token_id(key, &b->token) < 0)
			return oa_bad(e, f, "keys must be token ids");
		if (jx_double(value, &x) < 0 || !(x >= -100 && x <= 100))
			return oa_bad(e, f, "values must be between -100 and 100");
		b->bias = (float)x;
	}
	return 0;
}

static int take_logprobs(struct oa_request *r, const struct oa_field *f, const json_t *v,
			 struct oa_error *e)
{
	int64_t top = 0;
	bool on = true;
	int rc;

	if (r->kind == OA_CHAT) {
		rc = oa_get_bool(f, v, &on, e);
	} else {
		rc = oa_get_int(f, v, &top, e);
		if (rc == 0) {
			r->sampling.has_top_logprobs = 1;
			r->sampling.top_logprobs = (uint32_t)top;
		}
	}
	if (rc < 0 || !on)
		return rc;
	r->sampling.has_logprobs = r->sampling.logprobs = 1;
	r->needs |= ABLE_LOGPROBS;
	return 0;
}

static int take_top_logprobs(struct oa_request *r, const struct oa_field *f, const json_t *v,
			     struct oa_error *e)
{
	int64_t x = 0;
	int rc = oa_get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	if (x && !json_is_true(json_object_get(r->body, "logprobs")))
		return oa_bad(e, f, "needs logprobs: true");
	r->sampling.has_top_logprobs = 1;
	r->sampling.top_logprobs = (uint32_t)x;
	return 0;
}

#define S(x) offsetof(Hw__Sampling, x), offsetof(Hw__Sampling, has_##x)

const struct oa_field oa_sampling_fields[] = {
	{ "temperature", OA_FIELD_BOTH, take_real, 0, 2, S(temperature) },
	{ "top_p", OA_FIELD_BOTH, take_real, 0, 1, S(top_p) },
	{ "top_k", OA_FIELD_BOTH, take_top_k, -1, INT32_MAX, 0, 0 },
	{ "min_p", OA_FIELD_BOTH, take_real, 0, 1, S(min_p) },
	{ "presence_penalty", OA_FIELD_BOTH, take_real, -2, 2, S(presence_penalty) },
	{ "frequency_penalty", OA_FIELD_BOTH, take_real, -2, 2, S(frequency_penalty) },
	{ "repetition_penalty", OA_FIELD_BOTH, take_real, 0.01, 10, S(repetition_penalty) },
	{ "seed", OA_FIELD_BOTH, take_seed, 0, 0, 0, 0 },
	{ "logit_bias", OA_FIELD_BOTH, take_bias, 0, 0, 0, 0 },
	{ "logprobs", OA_FIELD_CHAT, take_logprobs, 0, 0, 0, 0 },
	{ "logprobs", OA_FIELD_COMPLETION, take_logprobs, 0, 5, 0, 0 },
	{ "top_logprobs", OA_FIELD_CHAT, take_top_logprobs, 0, 20, 0, 0 },
	{ 0 }
};
