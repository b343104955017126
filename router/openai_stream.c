/* openai_stream.c - an answer in chunks: written as it comes, behind a head made once. */
#include <errno.h>
#include <string.h>

#include "lib/json.h"
#include "lib/own.h"
#include "router/openai_logprob.h"
#include "router/openai_out_int.h"

/* Once a stream knows who answers. */
static int make_head(struct oa_out *o)
{
	if (o->head.n)
		return 0;
	buf_puts(&o->head, "data: ");
	oa_put_head(o, &o->head);
	buf_puts(&o->head, "{\"index\":");
	return buf_ok(&o->head) ? 0 : -ENOMEM;
}

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

static void put_call_piece(const Hw__Piece *p, struct buf *b)
{
	PUT(b, "\"tool_calls\":[{\"index\":");
	buf_put_uint(b, p->call);
	if (p->channel == HW__CHANNEL__CALL_BEGIN) {
		PUT(b, ",\"id\":");
		jx_put_str(b, p->call_id, strlen(p->call_id));
		PUT(b, ",\"type\":\"function\",\"function\":{");
		oa_put_text_member(b, "name", &p->text);
		PUT(b, ",\"arguments\":\"\"}}]");
	} else {
		PUT(b, ",\"function\":{");
		oa_put_text_member(b, "arguments", &p->text);
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
		oa_put_text_member(b, "content", &p->text);
	else if (p->channel == HW__CHANNEL__REASONING)
		oa_put_reasoning(o, &p->text, b);
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

int oa_stream_delta(struct oa_out *o, struct oa_choice *c, const Hw__Delta *d, struct buf *out)
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
		if (oa_check_piece(c, p) < 0)
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

int oa_stream_finish(struct oa_out *o, uint32_t choice, const char *extra, struct buf *out)
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
	put_finish(o, oa_finish_name(c), NULL, out);
	if (extra && oa_out_all_done(o)) {
		buf_putc(out, ',');
		buf_puts(out, extra);
	}
	end_chunk(out);
	return buf_ok(out) ? 0 : -ENOMEM;
}

int oa_stream_end(struct oa_out *o, struct buf *out)
{
	if (make_head(o) < 0)
		return -ENOMEM;
	if (o->include_usage) {
		/* the head without its last `{"index":` */
		buf_put(out, o->head.p, o->head.n - strlen("{\"index\":"));
		PUT(out, "],");
		oa_put_usage(o, out);
		end_chunk(out);
	}
	PUT(out, "data: [DONE]\n\n");
	return buf_ok(out) ? 0 : -ENOMEM;
}
