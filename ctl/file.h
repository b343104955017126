/* file.h - small files that hearthctl edits: read whole, replaced whole, one editor at a time. */
#ifndef HEARTH_CTL_FILE_H
#define HEARTH_CTL_FILE_H

#include <sys/types.h>

#include "lib/buf.h"
#include "lib/err.h"

enum { CTL_MAX_FILE = 1 << 20 };

/* Waits for other editors of files in the folder of `path`.  A descriptor to close(), or -errno. */
int ctl_lock_folder(const char *path, struct err *e);
/* The whole file, of at most CTL_MAX_FILE bytes, into an empty buf.  -ENOENT is told like any other
 * failure. */
int ctl_read_file(const char *path, struct buf *ret, struct err *e);
/* Whoever reads meanwhile sees the old or the new text.  Mode and owner stay as they are; a new
 * file gets `mode`, and the group hearth where there is one. */
int ctl_replace_file(const char *path, mode_t mode, const struct buf *text, struct err *e);
/* The folder with those above it, 0755. */
int ctl_make_folder(const char *path, struct err *e);

#endif
