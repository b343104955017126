/* serve_args.h - the command line of hearth-worker serve: one table that parses and helps. */
#ifndef HEARTH_WORKER_SERVE_ARGS_H
#define HEARTH_WORKER_SERVE_ARGS_H

#include <stdio.h>

#include "lib/err.h"
#include "worker/load.h"

struct serve_args {
	const char *endpoint, *alias, *name;
	const char *curve_public, *curve_secret_file, *curve_server;
	uint32_t drain_ms;
	struct load_options load;
	bool help;
};

/* Defaults first.  0; -EINVAL: wrong usage, in words. */
int serve_args_parse(int argc, char **argv, struct serve_args *ret, struct err *e);
void serve_args_help(FILE *f);

/* "4096", "64K", "2M", "11.5G": bytes, powers of 1024.  0; -EINVAL. */
int size_parse(const char *text, uint64_t *ret);

#endif
