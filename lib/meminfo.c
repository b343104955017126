/* meminfo.c - see meminfo.h. */
#include "lib/meminfo.h"

#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/own.h"

enum { LARGE = 2 << 20 };	/* bytes */

static FILE *open_file(const char *root, const char *path)
{
	char full[PATH_MAX];

	if ((size_t)snprintf(full, sizeof(full), "%s%s", root ? root : "", path) >= sizeof(full)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	return fopen(full, "re");
}

static const struct row {
	const char *name;
	size_t offset;
} rows[] = {
#define ROW(name, field) { name, offsetof(struct meminfo, field) }
	ROW("MemTotal", total), ROW("MemFree", free), ROW("MemAvailable", available),
	ROW("Cached", cached), ROW("Buffers", buffers), ROW("Shmem", shmem),
	ROW("SReclaimable", reclaimable), ROW("Dirty", dirty), ROW("Writeback", writeback),
	ROW("Mapped", mapped), ROW("SwapTotal", swap_total), ROW("SwapFree", swap_free),
	ROW("Hugetlb", hugetlb), ROW("CmaTotal", cma_total), ROW("CmaFree", cma_free),
	ROW("Unevictable", unevictable),
};

enum { N_ROWS = sizeof(rows) / sizeof(*rows), N_NEEDED = 3 };

/* "MemFree:        123456 kB"; which row it was, or -1. */
static int take_line(const char *line, struct meminfo *m)
{
	const char *colon = strchr(line, ':');
	unsigned long long kib;

	if (!colon || sscanf(colon + 1, "%llu kB", &kib) != 1 || kib > UINT64_MAX >> 10)
		return -1;
	for (int i = 0; i < N_ROWS; i++) {
		uint64_t value = (uint64_t)kib << 10;

		if (strlen(rows[i].name) != (size_t)(colon - line) ||
		    strncmp(rows[i].name, line, (size_t)(colon - line)) != 0)
			continue;
		memcpy((char *)m + rows[i].offset, &value, sizeof(value));
		return i;
	}
	return -1;
}

int meminfo_read(const char *root, struct meminfo *ret, struct err *e)
{
	CLEANUP(fclosep) FILE *f = open_file(root, "/proc/meminfo");
	struct meminfo m = { 0 };
	unsigned seen = 0;
	char line[256];

	if (!f)
		return err_set(e, -errno, "%s/proc/meminfo: %s", root ? root : "", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		int i = take_line(line, &m);

		if (i >= 0)
			seen |= 1U << i;
	}
	for (int i = 0; i < N_NEEDED; i++)
		if (!(seen & 1U << i))
			return err_set(e, -EBADMSG, "%s/proc/meminfo has no %s", root ? root : "",
				       rows[i].name);
	*ret = m;
	return 0;
}

uint64_t meminfo_droppable(const struct meminfo *m)
{
	uint64_t all = m->cached + m->buffers + m->reclaimable;

	/* shared memory is counted as cache and has no file behind it */
	return all > m->shmem ? all - m->shmem : 0;
}

uint64_t meminfo_percpu(const char *root)
{
	CLEANUP(fclosep) FILE *f = open_file(root, "/proc/zoneinfo");
	uint64_t pages = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
	char line[256];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		uint32_t count;	/* only "pagesets" have lines of this name */

		if (sscanf(line, " count: %" SCNu32, &count) == 1)
			pages += count;
	}
	return pages * page;
}

int meminfo_psi_read(const char *root, struct meminfo_psi *ret)
{
	CLEANUP(fclosep) FILE *f = open_file(root, "/proc/pressure/memory");
	struct meminfo_psi p = { 0 };
	char line[256];

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		(void)sscanf(line, "some avg10=%lf avg60=%*f avg300=%*f total=%" SCNu64, &p.some10,
			     &p.some_us);
		(void)sscanf(line, "full avg10=%lf avg60=%*f avg300=%*f total=%" SCNu64, &p.full10,
			     &p.full_us);
	}
	/* a kernel with psi=0 has the file and answers every read with an error */
	if (ferror(f))
		return -ENOENT;
	*ret = p;
	return 0;
}

/* "Node 0, zone   Normal   7658   4495 ...": blocks of 1, 2, 4, ... pages. */
static void take_zone(char *line, uint64_t page, uint64_t *large, uint64_t *small)
{
	char *p = strstr(line, "zone"), *save = NULL;
	uint64_t size = page;

	if (!p || !strtok_r(p, " \t\n", &save) || !strtok_r(NULL, " \t\n", &save))
		return;
	for (char *w = strtok_r(NULL, " \t\n", &save); w && size <= (uint64_t)1 << 40;
	     w = strtok_r(NULL, " \t\n", &save), size *= 2)
		*(size >= LARGE ? large : small) += strtoull(w, NULL, 10) * size;
}

int meminfo_buddy_read(const char *root, uint64_t *ret_large, uint64_t *ret_small)
{
	CLEANUP(fclosep) FILE *f = open_file(root, "/proc/buddyinfo");
	uint64_t large = 0, small = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
	char line[1024];

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		take_zone(line, page, &large, &small);
	*ret_large = large;
	*ret_small = small;
	return 0;
}
