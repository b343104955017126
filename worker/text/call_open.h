/* call_open.h - recognises the opening of a call.
 *
 *	<tool_call> white space <function=NAME>
 *
 * or, inside a <tool_call>, <function=NAME> alone ("bare").  NAME is trimmed; white
 * space, quotes, braces or angle brackets inside it, or nothing at all, make the
 * whole opening plain text.  Until that is known its text must be held back from
 * `at` on.
 *
 * The owner shows it every lexeme and starts it on a tag that may begin an opening.
 */
#ifndef HEARTH_WORKER_TEXT_CALL_OPEN_H
#define HEARTH_WORKER_TEXT_CALL_OPEN_H

#include "worker/text/out_lex.h"

enum call_open_state {
	CALL_OPEN_IDLE,
	CALL_OPEN_WAIT,		/* after <tool_call> */
	CALL_OPEN_NAME,		/* after <function= */
};

struct call_open {
	enum call_open_state state;
	size_t at;		/* offset of the opening's first byte */
	size_t name_at;		/* [name_at, name_end): NAME, when done */
	size_t name_end;
	bool bare;		/* began with <function= */
	bool any;		/* a byte of NAME was seen */
	bool gap;		/* and white space after it */
};

enum call_open_result {
	CALL_OPEN_NONE,		/* idle: the lexeme is the owner's */
	CALL_OPEN_HELD,		/* the lexeme may belong to an opening */
	CALL_OPEN_FAILED,	/* no opening; the lexeme is the owner's; idle now */
	CALL_OPEN_DONE,		/* the lexeme ends an opening; idle now */
};

enum call_open_result call_open_feed(struct call_open *o, const struct lexeme *lx);

/* lx is LEX_CALL or LEX_FUNC. */
void call_open_start(struct call_open *o, const struct lexeme *lx);

static inline void call_open_reset(struct call_open *o)
{
	o->state = CALL_OPEN_IDLE;
}

/* What makes a name or a key invalid wherever it stands inside, but white space. */
bool call_name_ok(const char *p, size_t n);

#endif
