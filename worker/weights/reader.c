/* reader.c - what both ways of reading share: see reader.h. */
#include "worker/weights/reader.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const names[] = { [READ_AUTO] = "auto", [READ_URING] = "io_uring",
				     [READ_THREADS] = "threads", [READ_MAPPED] = "mapped" };

const char *read_how_name(enum read_how how)
{
	return names[how];
}

int read_how_parse(const char *text, enum read_how *ret)
{
	for (enum read_how i = READ_AUTO; i <= READ_MAPPED; i++)
		if (strcmp(text, names[i]) == 0) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

int reader_open(enum read_how how, struct reader **ret, struct err *e)
{
	struct err why = { .code = 0 };
	int r;

	if (how == READ_URING)
		return reader_open_uring(ret, e);
	if (how == READ_MAPPED)
		return err_set(e, -ENOTSUP, "a mapping has no reader");
	if (how == READ_AUTO && reader_open_uring(ret, &why) == 0)
		return 0;
	r = reader_open_threads(ret, e);
	if (r == 0 && how == READ_AUTO)
		snprintf((*ret)->note, sizeof((*ret)->note), "%.90s", why.text);
	return r;
}

struct reader *reader_close(struct reader *r)
{
	if (!r)
		return NULL;
	while (r->n)
		(void)reader_take(r, true);
	return r->ops->close(r);
}

void reader_submit(struct reader *r, struct read_request *q)
{
	q->got = 0;
	q->result = 0;
	r->n++;
	r->ops->submit(r, q);
}

void reader_flush(struct reader *r)
{
	r->ops->flush(r);
}

struct read_request *reader_take(struct reader *r, bool wait)
{
	struct read_request *q = r->n ? r->ops->take(r, wait) : NULL;

	if (!q)
		return NULL;
	r->n--;
	if (q->result == 0 && !atomic_load(&q->file->direct))
		read_file_drop(q->file, q->at, q->n);
	return q;
}

static bool finish(struct read_request *q, int result)
{
	q->result = result;
	return true;
}

/* A direct read stops at whole blocks, but for the end of the file; anything else is tried buffered. */
static bool step_direct(struct read_request *q, size_t res)
{
	size_t whole = (q->got + res) / READ_ALIGN * READ_ALIGN;
	struct stat st;

	if (whole > q->got) {
		q->got = whole;
		return false;
	}
	if (fstat(q->file->fd, &st) < 0 || (uint64_t)st.st_size < q->at + q->need)
		return finish(q, -ENODATA);
	read_file_buffered(q->file);
	return false;
}

bool read_request_step(struct read_request *q, ssize_t res)
{
	bool direct = atomic_load(&q->file->direct);

	res = read_seam_result(q->file, read_request_at(q), q->n - q->got, res);
	if (res == -EINTR || res == -EAGAIN)
		return false;
	if (res == -EINVAL && direct) {
		read_file_buffered(q->file);
		return false;
	}
	if (res < 0)
		return finish(q, (int)res);
	if (q->got + (size_t)res >= q->need)
		return finish(q, 0);
	if (direct)
		return step_direct(q, (size_t)res);
	q->got += (size_t)res;
	return res == 0 ? finish(q, -ENODATA) : false;
}
