/* out_finish.c - the end of the output: see out_parser_impl.h. */
#include "worker/text/out_parser_impl.h"

/* Whether n bytes, the beginning of a tag, would count as one here. */
static bool counts(const struct out_parser *p, const char *s, size_t n)
{
	bool call = p->tools && lex_begins(LEX_CALL, s, n);

	switch (p->level) {
	case LEVEL_START:
		return call || lex_begins(LEX_THINK_END, s, n) || lex_begins(LEX_THINK, s, n);
	case LEVEL_REASONING:
		return call || lex_begins(LEX_THINK_END, s, n);
	case LEVEL_AFTER:
		if (lex_begins(LEX_FUNC, s, n) || lex_begins(LEX_FUNC_END, s, n) ||
		    lex_begins(LEX_CALL_END, s, n) || lex_begins(LEX_PARAM_END, s, n))
			return true;
		/* fall through */
	case LEVEL_CONTENT:
		return call || (p->think_end_due && lex_begins(LEX_THINK_END, s, n));
	case LEVEL_VALUE:
		return value_scan_counts(&p->value, s, n);
	default:
		return true;	/* dropped in any case */
	}
}

/* Forgets the text from `from` on. */
static void cut(struct out_parser *p, size_t from)
{
	p->in.n = from - p->base;
	p->pos = from;
}

/* In a value: whether it ended after all; then *ret_r is what ending it gave. */
static bool settle_value(struct out_parser *p, bool length_limit, int *ret_r)
{
	size_t n = out_end_of(p) - p->pos;
	struct value_end end = p->found;

	if (call_quote_active(&p->quote))
		call_quote_break(&p->quote, p->pos);
	if (end.tag == LEX_MORE) {
		if (!value_scan_last(&p->value, out_at(p, p->pos), n, length_limit, &end))
			return false;
		cut(p, p->pos);
	}
	*ret_r = out_end_value(p, &end);
	return true;
}

/* A tag that is not complete, at the very end. */
static int settle_tag(struct out_parser *p, bool length_limit)
{
	size_t n = out_end_of(p) - p->pos;
	struct lexeme word = { LEX_WORD, out_at(p, p->pos), n, p->pos };
	bool opening = p->open.state == CALL_OPEN_WAIT && lex_begins(LEX_FUNC, word.p, n);

	if (length_limit && ((opening && p->level != LEVEL_VALUE) || counts(p, word.p, n))) {
		if (!opening)
			call_open_reset(&p->open);
		cut(p, p->pos);
		return 0;
	}
	p->pos += n;
	return out_feed_lexeme(p, &word);
}

static int close_level(struct out_parser *p)
{
	struct value_end end;
	int r;

	switch (p->level) {
	case LEVEL_START:
	case LEVEL_REASONING:
		r = out_release(p, p->pos);
		return r ? r : out_end_reasoning(p);
	case LEVEL_VALUE:
		end = value_scan_finish(&p->value, p->pos);
		r = out_end_value(p, &end);
		return r ? r : out_end_call(p, LEVEL_CONTENT);
	case LEVEL_FUNCTION:
	case LEVEL_KEY:
		p->released = p->pos;
		return out_end_call(p, LEVEL_CONTENT);
	default:
		return 0;
	}
}

int out_finish(struct out_parser *p, bool length_limit)
{
	int r = out_run(p);

	while (!r && p->level == LEVEL_VALUE && settle_value(p, length_limit, &r))
		if (!r)
			r = out_run(p);
	if (!r && p->pos < out_end_of(p))
		r = settle_tag(p, length_limit);
	if (!r && p->open.state != CALL_OPEN_IDLE && p->level != LEVEL_VALUE && length_limit)
		cut(p, p->open.at);
	call_open_reset(&p->open);
	if (!r)
		r = close_level(p);
	if (!r)
		r = out_release(p, p->pos);
	if (r)
		return r;
	content_trim_end(&p->content, &p->out);
	return out_emit_made(p, OUT_CONTENT);
}
