/* serve_args.h - the command line of hearth-worker serve, and its configuration file: one
 * table that parses both and explains both.  A key of the file is the option's name with _
 * for -. */
#ifndef HEARTH_WORKER_SERVE_ARGS_H
#define HEARTH_WORKER_SERVE_ARGS_H

#include <stdio.h>

#include "lib/conf.h"
#include "lib/err.h"
#include "worker/load.h"

enum { SERVE_MAX_CONF = 8 };

struct serve_args {
	const char *endpoint, *alias, *name;
	const char *hearthd;		/* socket, "none", or NULL: the usual one, if there */
	const char *curve_public, *curve_secret_file, *curve_server;
	uint32_t drain_ms;
	uint32_t step_limit_s, no_numbers;	/* serve_guard() */
	struct load_options load;
	bool help, print_budget, print_sample, dump_keys, dump;
	const char *config;		/* the last one; all of them were read */
	const char *folder;		/* the word that is no option */
	struct conf *conf[SERVE_MAX_CONF];
	size_t n_conf;
};

/* Defaults, then the files, then the words.  0; -EINVAL: wrong usage, in words; -errno of a
 * file.  *ret borrows from argv; serve_args_done() it. */
int serve_args_parse(int argc, char **argv, struct serve_args *ret, struct err *e);
void serve_args_done(struct serve_args *a);
const struct conf_table *serve_conf_table(void);
void serve_args_help(FILE *f);
void serve_args_dump(FILE *f);	/* lines NAME<TAB>ARG<TAB>TEXT */

#endif
