/* reader.h - many reads in flight at the same time, by io_uring or by threads.
 *
 * Submit what there is, then take results one by one, in whatever order they come.  Short reads
 * are continued here and interrupted ones repeated; where a file system refuses a direct read, the
 * file is read buffered from then on.
 *
 * Thread: one user at a time.
 */
#ifndef HEARTH_WORKER_WEIGHTS_READER_H
#define HEARTH_WORKER_WEIGHTS_READER_H

#include "worker/weights/read_file.h"

enum read_how {
	READ_AUTO,	/* io_uring where this kernel and this sandbox permit it, else threads */
	READ_URING,
	READ_THREADS,
	READ_MAPPED	/* no reader: pages of a mapping, through the page cache */
};

#define READ_DEPTH	128u			/* requests in flight */
#define READ_REQUEST	((size_t)512 << 10)	/* bytes of one, at most */
#define READ_THREAD_N	16u

/* Owned by the user, who leaves it alone from submit until it is taken. */
struct read_request {
	struct read_file *file;
	uint64_t at;		/* multiples of READ_ALIGN: at, n, to */
	char *to;
	size_t n;
	size_t need;		/* <= n: more may lie behind the end of the file */
	void *owner;		/* the user's */
	int result;		/* 0; -errno; -ENODATA: the file ends before `need` */
	/* the reader's */
	size_t got;
	struct read_request *next;
};

struct reader;

struct reader_ops {
	enum read_how how;
	void (*submit)(struct reader *r, struct read_request *q);
	void (*flush)(struct reader *r);
	struct read_request *(*take)(struct reader *r, bool wait);
	struct reader *(*close)(struct reader *r);
};

struct reader {
	const struct reader_ops *ops;
	unsigned n;		/* submitted and not taken */
	char note[96];		/* why READ_AUTO is not io_uring; or empty */
};

/* how: not READ_MAPPED.  -ENOTSUP: not here (the text says why); -ENOMEM. */
int reader_open(enum read_how how, struct reader **ret, struct err *e);
struct reader *reader_close(struct reader *r);		/* NULL ok; waits for what is in flight */

/* At most READ_DEPTH at a time.  Reads may begin no earlier than the flush. */
void reader_submit(struct reader *r, struct read_request *q);
void reader_flush(struct reader *r);
/* One that is finished, waited for or not; NULL when there is none, or none in flight. */
struct read_request *reader_take(struct reader *r, bool wait);

const char *read_how_name(enum read_how how);
int read_how_parse(const char *text, enum read_how *ret);	/* -EINVAL */

/* ---- between reader.c and the two ways ---------------------------------------------------- */

/* What is left of a request: the place of the next read. */
static inline uint64_t read_request_at(const struct read_request *q)
{
	return q->at + q->got;
}
/* The kernel answered `res`.  True: it is finished, with its result; false: read on. */
bool read_request_step(struct read_request *q, ssize_t res);

int reader_open_threads(struct reader **ret, struct err *e);
int reader_open_uring(struct reader **ret, struct err *e);	/* -ENOTSUP too where it is not built */

#endif
