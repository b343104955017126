/* reader_uring.c - reads by io_uring: see reader.h. */
#include "config.h"
#include "worker/weights/reader.h"

#ifdef HAVE_LIBURING
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

struct uring_reader {
	struct reader base;
	struct io_uring ring;
};

/* The queue holds READ_DEPTH entries, and no more requests than that are in flight: there is a free one,
 * at the latest after those before it went to the kernel. */
static void prepare(struct uring_reader *u, struct read_request *q)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&u->ring)))
		(void)io_uring_submit(&u->ring);
	io_uring_prep_read(sqe, q->file->fd, q->to + q->got, (unsigned)(q->n - q->got),
			   read_request_at(q));
	io_uring_sqe_set_data(sqe, q);
}

static void submit(struct reader *r, struct read_request *q)
{
	prepare((struct uring_reader *)r, q);
}

static void flush(struct reader *r)
{
	(void)io_uring_submit(&((struct uring_reader *)r)->ring);
}

static struct read_request *take(struct reader *r, bool wait)
{
	struct uring_reader *u = (struct uring_reader *)r;
	struct io_uring_cqe *cqe;

	for (;;) {
		int rc = io_uring_peek_cqe(&u->ring, &cqe);

		if (rc < 0 && !wait)
			return NULL;
		/* EINTR, EAGAIN, EBUSY: later; nothing else can happen to a ring that was made */
		if (rc < 0 && (io_uring_submit_and_wait(&u->ring, 1) < 0 ||
			       io_uring_peek_cqe(&u->ring, &cqe) < 0))
			continue;
		struct read_request *q = io_uring_cqe_get_data(cqe);
		ssize_t res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		if (read_request_step(q, res))
			return q;
		prepare(u, q);
	}
}

static struct reader *close_uring(struct reader *r)
{
	struct uring_reader *u = (struct uring_reader *)r;

	io_uring_queue_exit(&u->ring);
	free(u);
	return NULL;
}

static const struct reader_ops ops = { READ_URING, submit, flush, take, close_uring };

/* Plain reads are there from 5.6 on; a sandbox may permit making a ring and not entering it. */
static int probe(struct io_uring *ring)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(ring);
	bool can = p && io_uring_opcode_supported(p, IORING_OP_READ);
	struct io_uring_cqe *cqe;

	io_uring_free_probe(p);
	if (!can)
		return -EOPNOTSUPP;
	io_uring_prep_nop(io_uring_get_sqe(ring));
	int r = io_uring_submit(ring);
	if (r >= 0)
		r = io_uring_wait_cqe(ring, &cqe);
	if (r >= 0)
		io_uring_cqe_seen(ring, cqe);
	return r < 0 ? r : 0;
}

int reader_open_uring(struct reader **ret, struct err *e)
{
	struct uring_reader *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	u->base.ops = &ops;
	r = io_uring_queue_init(READ_DEPTH, &u->ring, 0);
	if (r < 0) {
		free(u);
		return err_set(e, -ENOTSUP, "io_uring: %s", strerror(-r));
	}
	r = probe(&u->ring);
	if (r < 0) {
		close_uring(&u->base);
		return err_set(e, -ENOTSUP, "io_uring: %s", strerror(-r));
	}
	*ret = &u->base;
	return 0;
}
#else
int reader_open_uring(struct reader **ret, struct err *e)
{
	(void)ret;
	return err_set(e, -ENOTSUP, "io_uring: this program was built without liburing");
}
#endif
