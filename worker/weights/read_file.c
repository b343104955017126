/* read_file.c - see read_file.h. */
#include "worker/weights/read_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/own.h"

#define BLOCK ((size_t)64 << 10)

const struct read_seam *read_seam;

/* EINVAL is what a file system without O_DIRECT answers; the plain open then says what else is wrong. */
static int open_fd(const char *path, bool *ret_direct, uint64_t *ret_bytes, struct err *e)
{
	bool wanted = !read_seam || !read_seam->direct || read_seam->direct(path);
	int fd = wanted ? file_open(path, O_DIRECT, ret_bytes, NULL) : -1;

	*ret_direct = fd >= 0;
	return fd >= 0 ? fd : file_open(path, 0, ret_bytes, e);
}

static void closepp(struct read_file **f)
{
	read_file_close(*f);
}

int read_file_open(const char *path, struct read_file **ret, struct err *e)
{
	CLEANUP(closepp) struct read_file *f = calloc(1, sizeof(*f));
	bool direct = false;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->fd = -1;
	if (!(f->path = strdup(path)))
		return err_set(e, -ENOMEM, "out of memory");
	f->fd = open_fd(path, &direct, &f->bytes, e);
	if (f->fd < 0)
		return f->fd;
	atomic_init(&f->direct, direct);
	if (!direct)
		read_file_buffered(f);
	*ret = TAKE(f);
	return 0;
}

struct read_file *read_file_close(struct read_file *f)
{
	if (!f)
		return NULL;
	if (f->fd >= 0) {
		if (!atomic_load(&f->direct))
			read_file_drop(f, 0, 0);
		close(f->fd);
	}
	free(f->block);
	free(f->path);
	free(f);
	return NULL;
}

void read_file_buffered(struct read_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	if (flags >= 0)
		(void)fcntl(f->fd, F_SETFL, flags & ~O_DIRECT);
	atomic_store(&f->direct, false);
	/* requests are large: what the kernel would read ahead of them is read twice */
	(void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
}

void read_file_drop(const struct read_file *f, uint64_t at, uint64_t n)
{
	(void)posix_fadvise(f->fd, (off_t)at, (off_t)n, POSIX_FADV_DONTNEED);
}

int read_file_failed(const struct read_file *f, int code, uint64_t at, uint64_t n, struct err *e)
{
	struct stat st;

	if (code != -ENODATA)
		return err_set(e, code, "%s: reading %llu bytes at %llu: %s", f->path,
			       (unsigned long long)n, (unsigned long long)at, strerror(-code));
	if (fstat(f->fd, &st) < 0)
		st.st_size = 0;
	return err_set(e, code, "%s: became shorter while it was read: %llu bytes at %llu are wanted, it had "
		       "%llu and has %lld now", f->path, (unsigned long long)n, (unsigned long long)at,
		       (unsigned long long)f->bytes, (long long)st.st_size);
}

/* The block of the file around `at` into f->block. */
static int read_block(struct read_file *f, uint64_t at)
{
	ssize_t got;

	if (!f->block && posix_memalign((void **)&f->block, READ_ALIGN, BLOCK))
		return -ENOMEM;
	f->block_n = 0;
	f->block_at = at / BLOCK * BLOCK;
	do {
		got = pread(f->fd, f->block, BLOCK, (off_t)f->block_at);
		got = got < 0 ? -errno : got;
		got = read_seam_result(f, f->block_at, BLOCK, got);
		if (got == -EINVAL && atomic_load(&f->direct)) {
			read_file_buffered(f);
			got = -EINTR;
		}
	} while (got == -EINTR);
	if (got < 0)
		return (int)got;
	if (!atomic_load(&f->direct))
		read_file_drop(f, f->block_at, BLOCK);
	f->block_n = (size_t)got;
	return 0;
}

int read_file_pread(struct read_file *f, uint64_t at, void *to, size_t n, struct err *e)
{
	char *out = to;

	while (n) {
		bool here = at >= f->block_at && at - f->block_at < f->block_n;
		int r = here ? 0 : read_block(f, at);

		if (r == 0 && at - f->block_at >= f->block_n)
			r = -ENODATA;
		if (r < 0)
			return read_file_failed(f, r, at, n, e);
		size_t from = (size_t)(at - f->block_at), part = f->block_n - from;

		part = part < n ? part : n;
		memcpy(out, f->block + from, part);
		out += part;
		at += part;
		n -= part;
	}
	return 0;
}
