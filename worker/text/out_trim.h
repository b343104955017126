/* out_trim.h - white space at the edges of reasoning and content, in a stream.
 *
 * White space that may turn out to lie at an edge is kept until that is known; all else
 * passes at once.  Each call appends to `out` what is certain now.  Newlines are LF and
 * CRLF.  Memory: the white space kept.  Running out of memory shows in buf_ok() of `out`
 * and of `kept`.
 */
#ifndef HEARTH_WORKER_TEXT_OUT_TRIM_H
#define HEARTH_WORKER_TEXT_OUT_TRIM_H

#include "lib/buf.h"

/* Zeroed memory is empty text.  Reasoning loses the newlines at both ends. */
struct reason_trim {
	struct buf kept;	/* newlines, and perhaps the CR of one to come */
	bool begun;		/* something passed */
};

void reason_trim_put(struct reason_trim *t, const char *p, size_t n, struct buf *out);
void reason_trim_end(struct reason_trim *t, struct buf *out);

/* Content loses its leading newlines.  When calls may come it also loses the white space
 * before each, and blank text between and after them. */
struct content_trim {
	struct buf kept;	/* white space */
	size_t n_before;	/* bytes of kept that follow text of an earlier stretch */
	bool calls_may_come;
	bool begun;		/* something passed */
	bool text;		/* this stretch (since the last call) is not blank */
	bool after_call;
};

void content_trim_put(struct content_trim *t, const char *p, size_t n, struct buf *out);
void content_trim_call(struct content_trim *t);		/* a call begins here */
void content_trim_call_end(struct content_trim *t);	/* its </tool_call> stands here */
void content_trim_end(struct content_trim *t, struct buf *out);

#endif
