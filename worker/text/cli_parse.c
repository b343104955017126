/* cli_parse.c - the verb `parse` of cli.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/own.h"
#include "worker/text/cli_verbs.h"
#include "worker/text/out_message.h"

static int system_random(void *ctx, void *bytes, size_t n)
{
	(void)ctx;
	return getrandom(bytes, n, 0) == (ssize_t)n ? 0 : -EIO;
}

/* The next cut, from `from` up to n. */
static int piece_end(const json_t *pieces, size_t i, size_t from, size_t n, size_t *ret,
		     struct err *e)
{
	int64_t x;

	if (i == json_array_size(pieces)) {
		*ret = n;
		return 0;
	}
	if (jx_int64(json_array_get(pieces, i), &x) < 0 || x < (int64_t)from || x > (int64_t)n)
		return err_set(e, -EINVAL, "pieces[%zu] must be an offset from %zu to %zu", i,
			       from, n);
	*ret = (size_t)x;
	return 0;
}

static int feed_pieces(struct out_parser *p, struct out_message *m, const json_t *in,
		       struct err *e)
{
	const json_t *pieces = json_object_get(in, "pieces");
	size_t n, from = 0, to = 0;
	const char *text = jx_str(json_object_get(in, "text"), &n);
	int r;

	for (size_t i = 0; i <= json_array_size(pieces); i++, from = to) {
		r = piece_end(pieces, i, from, n, &to, e);
		if (r < 0)
			return r;
		r = out_parser_feed(p, text + from, to - from, out_message_take, m);
		if (r < 0)
			return err_set(e, r, "%s", strerror(-r));
	}
	return 0;
}

static bool was_cut(const json_t *in)
{
	const json_t *reason = json_object_get(in, "finish_reason");

	return !jx_is_str(reason) || !strcmp(jx_str(reason, NULL), "length");
}

static int parse(const json_t *in, struct out_parser *p, json_t **ret_out, struct err *e)
{
	struct out_message m;
	json_t *message = NULL;
	int r;

	out_message_init(&m, system_random, NULL);
	r = feed_pieces(p, &m, in, e);
	if (r == 0) {
		r = out_parser_finish(p, was_cut(in), out_message_take, &m);
		message = r == 0 ? out_message_json(&m) : NULL;
		if (message)
			*ret_out = json_pack("{s:o, s:o}", "message", message, "deltas",
					     jx_int_new((int64_t)m.n_events));
		else
			r = err_set(e, r ? r : -ENOMEM, "parsing the output failed");
	}
	out_message_done(&m);
	return r;
}

int cli_parse(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e)
{
	const json_t *pieces = json_object_get(in, "pieces");
	const struct out_options o = {
		.tools = json_object_get(in, "tools"),
		.tool_choice = json_object_get(in, "tool_choice"),
		.thinking = !json_is_false(json_object_get(in, "enable_thinking")),
	};
	struct out_parser *p = NULL;
	int r;

	(void)m;
	if (!jx_is_str(json_object_get(in, "text")))
		return err_set(e, -EINVAL, "text must be a string");
	if (pieces && !json_is_null(pieces) && !json_is_array(pieces))
		return err_set(e, -EINVAL, "pieces must be a list");
	r = out_parser_new(&o, &p, e);
	if (r < 0)
		return r;
	r = parse(in, p, ret_out, e);
	out_parser_free(p);
	return r;
}
