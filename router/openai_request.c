/* openai_request.c - see openai_request.h: who is asked for what, how long the answer may be. */
#include "router/openai_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "router/openai_field.h"
#include "router/openai_messages.h"
#include "router/route.h"

enum { MAX_STOP_BYTES = 1024, MAX_STOP_TOKENS = 64, MAX_PROMPT_TOKENS = 1 << 20 };

static int take_stream(struct oa_request *r, const struct oa_field *f, const json_t *v,
		       struct oa_error *e)
{
	return oa_get_bool(f, v, &r->stream, e);
}

static int take_stream_options(struct oa_request *r, const struct oa_field *f, const json_t *v,
			       struct oa_error *e)
{
	const json_t *u = json_object_get(v, "include_usage");

	if (!json_is_object(v))
		return oa_bad(e, f, "must be an object");
	if (!json_is_true(json_object_get(r->body, "stream")))
		return oa_bad(e, f, "only goes with stream: true");
	if (u && !json_is_boolean(u) && !json_is_null(u))
		return oa_error_set(e, 400, "invalid_value", "stream_options.include_usage",
				    "include_usage must be true or false");
	r->include_usage = json_is_true(u);
	return 0;
}

/* Both names are accepted; the smaller wins. */
static int take_max_tokens(struct oa_request *r, const struct oa_field *f, const json_t *v,
			   struct oa_error *e)
{
	int64_t x = 0;
	int rc = oa_get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	if (!r->has_max_tokens || (uint32_t)x < r->max_tokens)
		r->max_tokens = (uint32_t)x;
	r->has_max_tokens = true;
	return 0;
}

static int take_n(struct oa_request *r, const struct oa_field *f, const json_t *v,
		  struct oa_error *e)
{
	int64_t x = 0;
	int rc = oa_get_int(f, v, &x, e);

	if (rc < 0)
		return rc;
	r->n = (uint32_t)x;
	if (x > 1)
		r->needs |= ABLE_N;
	return 0;
}

static int take_best_of(struct oa_request *r, const struct oa_field *f, const json_t *v,
			struct oa_error *e)
{
	int64_t x = 0;

	(void)r;
	if (jx_int64(v, &x) < 0 || x != 1)
		return oa_error_set(e, 400, "unsupported_value", f->name, "best_of must be 1");
	return 0;
}

static int add_stop(struct oa_request *r, const struct oa_field *f, const json_t *v,
		    struct oa_error *e)
{
	size_t n;
	const char *s = jx_str(v, &n);

	if (!s || n == 0 || n > MAX_STOP_BYTES || memchr(s, '\0', n))
		return oa_bad(e, f, "must be a text of 1 to 1024 bytes, or a list of at most 4");
	r->stop[r->n_stop] = strdup(s);
	if (!r->stop[r->n_stop])
		return oa_no_memory(e);
	r->n_stop++;
	return 0;
}

static int take_stop(struct oa_request *r, const struct oa_field *f, const json_t *v,
		     struct oa_error *e)
{
	if (jx_is_str(v))
		return add_stop(r, f, v, e);
	if (!json_is_array(v) || json_array_size(v) > OA_MAX_STOPS)
		return oa_bad(e, f, "must be a text, or a list of at most 4");
	for (size_t i = 0; i < json_array_size(v); i++) {
		int rc = add_stop(r, f, json_array_get(v, i), e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int take_stop_tokens(struct oa_request *r, const struct oa_field *f, const json_t *v,
			    struct oa_error *e)
{
	return oa_get_ids(f, v, MAX_STOP_TOKENS, &r->stop_token, &r->n_stop_token, e);
}

static int take_ignore_eos(struct oa_request *r, const struct oa_field *f, const json_t *v,
			   struct oa_error *e)
{
	return oa_get_bool(f, v, &r->ignore_eos, e);
}

static int take_echo(struct oa_request *r, const struct oa_field *f, const json_t *v,
		     struct oa_error *e)
{
	return oa_get_bool(f, v, &r->echo, e);
}

static int take_prompt(struct oa_request *r, const struct oa_field *f, const json_t *v,
		       struct oa_error *e)
{
	const char *s;

	if (json_is_array(v) && json_array_size(v) == 1 && !jx_is_num(json_array_get(v, 0)))
		v = json_array_get(v, 0);
	if (json_is_array(v) && json_array_size(v) && jx_is_num(json_array_get(v, 0))) {
		r->needs |= ABLE_TOKENS;
		return oa_get_ids(f, v, MAX_PROMPT_TOKENS, &r->token, &r->n_token, e);
	}
	s = jx_str(v, &r->n_prompt);
	if (!s)
		return oa_bad(e, f, "must be one text or one list of token ids");
	r->prompt = malloc(r->n_prompt + 1);
	if (!r->prompt)
		return oa_no_memory(e);
	memcpy(r->prompt, s, r->n_prompt + 1);
	return 0;
}

static int take_model(struct oa_request *r, const struct oa_field *f, const json_t *v,
		      struct oa_error *e)
{
	size_t n;
	const char *s = jx_str(v, &n);

	if (!s || n == 0 || n > 128 || strlen(s) != n)
		return oa_bad(e, f, "must be the name of a model");
	r->model = strdup(s);
	return r->model ? 0 : oa_no_memory(e);
}

static int take_chain(struct oa_request *r, const struct oa_field *f, const json_t *v,
		      struct oa_error *e)
{
	if (!json_is_array(v) || json_array_size(v) + r->n_chain > OA_MAX_CHAIN)
		return oa_bad(e, f, "must be a list of at most 8 models");
	for (size_t i = 0; i < json_array_size(v); i++) {
		const char *s = jx_str(json_array_get(v, i), NULL);

		if (!s)
			return oa_bad(e, f, "must be a list of names of models");
		r->chain[r->n_chain] = strdup(s);
		if (!r->chain[r->n_chain])
			return oa_no_memory(e);
		r->n_chain++;
	}
	return 0;
}

static const struct oa_field fields[] = {
	{ "model", OA_FIELD_BOTH, take_model, 0, 0, 0, 0 },
	{ "prompt", OA_FIELD_COMPLETION, take_prompt, 0, 0, 0, 0 },
	{ "stream", OA_FIELD_BOTH, take_stream, 0, 0, 0, 0 },
	{ "stream_options", OA_FIELD_BOTH, take_stream_options, 0, 0, 0, 0 },
	{ "max_tokens", OA_FIELD_BOTH, take_max_tokens, 1, INT32_MAX, 0, 0 },
	{ "max_completion_tokens", OA_FIELD_CHAT, take_max_tokens, 1, INT32_MAX, 0, 0 },
	{ "stop", OA_FIELD_BOTH, take_stop, 0, 0, 0, 0 },
	{ "stop_token_ids", OA_FIELD_BOTH, take_stop_tokens, 0, 0, 0, 0 },
	{ "ignore_eos", OA_FIELD_BOTH, take_ignore_eos, 0, 0, 0, 0 },
	{ "n", OA_FIELD_BOTH, take_n, 1, OA_MAX_CHOICES, 0, 0 },
	{ "best_of", OA_FIELD_COMPLETION, take_best_of, 0, 0, 0, 0 },
	{ "suffix", OA_FIELD_COMPLETION, oa_take_absent, 0, 0, 0, 0 },
	{ "echo", OA_FIELD_COMPLETION, take_echo, 0, 0, 0, 0 },
	{ "models", OA_FIELD_BOTH, take_chain, 0, 0, 0, 0 },
	{ "fallbacks", OA_FIELD_BOTH, take_chain, 0, 0, 0, 0 },
	{ "user", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ "safety_identifier", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ "prompt_cache_key", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ "metadata", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ "store", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ "service_tier", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ "verbosity", OA_FIELD_BOTH, NULL, 0, 0, 0, 0 },
	{ 0 }
};

static const struct oa_field *find_in(const struct oa_field *f, enum oa_kind kind, const char *name)
{
	for (; f->name; f++)
		if ((f->kinds & 1u << kind) && !strcmp(f->name, name))
			return f;
	return NULL;
}

static const struct oa_field *find_field(enum oa_kind kind, const char *name)
{
	const struct oa_field *f = find_in(fields, kind, name);

	if (!f)
		f = find_in(oa_sampling_fields, kind, name);
	return f ? f : find_in(oa_chat_fields, kind, name);
}

static int take_fields(struct oa_request *r, struct oa_error *e)
{
	const char *name;
	json_t *v;

	json_object_foreach(r->body, name, v) {
		const struct oa_field *f = find_field(r->kind, name);
		int rc;

		if (json_is_null(v))
			continue;
		if (!f)
			oa_note_ignored(r, name);
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

/* Not what stands there: the message is kept with the request, and nothing of a prompt may be. */
static int bad_json(struct err *why, struct oa_error *e)
{
	char *quoted = strstr(why->text, " near '");

	if (quoted)
		*quoted = '\0';
	return oa_error_set(e, 400, "invalid_json", NULL, "the body is not JSON: %s", why->text);
}

int oa_request_parse(enum oa_kind kind, const char *body, size_t n, struct oa_request *ret,
		     struct oa_error *e)
{
	CLEANUP(oa_request_donep) struct oa_request r = { .kind = kind, .n = 1 };
	struct err why;
	int rc = jx_load(body, n, &r.body, &why);

	if (rc == -ENOMEM)
		return oa_no_memory(e);
	if (rc < 0)
		return bad_json(&why, e);
	if (!json_is_object(r.body))
		return oa_error_set(e, 400, "invalid_json", NULL, "the body is not a JSON object");
	hw__sampling__init(&r.sampling);
	rc = take_fields(&r, e);
	if (rc == 0)
		rc = check_whole(&r, e);
	if (rc == 0 && kind == OA_CHAT) {
		rc = oa_rewrite_chat(r.body, &r.rewritten, &r.chat);
		if (rc < 0)
			return oa_no_memory(e);
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
