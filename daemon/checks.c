/* checks.c - see checks.h. */
#include "daemon/checks.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/holders.h"
#include "daemon/nvml.h"
#include "lib/bytes.h"
#include "lib/meminfo.h"
#include "lib/own.h"

/* A reservation of this size is not the kernel's usual handful of MiB. */
#define LARGE_CMA    (4 * BYTES_GIB)
#define LARGE_HOLDER (256 * BYTES_MIB)

void checks_add(struct checks *c, const char *fmt, ...)
{
	va_list ap;

	if (c->n == CHECKS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(c->text[c->n++], CHECKS_TEXT, fmt, ap);
	va_end(ap);
}

static void check_meminfo(const struct meminfo *m, struct checks *c)
{
	uint64_t used = m->swap_total - m->swap_free;

	if (m->available > m->free && m->available - m->free > m->total / 4)
		checks_add(c, "page cache holds %s that a unified-memory GPU counts as used; it is "
			   "dropped before a model is judged (memory.drop_caches)",
			   BYTES(m->available - m->free));
	if (m->swap_total && used > BYTES_GIB / 4)
		checks_add(c, "swap holds %s of %s: memory was short before; find the cause, then "
			   "`swapoff -a && swapon -a`", BYTES(used), BYTES(m->swap_total));
	if (m->hugetlb > BYTES_GIB)
		checks_add(c,
			   "%s are reserved as huge pages, which nothing else can use; unless "
			   "something of yours needs them, set vm.nr_hugepages=0",
			   BYTES(m->hugetlb));
}

/* kexec-handover keeps a scratch area for the next kernel, as CMA. */
static void check_handover(const char *root, const struct meminfo *m, struct checks *c)
{
	char path[PATH_MAX], line[4096] = "";
	CLEANUP(fclosep) FILE *f = NULL;
	bool off, on;

	snprintf(path, sizeof(path), "%s/proc/cmdline", root ? root : "");
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return;
	off = strstr(line, "kho=off") || strstr(line, "kho=0");
	on = strstr(line, "kho=on") || strstr(line, "kho=1");
	if (off || (!on && m->cma_total < LARGE_CMA))
		return;
	checks_add(c, "%s are reserved as CMA (kexec-handover%s): less for models, and network "
		   "buffers may not register when memory is low; boot with kho=off",
		   BYTES(m->cma_total), on ? " is on" : ", most likely");
}

static void check_fragments(const char *root, const struct meminfo *m, struct checks *c)
{
	uint64_t large, small;

	if (meminfo_buddy_read(root, &large, &small) < 0 || large + small < BYTES_GIB)
		return;
	if (large < (large + small) / 2)
		checks_add(c, "only %s of %s free memory lie in blocks of 2 MiB or more: a driver "
			   "that wants large pages may be slow or fail; `echo 1 "
			   ">/proc/sys/vm/compact_memory`, or raise vm.min_free_kbytes",
			   BYTES(large), BYTES(m->free));
}

static void check_pressure(const char *root, struct checks *c)
{
	struct meminfo_psi p;

	if (meminfo_psi_read(root, &p) < 0)
		checks_add(c,
			   "this kernel counts no memory pressure: the watchdog has MemAvailable "
			   "only; boot with psi=1");
}

/* ---- programs ------------------------------------------------------------------------------ */

/* Of a holder's name: a session lives in the scope or the services of its user. */
static const char *const desktops[] = { "unit session-", "unit gdm", "gnome", "plasma", "kwin_",
					"Xorg", "Xwayland", "xfwm4", "mutter", NULL };

static bool is_session(const char *holder)
{
	for (size_t i = 0; desktops[i]; i++)
		if (strstr(holder, desktops[i]))
			return true;
	return false;
}

static void check_desktop(const char *root, struct checks *c)
{
	struct broker_holder h[64];
	size_t n = holders_read(root, NULL, NULL, 0, 16 * BYTES_MIB, h, 64);
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (is_session(h[i].name))
			sum += h[i].bytes;
	if (sum >= LARGE_HOLDER)
		checks_add(c, "people's sessions hold %s; where that is a desktop, `systemctl "
			   "set-default multi-user.target` and a reboot give it to models",
			   BYTES(sum));
}

static const struct {
	const char *prefix, *why;
} bad_drivers[] = {
	{ "590.", "graph replays have hung GB10 with it; 580 is the conservative line" },
	{ "610.57", "long runs of CUDA graphs end in Xid 8 on sm_120 with it; 580 or 595 are "
		    "better known" },
};

const char *checks_driver(const char *version)
{
	for (size_t i = 0; i < sizeof(bad_drivers) / sizeof(*bad_drivers); i++)
		if (!strncmp(version, bad_drivers[i].prefix, strlen(bad_drivers[i].prefix)))
			return bad_drivers[i].why;
	return NULL;
}

static void check_gpus(const char *root, struct nvml *nvml, struct checks *c)
{
	struct nvml_process p[NVML_MAX_PROCESSES];
	const char *why = checks_driver(nvml_driver(nvml));
	size_t n = nvml_processes(nvml, p, NVML_MAX_PROCESSES);

	for (unsigned i = 0; i < nvml_count(nvml); i++) {
		struct nvml_gpu g;

		if (nvml_read(nvml, i, &g) < 0)
			checks_add(c, "GPU %u does not answer: see dmesg for Xid, then reboot", i);
		else if (g.own_memory)
			checks_add(c, "GPU %u is %s with %s of its own, %s free", i, g.name,
				   BYTES(g.total), BYTES(g.free));
		else
			checks_add(c, "GPU %u is %s and shares the box's memory", i, g.name);
	}
	if (why)
		checks_add(c, "driver %s: %s", nvml_driver(nvml), why);
	for (size_t i = 0; i < n; i++) {
		char unit[BROKER_NAME], name[64];

		holders_who(root, p[i].pid, unit, sizeof(unit), name, sizeof(name));
		if (!strcmp(name, "hearth-worker"))
			continue;
		checks_add(c, "GPU %u is also used by process %s (%d)%s%s, %s", p[i].gpu, name,
			   p[i].pid, *unit ? " of unit " : "", unit,
			   p[i].bytes ? BYTES(p[i].bytes) : "it is not known how much");
	}
}

void checks_read(const char *root, struct nvml *nvml, struct checks *ret)
{
	struct meminfo m;
	struct err e;

	*ret = (struct checks){ .n = 0 };
	if (meminfo_read(root, &m, &e) < 0) {
		checks_add(ret, "%s", e.text);
		return;
	}
	check_meminfo(&m, ret);
	check_handover(root, &m, ret);
	check_fragments(root, &m, ret);
	check_pressure(root, ret);
	check_desktop(root, ret);
	if (nvml)
		check_gpus(root, nvml, ret);
}
