/* out_parser.h - the text a Qwen3.6 model generates, to reasoning, content and tool calls.
 *
 * A machine that is fed text in any pieces and hands on events.  For every way to cut a text
 * the events, joined per channel (reasoning, content, name and arguments of each call), are
 * the same, and nothing is ever handed on that would have to be taken back: only what could
 * still be markup, or white space at an edge, waits.  docs/output-parser.md states the rules
 * and the choices behind them.
 *
 *	reasoning </think> content <tool_call> <function=NAME> <parameter=KEY> value ...
 *
 * Cost: linear in the text for any text; memory: what waits, at most a small multiple of the
 * text.  No text makes it fail.  Not thread-safe; one parser an answer.
 */
#ifndef HEARTH_WORKER_TEXT_OUT_PARSER_H
#define HEARTH_WORKER_TEXT_OUT_PARSER_H

#include "lib/json.h"

struct out_parser;

enum out_kind {
	OUT_REASONING,
	OUT_CONTENT,
	OUT_CALL_BEGIN,		/* p, n: the name */
	OUT_CALL_ARGS,		/* p, n: some of the JSON text of the arguments */
	OUT_CALL_END,		/* the arguments are complete */
};

/* p holds whole UTF-8 characters, n > 0 (0 for OUT_CALL_END), and lasts for the call. */
struct out_event {
	enum out_kind kind;
	uint32_t index;		/* of the call, from 0 */
	const char *p;
	size_t n;
};

/* Non-zero stops: feed and finish answer it, now and from then on. */
typedef int out_sink(void *ctx, const struct out_event *ev);

struct out_options {
	const json_t *tools;		/* as in the request (lib/json.h); NULL or null: none */
	const json_t *tool_choice;	/* NULL, string or object; "none": no calls */
	bool thinking;			/* generation begins inside reasoning */
};

/* Keeps references into `o`.  -EINVAL: tools is not a list.  -ENOMEM. */
int out_parser_new(const struct out_options *o, struct out_parser **ret, struct err *e);
struct out_parser *out_parser_free(struct out_parser *p);

/* What is not UTF-8 becomes U+FFFD.  0, -ENOMEM, or what the sink answered. */
int out_parser_feed(struct out_parser *p, const char *text, size_t n, out_sink *sink, void *ctx);

/* The end of the output, once.  `length_limit`: it was cut there, not ended by the model:
 * then the beginning of a tag at the very end is dropped.  A call that is open is closed,
 * so that its arguments are JSON. */
int out_parser_finish(struct out_parser *p, bool length_limit, out_sink *sink, void *ctx);

#endif
