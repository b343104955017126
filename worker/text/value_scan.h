/* value_scan.h - finds where the value of a <parameter=K> ends.
 *
 * Block form: a newline (LF or CRLF) follows the tag and is not part of the value.
 * The value ends at the first of
 *
 *	</parameter>	with <parameter=, </function>, </tool_call>, <tool_call>,
 *			<function= or the end of the output as the next text;
 *	<parameter=	with nothing before it on its line;
 *	</function>	at a line's start, with </tool_call>, <tool_call>, <function= or
 *			the end next;
 *	</tool_call>	at a line's start, with <tool_call> or the end next;
 *	the end of the output.
 *
 * "At a line's start": only spaces and tabs before it on its line; these belong to
 * the end, and so does one newline before it.  So a value may hold any line of code,
 * even one that looks like an end, unless what follows looks like one too.
 *
 * Inline form: the value starts on the tag's line.  The first </parameter> ends it
 * and all before that is value; the other ends are those of block form.
 *
 * Offsets are those of the lexemes.  No memory is owned.
 */
#ifndef HEARTH_WORKER_TEXT_VALUE_SCAN_H
#define HEARTH_WORKER_TEXT_VALUE_SCAN_H

#include "worker/text/out_lex.h"

struct value_end {
	enum lex_kind tag;	/* which; LEX_MORE: none, or the end of the output */
	size_t text_end;	/* the value is [start, text_end) */
	size_t tag_at;
	size_t resume;		/* the function goes on here */
};

enum value_scan_state {
	VALUE_SCAN_START,	/* right after the tag's '>' */
	VALUE_SCAN_CR,		/* and after a CR there */
	VALUE_SCAN_TEXT,
};

struct value_scan {
	enum value_scan_state state;
	bool block;
	bool line_start;	/* only spaces and tabs so far on this line */
	bool column_0;		/* nothing so far on this line */
	bool cr;		/* the last byte was a CR */
	size_t start;		/* of the value; known in VALUE_SCAN_TEXT */
	size_t cut;		/* at line_start: where the value would end, without the
				 * newline before this line */
	struct value_end candidate;	/* an end, if the next text is one too */
};

/* `at`: the offset after the tag's '>'. */
void value_scan_init(struct value_scan *v, size_t at);

/* Whether the value is known to end, now that lx is seen. */
bool value_scan_feed(struct value_scan *v, const struct lexeme *lx, struct value_end *ret_end);

/* Takes back any candidate: what was seen last is value, and not at a line's start. */
void value_scan_middle(struct value_scan *v);

/* All text before this offset is value for certain; `pos` is the end of the last lexeme. */
size_t value_scan_safe(const struct value_scan *v, size_t pos);

/* The output ends after `pos` with n more bytes that begin a tag (n may be 0).  Whether a
 * candidate is an end, given that this beginning is not text (`cut`) or is. */
bool value_scan_last(struct value_scan *v, const char *p, size_t n, bool cut,
		     struct value_end *ret_end);

/* Whether n bytes, the beginning of a tag, could end the value here. */
bool value_scan_counts(const struct value_scan *v, const char *p, size_t n);

/* The output is the value's end. */
struct value_end value_scan_finish(struct value_scan *v, size_t pos);

#endif
