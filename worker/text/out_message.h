/* out_message.h - the events of an output parser, collected into an OpenAI message (but its
 * role, which is always "assistant").
 *
 *	{"reasoning_content": "..." or null, "content": "..." or null,
 *	 "tool_calls": [{"id": "call_<24 hex>", "type": "function",
 *			 "function": {"name": "...", "arguments": "<JSON text>"}}]}
 *
 * reasoning_content and content are null when nothing was said there; tool_calls is left out
 * when there is no call.
 */
#ifndef HEARTH_WORKER_TEXT_OUT_MESSAGE_H
#define HEARTH_WORKER_TEXT_OUT_MESSAGE_H

#include "worker/text/out_parser.h"

#define OUT_CALL_ID_CHARS 29	/* "call_" and 24 hex digits */

struct out_message_call {
	char id[OUT_CALL_ID_CHARS + 1];
	struct buf name;
	struct buf arguments;
};

struct out_message {
	struct buf reasoning;
	struct buf content;
	struct out_message_call *calls;	/* owned */
	size_t n_calls, cap_calls;
	size_t n_events;
	/* Fills n random bytes; 0 or negative errno. */
	int (*random)(void *ctx, void *bytes, size_t n);
	void *random_ctx;
};

void out_message_init(struct out_message *m, int (*random)(void *ctx, void *bytes, size_t n),
		      void *random_ctx);
void out_message_done(struct out_message *m);

/* "call_" and 24 hex digits from 12 random bytes. */
void out_call_id(const unsigned char bytes[12], char ret[OUT_CALL_ID_CHARS + 1]);

/* An out_sink; ctx is the message.  0, -ENOMEM, or what random() answered. */
int out_message_take(void *ctx, const struct out_event *ev);

/* The message; owned by the caller.  NULL: memory ran out. */
json_t *out_message_json(const struct out_message *m);

/* The batch form: all of a text to its message, by the same machine.  As out_parser_new(),
 * out_parser_feed() and out_parser_finish(). */
int out_message_parse(struct out_message *m, const struct out_options *o, const char *text,
		      size_t n, bool length_limit, struct err *e);

#endif
