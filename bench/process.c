/* process.c - see process.h. */
#include "bench/process.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/own.h"

/* Fields 14 and 15 of stat(5), behind a name that may hold anything. */
static int read_cpu(int pid, struct process_use *u)
{
	CLEANUP(fclosep) FILE *f = NULL;
	char text[1024], path[64];
	unsigned long long user, system;
	double hz = (double)sysconf(_SC_CLK_TCK);
	const char *name, *end;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	text[n] = '\0';
	name = strchr(text, '(');
	end = strrchr(text, ')');
	if (!name || !end ||
	    sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
		   &system) != 2)
		return -ESRCH;
	u->user_s = (double)user / hz;
	u->system_s = (double)system / hz;
	snprintf(u->name, sizeof(u->name), "%.*s", (int)(end - name - 1), name + 1);
	return 0;
}

static uint64_t read_status(const char *path, uint64_t *ret_switches)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	unsigned long long x;
	uint64_t rss = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmRSS: %llu", &x) == 1)
			rss = x;
		else if (sscanf(line, "voluntary_ctxt_switches: %llu", &x) == 1 ||
			 sscanf(line, "nonvoluntary_ctxt_switches: %llu", &x) == 1)
			*ret_switches += x;
	}
	return rss;
}

int process_read(int pid, struct process_use *ret)
{
	char path[320];
	DIR *d;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = read_cpu(pid, ret);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	if (!d)
		return -ESRCH;
	for (const struct dirent *t; (t = readdir(d));) {
		if (*t->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, t->d_name);
		ret->rss_kib = read_status(path, &ret->n_switches);
		ret->n_threads++;
	}
	closedir(d);
	return 0;
}
