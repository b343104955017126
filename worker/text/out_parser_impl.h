/* out_parser_impl.h - the inside of an output parser, shared by its three files:
 *
 *	out_parser.c	handing on, the levels, the public calls
 *	out_call.c	calls, their keys and values
 *	out_finish.c	the end of the output
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
#ifndef HEARTH_WORKER_TEXT_OUT_PARSER_IMPL_H
#define HEARTH_WORKER_TEXT_OUT_PARSER_IMPL_H

#include "worker/text/call_args.h"
#include "worker/text/call_open.h"
#include "worker/text/call_quote.h"
#include "worker/text/out_parser.h"
#include "worker/text/out_trim.h"
#include "worker/text/value_scan.h"

enum out_level {
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
	enum out_level level;
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

static inline const char *out_at(const struct out_parser *p, size_t offset)
{
	return p->in.p + (offset - p->base);
}

static inline size_t out_end_of(const struct out_parser *p)
{
	return p->base + p->in.n;
}

/* Each answers 0, -ENOMEM, or what the sink answered. */

/* out_parser.c */
int out_emit(struct out_parser *p, enum out_kind kind, const char *s, size_t n);
/* What was put together in `out`, if anything. */
int out_emit_made(struct out_parser *p, enum out_kind kind);
/* Hands on the text before `to` on whatever channel it stands. */
int out_release(struct out_parser *p, size_t to);
int out_end_reasoning(struct out_parser *p);
int out_feed_lexeme(struct out_parser *p, const struct lexeme *lx);
/* Reads all there is, but a tag that is not complete. */
int out_run(struct out_parser *p);

/* out_call.c */
/* p->open is a complete opening. */
int out_begin_call(struct out_parser *p);
int out_end_call(struct out_parser *p, enum out_level next);
int out_feed_key(struct out_parser *p, const struct lexeme *lx);
int out_feed_value(struct out_parser *p, const struct lexeme *lx);
/* The value is [its start, end->text_end); the function goes on at end->resume. */
int out_end_value(struct out_parser *p, const struct value_end *end);

/* out_finish.c */
int out_finish(struct out_parser *p, bool length_limit);

#endif
