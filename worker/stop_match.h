/* stop_match.h - stop strings in a stream of text.
 *
 * Text goes in in any pieces; what can no longer be part of a stop string comes out.  The
 * match that is complete first wins, the longest one if several end at the same byte;
 * neither it nor anything after it comes out.  So the result does not depend on how
 * the text was cut.
 *
 * Each string is an automaton of its own (Knuth, Morris, Pratt): the cost of a byte is
 * constant for each string, whatever text and strings look like.  No thread of its own.
 */
#ifndef HEARTH_WORKER_STOP_MATCH_H
#define HEARTH_WORKER_STOP_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/buf.h"

#define STOP_MAX_STRINGS 256
#define STOP_MAX_BYTES 1024	/* of one */

struct stop_string {
	const char *p;
	size_t n;
};

struct stop_match;

/* Copies the strings; none is fine.  -EINVAL: empty, too long, too many, or not UTF-8 (so
 * that a match never cuts a character); -ENOMEM. */
int stop_match_new(const struct stop_string *strings, size_t n, struct stop_match **ret);
struct stop_match *stop_match_free(struct stop_match *m);	/* NULL ok */

/* Appends to `out` what is certain.  0; 1: a stop string is complete, from now on nothing
 * comes out; -ENOMEM. */
int stop_match_push(struct stop_match *m, const char *text, size_t n, struct buf *out);
/* The text ends: appends what was held back. */
int stop_match_finish(struct stop_match *m, struct buf *out);
/* Bytes held back now. */
size_t stop_match_held(const struct stop_match *m);

#endif
