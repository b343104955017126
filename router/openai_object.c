/* openai_object.c - an answer in one piece: collected, then written whole. */
#include <errno.h>
#include <stdlib.h>

#include "lib/json.h"
#include "router/openai_logprob.h"
#include "router/openai_out_int.h"

enum { SHORT_ANSWER = 1000 };

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

int oa_collect_delta(struct oa_out *o, struct oa_choice *c, const Hw__Delta *d)
{
	int r = 0;

	if (o->logprobs)
		oa_add_logprobs(o->kind, d, &c->text_offset, &c->logprobs);
	for (size_t i = 0; i < d->n_piece && r == 0; i++) {
		r = oa_check_piece(c, d->piece[i]);
		if (r == 0)
			r = collect_piece(c, d->piece[i]);
	}
	return r;
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
		oa_put_reasoning(o, &t, b);
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
	buf_puts(b, oa_finish_name(c));
	PUT(b, "\"}");
}

int oa_object_end(struct oa_out *o, const char *extra, struct buf *out)
{
	buf_reserve(out, SHORT_ANSWER);
	oa_put_head(o, out);
	for (uint32_t i = 0; i < o->n; i++)
		put_choice(o, i, out);
	PUT(out, "],");
	oa_put_usage(o, out);
	if (extra) {
		buf_putc(out, ',');
		buf_puts(out, extra);
	}
	buf_putc(out, '}');
	return buf_ok(out) ? 0 : -ENOMEM;
}
