/* pid_file.c - see pid_file.h. */
#include "daemon/pid_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "lib/own.h"

static void path_of(const char *dir, const char *alias, const char *end, char ret[512])
{
	snprintf(ret, 512, "%.200s/worker-%.128s.pid%s", dir, alias, end);
}

/* Field 22 of /proc/PID/stat, ticks since boot; 0: no such process, or a zombie. */
static unsigned long long start_time(int pid)
{
	char path[64], text[1024];
	CLEANUP(fclosep) FILE *f = NULL;
	unsigned long long t = 0;
	const char *p;
	char state;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		return 0;
	p = strrchr(text, ')');		/* the name before it may hold anything */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
				"%*d %*d %*d %llu", &state, &t) != 2 || state == 'Z')
		return 0;
	return t;
}

int pid_file_write(const char *dir, const char *alias, int pid, bool ready)
{
	char path[512], fresh[512];
	CLEANUP(fclosep) FILE *f = NULL;

	path_of(dir, alias, "", path);
	path_of(dir, alias, ".new", fresh);
	f = fopen(fresh, "we");
	if (!f ||
	    fprintf(f, "%d %llu %s\n", pid, start_time(pid), ready ? "ready" : "loading") < 0 ||
	    fflush(f) != 0 || rename(fresh, path) < 0)
		return -errno;
	return 0;
}

int pid_file_find(const char *dir, const char *alias, int *ret_pid, int *ret_pidfd, bool *ret_ready)
{
	char path[512], word[16];
	CLEANUP(fclosep) FILE *f = NULL;
	unsigned long long t;
	int pid, fd;

	path_of(dir, alias, "", path);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%d %llu %15s", &pid, &t, word) != 3 || pid <= 1 || !t)
		return -ENOENT;
	fd = pidfd_open(pid, 0);
	if (fd < 0)
		return -ESRCH;
	if (start_time(pid) != t) {	/* looked at after the pidfd: it cannot change any more */
		close(fd);
		return -ESRCH;
	}
	*ret_pid = pid;
	*ret_pidfd = fd;
	*ret_ready = !strcmp(word, "ready");
	return 0;
}

void pid_file_remove(const char *dir, const char *alias)
{
	char path[512];

	path_of(dir, alias, "", path);
	(void)unlink(path);
}
