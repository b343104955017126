/* holders.c - see holders.h. */
#include "daemon/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/nvml.h"
#include "lib/bytes.h"
#include "lib/own.h"

/* PSS costs a walk through a process's pages: only the largest by RSS are asked. */
enum { MAX_PROCESSES = 4096, MAX_ASKED = 64, LINE = 4096 };

#define CACHE_WORTH_NAMING (256 * BYTES_MIB)

struct process {
	int pid;
	uint64_t bytes;
	char unit[BROKER_NAME], name[64];
	char cgroup[512];
};

struct group {
	char unit[BROKER_NAME], cgroup[512];
	const struct process *first;
	uint64_t bytes;
};

static FILE *open_of(const char *root, int pid, const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/proc/%d/%s", root ? root : "", pid, file);
	return fopen(path, "re");
}

/* The sum of the lines "NAME:  N kB" of a file; false when none is there. */
static bool sum_kib(FILE *f, const char *const *names, uint64_t *ret)
{
	char line[256];
	bool any = false;

	*ret = 0;
	while (f && fgets(line, sizeof(line), f))
		for (size_t i = 0; names[i]; i++) {
			size_t n = strlen(names[i]);

			if (strncmp(line, names[i], n) != 0 || line[n] != ':')
				continue;
			*ret += strtoull(line + n + 1, NULL, 10) << 10;
			any = true;
		}
	return any;
}

static uint64_t kib_of(const char *root, int pid, const char *file, const char *const *names)
{
	CLEANUP(fclosep) FILE *f = open_of(root, pid, file);
	uint64_t bytes;

	return sum_kib(f, names, &bytes) ? bytes : 0;
}

int holders_taken(const char *root, int pid, uint64_t *ret)
{
	static const char *const names[] = { "RssAnon", "RssShmem", NULL };
	CLEANUP(fclosep) FILE *f = open_of(root, pid, "status");

	if (!f)
		return -errno;
	return sum_kib(f, names, ret) ? 0 : -ESRCH;
}

/* ---- who a process is ------------------------------------------------------------------- */

static bool ends_with(const char *s, size_t n, const char *tail)
{
	size_t t = strlen(tail);

	return n > t && !strncmp(s + n - t, tail, t);
}

bool holders_unit(const char *cgroup, char *ret, size_t n)
{
	bool found = false;

	for (const char *p = cgroup; *p;) {
		size_t len;

		p += strspn(p, "/");
		len = strcspn(p, "/\n");
		if (ends_with(p, len, ".service") || ends_with(p, len, ".scope")) {
			snprintf(ret, n, "%.*s", (int)len, p);
			found = true;
		}
		p += len;
		if (*p == '\n')
			break;
	}
	return found;
}

/* Of the unified hierarchy, or systemd's own where both are there. */
static void read_cgroup(const char *root, int pid, char *ret, size_t n)
{
	CLEANUP(fclosep) FILE *f = open_of(root, pid, "cgroup");
	char line[LINE];

	*ret = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		const char *path = !strncmp(line, "0::", 3) ? line + 3 :
				   strstr(line, ":name=systemd:") ?
				   strstr(line, ":name=systemd:") + 14 : NULL;

		if (!path || (*ret && strlen(path) <= 2))
			continue;
		snprintf(ret, n, "%.*s", (int)strcspn(path, "\n"), path);
	}
}

static void read_name(const char *root, int pid, char *ret, size_t n)
{
	CLEANUP(fclosep) FILE *f = open_of(root, pid, "comm");

	if (!f || !fgets(ret, (int)n, f))
		snprintf(ret, n, "?");
	ret[strcspn(ret, "\n")] = '\0';
	/* a process names itself as it likes; this ends up in a log */
	for (char *p = ret; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
}

static void who(const char *root, struct process *p)
{
	read_cgroup(root, p->pid, p->cgroup, sizeof(p->cgroup));
	if (!holders_unit(p->cgroup, p->unit, sizeof(p->unit)))
		p->unit[0] = '\0';
	read_name(root, p->pid, p->name, sizeof(p->name));
}

void holders_who(const char *root, int pid, char *unit, size_t n_unit, char *name, size_t n_name)
{
	struct process p = { .pid = pid };

	who(root, &p);
	snprintf(unit, n_unit, "%s", p.unit);
	snprintf(name, n_name, "%s", p.name);
}

/* ---- all of them --------------------------------------------------------------------------- */

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static bool is_ours(int pid, const int *not_of, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (not_of[i] == pid)
			return true;
	return false;
}

static uint64_t rss_of(const char *root, int pid)
{
	CLEANUP(fclosep) FILE *f = open_of(root, pid, "statm");
	unsigned long long size, pages;

	if (!f || fscanf(f, "%llu %llu", &size, &pages) != 2)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int larger_process(const void *a, const void *b)
{
	const struct process *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : x->pid - y->pid;
}

static size_t list_processes(const char *root, const int *not_of, size_t n_not_of,
			     struct process *ret, size_t max)
{
	char path[PATH_MAX];
	CLEANUP(closedirp) DIR *d = NULL;
	const struct dirent *entry;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/proc", root ? root : "");
	d = opendir(path);
	while (d && n < max && (entry = readdir(d))) {
		int pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;

		if (pid <= 0 || is_ours(pid, not_of, n_not_of))
			continue;
		ret[n] = (struct process){ .pid = pid, .bytes = rss_of(root, pid) };
		n += ret[n].bytes > 0;
	}
	qsort(ret, n, sizeof(*ret), larger_process);
	return n;
}

static void ask_pss(const char *root, struct process *p, size_t n)
{
	static const char *const pss[] = { "Pss", NULL };

	for (size_t i = 0; i < n; i++) {
		uint64_t bytes = kib_of(root, p[i].pid, "smaps_rollup", pss);

		if (bytes)
			p[i].bytes = bytes;
		who(root, &p[i]);
	}
}

static size_t group_up(const struct process *p, size_t n, struct group *g)
{
	size_t n_groups = 0, k;

	for (size_t i = 0; i < n; i++) {
		for (k = 0; k < n_groups; k++)
			if (*p[i].unit && !strcmp(g[k].unit, p[i].unit))
				break;
		if (k == n_groups) {
			g[n_groups] = (struct group){ .first = &p[i] };
			memcpy(g[n_groups].unit, p[i].unit, sizeof(g->unit));
			memcpy(g[n_groups++].cgroup, p[i].cgroup, sizeof(g->cgroup));
		}
		g[k].bytes += p[i].bytes;
	}
	return n_groups;
}

static int larger_group(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static uint64_t cache_of(const char *root, const char *cgroup)
{
	char path[PATH_MAX], line[256];
	CLEANUP(fclosep) FILE *f = NULL;
	unsigned long long bytes;

	snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.stat", root ? root : "", cgroup);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "file %llu", &bytes) == 1)
			return bytes;
	return 0;
}

static void name_group(const char *root, const struct group *g, struct broker_holder *ret)
{
	uint64_t cache = *g->unit ? cache_of(root, g->cgroup) : 0;

	ret->bytes = g->bytes;
	if (!*g->unit)
		snprintf(ret->name, sizeof(ret->name), "process %.40s (%d)", g->first->name,
			 g->first->pid);
	else if (cache >= CACHE_WORTH_NAMING)
		snprintf(ret->name, sizeof(ret->name), "unit %.70s (and %s of page cache)", g->unit,
			 BYTES(cache));
	else
		snprintf(ret->name, sizeof(ret->name), "unit %.100s", g->unit);
}

/* Device memory is in no process's RSS. */
static size_t list_gpu(const char *root, struct nvml *nvml, const int *not_of, size_t n_not_of,
		       uint64_t least, struct broker_holder *ret, size_t max)
{
	struct nvml_process p[NVML_MAX_PROCESSES];
	size_t n = nvml_processes(nvml, p, NVML_MAX_PROCESSES), k = 0;

	for (size_t i = 0; i < n && k < max; i++) {
		char name[64];

		if (p[i].bytes < least || is_ours(p[i].pid, not_of, n_not_of))
			continue;
		read_name(root, p[i].pid, name, sizeof(name));
		snprintf(ret[k].name, sizeof(ret[k].name), "GPU %u memory of process %.40s (%d)",
			 p[i].gpu, name, p[i].pid);
		ret[k++].bytes = p[i].bytes;
	}
	return k;
}

size_t holders_read(const char *root, struct nvml *nvml, const int *not_of, size_t n_not_of,
		    uint64_t least, struct broker_holder *ret, size_t n)
{
	CLEANUP(freep) struct process *p = calloc(MAX_PROCESSES, sizeof(*p));
	CLEANUP(freep) struct group *g = calloc(MAX_ASKED, sizeof(*g));
	size_t n_p, n_g, k = 0;

	if (!p || !g)
		return 0;
	k = list_gpu(root, nvml, not_of, n_not_of, least, ret, n);
	n_p = list_processes(root, not_of, n_not_of, p, MAX_PROCESSES);
	if (n_p > MAX_ASKED)
		n_p = MAX_ASKED;
	ask_pss(root, p, n_p);
	n_g = group_up(p, n_p, g);
	qsort(g, n_g, sizeof(*g), larger_group);
	for (size_t i = 0; i < n_g && k < n && g[i].bytes >= least; i++)
		name_group(root, &g[i], &ret[k++]);
	return k;
}
