/* out_message.c - see out_message.h. */
#include "worker/text/out_message.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/own.h"

void out_message_init(struct out_message *m, int (*random)(void *ctx, void *bytes, size_t n),
		      void *random_ctx)
{
	*m = (struct out_message){ .random = random, .random_ctx = random_ctx };
}

void out_message_done(struct out_message *m)
{
	for (size_t i = 0; i < m->n_calls; i++) {
		buf_done(&m->calls[i].name);
		buf_done(&m->calls[i].arguments);
	}
	buf_done(&m->reasoning);
	buf_done(&m->content);
	free(m->calls);
	m->calls = NULL;
	m->n_calls = m->cap_calls = 0;
}

void out_call_id(const unsigned char bytes[12], char ret[OUT_CALL_ID_CHARS + 1])
{
	int n = snprintf(ret, 6, "call_");

	for (int i = 0; i < 12; i++)
		n += snprintf(ret + n, 3, "%02x", bytes[i]);
}

static int new_call(struct out_message *m)
{
	unsigned char bytes[12];
	int r = m->random(m->random_ctx, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	if (m->n_calls == m->cap_calls) {
		size_t cap = m->cap_calls ? m->cap_calls * 2 : 4;
		void *calls = cap < SIZE_MAX / 2 / sizeof(*m->calls) ?
				      realloc(m->calls, cap * sizeof(*m->calls)) : NULL;

		if (!calls)
			return -ENOMEM;
		m->calls = calls;
		m->cap_calls = cap;
	}
	m->calls[m->n_calls] = (struct out_message_call){ .id = "" };
	out_call_id(bytes, m->calls[m->n_calls++].id);
	return 0;
}

int out_message_take(void *ctx, const struct out_event *ev)
{
	struct out_message *m = ctx;
	int r;

	m->n_events++;
	switch (ev->kind) {
	case OUT_REASONING:
		return buf_put(&m->reasoning, ev->p, ev->n);
	case OUT_CONTENT:
		return buf_put(&m->content, ev->p, ev->n);
	case OUT_CALL_BEGIN:
		r = new_call(m);
		return r < 0 ? r : buf_put(&m->calls[m->n_calls - 1].name, ev->p, ev->n);
	case OUT_CALL_ARGS:
		return buf_put(&m->calls[ev->index].arguments, ev->p, ev->n);
	default:
		return 0;
	}
}

static json_t *text_or_null(const struct buf *b)
{
	return b->n ? jx_str_new(b->p, b->n) : json_null();
}

static json_t *call_json(const struct out_message_call *c)
{
	JX_OWNED json_t *function = json_object();
	JX_OWNED json_t *call = json_object();

	if (json_object_set_new(function, "name", jx_str_new(c->name.p, c->name.n)) < 0 ||
	    json_object_set_new(function, "arguments",
				jx_str_new(c->arguments.p, c->arguments.n)) < 0 ||
	    json_object_set_new(call, "id", jx_str_new(c->id, OUT_CALL_ID_CHARS)) < 0 ||
	    json_object_set_new(call, "type", jx_str_new("function", 8)) < 0 ||
	    json_object_set(call, "function", function) < 0)
		return NULL;
	return TAKE(call);
}

json_t *out_message_json(const struct out_message *m)
{
	JX_OWNED json_t *message = json_object();
	JX_OWNED json_t *calls = json_array();

	for (size_t i = 0; i < m->n_calls; i++)
		if (json_array_append_new(calls, call_json(&m->calls[i])) < 0)
			return NULL;
	if (json_object_set_new(message, "reasoning_content", text_or_null(&m->reasoning)) < 0 ||
	    json_object_set_new(message, "content", text_or_null(&m->content)) < 0 ||
	    (m->n_calls > 0 && json_object_set(message, "tool_calls", calls) < 0))
		return NULL;
	return TAKE(message);
}

int out_message_parse(struct out_message *m, const struct out_options *o, const char *text,
		      size_t n, bool length_limit, struct err *e)
{
	struct out_parser *p = NULL;
	int r = out_parser_new(o, &p, e);

	if (r < 0)
		return r;
	r = out_parser_feed(p, text, n, out_message_take, m);
	if (!r)
		r = out_parser_finish(p, length_limit, out_message_take, m);
	out_parser_free(p);
	return r < 0 ? err_set(e, r, "parsing the output failed") : r;
}
