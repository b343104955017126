/* out_parser.c - see out_parser.h.
 *
 * The text waits in `in`, of which [released, pos) was read but not handed on yet.  Each
 * lexeme (out_lex.h) goes to the machine of the level it stands on; what a level hands on is
 * always a stretch [released, x).  Three things can move `pos` back or hold `released`:
 *
 *	call_open	from <tool_call> on, until the name is complete or wrong;
 *	value_scan	from a possible end of a value on, until the text after it is seen;
 *	call_quote	from an end inside a quoted call on, until that is closed or broken.
 *
 * All offsets count from the first byte ever fed; `base` is the offset of in.p[0].
 */
#include "worker/text/out_parser.h"

#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"
#include "worker/text/call_args.h"
#include "worker/text/call_open.h"
#include "worker/text/call_quote.h"
#include "worker/text/out_trim.h"
#include "worker/text/value_scan.h"

enum level {
	LEVEL_START,	/* nothing but white space yet: a <think> may come */
	LEVEL_REASONING,
	LEVEL_CONTENT,	/* outside <tool_call> */
	LEVEL_AFTER,	/* in <tool_call>, after </function>: content too */
	LEVEL_FUNCTION,	/* in a function, outside its parameters: dropped */
	LEVEL_KEY,	/* after <parameter= */
	LEVEL_VALUE,
};

struct out_parser {
	json_t *tools;		/* a reference; NULL: no calls are looked for */
	struct buf utf8;	/* a character cut short */
	struct buf in;
	size_t base, pos, released;
	enum level level;
	bool think_end_due;	/* reasoning was ended by a call: one </think> is dropped */
	struct call_open open;
	struct value_scan value;
	struct call_quote quote;
	struct value_end found;	/* an end in a value that may be quoted; LEX_MORE: none */
	struct reason_trim reason;
	struct content_trim content;
	struct call_args args;
	uint32_t n_calls;
	struct buf key;
	bool key_ok, key_gap;
	struct buf out;		/* of the event being made */
	out_sink *sink;
	void *ctx;
	int stopped;		/* what ended it early */
};

/* ---- handing on ---------------------------------------------------------------- */

static const char *at(const struct out_parser *p, size_t offset)
{
	return p->in.p + (offset - p->base);
}

static size_t end_of(const struct out_parser *p)
{
	return p->base + p->in.n;
}

static int emit(struct out_parser *p, enum out_kind kind, const char *s, size_t n)
{
	const struct out_event ev = {
		.kind = kind,
		.index = kind >= OUT_CALL_BEGIN ? p->n_calls - 1 : 0,
		.p = s,
		.n = n,
	};

	return p->sink(p->ctx, &ev);
}

/* What was put together in `out`. */
static int emit_out(struct out_parser *p, enum out_kind kind)
{
	int r = 0;

	if (!buf_ok(&p->out) || !buf_ok(&p->reason.kept) || !buf_ok(&p->content.kept))
		return -ENOMEM;
	if (p->out.n > 0)
		r = emit(p, kind, p->out.p, p->out.n);
	buf_clear(&p->out);
	return r;
}

/* Hands on the text before `to` on whatever channel it stands. */
static int release(struct out_parser *p, size_t to)
{
	const char *s;
	size_t n;

	if (p->level == LEVEL_VALUE && p->released < p->value.start)
		p->released = p->value.start;	/* the newline of block form */
	if (to <= p->released)
		return 0;
	s = at(p, p->released);
	n = to - p->released;
	p->released = to;
	switch (p->level) {
	case LEVEL_START:
	case LEVEL_REASONING:
		reason_trim_put(&p->reason, s, n, &p->out);
		return emit_out(p, OUT_REASONING);
	case LEVEL_CONTENT:
	case LEVEL_AFTER:
		content_trim_put(&p->content, s, n, &p->out);
		return emit_out(p, OUT_CONTENT);
	case LEVEL_VALUE:
		if (call_args_some(&p->args, s, n, &p->out) < 0)
			return -ENOMEM;
		return emit_out(p, OUT_CALL_ARGS);
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
	int r = release(p, lx->at);

	p->released = lx->at + lx->n;
	return r;
}

/* ---- calls --------------------------------------------------------------------- */

static int end_call(struct out_parser *p, enum level next)
{
	int r;

	p->level = next;
	if (call_args_end(&p->args, &p->out) < 0)
		return -ENOMEM;
	r = emit_out(p, OUT_CALL_ARGS);
	return r ? r : emit(p, OUT_CALL_END, "", 0);
}

static int end_reasoning(struct out_parser *p)
{
	reason_trim_end(&p->reason, &p->out);
	p->level = LEVEL_CONTENT;
	return emit_out(p, OUT_REASONING);
}

/* p->open is a complete opening. */
static int begin_call(struct out_parser *p)
{
	const char *name = at(p, p->open.name_at);
	size_t n = p->open.name_end - p->open.name_at;
	int r = release(p, p->open.at);

	if (!r && p->level <= LEVEL_REASONING) {
		p->think_end_due = true;
		r = end_reasoning(p);
	} else if (!r && p->level == LEVEL_FUNCTION) {
		r = end_call(p, LEVEL_CONTENT);
	}
	if (r)
		return r;
	content_trim_call(&p->content);
	if (call_args_begin(&p->args, p->tools, name, n) < 0)
		return -ENOMEM;
	p->level = LEVEL_FUNCTION;
	p->released = p->pos;
	p->n_calls++;
	return emit(p, OUT_CALL_BEGIN, name, n);
}

static int feed_key(struct out_parser *p, const struct lexeme *lx)
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
	return emit_out(p, OUT_CALL_ARGS);
}

/* The value is [its start, end->text_end); the function goes on at end->resume. */
static int end_value(struct out_parser *p, const struct value_end *end)
{
	size_t from = p->released > p->value.start ? p->released : p->value.start;
	const char *s = end->text_end > from ? at(p, from) : "";
	size_t n = end->text_end > from ? end->text_end - from : 0;

	if (call_args_rest(&p->args, s, n, &p->out) < 0)
		return -ENOMEM;
	p->level = LEVEL_FUNCTION;
	p->pos = p->released = end->resume;
	p->found.tag = LEX_MORE;
	call_open_reset(&p->open);
	return emit_out(p, OUT_CALL_ARGS);
}

/* A quoted call that began at `from` is whole: an end found in it is none. */
static void forget_end(struct out_parser *p, size_t from)
{
	if (p->found.tag != LEX_MORE && p->found.tag_at < from)
		return;
	p->found.tag = LEX_MORE;
	value_scan_middle(&p->value);
}

static int feed_value(struct out_parser *p, const struct lexeme *lx)
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
		return end_value(p, &p->found);
	if (quote == CALL_QUOTE_CLOSED) {
		forget_end(p, from);
		return 0;
	}
	if (p->found.tag == LEX_MORE && value_scan_feed(&p->value, lx, &end)) {
		if (!call_quote_active(&p->quote))
			return end_value(p, &end);
		p->found = end;
	}
	if (opened == CALL_OPEN_DONE && !p->open.bare && !call_quote_active(&p->quote))
		return call_quote_begin(&p->quote, p->open.at);
	if (p->open.state == CALL_OPEN_IDLE &&
	    (lx->kind == LEX_CALL || (lx->kind == LEX_FUNC && call_quote_wants_bare(&p->quote))))
		call_open_start(&p->open, lx);
	return 0;
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
		return r ? r : end_reasoning(p);
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
		return end_call(p, LEVEL_AFTER);
	if (lx->kind == LEX_CALL_END)
		return end_call(p, LEVEL_CONTENT);
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

static int feed_lexeme(struct out_parser *p, const struct lexeme *lx)
{
	bool in_call;
	int r;

	if (p->level == LEVEL_VALUE)
		return feed_value(p, lx);
	if (p->level == LEVEL_KEY)
		return feed_key(p, lx);
	switch (call_open_feed(&p->open, lx)) {
	case CALL_OPEN_HELD:
		return 0;
	case CALL_OPEN_DONE:
		return begin_call(p);
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

/* Reads all there is, but a tag that is not complete. */
static int run(struct out_parser *p)
{
	int r = 0;

	while (!r && p->pos < end_of(p)) {
		struct lexeme lx = lex_next(at(p, p->pos), end_of(p) - p->pos, p->pos);

		if (lx.kind == LEX_MORE)
			break;
		p->pos += lx.n;
		r = feed_lexeme(p, &lx);
	}
	if (!r)
		r = release(p, safe(p));
	/* Each byte is moved at most once for the one that made room for it. */
	if (p->released - p->base > p->in.n / 2) {
		buf_shift(&p->in, p->released - p->base);
		p->base = p->released;
	}
	return r;
}

/* ---- the ends ------------------------------------------------------------------ */

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
	size_t n = end_of(p) - p->pos;
	struct value_end end;

	if (call_quote_active(&p->quote))
		call_quote_break(&p->quote, p->pos);
	end = p->found;
	if (end.tag == LEX_MORE && !value_scan_last(&p->value, at(p, p->pos), n, length_limit, &end))
		return false;
	/* a quote holds ends back from the text after the first; that is read again first */
	if (p->found.tag == LEX_MORE)
		cut(p, p->pos);
	*ret_r = end_value(p, &end);
	return true;
}

/* A tag that is not complete, at the very end. */
static int settle_tag(struct out_parser *p, bool length_limit)
{
	size_t n = end_of(p) - p->pos;
	struct lexeme word = { LEX_WORD, at(p, p->pos), n, p->pos };
	bool opening = p->open.state == CALL_OPEN_WAIT && lex_begins(LEX_FUNC, word.p, n);

	if (length_limit && ((opening && p->level != LEVEL_VALUE) || counts(p, word.p, n))) {
		if (!opening)
			call_open_reset(&p->open);
		cut(p, p->pos);
		return 0;
	}
	p->pos += n;
	return feed_lexeme(p, &word);
}

static int close_level(struct out_parser *p)
{
	struct value_end end;
	int r;

	switch (p->level) {
	case LEVEL_START:
	case LEVEL_REASONING:
		r = release(p, p->pos);
		return r ? r : end_reasoning(p);
	case LEVEL_VALUE:
		end = value_scan_finish(&p->value, p->pos);
		r = end_value(p, &end);
		return r ? r : end_call(p, LEVEL_CONTENT);
	case LEVEL_FUNCTION:
	case LEVEL_KEY:
		p->released = p->pos;
		return end_call(p, LEVEL_CONTENT);
	default:
		return 0;
	}
}

static int finish(struct out_parser *p, bool length_limit)
{
	int r = run(p);

	while (!r && p->level == LEVEL_VALUE && settle_value(p, length_limit, &r))
		if (!r)
			r = run(p);
	if (!r && p->pos < end_of(p))
		r = settle_tag(p, length_limit);
	if (!r && p->open.state != CALL_OPEN_IDLE && p->level != LEVEL_VALUE && length_limit)
		cut(p, p->open.at);
	call_open_reset(&p->open);
	if (!r)
		r = close_level(p);
	if (!r)
		r = release(p, p->pos);
	if (r)
		return r;
	content_trim_end(&p->content, &p->out);
	return emit_out(p, OUT_CONTENT);
}

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

/* ---- public -------------------------------------------------------------------- */

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
		p->stopped = run(p);
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
		p->stopped = finish(p, length_limit);
	return p->stopped;
}
