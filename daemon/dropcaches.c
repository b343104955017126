/* dropcaches.c - hearth-dropcaches: the one privileged thing that the broker needs.
 *
 * It takes no options and reads no files but the kernel's figures of memory.  Descriptor 3 is
 * its listening socket (socket activation, Accept=no) or one connection (hearthd started it
 * itself).  A packet "drop" from root, or from who runs it, makes it do four steps, each answered
 * by a line
 *
 *	step=NAME ms=N free=A>B available=A>B cached=A>B [error=TEXT]
 *
 * and at last "done": a sync that is waited for 30 s at most (dropping takes clean pages only),
 * then 1 and then 3 into /proc/sys/vm/drop_caches, then the lists of free pages that each CPU keeps
 * for itself are emptied: what was dropped may lie there, and is not in MemFree.  After 10 s
 * without a question it ends.
 */
#include "config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/meminfo.h"
#include "lib/own.h"

enum { SOCKET_FD = 3, SYNC_MS = 30000, IDLE_MS = 10000, LINE = 512, EXIT_SOCKET = 1,
       PERCPU_TURNS = 200 };

#define DROP_CACHES "/proc/sys/vm/drop_caches"
#define STAT_REFRESH "/proc/sys/vm/stat_refresh"

/* sync(2) cannot be given up; a child that does it can be left behind. */
static int sync_bounded(void)
{
	struct pollfd p = { .events = POLLIN };
	pid_t child = fork();
	int r = 0;

	if (child < 0)
		return -errno;
	if (child == 0) {
		sync();
		_exit(0);
	}
	p.fd = (int)syscall(SYS_pidfd_open, child, 0);
	if (p.fd < 0)
		return -errno;
	if (poll(&p, 1, SYNC_MS) == 0)
		r = -ETIMEDOUT;
	close(p.fd);
	(void)waitpid(child, NULL, WNOHANG);
	return r;
}

static int write_drop(const char *what)
{
	CLEANUP(closep) int fd = open(DROP_CACHES, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, what, strlen(what)) < 0)
		return -errno;
	return 0;
}

static int drop_pages(void)
{
	return write_drop("1\n");
}

static int drop_all(void)
{
	return write_drop("3\n");
}

/* A read of this file makes each CPU's list a little shorter (2,016 pages at most where pages are
 * 4 KiB); left alone the kernel does that once a second, and not on a CPU that sleeps. */
static int empty_percpu(void)
{
	uint64_t left = meminfo_percpu(NULL), before = UINT64_MAX;
	char line[64];

	for (int i = 0; i < PERCPU_TURNS && left < before; i++) {
		for (int k = 0; k < 16; k++) {
			CLEANUP(closep) int fd = open(STAT_REFRESH, O_RDONLY | O_CLOEXEC);

			if (fd < 0 && errno == ENOENT)
				return 0;	/* CONFIG_PROC_SYSCTL without it: an old kernel */
			if (fd < 0 || read(fd, line, sizeof(line)) < 0)
				return -errno;
		}
		before = left;
		left = meminfo_percpu(NULL);
	}
	return 0;
}

static const struct step {
	const char *name;
	int (*run)(void);
} steps[] = {
	{ "sync", sync_bounded }, { "drop_caches=1", drop_pages }, { "drop_caches=3", drop_all },
	{ "percpu", empty_percpu },
};

static int run_step(const struct step *s, char *line, size_t n)
{
	struct meminfo was = { 0 }, now = { 0 };
	uint64_t begin = clock_ns();
	int r, used;

	(void)meminfo_read(NULL, &was, NULL);
	r = s->run();
	(void)meminfo_read(NULL, &now, NULL);
	used = snprintf(line, n,
			"step=%s ms=%" PRIu64 " free=%" PRIu64 ">%" PRIu64 " available=%" PRIu64
			">%" PRIu64 " cached=%" PRIu64 ">%" PRIu64,
			s->name, (uint64_t)((clock_ns() - begin) / NS_PER_MS), was.free, now.free,
			was.available, now.available, was.cached, now.cached);
	if (r < 0 && used > 0 && (size_t)used < n)
		snprintf(line + used, n - (size_t)used, " error=%s", strerror(-r));
	return r;
}

static void drop(int fd)
{
	char line[LINE];

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		int r = run_step(&steps[i], line, sizeof(line));

		log_line(r < 0 ? LOG_WARN : LOG_NOTE, "%s", line);
		if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
			return;
	}
	(void)send(fd, "done", 4, MSG_NOSIGNAL);
}

static bool may_ask(int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t n = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0)
		return false;
	if (who.uid == 0 || who.uid == geteuid())
		return true;
	log_warn("user %u asked, and may not", (unsigned)who.uid);
	return false;
}

/* Until the peer is gone or silent. */
static void talk(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char word[16];

	while (poll(&p, 1, IDLE_MS) > 0) {
		ssize_t n = recv(fd, word, sizeof(word), 0);

		if (n <= 0)
			return;
		if (n != 4 || memcmp(word, "drop", 4) != 0) {
			log_warn("a question of %zd bytes that is not known", n);
			return;
		}
		drop(fd);
	}
}

static int serve(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, IDLE_MS) > 0) {
		CLEANUP(closep) int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (one < 0 && errno != ECONNABORTED && errno != EINTR) {
			log_error("cannot accept: %s", strerror(errno));
			return EXIT_SOCKET;
		}
		if (one >= 0 && may_ask(one))
			talk(one);
	}
	return 0;
}

int main(void)
{
	int listening = 0;
	socklen_t n = sizeof(listening);

	signal(SIGPIPE, SIG_IGN);
#ifdef HAVE_SYSTEMD
	if (sd_listen_fds(1) > 1) {
		log_error("one socket is what it serves");
		return EXIT_SOCKET;
	}
#endif
	if (getsockopt(SOCKET_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0) {
		log_error("descriptor %d is no socket: hearth-dropcaches.socket starts it, or "
			  "hearthd", SOCKET_FD);
		return EXIT_SOCKET;
	}
	(void)fcntl(SOCKET_FD, F_SETFD, FD_CLOEXEC);
	if (listening)
		return serve(SOCKET_FD);
	if (may_ask(SOCKET_FD))
		talk(SOCKET_FD);
	return 0;
}
