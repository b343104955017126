/* openai_request.c - see openai_request.h: one table of fields, a function for each kind. */
#include "router/openai_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "router/openai_messages.h"
#include "router/route.h"

enum { MAX_BIAS = 1024, MAX_STOP_BYTES = 1024, MAX_STOP_TOKENS = 64, MAX_PROMPT_TOKENS = 1 << 20 };

struct field;
typedef int field_fn(struct oa_request *r, const struct field *f, const json_t *v,
		     struct oa_error *e);

struct field {
	const char *name;
	unsigned kinds;			/* 1 << OA_CHAT | 1 << OA_COMPLETION */
	field_fn *take;			/* NULL: accepted, means nothing here */
	double min, max;
	size_t offset;			/* of the value in Hw__Sampling, its has_ in has */
	size_t has;
};

static int bad(struct oa_error *e, const struct field *f, const char *what)
{
	return oa_error_set(e, 400, "invalid_value", f->name, "%s: %s", f->name, what);
}

static int no_memory(struct oa_error *e)
{
	oa_error_set(e, 503, "server_overloaded", NULL, "out of memory");
	return -ENOMEM;
}

static int get_bool(const struct field *f, const json_t *v, bool *ret, struct oa_error *e)
{
	if (!json_is_boolean(v))
		return bad(e, f, "must be true or false");
	*ret = json_is_true(v);
	return 0;
}

static int get_int(const struct field *f, const json_t *v, int64_t *ret, struct oa_error *e)
{
	int64_t x = 0;

	if (jx_int64(v, &x) < 0)
		return bad(e, f, "must be a whole number");
	if ((double)x < f->min || (double)x > f->max)
		return oa_error_set(e, 400, "invalid_value", f->name,
				    "%s: %lld is not between %.0f and %.0f", f->name, (long long)x,
				    f->min, f->max);
	*ret = x;
	return 0;
}

/* ---- sampling ------------------------------------------------------------------ */

static int take_real(struct oa_request *r, const struct field *f, const json_t *v,
		     struct oa_error *e)
{
	char *s = (char *)&r->sampling;
	double x = 0;

	if (jx_double(v, &x) < 0 || !isfinite(x))
		return bad(e, f, "must be a number");
	if (x < f->min || x > f->max)
		return oa_error_set(e, 400, "invalid_value", f->name,
				    "%s: %g is not between %g and %g", f->name, x, f->min, f->max);
	*(float *)(s + f->offset) = (float)x;
	*(protobuf_c_boolean *)(s + f->has) = 1;
	return 0;
}

static int take_top_k(struct oa_request *r, const struct field *f, const json_t *v,
		      struct oa_error *e)
{
	int64_t x = 0;
	int rc = get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	r->sampling.has_top_k = 1;
	r->sampling.top_k = x < 0 ? 0 : (uint32_t)x;	/* -1 is how others say "off" */
	return 0;
}

static int take_seed(struct oa_request *r, const struct field *f, const json_t *v,
		     struct oa_error *e)
{
	int64_t x = 0;

	if (jx_int64(v, &x) < 0)
		return bad(e, f, "must be a whole number of 64 bits");
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

static int take_bias(struct oa_request *r, const struct field *f, const json_t *v,
		     struct oa_error *e)
{
	const char *key;
	json_t *value;
	size_t n = json_object_size(v);

	if (!json_is_object(v))
		return bad(e, f, "must be an object of token ids");
	if (n > MAX_BIAS)
		return bad(e, f, "has more than 1024 entries");
	r->sampling.bias = calloc(n ? n : 1, sizeof(*r->sampling.bias));
	if (!r->sampling.bias)
		return no_memory(e);
	json_object_foreach((json_t *)v, key, value) {
		Hw__TokenBias *b = malloc(sizeof(*b));
		double x = 0;

		if (!b)
			return no_memory(e);
		hw__token_bias__init(b);
		r->sampling.bias[r->sampling.n_bias++] = b;
		if (parse_token_id(key, &b->token) < 0)
			return bad(e, f, "keys must be token ids");
		if (jx_double(value, &x) < 0 || !(x >= -100 && x <= 100))
			return bad(e, f, "values must be between -100 and 100");
		b->bias = (float)x;
	}
	return 0;
}

static int take_logprobs(struct oa_request *r, const struct field *f, const json_t *v,
			 struct oa_error *e)
{
	int64_t top = 0;
	bool on = true;
	int rc;

	if (r->kind == OA_CHAT) {
		rc = get_bool(f, v, &on, e);
	} else {
		rc = get_int(f, v, &top, e);
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

static int take_top_logprobs(struct oa_request *r, const struct field *f, const json_t *v,
			     struct oa_error *e)
{
	int64_t x = 0;
	int rc = get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	if (x && !json_is_true(json_object_get(r->body, "logprobs")))
		return bad(e, f, "needs logprobs: true");
	r->sampling.has_top_logprobs = 1;
	r->sampling.top_logprobs = (uint32_t)x;
	return 0;
}

/* ---- what is generated ---------------------------------------------------------- */

static int take_stream(struct oa_request *r, const struct field *f, const json_t *v,
		       struct oa_error *e)
{
	return get_bool(f, v, &r->stream, e);
}

static int take_stream_options(struct oa_request *r, const struct field *f, const json_t *v,
			       struct oa_error *e)
{
	const json_t *u = json_object_get(v, "include_usage");

	if (!json_is_object(v))
		return bad(e, f, "must be an object");
	if (!json_is_true(json_object_get(r->body, "stream")))
		return bad(e, f, "only goes with stream: true");
	if (u && !json_is_boolean(u) && !json_is_null(u))
		return oa_error_set(e, 400, "invalid_value", "stream_options.include_usage",
				    "include_usage must be true or false");
	r->include_usage = json_is_true(u);
	return 0;
}

/* Both names are accepted; the smaller wins. */
static int take_max_tokens(struct oa_request *r, const struct field *f, const json_t *v,
			   struct oa_error *e)
{
	int64_t x = 0;
	int rc = get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	if (!r->has_max_tokens || (uint32_t)x < r->max_tokens)
		r->max_tokens = (uint32_t)x;
	r->has_max_tokens = true;
	return 0;
}

static int take_n(struct oa_request *r, const struct field *f, const json_t *v,
		  struct oa_error *e)
{
	int64_t x = 0;
	int rc = get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	r->n = (uint32_t)x;
	if (x > 1)
		r->needs |= ABLE_N;
	return 0;
}

static int take_best_of(struct oa_request *r, const struct field *f, const json_t *v,
			struct oa_error *e)
{
	int64_t x = 0;

	(void)r;
	if (jx_int64(v, &x) < 0 || x != 1)
		return oa_error_set(e, 400, "unsupported_value", f->name, "best_of must be 1");
	return 0;
}

static int take_absent(struct oa_request *r, const struct field *f, const json_t *v,
		       struct oa_error *e)
{
	(void)r, (void)v;
	return oa_error_set(e, 400, "unsupported_parameter", f->name, "%s is not supported",
			    f->name);
}

static int add_stop(struct oa_request *r, const struct field *f, const json_t *v,
		    struct oa_error *e)
{
	size_t n;
	const char *s = jx_str(v, &n);

	if (!s || n == 0 || n > MAX_STOP_BYTES || memchr(s, '\0', n))
		return bad(e, f, "must be a text of 1 to 1024 bytes, or a list of at most 4");
	r->stop[r->n_stop] = strdup(s);
	if (!r->stop[r->n_stop])
		return no_memory(e);
	r->n_stop++;
	return 0;
}

static int take_stop(struct oa_request *r, const struct field *f, const json_t *v,
		     struct oa_error *e)
{
	if (jx_is_str(v))
		return add_stop(r, f, v, e);
	if (!json_is_array(v) || json_array_size(v) > OA_MAX_STOPS)
		return bad(e, f, "must be a text, or a list of at most 4");
	for (size_t i = 0; i < json_array_size(v); i++) {
		int rc = add_stop(r, f, json_array_get(v, i), e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int get_ids(const struct field *f, const json_t *v, size_t max, uint32_t **ret,
		   uint32_t *ret_n, struct oa_error *e)
{
	CLEANUP(freep) uint32_t *ids = NULL;
	size_t n = json_array_size(v);

	if (!json_is_array(v) || n > max)
		return bad(e, f, "must be a list of token ids, and not so long");
	ids = calloc(n ? n : 1, sizeof(*ids));
	if (!ids)
		return no_memory(e);
	for (size_t i = 0; i < n; i++) {
		int64_t x = 0;

		if (jx_int64(json_array_get(v, i), &x) < 0 || x < 0 || x > INT32_MAX)
			return bad(e, f, "must be a list of token ids");
		ids[i] = (uint32_t)x;
	}
	*ret = TAKE(ids);
	*ret_n = (uint32_t)n;
	return 0;
}

static int take_stop_tokens(struct oa_request *r, const struct field *f, const json_t *v,
			    struct oa_error *e)
{
	return get_ids(f, v, MAX_STOP_TOKENS, &r->stop_token, &r->n_stop_token, e);
}

static int take_ignore_eos(struct oa_request *r, const struct field *f, const json_t *v,
			   struct oa_error *e)
{
	return get_bool(f, v, &r->ignore_eos, e);
}

static int take_echo(struct oa_request *r, const struct field *f, const json_t *v,
		     struct oa_error *e)
{
	return get_bool(f, v, &r->echo, e);
}

static int take_prompt(struct oa_request *r, const struct field *f, const json_t *v,
		       struct oa_error *e)
{
	const char *s;

	if (json_is_array(v) && json_array_size(v) == 1 && !jx_is_num(json_array_get(v, 0)))
		v = json_array_get(v, 0);
	if (json_is_array(v) && json_array_size(v) && jx_is_num(json_array_get(v, 0))) {
		r->needs |= ABLE_TOKENS;
		return get_ids(f, v, MAX_PROMPT_TOKENS, &r->token, &r->n_token, e);
	}
	s = jx_str(v, &r->n_prompt);
	if (!s)
		return bad(e, f, "must be one text or one list of token ids");
	r->prompt = malloc(r->n_prompt + 1);
	if (!r->prompt)
		return no_memory(e);
	memcpy(r->prompt, s, r->n_prompt + 1);
	return 0;
}

static int take_model(struct oa_request *r, const struct field *f, const json_t *v,
		      struct oa_error *e)
{
	size_t n;
	const char *s = jx_str(v, &n);

	if (!s || n == 0 || n > 128 || strlen(s) != n)
		return bad(e, f, "must be the name of a model");
	r->model = strdup(s);
	return r->model ? 0 : no_memory(e);
}

static int take_chain(struct oa_request *r, const struct field *f, const json_t *v,
		      struct oa_error *e)
{
	if (!json_is_array(v) || json_array_size(v) + r->n_chain > OA_MAX_CHAIN)
		return bad(e, f, "must be a list of at most 8 models");
	for (size_t i = 0; i < json_array_size(v); i++) {
		const char *s = jx_str(json_array_get(v, i), NULL);

		if (!s)
			return bad(e, f, "must be a list of names of models");
		r->chain[r->n_chain] = strdup(s);
		if (!r->chain[r->n_chain])
			return no_memory(e);
		r->n_chain++;
	}
	return 0;
}

/* ---- chat ------------------------------------------------------------------------ */

static int take_messages(struct oa_request *r, const struct field *f, const json_t *v,
			 struct oa_error *e)
{
	(void)f;
	return oa_check_messages(v, &r->needs, e);
}

static int take_tools(struct oa_request *r, const struct field *f, const json_t *v,
		      struct oa_error *e)
{
	(void)f;
	return oa_check_tools(v, &r->needs, e);
}

static int take_tool_choice(struct oa_request *r, const struct field *f, const json_t *v,
			    struct oa_error *e)
{
	(void)f;
	return oa_check_tool_choice(v, json_object_get(r->body, "tools"), &r->needs, e);
}

static int take_format(struct oa_request *r, const struct field *f, const json_t *v,
		       struct oa_error *e)
{
	(void)f;
	return oa_check_format(v, &r->needs, e);
}

static int take_template_args(struct oa_request *r, const struct field *f, const json_t *v,
			      struct oa_error *e)
{
	(void)r;
	return json_is_object(v) ? 0 : bad(e, f, "must be an object");
}

static int take_modalities(struct oa_request *r, const struct field *f, const json_t *v,
			   struct oa_error *e)
{
	const char *s = jx_str(json_array_get(v, 0), NULL);

	(void)r;
	if (json_array_size(v) != 1 || !s || strcmp(s, "text") != 0)
		return oa_error_set(e, 400, "unsupported_value", f->name, "only text is made here");
	return 0;
}

/* The name goes into a header line: what does not belong there is left out. */
static void note_ignored(struct oa_request *r, const char *name)
{
	if (r->ignored.n > 512)
		return;
	if (r->ignored.n)
		buf_puts(&r->ignored, ", ");
	for (size_t i = 0; name[i] && i < 64; i++)
		if (name[i] > ' ' && name[i] <= '~' && name[i] != ',')
			buf_putc(&r->ignored, name[i]);
}

/* "none" changes the template's arguments; the others are the same to local models. */
static int take_effort(struct oa_request *r, const struct field *f, const json_t *v,
		       struct oa_error *e)
{
	static const char *const levels[] = { "none", "minimal", "low", "medium", "high", "xhigh" };

	if (!jx_is_str(v))
		return bad(e, f, "must be a text");
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (!strcmp(json_string_value(v), levels[i]))
			return 0;
	note_ignored(r, f->name);
	return 0;
}

static int take_parallel(struct oa_request *r, const struct field *f, const json_t *v,
			 struct oa_error *e)
{
	bool b;

	(void)r;
	return get_bool(f, v, &b, e);
}

#define CHAT (1u << OA_CHAT)
#define COMP (1u << OA_COMPLETION)
#define BOTH (CHAT | COMP)
#define S(x) offsetof(Hw__Sampling, x), offsetof(Hw__Sampling, has_##x)

static const struct field fields[] = {
	{ "model", BOTH, take_model, 0, 0, 0, 0 },
	{ "messages", CHAT, take_messages, 0, 0, 0, 0 },
	{ "prompt", COMP, take_prompt, 0, 0, 0, 0 },
	{ "stream", BOTH, take_stream, 0, 0, 0, 0 },
	{ "stream_options", BOTH, take_stream_options, 0, 0, 0, 0 },
	{ "max_tokens", BOTH, take_max_tokens, 1, INT32_MAX, 0, 0 },
	{ "max_completion_tokens", CHAT, take_max_tokens, 1, INT32_MAX, 0, 0 },
	{ "temperature", BOTH, take_real, 0, 2, S(temperature) },
	{ "top_p", BOTH, take_real, 0, 1, S(top_p) },
	{ "top_k", BOTH, take_top_k, -1, INT32_MAX, 0, 0 },
	{ "min_p", BOTH, take_real, 0, 1, S(min_p) },
	{ "presence_penalty", BOTH, take_real, -2, 2, S(presence_penalty) },
	{ "frequency_penalty", BOTH, take_real, -2, 2, S(frequency_penalty) },
	{ "repetition_penalty", BOTH, take_real, 0.01, 10, S(repetition_penalty) },
	{ "seed", BOTH, take_seed, 0, 0, 0, 0 },
	{ "logit_bias", BOTH, take_bias, 0, 0, 0, 0 },
	{ "logprobs", CHAT, take_logprobs, 0, 0, 0, 0 },
	{ "logprobs", COMP, take_logprobs, 0, 5, 0, 0 },
	{ "top_logprobs", CHAT, take_top_logprobs, 0, 20, 0, 0 },
	{ "stop", BOTH, take_stop, 0, 0, 0, 0 },
	{ "stop_token_ids", BOTH, take_stop_tokens, 0, 0, 0, 0 },
	{ "ignore_eos", BOTH, take_ignore_eos, 0, 0, 0, 0 },
	{ "n", BOTH, take_n, 1, OA_MAX_CHOICES, 0, 0 },
	{ "best_of", COMP, take_best_of, 0, 0, 0, 0 },
	{ "suffix", COMP, take_absent, 0, 0, 0, 0 },
	{ "echo", COMP, take_echo, 0, 0, 0, 0 },
	{ "tools", CHAT, take_tools, 0, 0, 0, 0 },
	{ "tool_choice", CHAT, take_tool_choice, 0, 0, 0, 0 },
	{ "parallel_tool_calls", CHAT, take_parallel, 0, 0, 0, 0 },
	{ "functions", CHAT, take_absent, 0, 0, 0, 0 },
	{ "function_call", CHAT, take_absent, 0, 0, 0, 0 },
	{ "audio", CHAT, take_absent, 0, 0, 0, 0 },
	{ "response_format", CHAT, take_format, 0, 0, 0, 0 },
	{ "modalities", CHAT, take_modalities, 0, 0, 0, 0 },
	{ "chat_template_kwargs", CHAT, take_template_args, 0, 0, 0, 0 },
	{ "reasoning_effort", CHAT, take_effort, 0, 0, 0, 0 },
	{ "models", BOTH, take_chain, 0, 0, 0, 0 },
	{ "fallbacks", BOTH, take_chain, 0, 0, 0, 0 },
	{ "user", BOTH, NULL, 0, 0, 0, 0 },
	{ "safety_identifier", BOTH, NULL, 0, 0, 0, 0 },
	{ "prompt_cache_key", BOTH, NULL, 0, 0, 0, 0 },
	{ "metadata", BOTH, NULL, 0, 0, 0, 0 },
	{ "store", BOTH, NULL, 0, 0, 0, 0 },
	{ "service_tier", BOTH, NULL, 0, 0, 0, 0 },
	{ "verbosity", BOTH, NULL, 0, 0, 0, 0 },
};

static const struct field *find_field(enum oa_kind kind, const char *name)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		if ((fields[i].kinds & 1u << kind) && !strcmp(fields[i].name, name))
			return &fields[i];
	return NULL;
}

static int take_fields(struct oa_request *r, struct oa_error *e)
{
	const char *name;
	json_t *v;

	json_object_foreach(r->body, name, v) {
		const struct field *f = find_field(r->kind, name);
		int rc;

		if (json_is_null(v))
			continue;
		if (!f)
			note_ignored(r, name);
		if (!f || !f->take)
			continue;
		rc = f->take(r, f, v, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int check_whole(struct oa_request *r, struct oa_error *e)
{
	if (!r->model)
		return oa_error_set(e, 400, "missing_required_parameter", "model",
				    "model: which model is asked?");
	if (r->kind == OA_CHAT && !json_is_array(json_object_get(r->body, "messages")))
		return oa_error_set(e, 400, "missing_required_parameter", "messages",
				    "messages: a list is needed");
	if (r->kind == OA_COMPLETION && !r->prompt && !r->n_token)
		return oa_error_set(e, 400, "missing_required_parameter", "prompt",
				    "prompt: a text is needed");
	if (r->sampling.has_top_p && r->sampling.top_p <= 0)
		return oa_error_set(e, 400, "invalid_value", "top_p", "top_p: must be more than 0");
	r->needs |= r->kind == OA_CHAT ? ABLE_CHAT : ABLE_COMPLETION;
	return 0;
}

static void oa_request_donep(struct oa_request *r)
{
	oa_request_done(r);
}

int oa_request_parse(enum oa_kind kind, const char *body, size_t n, struct oa_request *ret,
		     struct oa_error *e)
{
	CLEANUP(oa_request_donep) struct oa_request r = { .kind = kind, .n = 1 };
	struct err why;
	int rc = jx_load(body, n, &r.body, &why);

	if (rc == -ENOMEM)
		return no_memory(e);
	if (rc < 0)
		return oa_error_set(e, 400, "invalid_json", NULL, "the body is not JSON: %s",
				    why.text);
	if (!json_is_object(r.body))
		return oa_error_set(e, 400, "invalid_json", NULL, "the body is not a JSON object");
	hw__sampling__init(&r.sampling);
	rc = take_fields(&r, e);
	if (rc == 0)
		rc = check_whole(&r, e);
	if (rc == 0 && kind == OA_CHAT) {
		rc = oa_rewrite_chat(r.body, &r.rewritten, &r.chat);
		if (rc < 0)
			return no_memory(e);
	}
	if (rc < 0)
		return rc;
	*ret = r;
	memset(&r, 0, sizeof(r));	/* handed on */
	return 0;
}

void oa_request_done(struct oa_request *r)
{
	json_decref(r->body);
	free(r->model);
	free(r->prompt);
	free(r->token);
	free(r->stop_token);
	for (uint32_t i = 0; i < r->n_stop; i++)
		free(r->stop[i]);
	for (uint32_t i = 0; i < r->n_chain; i++)
		free(r->chain[i]);
	for (size_t i = 0; i < r->sampling.n_bias; i++)
		free(r->sampling.bias[i]);
	free(r->sampling.bias);
	buf_done(&r->chat);
	buf_done(&r->ignored);
	memset(r, 0, sizeof(*r));
}
