/* raw_read.c - see raw_read.h. */
#include "bench/raw_read.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/own.h"

struct raw {
	struct reader *reader;
	size_t request;
	struct read_request requests[READ_DEPTH], *free;
	uint64_t bytes;
};

/* One result; its request is free again. */
static int take(struct raw *x, struct err *e)
{
	struct read_request *q = reader_take(x->reader, true);

	if (!q)
		return 0;
	q->next = x->free;
	x->free = q;
	return q->result < 0 ? read_file_failed(q->file, q->result, q->at, q->need, e) : 0;
}

static int read_one(struct raw *x, struct read_file *f, struct err *e)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < f->bytes; at += x->request) {
		while (r == 0 && !x->free)
			r = take(x, e);
		struct read_request *q = x->free;
		uint64_t left = f->bytes - at;

		if (r < 0)
			break;
		x->free = q->next;
		q->file = f;
		q->at = at;
		q->n = x->request;
		q->need = left < x->request ? (size_t)left : x->request;
		x->bytes += q->need;
		reader_submit(x->reader, q);
		reader_flush(x->reader);
	}
	while (r == 0 && x->reader->n)
		r = take(x, e);
	return r;
}

static int read_files(struct raw *x, const struct checkpoint *c, struct err *e)
{
	const char *path;
	uint64_t bytes;
	int r = 0;

	for (uint32_t i = 0; r == 0 && (path = checkpoint_file(c, i, &bytes)); i++) {
		struct read_file *f = NULL;

		r = read_file_open(path, &f, e);
		if (r == 0 && !atomic_load(&f->direct))
			r = err_set(e, -ENOTSUP, "%s: no O_DIRECT here: nothing to compare with", path);
		if (r == 0)
			r = read_one(x, f, e);
		while (x->reader->n)
			(void)reader_take(x->reader, true);
		read_file_close(f);
	}
	return r;
}

int raw_read(const struct checkpoint *c, enum read_how how, size_t request, size_t room,
	     uint64_t *ret_bytes, double *ret_s, struct err *e)
{
	size_t n = room / request < READ_DEPTH ? room / request : READ_DEPTH;
	struct raw x = { .request = request };
	char *p = mmap(NULL, n * request, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (p == MAP_FAILED)
		return err_set(e, -ENOMEM, "no %zu bytes to read into", n * request);
	/* as favourable as a load's: large pages make one segment of a request, and they are there */
	(void)madvise(p, n * request, MADV_HUGEPAGE);
	memset(p, 1, n * request);
	for (size_t i = 0; i < n; i++) {
		x.requests[i] = (struct read_request){ .to = p + i * request, .next = x.free };
		x.free = &x.requests[i];
	}
	r = reader_open(how, &x.reader, e);
	uint64_t begin = clock_ns();
	if (r == 0)
		r = read_files(&x, c, e);
	*ret_s = (double)(clock_ns() - begin) / 1e9;
	*ret_bytes = x.bytes;
	reader_close(x.reader);
	munmap(p, n * request);
	return r;
}

/* ---- what the page cache holds -------------------------------------------------------------- */

static uint64_t cached_of(const char *path, uint64_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size_t)(bytes + page - 1) / page, n = 0;
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP(freep) unsigned char *in = malloc(pages + 1);
	void *map = fd >= 0 ? mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (map == MAP_FAILED || !in || mincore(map, (size_t)bytes, in) < 0)
		pages = 0;
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	if (map != MAP_FAILED)
		munmap(map, (size_t)bytes);
	return (uint64_t)n * page;
}

uint64_t raw_cached(const struct checkpoint *c)
{
	uint64_t bytes, sum = 0;
	const char *path;

	for (uint32_t i = 0; (path = checkpoint_file(c, i, &bytes)); i++)
		sum += cached_of(path, bytes);
	return sum;
}
