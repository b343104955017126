/* out_call.c - calls in an output parser: see out_parser_impl.h. */
#include "worker/text/out_parser_impl.h"

int out_end_call(struct out_parser *p, enum out_level next)
{
	int r;

	p->level = next;
	if (call_args_end(&p->args, &p->out) < 0)
		return -ENOMEM;
	r = out_emit_made(p, OUT_CALL_ARGS);
	return r ? r : out_emit(p, OUT_CALL_END, "", 0);
}

int out_begin_call(struct out_parser *p)
{
	const char *name = out_at(p, p->open.name_at);
	size_t n = p->open.name_end - p->open.name_at;
	int r = out_release(p, p->open.at);

	if (!r && p->level <= LEVEL_REASONING) {
		p->think_end_due = true;
		r = out_end_reasoning(p);
	} else if (!r && p->level == LEVEL_FUNCTION) {
		r = out_end_call(p, LEVEL_CONTENT);
	}
	if (r)
		return r;
	content_trim_call(&p->content);
	if (call_args_begin(&p->args, p->tools, name, n) < 0)
		return -ENOMEM;
	p->level = LEVEL_FUNCTION;
	p->released = p->pos;
	p->n_calls++;
	return out_emit(p, OUT_CALL_BEGIN, name, n);
}

int out_feed_key(struct out_parser *p, const struct lexeme *lx)
{
	int r = 0;

	if (lx->kind == LEX_WS) {
		p->key_gap = p->key.n > 0;
	} else if (lx->kind == LEX_WORD) {
		p->key_ok = p->key_ok && !p->key_gap && call_name_ok(lx->p, lx->n);
		r = p->key_ok ? buf_put(&p->key, lx->p, lx->n) : 0;
	} else if (lx->kind != LEX_GT) {
		p->key_ok = false;
	}
	p->released = p->pos;
	if (r < 0 || lx->p[lx->n - 1] != '>')
		return r;

	if (call_args_key(&p->args, p->key.p, p->key.n, p->key_ok, &p->out) < 0)
		return -ENOMEM;
	value_scan_init(&p->value, p->pos);
	p->found.tag = LEX_MORE;
	p->level = LEVEL_VALUE;
	return out_emit_made(p, OUT_CALL_ARGS);
}

int out_end_value(struct out_parser *p, const struct value_end *end)
{
	size_t from = p->released > p->value.start ? p->released : p->value.start;
	const char *s = end->text_end > from ? out_at(p, from) : "";
	size_t n = end->text_end > from ? end->text_end - from : 0;

	if (call_args_rest(&p->args, s, n, &p->out) < 0)
		return -ENOMEM;
	p->level = LEVEL_FUNCTION;
	p->pos = p->released = end->resume;
	p->found.tag = LEX_MORE;
	call_open_reset(&p->open);
	return out_emit_made(p, OUT_CALL_ARGS);
}

/* A quoted call that began at `from` is whole: an end found in it is none. */
static void forget_end(struct out_parser *p, size_t from)
{
	if (p->found.tag != LEX_MORE && p->found.tag_at < from)
		return;
	p->found.tag = LEX_MORE;
	value_scan_middle(&p->value);
}

int out_feed_value(struct out_parser *p, const struct lexeme *lx)
{
	enum call_open_result opened = call_open_feed(&p->open, lx);
	int quote = CALL_QUOTE_GOES_ON;
	struct value_end end;
	size_t from = 0;

	if (call_quote_active(&p->quote))
		quote = call_quote_feed(&p->quote, lx, opened, &p->open, &from);
	if (quote < 0)
		return quote;
	if (quote == CALL_QUOTE_BROKEN && p->found.tag != LEX_MORE)
		return out_end_value(p, &p->found);
	if (quote == CALL_QUOTE_CLOSED) {
		forget_end(p, from);
		return 0;
	}
	if (p->found.tag == LEX_MORE && value_scan_feed(&p->value, lx, &end)) {
		if (!call_quote_active(&p->quote))
			return out_end_value(p, &end);
		p->found = end;
	}
	if (opened == CALL_OPEN_DONE && !p->open.bare && !call_quote_active(&p->quote))
		return call_quote_begin(&p->quote, p->open.at);
	if (p->open.state == CALL_OPEN_IDLE &&
	    (lx->kind == LEX_CALL || (lx->kind == LEX_FUNC && call_quote_wants_bare(&p->quote))))
		call_open_start(&p->open, lx);
	return 0;
}
