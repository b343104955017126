/* tool_value.h - the text of a parameter to a JSON value, by its types.
 *
 * A text that the schema lists as a string is that string.  Else it becomes the first of
 * null, integer, number, boolean, object, array, string that is among the types and fits.
 * Beside string, only what is written just as JSON writes it stops being a string (a
 * boolean: the word in any case).  Where string is not among the types, text that fits none
 * is null or a number if it looks like one, and otherwise the string after all: what the
 * model said is never lost.
 *
 *	null	 null or none, any case
 *	integer	 sign and digits of any length; without plus and leading zeros
 *	number	 as JSON, a plus or a dot in front tolerated; the spelling stays; what
 *		 overflows a double stays a string
 *	boolean	 true, false, any case; 1, 0
 *	object,	 JSON, then py_literal.h; the spelling of numbers stays; one that holds a number
 *	array	 which overflows a double is a string as a whole
 *
 * White space is allowed around the first four.
 */
#ifndef HEARTH_WORKER_TEXT_TOOL_VALUE_H
#define HEARTH_WORKER_TEXT_TOOL_VALUE_H

#include "worker/text/tool_schema.h"

/* Whether the value is a string whatever its text: then it can be handed on as it comes. */
static inline bool tool_value_is_string(const struct tool_param *p)
{
	return p->types == TOOL_STRING;
}

/* Appends the JSON text of the value.  0 or -ENOMEM. */
int tool_value_put(struct buf *b, const struct tool_param *p, const char *s, size_t n);

#endif
