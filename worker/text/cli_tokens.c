/* cli_tokens.c - the verbs `encode` and `decode` of cli.h. */
#include "lib/own.h"
#include "worker/text/cli_verbs.h"
#include "worker/text/detok.h"

static json_t *ids_json(const struct ids *ids)
{
	JX_OWNED json_t *list = json_array();

	for (size_t i = 0; i < ids->n; i++)
		if (json_array_append_new(list, jx_int_new(ids->p[i])) < 0)
			return NULL;
	return TAKE(list);
}

/* {key: value}; takes value. */
static int answer(const char *key, json_t *value, json_t **ret_out, struct err *e)
{
	json_t *out = value ? json_pack("{s:o}", key, value) : NULL;

	if (!out)
		return err_set(e, -ENOMEM, "out of memory for the answer");
	*ret_out = out;
	return 0;
}

int cli_encode(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	bool special = !json_is_false(json_object_get(in, "special"));
	size_t n;
	const char *text = jx_str(json_object_get(in, "text"), &n);
	int r;

	if (!text)
		return err_set(e, -EINVAL, "text must be a string");
	r = tokenizer_encode(m->tokenizer, text, n, NULL, 0, special ? TOK_SPECIAL : 0, &ids);
	if (r < 0)
		return err_set(e, r, "%zu bytes of text cannot be encoded", n);
	return answer("ids", ids_json(&ids), ret_out, e);
}

static int read_ids(const json_t *list, struct ids *ids, struct err *e)
{
	int64_t id;

	if (!json_is_array(list))
		return err_set(e, -EINVAL, "ids must be a list of integers");
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (jx_int64(json_array_get(list, i), &id) < 0 || id < 0 || id > UINT32_MAX)
			return err_set(e, -EINVAL, "ids[%zu] is not a token id", i);
		if (ids_push(ids, (uint32_t)id) < 0)
			return err_set(e, -ENOMEM, "out of memory for %zu ids", i);
	}
	return 0;
}

/* One delta an id; what the last one leaves open belongs to it. */
static json_t *stream(const struct tokenizer *t, const struct ids *ids, bool skip_special)
{
	JX_OWNED json_t *deltas = json_array();
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct detok d;

	detok_init(&d, t, skip_special);
	for (size_t i = 0; i < ids->n; i++) {
		buf_clear(&b);
		if (detok_push(&d, ids->p[i], &b) < 0 ||
		    (i + 1 == ids->n && detok_finish(&d, &b) < 0) ||
		    json_array_append_new(deltas, jx_str_new(b.n ? b.p : "", b.n)) < 0)
			return NULL;
	}
	return TAKE(deltas);
}

int cli_decode(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	bool skip_special = json_is_true(json_object_get(in, "skip_special"));
	int r = read_ids(json_object_get(in, "ids"), &ids, e);

	if (r < 0)
		return r;
	if (json_is_true(json_object_get(in, "stream")))
		return answer("deltas", stream(m->tokenizer, &ids, skip_special), ret_out, e);
	if (tokenizer_decode(m->tokenizer, ids.p, ids.n, skip_special, &b) < 0)
		return err_set(e, -ENOMEM, "out of memory for the text of %zu ids", ids.n);
	return answer("text", jx_str_new(b.n ? b.p : "", b.n), ret_out, e);
}
