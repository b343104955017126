/* file.c - see file.h. */
#include "ctl/file.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/own.h"

static int say(const char *path, int code, struct err *e)
{
	return err_set(e, code, "%s: %s", path, strerror(-code));
}

static void folder_of(const char *path, char ret[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	if (slash == path)
		snprintf(ret, PATH_MAX, "/");
	else if (slash)
		snprintf(ret, PATH_MAX, "%.*s", (int)(slash - path), path);
	else
		snprintf(ret, PATH_MAX, ".");
}

int ctl_lock_folder(const char *path, struct err *e)
{
	char dir[PATH_MAX];
	int fd;

	folder_of(path, dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0) {
		int code = -errno;

		if (fd >= 0)
			close(fd);
		return say(dir, code, e);
	}
	return fd;
}

int ctl_read_file(const char *path, struct buf *ret, struct err *e)
{
	char *text;
	size_t n;
	int r = file_read(path, CTL_MAX_FILE, &text, &n, e);

	if (r < 0)
		return r;
	*ret = (struct buf){ .p = text, .n = n, .cap = n };
	return 0;
}

/* As the old file was; a new one is for root and the services. */
static int dress(int fd, const char *path, mode_t mode)
{
	struct stat st;
	struct group *g;

	if (stat(path, &st) == 0) {
		if (fchmod(fd, st.st_mode & 07777) < 0)
			return -errno;
		return fchown(fd, st.st_uid, st.st_gid) < 0 && errno != EPERM ? -errno : 0;
	}
	if (fchmod(fd, mode) < 0)
		return -errno;
	g = getgrnam("hearth");
	return g && fchown(fd, (uid_t)-1, g->gr_gid) < 0 && errno != EPERM ? -errno : 0;
}

static int fill(int fd, const char *path, mode_t mode, const struct buf *text)
{
	size_t at = 0;
	int r = dress(fd, path, mode);

	while (r == 0 && at < text->n) {
		ssize_t n = write(fd, text->p + at, text->n - at);

		if (n < 0)
			r = -errno;
		else
			at += (size_t)n;
	}
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int ctl_replace_file(const char *path, mode_t mode, const struct buf *text, struct err *e)
{
	CLEANUP(closep) int fd = -1;
	char new[PATH_MAX];
	int r;

	if (snprintf(new, sizeof(new), "%s.XXXXXX", path) >= (int)sizeof(new))
		return say(path, -ENAMETOOLONG, e);
	fd = mkostemp(new, O_CLOEXEC);
	if (fd < 0)
		return say(path, -errno, e);
	r = fill(fd, path, mode, text);
	if (r == 0 && rename(new, path) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	(void)unlink(new);
	return say(path, r, e);
}

int ctl_make_folder(const char *path, struct err *e)
{
	char dir[PATH_MAX];

	if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
		return say(path, -ENAMETOOLONG, e);
	for (char *p = dir + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return say(dir, -errno, e);
		*p = c;
		if (!c)
			return 0;
	}
}
