/* opts.h - a program's options in one table: what getopt_long takes, what --help says, what
 * completion offers and what the manual page lists.
 *
 * The table ends with a row whose name is NULL.  Not thread-safe, like getopt.
 */
#ifndef HEARTH_LIB_OPTS_H
#define HEARTH_LIB_OPTS_H

#include <stdio.h>

#include "lib/buf.h"

enum { OPTS_LONG_ONLY = 256 };		/* a `key` from here on has no letter */

struct opts_row {
	int key;		/* what opts_next() answers; a letter is also the short option */
	const char *name;	/* without -- */
	const char *arg;	/* NULL: takes none */
	const char *text;	/* one line for a person, lower case, no full stop */
};

/* getopt_long() by the table: the key, '?' for what is not in it, -1 at the end; optarg and optind
 * as there. */
int opts_next(const struct opts_row *t, int argc, char **argv);

/* One line each.  NAME with dashes, filled up to a column. */
int opts_put_help(const struct opts_row *t, struct buf *out);
/* Lines NAME<TAB>ARG<TAB>TEXT, NAME as "-u, --url" or "--check", ARG empty when there is none:
 * what --dump-options prints, and manual pages are made from. */
int opts_put_dump(const struct opts_row *t, struct buf *out);
/* A line of that form for what is no option. */
int opts_put_dump_row(const char *name, const char *arg, const char *text, struct buf *out);
/* To stdout, and freed. */
void opts_print(struct buf *b);
/* The two above, for who prints nothing else. */
void opts_print_help(const struct opts_row *t, FILE *f);
void opts_print_dump(const struct opts_row *t);

#endif
