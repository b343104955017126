/* drop.c - see drop.h. */
#include "daemon/drop.h"

#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/meminfo.h"
#include "lib/own.h"
#include "proto/box_wire.h"

enum { MAX_FILES = 4096, HELPER_S = 45, HELPER_FD = 3 };

#define PIECE ((off_t)1 << 30)		/* of a file, in one turn of the loop */

struct drop {
	struct event_base *base;
	char *socket;
	struct event *turn, *reply, *late;
	char **files;
	size_t n_files, at;
	off_t pos;
	struct meminfo was;
	uint64_t began_ns;
	int fd;				/* to the helper; -1: none */
	bool busy, failed;		/* failed: a step that drops did not */
	void (*done)(void *arg, bool helped, const char *text);
	void *arg;
};

/* ---- files of models --------------------------------------------------------------------- */

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static void free_files(struct drop *d)
{
	for (size_t i = 0; i < d->n_files; i++)
		free(d->files[i]);
	free(d->files);
	d->files = NULL;
	d->n_files = d->at = 0;
	d->pos = 0;
}

static int add_file(struct drop *d, const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path) ||
	    stat(path, &st) < 0 || !S_ISREG(st.st_mode) || d->n_files == MAX_FILES)
		return 0;
	d->files[d->n_files] = strdup(path);
	return d->files[d->n_files] ? (d->n_files++, 0) : -ENOMEM;
}

/* A folder that cannot be read gives nothing up: the helper comes after. */
static int add_folder(struct drop *d, const char *folder)
{
	CLEANUP(closedirp) DIR *dir = opendir(folder);
	const struct dirent *entry;
	int r = 0;

	while (dir && r == 0 && (entry = readdir(dir)))
		r = add_file(d, folder, entry->d_name);
	return r;
}

/* True: there is more to do. */
static bool advise(struct drop *d)
{
	CLEANUP(closep) int fd = -1;
	uint64_t bytes;

	if (d->at == d->n_files)
		return false;
	fd = file_open(d->files[d->at], 0, &bytes, NULL);
	if (fd >= 0 && (uint64_t)d->pos < bytes) {
		(void)posix_fadvise(fd, d->pos, PIECE, POSIX_FADV_DONTNEED);
		d->pos += PIECE;
		if ((uint64_t)d->pos < bytes)
			return true;
	}
	d->at++;
	d->pos = 0;
	return d->at < d->n_files;
}

static void log_advised(const struct drop *d)
{
	struct meminfo now = { 0 };

	(void)meminfo_read(NULL, &now, NULL);
	log_note("drop: step=fadvise files=%zu ms=%llu free=%llu>%llu available=%llu>%llu "
		 "cached=%llu>%llu", d->n_files,
		 (unsigned long long)((clock_ns() - d->began_ns) / NS_PER_MS),
		 (unsigned long long)d->was.free, (unsigned long long)now.free,
		 (unsigned long long)d->was.available, (unsigned long long)now.available,
		 (unsigned long long)d->was.cached, (unsigned long long)now.cached);
}

/* ---- the helper ------------------------------------------------------------------------------ */

static void finish(struct drop *d, bool helped, const char *why)
{
	void (*done)(void *, bool, const char *) = d->done;
	struct meminfo now = { 0 };
	char text[512];

	event_del(d->late);
	if (d->reply)
		event_free(d->reply);
	d->reply = NULL;
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	(void)meminfo_read(NULL, &now, NULL);
	snprintf(text, sizeof(text),
		 "%s%s after %llu ms: MemFree %s -> %s, MemAvailable %s -> %s, "
		 "Cached %s -> %s",
		 helped ? "done" : "not complete: ", helped ? "" : why,
		 (unsigned long long)((clock_ns() - d->began_ns) / NS_PER_MS), BYTES(d->was.free),
		 BYTES(now.free), BYTES(d->was.available), BYTES(now.available),
		 BYTES(d->was.cached), BYTES(now.cached));
	free_files(d);
	d->busy = false;
	done(d->arg, helped, text);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	finish(arg, false, "hearth-dropcaches did not end in time");
}

static void on_reply(evutil_socket_t fd, short what, void *arg)
{
	struct drop *d = arg;
	char line[600];
	ssize_t n = recv(fd, line, sizeof(line) - 1, MSG_DONTWAIT);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		finish(d, false, "hearth-dropcaches went away; root only may use it");
		return;
	}
	line[n] = '\0';
	if (!strcmp(line, "done")) {
		finish(d, !d->failed, "hearth-dropcaches may not drop caches here");
		return;
	}
	/* a sync that did not end leaves dirty pages behind; what is clean goes all the same */
	if (strstr(line, "step=drop_caches") && strstr(line, " error="))
		d->failed = true;
	log_line(strstr(line, " error=") ? LOG_WARN : LOG_NOTE, "drop: %s", line);
}

/* bin/hearthd has ../libexec/hearth/hearth-dropcaches, a build tree has it in libexec/ or
 * beside. */
static int find_helper(char *path, size_t size)
{
	static const char *const places[] = { "../libexec/hearth/hearth-dropcaches",
					      "../libexec/hearth-dropcaches", "hearth-dropcaches" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
		if ((size_t)snprintf(path, size, "%s/%s", self, places[i]) < size &&
		    access(path, X_OK) == 0)
			return 0;
	return -ENOENT;
}

static void become_helper(const char *path, int fd)
{
	char pid[32];
	sigset_t none;

	if (fork() != 0)	/* nobody's child: it is not ours to wait for */
		_exit(0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	unsetenv("NOTIFY_SOCKET");
	if (fd == HELPER_FD)
		(void)fcntl(fd, F_SETFD, 0);
	else
		dup2(fd, HELPER_FD);
	execl(path, path, (char *)NULL);
	_exit(127);
}

static int start_helper(void)
{
	char path[PATH_MAX + 64];
	int pair[2], r = find_helper(path, sizeof(path));
	pid_t child;

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		become_helper(path, pair[1]);
	r = child < 0 ? -errno : 0;
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	(void)waitpid(child, NULL, 0);
	return pair[0];
}

static void ask_helper(struct drop *d)
{
	const struct timeval late = { .tv_sec = HELPER_S };
	char why[160];
	int fd = box_connect(d->socket), r = fd;

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		fd = start_helper();
	if (fd < 0) {
		snprintf(why, sizeof(why), "hearth-dropcaches cannot be reached (%s) nor started "
			 "(%s)", strerror(-r), strerror(-fd));
		finish(d, false, why);
		return;
	}
	d->fd = fd;
	d->reply = event_new(d->base, fd, EV_READ | EV_PERSIST, on_reply, d);
	if (!d->reply || send(fd, "drop", 4, MSG_NOSIGNAL) < 0) {
		finish(d, false, "hearth-dropcaches does not listen");
		return;
	}
	event_add(d->reply, NULL);
	event_add(d->late, &late);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct drop *d = arg;

	(void)fd, (void)what;
	if (advise(d)) {
		event_active(d->turn, EV_TIMEOUT, 0);
		return;
	}
	log_advised(d);
	ask_helper(d);
}

/* ---- the door ------------------------------------------------------------------------ */

int drop_new(struct event_base *base, const char *socket, struct drop **ret)
{
	struct drop *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->base = base;
	d->fd = -1;
	d->socket = strdup(socket);
	d->turn = event_new(base, -1, 0, on_turn, d);
	d->late = event_new(base, -1, 0, on_late, d);
	if (!d->socket || !d->turn || !d->late) {
		drop_free(d);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

struct drop *drop_free(struct drop *d)
{
	if (!d)
		return NULL;
	if (d->turn)
		event_free(d->turn);
	if (d->late)
		event_free(d->late);
	if (d->reply)
		event_free(d->reply);
	if (d->fd >= 0)
		close(d->fd);
	free_files(d);
	free(d->socket);
	free(d);
	return NULL;
}

int drop_start(struct drop *d, const char *const *folders, size_t n,
	       void (*done)(void *arg, bool helped, const char *text), void *arg)
{
	int r = 0;

	if (d->busy)
		return -EBUSY;
	d->files = calloc(MAX_FILES, sizeof(*d->files));
	if (!d->files)
		return -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i++)
		r = add_folder(d, folders[i]);
	if (r < 0) {
		free_files(d);
		return r;
	}
	(void)meminfo_read(NULL, &d->was, NULL);
	d->began_ns = clock_ns();
	d->done = done;
	d->arg = arg;
	d->busy = true;
	d->failed = false;
	event_active(d->turn, EV_TIMEOUT, 0);
	return 0;
}
