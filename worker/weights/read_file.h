/* read_file.h - one file that is read past the page cache.
 *
 * Opened with O_DIRECT where the file system has it.  Where it has not (some overlays, FUSE, files
 * of the kernel), and where it turns out at the first read that it has not, reads are buffered
 * and what they left in the page cache is dropped behind them.
 *
 * Thread: read_file_pread() from one at a time; the rest from any.
 */
#ifndef HEARTH_WORKER_WEIGHTS_READ_FILE_H
#define HEARTH_WORKER_WEIGHTS_READ_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/err.h"

/* Of offsets, lengths and addresses of direct reads; no disk asks for more. */
#define READ_ALIGN 4096u

struct read_file {
	int fd;
	char *path;
	uint64_t bytes;			/* when it was opened */
	atomic_bool direct;		/* false: buffered, and dropped behind */
	/* what read_file_pread() read last */
	char *block;
	uint64_t block_at;
	size_t block_n;
};

/* Codes of lib/file.h. */
int read_file_open(const char *path, struct read_file **ret, struct err *e);
struct read_file *read_file_close(struct read_file *f);	/* NULL ok */

/* n bytes at `at`, whatever their alignment; for headers and single numbers.  -ENODATA: the file ends
 * before; -EIO and others as the kernel says. */
int read_file_pread(struct read_file *f, uint64_t at, void *to, size_t n, struct err *e);

/* From now on buffered: the kernel refused a direct read. */
void read_file_buffered(struct read_file *f);
/* What a buffered read left in the page cache.  n 0: to the end. */
void read_file_drop(const struct read_file *f, uint64_t at, uint64_t n);
/* The line for a failed read, of `code`; answers it. */
int read_file_failed(const struct read_file *f, int code, uint64_t at, uint64_t n, struct err *e);

/* Where tests stand between this code and the kernel; NULL in service.  open: answers false where
 * O_DIRECT shall not be had.  result: what the read answered, and may answer something else; from any
 * thread. */
struct read_seam {
	bool (*direct)(const char *path);
	ssize_t (*result)(const struct read_file *f, uint64_t at, size_t n, ssize_t result);
};
extern const struct read_seam *read_seam;

static inline ssize_t read_seam_result(const struct read_file *f, uint64_t at, size_t n, ssize_t r)
{
	return read_seam && read_seam->result ? read_seam->result(f, at, n, r) : r;
}

#endif
