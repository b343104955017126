/* options.h - the words of a command line: one table, and all that is made from it.
 *
 *	static const struct opt table[] = {
 *		{ 'c', "config", "FILE", "read it, and its drop-ins after it" },
 *		{ OPT_LONG, "check", NULL, "say what is wrong with the configuration" },
 *		OPT_COMMON,
 *		{ .name = NULL },
 *	};
 *
 * Parsing, --help and the OPTIONS of the manual page (man/page.awk reads --dump-options) come
 * from it, so that they cannot differ.  Uses getopt_long(3) and its globals: one thread, and
 * what is left of argv begins at optind.
 */
#ifndef HEARTH_LIB_OPTIONS_H
#define HEARTH_LIB_OPTIONS_H

#include <stdio.h>

struct opt {
	int id;			/* the letter, or OPT_LONG + n for one that has none */
	const char *name;	/* without the dashes */
	const char *arg;	/* what it takes, "FILE"; NULL: nothing */
	const char *help;	/* one sentence, not capitalised, no full stop */
};

enum { OPT_END = -1, OPT_BAD = -2, OPT_MAX = 40, OPT_LONG = 0x1000, OPT_DUMP = 0x2000 };

#define OPT_COMMON \
	{ 'h', "help", NULL, "this text" }, \
	{ 'V', "version", NULL, "the version of this program" }, \
	{ OPT_DUMP, "dump-options", NULL, "this list as NAMES, ARG and TEXT, a tab between; its manual page is made of it" }

/* The next option's id, its argument in *ret_arg; OPT_END: no more; OPT_BAD: getopt said to
 * stderr what is wrong.  The table ends with a NULL name and has OPT_MAX rows at most. */
int opt_next(const struct opt *table, int argc, char **argv, const char **ret_arg);

/* The lines of --help, wrapped at 96 columns. */
void opt_put_help(const struct opt *table, FILE *f);
/* The lines of --dump-options: "-c, --config<TAB>FILE<TAB>text". */
void opt_put_lines(const struct opt *table, FILE *f);

#endif
