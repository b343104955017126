/* out_parser.c - see out_parser.h and, for how it works, out_parser_impl.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/utf8.h"
#include "worker/text/out_parser_impl.h"

/* ---- handing on ---------------------------------------------------------------- */

int out_emit(struct out_parser *p, enum out_kind kind, const char *s, size_t n)
{
	const struct out_event ev = {
		.kind = kind,
		.index = kind >= OUT_CALL_BEGIN ? p->n_calls - 1 : 0,
		.p = s,
		.n = n,
	};

	return p->sink(p->ctx, &ev);
}

int out_emit_made(struct out_parser *p, enum out_kind kind)
{
	int r = 0;

	if (!buf_ok(&p->out) || !buf_ok(&p->reason.kept) || !buf_ok(&p->content.kept))
		return -ENOMEM;
	if (p->out.n > 0)
		r = out_emit(p, kind, p->out.p, p->out.n);
	buf_clear(&p->out);
	return r;
}

int out_release(struct out_parser *p, size_t to)
{
	const char *s;
	size_t n;

	if (p->level == LEVEL_VALUE && p->released < p->value.start)
		p->released = p->value.start;	/* the newline of block form */
	if (to <= p->released)
		return 0;
	s = out_at(p, p->released);
	n = to - p->released;
	p->released = to;
	switch (p->level) {
	case LEVEL_START:
	case LEVEL_REASONING:
		reason_trim_put(&p->reason, s, n, &p->out);
		return out_emit_made(p, OUT_REASONING);
	case LEVEL_CONTENT:
	case LEVEL_AFTER:
		content_trim_put(&p->content, s, n, &p->out);
		return out_emit_made(p, OUT_CONTENT);
	case LEVEL_VALUE:
		if (call_args_some(&p->args, s, n, &p->out) < 0)
			return -ENOMEM;
		return out_emit_made(p, OUT_CALL_ARGS);
	default:
		return 0;
	}
}

/* The offset before which nothing can change its meaning any more. */
static size_t safe(const struct out_parser *p)
{
	if (p->level == LEVEL_START)
		return p->released;
	if (p->level == LEVEL_VALUE) {
		if (!call_args_streams(&p->args))
			return p->released;
		return p->found.tag != LEX_MORE ? p->found.text_end :
						  value_scan_safe(&p->value, p->pos);
	}
	return p->open.state != CALL_OPEN_IDLE ? p->open.at : p->pos;
}

/* A tag that is not text: hands on what is before it and skips it. */
static int skip_tag(struct out_parser *p, const struct lexeme *lx)
{
	int r = out_release(p, lx->at);

	p->released = lx->at + lx->n;
	return r;
}

int out_end_reasoning(struct out_parser *p)
{
	reason_trim_end(&p->reason, &p->out);
	p->level = LEVEL_CONTENT;
	return out_emit_made(p, OUT_REASONING);
}

/* ---- levels -------------------------------------------------------------------- */

static int feed_start(struct out_parser *p, const struct lexeme *lx)
{
	if (lx->kind == LEX_WS)
		return 0;
	p->level = LEVEL_REASONING;
	if (lx->kind == LEX_THINK)
		p->released = p->pos;	/* the white space before it too */
	return 0;
}

static int feed_reasoning(struct out_parser *p, const struct lexeme *lx)
{
	int r = 0;

	if (lx->kind == LEX_THINK_END) {
		r = skip_tag(p, lx);
		return r ? r : out_end_reasoning(p);
	}
	return 0;
}

static int feed_content(struct out_parser *p, const struct lexeme *lx)
{
	if (lx->kind == LEX_THINK_END && p->think_end_due) {
		p->think_end_due = false;
		return skip_tag(p, lx);
	}
	if (p->level != LEVEL_AFTER)
		return 0;
	if (lx->kind == LEX_FUNC_END || lx->kind == LEX_PARAM_END)
		return skip_tag(p, lx);
	if (lx->kind == LEX_CALL_END) {
		int r = skip_tag(p, lx);

		content_trim_call_end(&p->content);
		p->level = LEVEL_CONTENT;
		return r;
	}
	return 0;
}

static int feed_function(struct out_parser *p, const struct lexeme *lx)
{
	p->released = p->pos;
	if (lx->kind == LEX_PARAM) {
		buf_clear(&p->key);
		p->key_ok = true;
		p->key_gap = false;
		p->level = LEVEL_KEY;
	}
	if (lx->kind == LEX_FUNC_END)
		return out_end_call(p, LEVEL_AFTER);
	if (lx->kind == LEX_CALL_END)
		return out_end_call(p, LEVEL_CONTENT);
	return 0;
}

static int feed_level(struct out_parser *p, const struct lexeme *lx)
{
	if (p->level == LEVEL_START) {
		int r = feed_start(p, lx);

		if (r || p->level == LEVEL_START || lx->kind == LEX_THINK)
			return r;
	}
	switch (p->level) {
	case LEVEL_REASONING:
		return feed_reasoning(p, lx);
	case LEVEL_FUNCTION:
		return feed_function(p, lx);
	default:
		return feed_content(p, lx);
	}
}

int out_feed_lexeme(struct out_parser *p, const struct lexeme *lx)
{
	bool in_call;
	int r;

	if (p->level == LEVEL_VALUE)
		return out_feed_value(p, lx);
	if (p->level == LEVEL_KEY)
		return out_feed_key(p, lx);
	switch (call_open_feed(&p->open, lx)) {
	case CALL_OPEN_HELD:
		return 0;
	case CALL_OPEN_DONE:
		return out_begin_call(p);
	default:
		break;
	}
	in_call = p->level == LEVEL_FUNCTION || p->level == LEVEL_AFTER;
	r = feed_level(p, lx);
	if (!r && p->tools && (lx->kind == LEX_CALL || (lx->kind == LEX_FUNC && in_call))) {
		call_open_start(&p->open, lx);
		if (p->level == LEVEL_FUNCTION)
			p->released = lx->at;	/* the name is read from there */
	}
	return r;
}

int out_run(struct out_parser *p)
{
	int r = 0;

	while (!r && p->pos < out_end_of(p)) {
		struct lexeme lx = lex_next(out_at(p, p->pos), out_end_of(p) - p->pos, p->pos);

		if (lx.kind == LEX_MORE)
			break;
		p->pos += lx.n;
		r = out_feed_lexeme(p, &lx);
	}
	if (!r)
		r = out_release(p, safe(p));
	/* Each byte is moved at most once for the one that made room for it. */
	if (p->released - p->base > p->in.n / 2) {
		buf_shift(&p->in, p->released - p->base);
		p->base = p->released;
	}
	return r;
}

/* ---- public -------------------------------------------------------------------- */

/* Takes over the text, whole characters only; what is not UTF-8 is replaced. */
static int take_utf8(struct out_parser *p, const char *text, size_t n, bool last)
{
	struct buf *b = &p->utf8;
	size_t i = 0, from = 0, len;
	bool incomplete;

	buf_put(b, text, n);
	while (i < b->n) {
		len = utf8_len(b->p + i, b->n - i);
		if (len > 0) {
			i += len;
			continue;
		}
		len = utf8_bad_prefix(b->p + i, b->n - i, &incomplete);
		if (incomplete && !last)
			break;
		buf_put(&p->in, b->p + from, i - from);
		buf_puts(&p->in, "\xef\xbf\xbd");
		i += len;
		from = i;
	}
	buf_put(&p->in, b->p + from, i - from);
	buf_shift(b, i);
	return buf_ok(b) && buf_ok(&p->in) ? 0 : -ENOMEM;
}

static bool is_none(const json_t *tool_choice)
{
	size_t n;
	const char *s = jx_str(tool_choice, &n);

	return s && n == 4 && !memcmp(s, "none", 4);
}

int out_parser_new(const struct out_options *o, struct out_parser **ret, struct err *e)
{
	struct out_parser *p;

	if (o->tools && !json_is_null(o->tools) && !json_is_array(o->tools))
		return err_set(e, -EINVAL, "tools must be a list");
	p = calloc(1, sizeof(*p));
	if (!p || buf_reserve(&p->in, 64) < 0) {
		out_parser_free(p);
		return err_set(e, -ENOMEM, "out of memory for an output parser");
	}
	if (json_array_size(o->tools) > 0 && !is_none(o->tool_choice))
		p->tools = json_incref((json_t *)(uintptr_t)o->tools);
	p->content.calls_may_come = p->tools != NULL;
	p->level = o->thinking ? LEVEL_START : LEVEL_CONTENT;
	*ret = p;
	return 0;
}

struct out_parser *out_parser_free(struct out_parser *p)
{
	if (!p)
		return NULL;
	json_decref(p->tools);
	buf_done(&p->utf8);
	buf_done(&p->in);
	buf_done(&p->key);
	buf_done(&p->out);
	buf_done(&p->reason.kept);
	buf_done(&p->content.kept);
	call_quote_done(&p->quote);
	call_args_done(&p->args);
	free(p);
	return NULL;
}

int out_parser_feed(struct out_parser *p, const char *text, size_t n, out_sink *sink, void *ctx)
{
	if (p->stopped)
		return p->stopped;
	p->sink = sink;
	p->ctx = ctx;
	p->stopped = take_utf8(p, text, n, false);
	if (!p->stopped)
		p->stopped = out_run(p);
	return p->stopped;
}

int out_parser_finish(struct out_parser *p, bool length_limit, out_sink *sink, void *ctx)
{
	if (p->stopped)
		return p->stopped;
	p->sink = sink;
	p->ctx = ctx;
	p->stopped = take_utf8(p, NULL, 0, true);
	if (!p->stopped)
		p->stopped = out_finish(p, length_limit);
	return p->stopped;
}
