/* reload.c - see reload.h. */
#include "router/reload.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/own.h"

enum { WAIT_MS = 20000, LOOK_MS = 20 };

static int file_path(char ret[PATH_MAX], const char *suffix)
{
	const char *dir = getenv("RUNTIME_DIRECTORY");
	int n = dir ? snprintf(ret, PATH_MAX, "%s/reload%s", dir, suffix) : -1;

	return n < 0 || n >= PATH_MAX ? -ENOTSUP : 0;
}

void reload_tell(const char *why)
{
	char path[PATH_MAX], new[PATH_MAX];
	FILE *f;

	if (file_path(path, "") < 0 || file_path(new, ".new") < 0)
		return;
	f = fopen(new, "we");
	if (!f)
		return;		/* whoever asked hears nothing, and says that */
	fprintf(f, "%s\n", why ? why : "ok");
	if (fclose(f) == 0)
		(void)rename(new, path);
}

/* Each outcome is a new file. */
static int stamp(const char *path, struct stat *ret)
{
	*ret = (struct stat){ 0 };
	return stat(path, ret) < 0 && errno != ENOENT ? -errno : 0;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int read_word(const char *path, struct err *e)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	char line[512];

	if (!f || !fgets(line, sizeof(line), f))
		return err_set(e, -EIO, "%s: cannot be read", path);
	line[strcspn(line, "\n")] = '\0';
	return strcmp(line, "ok") ? err_set(e, -EINVAL, "%s", line) : 0;
}

static int wait_word(const char *path, const struct stat *before, pid_t pid, struct err *e)
{
	const uint64_t end = clock_ns() + WAIT_MS * NS_PER_MS;
	struct stat now;

	while (clock_ns() < end) {
		if (stamp(path, &now) == 0 && now.st_ino && !same(before, &now))
			return read_word(path, e);
		if (kill(pid, 0) < 0 && errno == ESRCH)
			return err_set(e, -ESRCH, "the router ended meanwhile");
		usleep(LOOK_MS * 1000);
	}
	return err_set(e, -ETIMEDOUT, "no word from process %d for %d s", (int)pid,
		       WAIT_MS / 1000);
}

int reload_ask(struct err *e)
{
	const char *main_pid = getenv("MAINPID");
	pid_t pid = main_pid ? (pid_t)atol(main_pid) : 0;
	struct stat before;
	char path[PATH_MAX];
	int r;

	if (pid <= 1 || file_path(path, "") < 0)
		return err_set(e, -ENOTSUP,
			       "MAINPID and RUNTIME_DIRECTORY are missing: this is for "
			       "the unit's ExecReload=; use systemctl reload hearth-router");
	r = stamp(path, &before);
	if (r < 0)
		return err_set(e, r, "%s: %s", path, strerror(-r));
	if (kill(pid, SIGHUP) < 0)
		return err_set(e, -errno, "process %d: %s", (int)pid, strerror(errno));
	return wait_word(path, &before, pid, e);
}
