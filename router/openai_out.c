/* openai_out.c - see openai_out.h: an answer's life, and what its two shapes have in common. */
#include "router/openai_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "router/openai_out_int.h"

enum { MAX_CALLS = 256 };

/* The members that every object of an answer begins with, up to its choices. */
void oa_put_head(const struct oa_out *o, struct buf *b)
{
	PUT(b, "{\"id\":");
	jx_put_str(b, o->id, strlen(o->id));
	PUT(b, ",\"object\":\"");
	buf_puts(b, o->kind == OA_COMPLETION ? "text_completion" :
		    o->stream ? "chat.completion.chunk" : "chat.completion");
	PUT(b, "\",\"created\":");
	buf_put_uint(b, (uint64_t)o->created);
	PUT(b, ",\"model\":");
	jx_put_str(b, o->model, strlen(o->model));
	if (o->fingerprint) {
		PUT(b, ",\"system_fingerprint\":");
		jx_put_str(b, o->fingerprint, strlen(o->fingerprint));
	}
	PUT(b, ",\"choices\":[");
}

void oa_put_text_member(struct buf *b, const char *name, const ProtobufCBinaryData *t)
{
	buf_putc(b, '"');
	buf_puts(b, name);
	PUT(b, "\":");
	jx_put_str(b, (const char *)t->data, t->len);
}

/* Clients read one of two names; by default the text goes out under both. */
void oa_put_reasoning(const struct oa_out *o, const ProtobufCBinaryData *t, struct buf *b)
{
	if (o->reasoning != OA_REASONING_SHORT)
		oa_put_text_member(b, "reasoning_content", t);
	if (o->reasoning == OA_REASONING_BOTH)
		buf_putc(b, ',');
	if (o->reasoning != OA_REASONING_CONTENT)
		oa_put_text_member(b, "reasoning", t);
}

void oa_put_usage(const struct oa_out *o, struct buf *b)
{
	const struct oa_usage *u = &o->usage;

	PUT(b, "\"usage\":{\"prompt_tokens\":");
	buf_put_uint(b, u->prompt);
	PUT(b, ",\"completion_tokens\":");
	buf_put_uint(b, u->completion);
	PUT(b, ",\"total_tokens\":");
	buf_put_uint(b, (uint64_t)u->prompt + u->completion);
	PUT(b, ",\"prompt_tokens_details\":{\"cached_tokens\":");
	buf_put_uint(b, u->cached);
	PUT(b, "},\"completion_tokens_details\":{\"reasoning_tokens\":");
	buf_put_uint(b, u->reasoning);
	PUT(b, "}}");
}

const char *oa_finish_name(const struct oa_choice *c)
{
	if (c->n_calls && c->finish != HW__FINISH__LENGTH)
		return "tool_calls";
	return c->finish == HW__FINISH__LENGTH ? "length" : "stop";
}

int oa_check_piece(struct oa_choice *c, const Hw__Piece *p)
{
	if (p->channel == HW__CHANNEL__CALL_BEGIN) {
		if (p->call != c->n_calls || c->n_calls == MAX_CALLS)
			return -EPROTO;
		c->n_calls++;
	} else if (p->channel == HW__CHANNEL__CALL_ARGS && p->call >= c->n_calls) {
		return -EPROTO;
	}
	return 0;
}

int oa_out_init(struct oa_out *o, const struct oa_request *r, const char *id,
		enum oa_reasoning reasoning)
{
	*o = (struct oa_out){ .kind = r->kind, .reasoning = reasoning, .stream = r->stream,
			      .include_usage = r->include_usage,
			      .logprobs = r->sampling.logprobs != 0, .n = r->n };
	o->created = clock_wall_s();
	text_add(o->id, sizeof(o->id), 0, id);
	o->model = strdup(r->model);
	o->choice = calloc(r->n, sizeof(*o->choice));
	if (!o->model || !o->choice) {
		oa_out_done(o);
		return -ENOMEM;
	}
	return 0;
}

static void choice_done(struct oa_choice *c)
{
	buf_done(&c->content);
	buf_done(&c->reasoning);
	buf_done(&c->logprobs);
	for (uint32_t i = 0; c->calls && i < c->n_calls; i++) {
		buf_done(&c->calls[i].id);
		buf_done(&c->calls[i].name);
		buf_done(&c->calls[i].args);
	}
	free(c->calls);
	*c = (struct oa_choice){ 0 };
}

void oa_out_restart(struct oa_out *o)
{
	for (uint32_t i = 0; o->choice && i < o->n; i++)
		choice_done(&o->choice[i]);
	o->usage = (struct oa_usage){ 0 };
}

void oa_out_done(struct oa_out *o)
{
	oa_out_restart(o);
	free(o->choice);
	free(o->model);
	free(o->fingerprint);
	buf_done(&o->head);
	*o = (struct oa_out){ 0 };
}

int oa_out_fingerprint(struct oa_out *o, const char *numeric_class)
{
	char *copy = numeric_class ? strdup(numeric_class) : NULL;

	if (numeric_class && !copy)
		return -ENOMEM;
	free(o->fingerprint);
	o->fingerprint = copy;
	buf_clear(&o->head);
	return 0;
}

int oa_out_delta(struct oa_out *o, const Hw__Delta *d, struct buf *out)
{
	struct oa_choice *c = d->choice < o->n ? &o->choice[d->choice] : NULL;

	if (!c || c->done)
		return -EPROTO;
	return o->stream ? oa_stream_delta(o, c, d, out) : oa_collect_delta(o, c, d);
}

int oa_out_finish(struct oa_out *o, const Hw__Done *d, const char *extra, struct buf *out)
{
	struct oa_choice *c = d->choice < o->n ? &o->choice[d->choice] : NULL;

	if (!c || c->done)
		return -EPROTO;
	c->done = true;
	c->finish = d->finish;
	o->usage.completion += d->output_tokens;
	o->usage.reasoning += d->reasoning_tokens;
	if (d->cached_tokens > o->usage.cached)
		o->usage.cached = d->cached_tokens;
	return o->stream ? oa_stream_finish(o, d->choice, extra, out) : 0;
}

bool oa_out_all_done(const struct oa_out *o)
{
	for (uint32_t i = 0; i < o->n; i++)
		if (!o->choice[i].done)
			return false;
	return true;
}

int oa_out_end(struct oa_out *o, const char *extra, struct buf *out)
{
	return o->stream ? oa_stream_end(o, out) : oa_object_end(o, extra, out);
}

void oa_out_error(const struct oa_error *e, struct buf *out)
{
	PUT(out, "data: ");
	oa_error_put(e, out);
	PUT(out, "\n\n");
}
