/* cloud_reader.c - see cloud_reader.h. */
#include "router/cloud_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"

enum { MAX_TOOLS = 256, MAX_LOGPROBS = 64, MAX_TOP = 20 };

static int fail(struct cloud_reader *r, int code, enum attempt_fault fault, const char *what)
{
	r->failure = (struct attempt_failure){ .fault = fault };
	snprintf(r->failure.message, sizeof(r->failure.message), "%s", what);
	return code;
}

static int garbage(struct cloud_reader *r, const char *what)
{
	return fail(r, -EPROTO, FAULT_GARBAGE, what);
}

/* ---- pieces ------------------------------------------------------------------------ */

static int give(struct cloud_reader *r, uint32_t choice, Hw__Piece *p, Hw__TokenLogprob **logprobs,
		size_t n_logprobs)
{
	Hw__Delta d = HW__DELTA__INIT;
	Hw__Piece *pieces[] = { p };

	d.choice = choice;
	d.seq = r->seq++;
	d.n_piece = p ? 1 : 0;
	d.piece = pieces;
	d.logprob = logprobs;
	d.n_logprob = n_logprobs;
	r->hooks->delta(r->arg, &d);
	return *r->gone ? -ECANCELED : 0;
}

static int give_text(struct cloud_reader *r, uint32_t choice, Hw__Channel channel, uint32_t call,
		     const json_t *text, Hw__TokenLogprob **logprobs, size_t n_logprobs)
{
	Hw__Piece p = HW__PIECE__INIT;
	size_t n = 0;
	const char *s = jx_str(text, &n);

	if (n == 0)
		return n_logprobs ? give(r, choice, NULL, logprobs, n_logprobs) : 0;
	p.channel = channel;
	p.text.data = (uint8_t *)s;
	p.text.len = n;
	p.has_call = 1;
	p.call = call;
	return give(r, choice, &p, logprobs, n_logprobs);
}

/* Which of this choice's calls a delta is about: by id where it has one, else by the
 * index it came with last, else the last call.  n_tools: a new one. */
static uint32_t which_tool(const struct cloud_choice *c, const char *id, int64_t index)
{
	for (uint32_t i = c->n_tools; i-- > 0;) {
		if (id && *id && !strcmp(c->tools[i].id, id))
			return i;
		if ((!id || !*id) && index >= 0 && c->tools[i].index == index)
			return i;
	}
	if ((!id || !*id) && index < 0 && c->n_tools)
		return c->n_tools - 1;
	return c->n_tools;
}

static int begin_tool(struct cloud_reader *r, uint32_t choice, const char *id, int64_t index,
		      const char *name)
{
	struct cloud_choice *c = &r->choice[choice];
	struct cloud_tool *tools;
	Hw__Piece p = HW__PIECE__INIT;
	char made[32];

	if (!name || !*name)
		return garbage(r, "a tool call begins without a name");
	if (c->n_tools == MAX_TOOLS)
		return garbage(r, "too many tool calls");
	tools = realloc(c->tools, (c->n_tools + 1) * sizeof(*tools));
	if (!tools)
		return fail(r, -ENOMEM, FAULT_SERVER, "out of memory");
	c->tools = tools;
	if (!id || !*id) {
		snprintf(made, sizeof(made), "call_%u_%u", choice, c->n_tools);
		id = made;
	}
	tools[c->n_tools] = (struct cloud_tool){ strdup(id), index };
	if (!tools[c->n_tools].id)
		return fail(r, -ENOMEM, FAULT_SERVER, "out of memory");
	p.channel = HW__CHANNEL__CALL_BEGIN;
	p.text.data = (uint8_t *)(uintptr_t)name;
	p.text.len = strlen(name);
	p.has_call = 1;
	p.call = c->n_tools;
	p.call_id = tools[c->n_tools].id;
	c->n_tools++;
	return give(r, choice, &p, NULL, 0);
}

static int take_tool(struct cloud_reader *r, uint32_t choice, const json_t *t)
{
	const json_t *fn = json_object_get(t, "function");
	const char *id = jx_str(json_object_get(t, "id"), NULL);
	struct cloud_choice *c = &r->choice[choice];
	int64_t index = -1;
	uint32_t at;
	int rc = 0;

	if (jx_int64(json_object_get(t, "index"), &index) < 0)
		index = -1;
	at = which_tool(c, id, index);
	if (at == c->n_tools)
		rc = begin_tool(r, choice, id, index, jx_str(json_object_get(fn, "name"), NULL));
	if (rc < 0)
		return rc;
	return give_text(r, choice, HW__CHANNEL__CALL_ARGS, at, json_object_get(fn, "arguments"), NULL,
			 0);
}

/* ---- log-probabilities --------------------------------------------------------------- */

struct logprobs {
	Hw__TokenLogprob token[MAX_LOGPROBS], *token_p[MAX_LOGPROBS];
	Hw__TopToken top[MAX_LOGPROBS][MAX_TOP], *top_p[MAX_LOGPROBS][MAX_TOP];
	size_t n;
};

static float get_real(const json_t *v)
{
	double x = -9999;

	(void)jx_double(v, &x);
	return x >= -9999 && x <= 0 ? (float)x : x > 0 ? 0.0f : -9999.0f;
}

static ProtobufCBinaryData get_bytes(const json_t *v)
{
	ProtobufCBinaryData b = { 0 };

	b.data = (uint8_t *)(uintptr_t)jx_str(v, &b.len);
	if (!b.data)
		b.len = 0;
	return b;
}

static void read_logprobs(const json_t *list, struct logprobs *l)
{
	size_t n = json_array_size(list);

	for (l->n = 0; l->n < n && l->n < MAX_LOGPROBS; l->n++) {
		const json_t *item = json_array_get(list, l->n);
		const json_t *top = json_object_get(item, "top_logprobs");
		Hw__TokenLogprob *t = &l->token[l->n];

		hw__token_logprob__init(t);
		t->token = get_bytes(json_object_get(item, "token"));
		t->logprob = get_real(json_object_get(item, "logprob"));
		t->top = l->top_p[l->n];
		for (size_t i = 0; i < json_array_size(top) && i < MAX_TOP; i++) {
			Hw__TopToken *k = &l->top[l->n][i];

			hw__top_token__init(k);
			k->token = get_bytes(json_object_get(json_array_get(top, i), "token"));
			k->logprob = get_real(json_object_get(json_array_get(top, i), "logprob"));
			t->top[t->n_top++] = k;
		}
		l->token_p[l->n] = t;
	}
}

/* ---- chunks ---------------------------------------------------------------------------- */

static int take_delta(struct cloud_reader *r, uint32_t choice, const json_t *d,
		      const json_t *logprob_list)
{
	const json_t *reasoning = json_object_get(d, "reasoning_content");
	const json_t *tools = json_object_get(d, "tool_calls");
	int rc;

	if (!jx_is_str(reasoning))
		reasoning = json_object_get(d, "reasoning");
	rc = give_text(r, choice, HW__CHANNEL__REASONING, 0, reasoning, NULL, 0);
	if (rc == 0 && json_array_size(logprob_list)) {
		struct logprobs *l = malloc(sizeof(*l));

		if (!l)
			return fail(r, -ENOMEM, FAULT_SERVER, "out of memory");
		read_logprobs(logprob_list, l);
		rc = give_text(r, choice, HW__CHANNEL__CONTENT, 0, json_object_get(d, "content"),
			       l->token_p, l->n);
		free(l);
	} else if (rc == 0) {
		rc = give_text(r, choice, HW__CHANNEL__CONTENT, 0, json_object_get(d, "content"), NULL, 0);
	}
	for (size_t i = 0; i < json_array_size(tools) && rc == 0; i++)
		rc = take_tool(r, choice, json_array_get(tools, i));
	return rc;
}

static void take_finish(struct cloud_choice *c, const json_t *reason)
{
	const char *s = jx_str(reason, NULL);

	if (!s)
		return;
	c->finished = true;
	c->finish = !strcmp(s, "length") ? HW__FINISH__LENGTH :
		    !strcmp(s, "tool_calls") ? HW__FINISH__TOOL_CALLS : HW__FINISH__STOP;
}

static int take_choice(struct cloud_reader *r, const json_t *v)
{
	int64_t index = 0;
	int rc;

	(void)jx_int64(json_object_get(v, "index"), &index);
	if (index < 0 || index >= r->n)
		return garbage(r, "a choice out of range");
	if (r->choice[index].finished)
		return 0;
	if (r->kind == OA_CHAT)
		rc = take_delta(r, (uint32_t)index, json_object_get(v, "delta"),
				json_object_get(json_object_get(v, "logprobs"), "content"));
	else
		rc = give_text(r, (uint32_t)index, HW__CHANNEL__CONTENT, 0, json_object_get(v, "text"),
			       NULL, 0);
	if (rc == 0)
		take_finish(&r->choice[index], json_object_get(v, "finish_reason"));
	return rc;
}

static void get_count(const json_t *v, uint32_t *ret)
{
	int64_t x;

	if (jx_int64(v, &x) == 0 && x >= 0 && x <= INT32_MAX)
		*ret = (uint32_t)x;
}

static void take_usage(struct cloud_reader *r, const json_t *u)
{
	if (!json_is_object(u))
		return;
	r->has_usage = true;
	get_count(json_object_get(u, "prompt_tokens"), &r->prompt_tokens);
	get_count(json_object_get(u, "completion_tokens"), &r->output_tokens);
	get_count(json_object_get(json_object_get(u, "prompt_tokens_details"), "cached_tokens"),
		  &r->cached_tokens);
	get_count(json_object_get(json_object_get(u, "completion_tokens_details"), "reasoning_tokens"),
		  &r->reasoning_tokens);
}

static int take_error(struct cloud_reader *r, const json_t *error)
{
	const char *text = jx_is_str(error) ? jx_str(error, NULL) :
			   jx_str(json_object_get(error, "message"), NULL);

	return fail(r, -EREMOTEIO, FAULT_SERVER, text ? text : "an error inside the stream");
}

static int take_chunk(struct cloud_reader *r, const json_t *v)
{
	const json_t *error = json_object_get(v, "error");
	const json_t *choices = json_object_get(v, "choices");
	int rc = 0;

	if (error && !json_is_null(error))
		return take_error(r, error);
	if (!json_is_object(v) || (choices && !json_is_array(choices)))
		return garbage(r, "an event that is not a chunk");
	take_usage(r, json_object_get(v, "usage"));
	for (size_t i = 0; i < json_array_size(choices) && rc == 0; i++) {
		r->any = true;
		rc = take_choice(r, json_array_get(choices, i));
	}
	return rc;
}

static int on_event(void *arg, const char *name, const char *data, size_t n)
{
	struct cloud_reader *r = arg;
	JX_OWNED json_t *v = NULL;

	(void)name;
	if (n >= 6 && !memcmp(data, "[DONE]", 6)) {
		r->said_done = true;
		return 1;
	}
	if (n == 0)
		return 0;
	if (jx_load(data, n, &v, NULL) < 0)
		return garbage(r, "an event that is not JSON");
	return take_chunk(r, v);
}

int cloud_reader_init(struct cloud_reader *r, enum oa_kind kind, uint32_t n,
		      const struct attempt_hooks *hooks, void *arg, bool *gone)
{
	*r = (struct cloud_reader){ .kind = kind, .n = n, .hooks = hooks, .arg = arg, .gone = gone };
	r->sse.event = on_event;
	r->sse.arg = r;
	r->choice = calloc(n, sizeof(*r->choice));
	return r->choice ? 0 : -ENOMEM;
}

void cloud_reader_done(struct cloud_reader *r)
{
	for (uint32_t i = 0; r->choice && i < r->n; i++) {
		for (uint32_t k = 0; k < r->choice[i].n_tools; k++)
			free(r->choice[i].tools[k].id);
		free(r->choice[i].tools);
	}
	free(r->choice);
	sse_done(&r->sse);
}

int cloud_reader_feed(struct cloud_reader *r, const char *p, size_t n)
{
	int rc = sse_feed(&r->sse, p, n);

	if (rc == -EMSGSIZE || rc == -ENOMEM)
		return garbage(r, "an event that is too large");
	return rc;
}

int cloud_reader_end(struct cloud_reader *r)
{
	Hw__Accepted in = HW__ACCEPTED__INIT;

	if (!r->any)
		return fail(r, -EPIPE, FAULT_GARBAGE, "a stream without a chunk");
	for (uint32_t i = 0; i < r->n; i++)
		if (!r->choice[i].finished)
			return fail(r, -EPIPE, FAULT_LOST, "the stream was cut");
	in.prompt_tokens = r->prompt_tokens;
	r->hooks->accepted(r->arg, &in);
	for (uint32_t i = 0; i < r->n && !*r->gone; i++) {
		Hw__Done d = HW__DONE__INIT;

		d.choice = i;
		d.seq = r->seq++;
		d.finish = r->choice[i].finish;
		if (i == 0) {		/* usage is of all choices together */
			d.output_tokens = r->output_tokens;
			d.has_reasoning_tokens = d.has_cached_tokens = 1;
			d.reasoning_tokens = r->reasoning_tokens;
			d.cached_tokens = r->cached_tokens;
		}
		r->hooks->done(r->arg, &d);
	}
	return 0;
}
