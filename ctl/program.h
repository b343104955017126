/* program.h - the other programs of Hearth and the system, run and listened to. */
#ifndef HEARTH_CTL_PROGRAM_H
#define HEARTH_CTL_PROGRAM_H

#include <limits.h>

#include "lib/buf.h"
#include "lib/err.h"

enum { PROGRAM_MAX_CONFIG = 64 };

/* Runs argv (argv[0]: one of ours beside hearthctl, else by PATH) without a shell; stdout and
 * stderr go to `out`, of at most 1 MiB.  Its exit status; -ENOENT: no such program; -errno. */
int program_run(char *const *argv, struct buf *out, struct err *e);

/* Whether the program that reads this file takes it: 0, or 1 with its reason in `said`, without a
 * final newline.  -ENOENT: that program is not here. */
int program_check_config(const char *file, struct buf *said, struct err *e);
/* The files of a configuration folder, without drop-ins; answers how many. */
size_t program_list_config(const char *etc, char ret[PROGRAM_MAX_CONFIG][PATH_MAX]);

#endif
