/* call_args.h - writes the arguments of one call as the text of a JSON object.
 *
 * In a stream: each call appends what is certain to `out`, and the concatenation is
 * {"key": value, "key": value} in the order of the parameters.  A key that comes again is
 * dropped with its value, since the first is already out; so is an empty key.  A value that
 * is a string whatever its text (tool_value.h) is written as it comes, any other at its end.
 */
#ifndef HEARTH_WORKER_TEXT_CALL_ARGS_H
#define HEARTH_WORKER_TEXT_CALL_ARGS_H

#include "worker/text/tool_schema.h"

struct call_args {
	const json_t *schema;	/* the tool's parameters; borrowed, may be NULL */
	json_t *keys;		/* those written; owned */
	struct tool_param param;
	bool dropped;		/* the parameter at hand */
};

/* Zeroed memory is no call.  Each answers 0 or -ENOMEM. */
int call_args_begin(struct call_args *a, const json_t *tools, const char *name, size_t n);
void call_args_done(struct call_args *a);

/* A parameter begins; ok false: its key is no key. */
int call_args_key(struct call_args *a, const char *key, size_t n, bool ok, struct buf *out);

/* Whether its value is to be handed over as it comes. */
bool call_args_streams(const struct call_args *a);

/* Some of a streamed value, whole characters; all the rest of any value. */
int call_args_some(struct call_args *a, const char *s, size_t n, struct buf *out);
int call_args_rest(struct call_args *a, const char *s, size_t n, struct buf *out);

int call_args_end(struct call_args *a, struct buf *out);

#endif
