/* openai_logprob.c - see openai_logprob.h.
 *
 * state: chat, the list's elements, comma between; completions, one line a token of four
 * JSON texts with a tab between: token, logprob, top object, offset.
 */
#include "router/openai_logprob.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "lib/json.h"

/* JSON has no infinity; the dialect writes -9999 for "never". */
static void put_real(struct buf *b, float x)
{
	buf_printf(b, "%.9g", (double)(x > -9999 ? x : -9999));
}

static void put_bytes(struct buf *b, const ProtobufCBinaryData *t)
{
	buf_putc(b, '[');
	for (size_t i = 0; i < t->len; i++)
		buf_printf(b, i ? ",%u" : "%u", t->data[i]);
	buf_putc(b, ']');
}

static void put_entry(struct buf *b, const ProtobufCBinaryData *token, float logprob)
{
	buf_puts(b, "{\"token\":");
	jx_put_str(b, (const char *)token->data, token->len);
	buf_puts(b, ",\"logprob\":");
	put_real(b, logprob);
	buf_puts(b, ",\"bytes\":");
	put_bytes(b, token);
}

static void add_chat(const Hw__TokenLogprob *l, struct buf *b)
{
	if (b->n)
		buf_putc(b, ',');
	put_entry(b, &l->token, l->logprob);
	buf_puts(b, ",\"top_logprobs\":[");
	for (size_t i = 0; i < l->n_top; i++) {
		if (i)
			buf_putc(b, ',');
		put_entry(b, &l->top[i]->token, l->top[i]->logprob);
		buf_putc(b, '}');
	}
	buf_puts(b, "]}");
}

static void add_completion(const Hw__TokenLogprob *l, uint32_t *offset, struct buf *b)
{
	jx_put_str(b, (const char *)l->token.data, l->token.len);
	buf_putc(b, '\t');
	put_real(b, l->logprob);
	buf_puts(b, "\t{");
	for (size_t i = 0; i < l->n_top; i++) {
		if (i)
			buf_putc(b, ',');
		jx_put_str(b, (const char *)l->top[i]->token.data, l->top[i]->token.len);
		buf_putc(b, ':');
		put_real(b, l->top[i]->logprob);
	}
	buf_printf(b, "}\t%" PRIu32 "\n", *offset);
	*offset += (uint32_t)l->token.len;
}

void oa_add_logprobs(enum oa_kind kind, const Hw__Delta *d, uint32_t *text_offset,
		     struct buf *state)
{
	for (size_t i = 0; i < d->n_logprob; i++) {
		if (kind == OA_CHAT)
			add_chat(d->logprob[i], state);
		else
			add_completion(d->logprob[i], text_offset, state);
	}
}

/* The i-th of each line's four texts.  JSON texts hold no raw tab or newline. */
static void put_column(const struct buf *state, int column, struct buf *out)
{
	const char *p = state->n ? state->p : "", *end = p + state->n;
	bool first = true;

	while (p < end) {
		const char *from = p;

		for (int i = 0; i < column; i++)
			from += strcspn(from, "\t") + 1;
		if (!first)
			buf_putc(out, ',');
		first = false;
		buf_put(out, from, strcspn(from, "\t\n"));
		p += strcspn(p, "\n") + 1;
	}
}

void oa_put_logprobs(enum oa_kind kind, const struct buf *state, struct buf *out)
{
	static const char *const names[] = { "{\"tokens\":[", "],\"token_logprobs\":[",
					     "],\"top_logprobs\":[", "],\"text_offset\":[" };

	if (kind == OA_CHAT) {
		buf_puts(out, "{\"content\":[");
		buf_put(out, state->n ? state->p : "", state->n);
		buf_puts(out, "],\"refusal\":null}");
		return;
	}
	for (int i = 0; i < 4; i++) {
		buf_puts(out, names[i]);
		put_column(state, i, out);
	}
	buf_puts(out, "]}");
}
