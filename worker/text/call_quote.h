/* call_quote.h - recognises a whole call quoted in a value.
 *
 * A value may be text about tool calls: a test, a page of documentation.  The ends
 * inside a whole call
 *
 *	<tool_call> <function=X> (<parameter=K> value </parameter>)* </function> </tool_call>
 *
 * are not ends of the value around it.  Words inside a function do not matter, as they do
 * not in a real call; several functions may share one <tool_call>; a value in it may
 * quote a whole call in turn.  A call that lacks one of its tags is not whole, and then
 * it protects nothing.
 *
 * So from an opening on it is not known what the ends inside are, until the call is
 * closed or broken.  The owner goes on as if there were no quote, does not act on an
 * end it finds, and is told here:
 *
 *	closed	ends found since that opening were quoted: forget them;
 *	broken	no opening that is still open protects anything: the first end found holds,
 *		and the text after it is read again.
 *
 * Text is read again at most once for this: what became of each opening is remembered
 * until the reader is past the place where the quote broke.
 */
#ifndef HEARTH_WORKER_TEXT_CALL_QUOTE_H
#define HEARTH_WORKER_TEXT_CALL_QUOTE_H

#include "worker/text/call_open.h"
#include "worker/text/value_scan.h"

enum call_quote_state {
	CALL_QUOTE_FUNC,	/* in a quoted function, outside its parameters */
	CALL_QUOTE_KEY,		/* after <parameter= */
	CALL_QUOTE_VALUE,
	CALL_QUOTE_AFTER,	/* after </function> */
};

struct call_quote_frame;	/* a call that is open */
struct call_quote_seen;		/* what became of an opening */

struct call_quote {
	struct call_quote_frame *frames;	/* owned; outermost first */
	size_t n_frames, cap_frames;
	struct call_quote_seen *seen;		/* owned; by offset */
	size_t n_seen, cap_seen;
	size_t known;		/* openings before this offset are in seen */
	bool replay;		/* reading again: nothing new is learnt */
	enum call_quote_state state;	/* of the innermost call */
	struct value_scan scan;	/* of its value */
};

enum call_quote_result {
	CALL_QUOTE_GOES_ON,
	CALL_QUOTE_CLOSED,	/* the innermost call is whole */
	CALL_QUOTE_BROKEN,	/* no call is open any more */
};

/* Zeroed memory is a quote that is not active. */
void call_quote_done(struct call_quote *q);

static inline bool call_quote_active(const struct call_quote *q)
{
	return q->n_frames > 0;
}

/* Whether a bare <function= is looked at now: then the owner starts its call_open on one. */
static inline bool call_quote_wants_bare(const struct call_quote *q)
{
	return q->n_frames > 0 && (q->state == CALL_QUOTE_FUNC || q->state == CALL_QUOTE_AFTER);
}

/* An opening at offset `at` has just been read in a value, with no quote active.  It becomes
 * active unless it is known to be broken.  0 or -ENOMEM. */
int call_quote_begin(struct call_quote *q, size_t at);

/* The next lexeme, with what call_open_feed() said of it.  On CLOSED *ret_at is where that
 * call began.  -ENOMEM or an enum call_quote_result. */
int call_quote_feed(struct call_quote *q, const struct lexeme *lx, enum call_open_result r,
		    const struct call_open *o, size_t *ret_at);

/* The output ends: what is open is broken. */
void call_quote_break(struct call_quote *q, size_t at);

#endif
