/* gen_config.c - see gen_config.h. */
#include "worker/gen_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/own.h"

#define MAX_FILE (1u << 20)

static const struct sampling neutral = { .temperature = 1, .top_p = 1, .repetition = 1 };

bool sampling_ok(const struct sampling *s, const char **ret_param, const char **ret_range)
{
	const struct {
		const char *param, *range;
		bool ok;
	} checks[] = {
		{ "temperature", "0 or more", s->temperature >= 0 && isfinite(s->temperature) },
		{ "top_p", "more than 0, at most 1", s->top_p > 0 && s->top_p <= 1 },
		{ "min_p", "from 0 to 1", s->min_p >= 0 && s->min_p <= 1 },
		{ "repetition_penalty", "more than 0",
		  s->repetition > 0 && isfinite(s->repetition) },
		{ "presence_penalty", "a number", isfinite(s->presence) },
		{ "frequency_penalty", "a number", isfinite(s->frequency) },
		{ "top_logprobs", "from 0 to 20", s->n_top <= STEP_MAX_TOP },
	};

	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++) {
		if (checks[i].ok)
			continue;
		*ret_param = checks[i].param;
		*ret_range = checks[i].range;
		return false;
	}
	return true;
}

static int read_float(const json_t *o, const char *key, float *x, struct err *e)
{
	const json_t *v = json_object_get(o, key);
	double d;

	if (!v || json_is_null(v))
		return 0;
	if (jx_double(v, &d) < 0)
		return err_set(e, -EINVAL, "%s is not a number", key);
	*x = (float)d;
	return 0;
}

static int read_top_k(const json_t *o, uint32_t *ret, struct err *e)
{
	const json_t *v = json_object_get(o, "top_k");
	int64_t k;

	if (!v || json_is_null(v))
		return 0;
	if (jx_int64(v, &k) < 0 || k < -1 || k > INT32_MAX)
		return err_set(e, -EINVAL, "top_k is not a number from -1 on");
	*ret = k < 0 ? 0 : (uint32_t)k;
	return 0;
}

static int add_eos(struct gen_config *c, const json_t *v, struct err *e)
{
	int64_t id;

	if (jx_int64(v, &id) < 0 || id < 0 || id > INT32_MAX)
		return err_set(e, -EINVAL, "eos_token_id is not a token id");
	if (c->n_eos == GEN_MAX_EOS)
		return err_set(e, -EINVAL, "eos_token_id has more than %d ids", GEN_MAX_EOS);
	c->eos[c->n_eos++] = (uint32_t)id;
	return 0;
}

static int read_eos(const json_t *o, struct gen_config *c, struct err *e)
{
	const json_t *v = json_object_get(o, "eos_token_id");
	int r = 0;

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_array(v))
		return add_eos(c, v, e);
	for (size_t i = 0; i < json_array_size(v) && r == 0; i++)
		r = add_eos(c, json_array_get(v, i), e);
	return r;
}

static int read_all(const json_t *o, struct gen_config *c, struct err *e)
{
	struct sampling *s = &c->sampling;
	const json_t *do_sample = json_object_get(o, "do_sample");
	const char *param, *range;
	int r;

	if (!json_is_object(o))
		return err_set(e, -EINVAL, "not a JSON object");
	r = read_eos(o, c, e);
	if (r == 0)
		r = read_float(o, "temperature", &s->temperature, e);
	if (r == 0)
		r = read_float(o, "top_p", &s->top_p, e);
	if (r == 0)
		r = read_float(o, "min_p", &s->min_p, e);
	if (r == 0)
		r = read_float(o, "repetition_penalty", &s->repetition, e);
	if (r == 0)
		r = read_top_k(o, &s->top_k, e);
	if (r < 0)
		return r;
	if (json_is_false(do_sample))
		s->temperature = 0;
	if (!sampling_ok(s, &param, &range))
		return err_set(e, -EINVAL, "%s must be %s", param, range);
	return 0;
}

static int from_json(const json_t *o, struct gen_config *ret, struct err *e)
{
	struct gen_config c = { .sampling = neutral };
	int r = read_all(o, &c, e);

	if (r == 0)
		*ret = c;
	return r;
}

int gen_config_parse(const char *json, size_t n, struct gen_config *ret, struct err *e)
{
	JX_OWNED json_t *o = NULL;
	int r = jx_load(json, n, &o, e);

	return r < 0 ? r : from_json(o, ret, e);
}

int gen_config_open(const char *model_dir, struct gen_config *ret, struct err *e)
{
	JX_OWNED json_t *o = NULL;
	char path[4096];
	int r;

	if (snprintf(path, sizeof(path), "%s/generation_config.json", model_dir) >=
	    (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "%s: the path is too long", model_dir);
	r = jx_load_file(path, MAX_FILE, &o, e);
	if (r == -ENOENT) {
		*ret = (struct gen_config){ .sampling = neutral };
		return 0;
	}
	if (r < 0)
		return r;
	r = from_json(o, ret, e);
	return r < 0 ? err_prefix(e, r, "%s", path) : 0;
}
