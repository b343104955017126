/* file.h - regular files, and nothing else, opened and read.
 *
 * Where a file is expected, a FIFO stops open() until somebody writes, a device may do anything, a
 * folder fails only when it is read.  So whatever a configuration or a model's folder names is
 * opened here: without waiting, and refused when it is not a regular file.  Symbolic links are
 * followed; what counts is what they end at.
 *
 * Every failure has its text in `e`, "PATH: why", and is
 *
 *	-EINVAL			not a regular file
 *	-ENOENT, -EACCES...	as open() and read() say
 *
 * Reentrant: any thread.
 */
#ifndef HEARTH_LIB_FILE_H
#define HEARTH_LIB_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/err.h"

/* Answers a descriptor to close(): read only, closed at exec, one whose reads may wait.  flags: what
 * open() shall have besides, O_DIRECT for instance.  *ret_bytes: its size now; may be NULL. */
int file_open(const char *path, int flags, uint64_t *ret_bytes, struct err *e);

/* The whole file.  *ret is on the heap, terminated (not counted in *ret_n) and the caller's to
 * free(); an empty file gives "".  ret_n may be NULL.  -EFBIG: more than `max` bytes, which is
 * looked at before they are allocated; -ENOMEM.  Of a file that grows or shrinks meanwhile: what
 * stood before the end that was found. */
int file_read(const char *path, size_t max, char **ret, size_t *ret_n, struct err *e);

/* The first `room` bytes, fewer where it ends before; answers how many.  Not terminated. */
ssize_t file_read_head(const char *path, char *ret, size_t room, struct err *e);

#endif
