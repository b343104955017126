/* sse.h - server-sent events, read as they come.
 *
 * Follows the WHATWG event stream format: CR, LF or CRLF end a line, an empty line ends
 * an event, several data lines are joined by a newline, a line that begins with a colon is
 * a comment, a byte order mark at the start is skipped.  Cut the bytes as you like.
 * An event may hold SSE_MAX_EVENT bytes.  Not thread-safe.
 */
#ifndef HEARTH_LIB_SSE_H
#define HEARTH_LIB_SSE_H

#include <stdbool.h>

#include "lib/buf.h"

enum { SSE_MAX_EVENT = 4 << 20 };

struct sse {
	struct buf line, data, name;
	bool started, after_cr, has_data;
	/* An event with data.  `name` is "" when it has none; texts are terminated and
	 * borrowed for the call.  Not 0: sse_feed() stops and answers that. */
	int (*event)(void *arg, const char *name, const char *data, size_t n);
	/* May be NULL: a comment, without its colon. */
	void (*comment)(void *arg, const char *text, size_t n);
	void *arg;
};

/* Zeroed memory with the callbacks set is a new reader. */
void sse_done(struct sse *s);
/* 0, what the callback said, -EMSGSIZE, -ENOMEM. */
int sse_feed(struct sse *s, const char *p, size_t n);

#endif
