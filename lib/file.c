/* file.c - see file.h. */
#include "lib/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"

static int say(const char *path, int code, struct err *e)
{
	return err_set(e, code, "%s: %s", path, strerror(-code));
}

static int not_regular(const char *path, struct err *e)
{
	return err_set(e, -EINVAL, "%s: not a regular file", path);
}

/* io_uring answers EAGAIN where others would wait, if the descriptor says so; F_SETFL sets O_DIRECT
 * too, so it is kept. */
static int may_wait(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

/* EWOULDBLOCK: somebody has a lease of it (fcntl(2)), which only a regular file has, and which the
 * kernel ends after some seconds. */
static int open_now(const char *path, int flags)
{
	int fd = open(path, flags | O_NONBLOCK);

	return fd < 0 && errno == EWOULDBLOCK ? open(path, flags) : fd;
}

int file_open(const char *path, int flags, uint64_t *ret_bytes, struct err *e)
{
	CLEANUP(closep) int fd = open_now(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | flags);
	struct stat st;
	int r;

	if (fd < 0 && errno == ENXIO)	/* a socket, or a device that is not there */
		return not_regular(path, e);
	if (fd < 0 || fstat(fd, &st) < 0)
		return say(path, -errno, e);
	if (!S_ISREG(st.st_mode) || st.st_size < 0)
		return not_regular(path, e);
	r = may_wait(fd);
	if (r < 0)
		return say(path, r, e);
	if (ret_bytes)
		*ret_bytes = (uint64_t)st.st_size;
	r = fd;
	fd = -1;
	return r;
}

/* Up to n bytes; fewer only where the file ends. */
static ssize_t read_upto(int fd, char *to, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t got = read(fd, to + at, n - at);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			break;
		at += got > 0 ? (size_t)got : 0;
	}
	return (ssize_t)at;
}

/* The size is only where to begin: files of procfs say 0, and a file may grow. */
static ssize_t read_all(int fd, size_t size, size_t max, char **ret)
{
	CLEANUP(freep) char *text = NULL;
	size_t n = 0, room = size;

	for (;;) {
		/* one more to see whether it goes on, one for '\0' */
		char *more = realloc(text, room + 2);
		ssize_t got;

		if (!more)
			return -ENOMEM;
		text = more;
		got = read_upto(fd, text + n, room + 1 - n);
		if (got < 0)
			return got;
		n += (size_t)got;
		if (n <= room)
			break;
		if (n > max)
			return -EFBIG;
		room = room < max / 2 ? room + room / 2 + 4096 : max;
		room = room < max ? room : max;
	}
	text[n] = '\0';
	*ret = TAKE(text);
	return (ssize_t)n;
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_n, struct err *e)
{
	uint64_t size;
	CLEANUP(closep) int fd = file_open(path, 0, &size, e);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = size > max ? -EFBIG : read_all(fd, (size_t)size, max, ret);
	if (n == -EFBIG)
		return err_set(e, -EFBIG, "%s: larger than %zu bytes", path, max);
	if (n == -ENOMEM)
		return err_set(e, -ENOMEM, "%s: out of memory", path);
	if (n < 0)
		return say(path, (int)n, e);
	if (ret_n)
		*ret_n = (size_t)n;
	return 0;
}

ssize_t file_read_head(const char *path, char *ret, size_t room, struct err *e)
{
	CLEANUP(closep) int fd = file_open(path, 0, NULL, e);
	ssize_t n = fd < 0 ? fd : read_upto(fd, ret, room);

	return fd >= 0 && n < 0 ? say(path, (int)n, e) : n;
}
