/* openai_out.c - see openai_out.h. */
#include "router/openai_out.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"
#include "router/openai_logprob.h"

enum { MAX_CALLS = 256, SHORT_ANSWER = 1000 };

#define PUT(b, literal) buf_put(b, literal, sizeof(literal) - 1)

/* The members that every object of an answer begins with, up to its choices. */
static void put_head(const struct oa_out *o, struct buf *b)
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

/* Once a stream knows who answers. */
static int make_head(struct oa_out *o)
{
	if (o->head.n)
		return 0;
	buf_puts(&o->head, "data: ");
	put_head(o, &o->head);
	buf_puts(&o->head, "{\"index\":");
	return buf_ok(&o->head) ? 0 : -ENOMEM;
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

/* ---- a stream ------------------------------------------------------------------- */

static void begin_chunk(const struct oa_out *o, uint32_t choice, struct buf *b)
{
	buf_put(b, o->head.p, o->head.n);
	buf_put_uint(b, choice);
	if (o->kind == OA_CHAT)
		PUT(b, ",\"delta\":{");
	else
		PUT(b, ",\"text\":");
}

static void put_finish(const struct oa_out *o, const char *finish, const struct buf *logprobs,
		       struct buf *b)
{
	if (o->kind == OA_CHAT)
		PUT(b, "}");
	if (logprobs && logprobs->n) {
		PUT(b, ",\"logprobs\":");
		oa_put_logprobs(o->kind, logprobs, b);
	} else {
		PUT(b, ",\"logprobs\":null");
	}
	if (finish) {
		PUT(b, ",\"finish_reason\":\"");
		buf_puts(b, finish);
		PUT(b, "\"}]");
	} else {
		PUT(b, ",\"finish_reason\":null}]");
	}
}

static void end_chunk(struct buf *b)
{
	PUT(b, "}\n\n");
}

static void put_text_member(struct buf *b, const char *name, const ProtobufCBinaryData *t)
{
	buf_putc(b, '"');
	buf_puts(b, name);
	PUT(b, "\":");
	jx_put_str(b, (const char *)t->data, t->len);
}

/* Clients read one of two names; by default the text goes out under both. */
static void put_reasoning(const struct oa_out *o, const ProtobufCBinaryData *t, struct buf *b)
{
	if (o->reasoning != OA_REASONING_SHORT)
		put_text_member(b, "reasoning_content", t);
	if (o->reasoning == OA_REASONING_BOTH)
		buf_putc(b, ',');
	if (o->reasoning != OA_REASONING_CONTENT)
		put_text_member(b, "reasoning", t);
}

static void put_call_piece(const Hw__Piece *p, struct buf *b)
{
	PUT(b, "\"tool_calls\":[{\"index\":");
	buf_put_uint(b, p->call);
	if (p->channel == HW__CHANNEL__CALL_BEGIN) {
		PUT(b, ",\"id\":");
		jx_put_str(b, p->call_id, strlen(p->call_id));
		PUT(b, ",\"type\":\"function\",\"function\":{");
		put_text_member(b, "name", &p->text);
		PUT(b, ",\"arguments\":\"\"}}]");
	} else {
		PUT(b, ",\"function\":{");
		put_text_member(b, "arguments", &p->text);
		PUT(b, "}}]");
	}
}

static void put_piece(const struct oa_out *o, uint32_t choice, const Hw__Piece *p,
		      const struct buf *logprobs, struct buf *b)
{
	begin_chunk(o, choice, b);
	if (o->kind == OA_COMPLETION)
		jx_put_str(b, (const char *)p->text.data, p->text.len);
	else if (p->channel == HW__CHANNEL__CONTENT)
		put_text_member(b, "content", &p->text);
	else if (p->channel == HW__CHANNEL__REASONING)
		put_reasoning(o, &p->text, b);
	else
		put_call_piece(p, b);
	put_finish(o, NULL, logprobs, b);
	end_chunk(b);
}

static void put_role(const struct oa_out *o, uint32_t choice, struct buf *b)
{
	begin_chunk(o, choice, b);
	PUT(b, "\"role\":\"assistant\",\"content\":\"\"");
	put_finish(o, NULL, NULL, b);
	end_chunk(b);
}

/* ---- both ------------------------------------------------------------------------ */

/* Counts calls, and holds a worker to the order that clients rely on. */
static int check_piece(struct oa_choice *c, const Hw__Piece *p)
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

static int collect_piece(struct oa_choice *c, const Hw__Piece *p)
{
	struct buf *to = &c->content;

	if (p->channel == HW__CHANNEL__CALL_BEGIN) {
		struct oa_call *calls = realloc(c->calls, c->n_calls * sizeof(*calls));

		if (!calls) {
			c->n_calls--;
			return -ENOMEM;
		}
		c->calls = calls;
		calls[p->call] = (struct oa_call){ 0 };
		if (buf_puts(&calls[p->call].id, p->call_id) < 0)
			return -ENOMEM;
		to = &calls[p->call].name;
	} else if (p->channel == HW__CHANNEL__CALL_ARGS) {
		to = &c->calls[p->call].args;
	} else if (p->channel == HW__CHANNEL__REASONING) {
		to = &c->reasoning;
	}
	return buf_put(to, p->text.data, p->text.len);
}

static int collect_delta(struct oa_out *o, struct oa_choice *c, const Hw__Delta *d)
{
	int r = 0;

	if (o->logprobs)
		oa_add_logprobs(o->kind, d, &c->text_offset, &c->logprobs);
	for (size_t i = 0; i < d->n_piece && r == 0; i++) {
		r = check_piece(c, d->piece[i]);
		if (r == 0)
			r = collect_piece(c, d->piece[i]);
	}
	return r;
}

static int stream_delta(struct oa_out *o, struct oa_choice *c, const Hw__Delta *d, struct buf *out)
{
	CLEANUP(buf_donep) struct buf logprobs = BUF_INIT;

	if (make_head(o) < 0)
		return -ENOMEM;
	if (o->logprobs)
		oa_add_logprobs(o->kind, d, &c->text_offset, &logprobs);
	if (!c->started && o->kind == OA_CHAT)
		put_role(o, d->choice, out);
	c->started = true;
	for (size_t i = 0; i < d->n_piece; i++) {
		const Hw__Piece *p = d->piece[i];
		bool content = p->channel == HW__CHANNEL__CONTENT;

		if (o->kind == OA_COMPLETION && !content)
			continue;
		if (check_piece(c, p) < 0)
			return -EPROTO;
		put_piece(o, d->choice, p, content ? &logprobs : NULL, out);
		if (content)
			buf_clear(&logprobs);
	}
	if (logprobs.n) {	/* tokens whose text is still held back, or that have none */
		Hw__Piece none = HW__PIECE__INIT;

		none.channel = HW__CHANNEL__CONTENT;
		put_piece(o, d->choice, &none, &logprobs, out);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int oa_out_delta(struct oa_out *o, const Hw__Delta *d, struct buf *out)
{
	struct oa_choice *c = d->choice < o->n ? &o->choice[d->choice] : NULL;

	if (!c || c->done)
		return -EPROTO;
	return o->stream ? stream_delta(o, c, d, out) : collect_delta(o, c, d);
}

static const char *finish_name(const struct oa_choice *c)
{
	if (c->n_calls && c->finish != HW__FINISH__LENGTH)
		return "tool_calls";
	return c->finish == HW__FINISH__LENGTH ? "length" : "stop";
}

static int stream_finish(struct oa_out *o, uint32_t choice, const char *extra, struct buf *out)
{
	struct oa_choice *c = &o->choice[choice];

	if (make_head(o) < 0)
		return -ENOMEM;
	if (!c->started && o->kind == OA_CHAT)
		put_role(o, choice, out);
	c->started = true;
	begin_chunk(o, choice, out);
	if (o->kind == OA_COMPLETION)
		PUT(out, "\"\"");
	put_finish(o, finish_name(c), NULL, out);
	if (extra && oa_out_all_done(o)) {
		buf_putc(out, ',');
		buf_puts(out, extra);
	}
	end_chunk(out);
	return buf_ok(out) ? 0 : -ENOMEM;
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
	return o->stream ? stream_finish(o, d->choice, extra, out) : 0;
}

bool oa_out_all_done(const struct oa_out *o)
{
	for (uint32_t i = 0; i < o->n; i++)
		if (!o->choice[i].done)
			return false;
	return true;
}

static void put_usage(const struct oa_out *o, struct buf *b)
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

static void put_buf(const struct buf *t, struct buf *b)
{
	jx_put_str(b, t->n ? t->p : "", t->n);
}

static void put_calls(const struct oa_choice *c, struct buf *b)
{
	PUT(b, ",\"tool_calls\":[");
	for (uint32_t i = 0; i < c->n_calls; i++) {
		buf_puts(b, i ? ",{\"id\":" : "{\"id\":");
		put_buf(&c->calls[i].id, b);
		PUT(b, ",\"type\":\"function\",\"function\":{\"name\":");
		put_buf(&c->calls[i].name, b);
		PUT(b, ",\"arguments\":");
		put_buf(&c->calls[i].args, b);
		PUT(b, "}}");
	}
	buf_putc(b, ']');
}

static void put_message(const struct oa_out *o, const struct oa_choice *c, struct buf *b)
{
	PUT(b, ",\"message\":{\"role\":\"assistant\",\"content\":");
	if (c->n_calls && !c->content.n)
		PUT(b, "null");
	else
		put_buf(&c->content, b);
	PUT(b, ",\"refusal\":null");
	if (c->reasoning.n) {
		ProtobufCBinaryData t = { c->reasoning.n, (uint8_t *)c->reasoning.p };

		buf_putc(b, ',');
		put_reasoning(o, &t, b);
	}
	if (c->n_calls)
		put_calls(c, b);
	PUT(b, "}");
}

static void put_choice(const struct oa_out *o, uint32_t i, struct buf *b)
{
	const struct oa_choice *c = &o->choice[i];

	buf_puts(b, i ? ",{\"index\":" : "{\"index\":");
	buf_put_uint(b, i);
	if (o->kind == OA_CHAT) {
		put_message(o, c, b);
	} else {
		PUT(b, ",\"text\":");
		put_buf(&c->content, b);
	}
	PUT(b, ",\"logprobs\":");
	if (o->logprobs)
		oa_put_logprobs(o->kind, &c->logprobs, b);
	else
		PUT(b, "null");
	PUT(b, ",\"finish_reason\":\"");
	buf_puts(b, finish_name(c));
	PUT(b, "\"}");
}

static int stream_end(struct oa_out *o, struct buf *out)
{
	if (make_head(o) < 0)
		return -ENOMEM;
	if (o->include_usage) {
		/* the head without its last `{"index":` */
		buf_put(out, o->head.p, o->head.n - strlen("{\"index\":"));
		PUT(out, "],");
		put_usage(o, out);
		end_chunk(out);
	}
	PUT(out, "data: [DONE]\n\n");
	return buf_ok(out) ? 0 : -ENOMEM;
}

int oa_out_end(struct oa_out *o, const char *extra, struct buf *out)
{
	if (o->stream)
		return stream_end(o, out);
	buf_reserve(out, SHORT_ANSWER);
	put_head(o, out);
	for (uint32_t i = 0; i < o->n; i++)
		put_choice(o, i, out);
	PUT(out, "],");
	put_usage(o, out);
	if (extra) {
		buf_putc(out, ',');
		buf_puts(out, extra);
	}
	buf_putc(out, '}');
	return buf_ok(out) ? 0 : -ENOMEM;
}

void oa_out_error(const struct oa_error *e, struct buf *out)
{
	PUT(out, "data: ");
	oa_error_put(e, out);
	PUT(out, "\n\n");
}
