/* doctor_box.c - what doctor looks at on this machine. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ctl/doctor.h"
#include "ctl/program.h"
#include "lib/bytes.h"
#include "lib/meminfo.h"
#include "lib/own.h"
#include "proto/box_wire.h"

enum { LONG_PSI = 5 };		/* % of ten seconds in which everything waited for memory */

static void path_at(const struct ctl *c, const char *path, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s%s", c->root ? c->root : "", path);
}

/* The first line of a small file; "" when there is none. */
static void first_line(const struct ctl *c, const char *path, char *ret, size_t n)
{
	char at[PATH_MAX];
	CLEANUP(fclosep) FILE *f = NULL;

	path_at(c, path, at);
	f = fopen(at, "re");
	*ret = '\0';
	if (f && fgets(ret, (int)n, f))
		ret[strcspn(ret, "\n")] = '\0';
}

/* ---- box ------------------------------------------------------------------------------------ */

static void look_at_units(const struct ctl *c, struct findings *f)
{
	char *const argv[] = {"systemctl", "list-units", "--state=failed", "--plain", "--no-legend",
			      "hearth*",   NULL};
	CLEANUP(buf_donep) struct buf said = BUF_INIT;
	struct err e;
	char *save = NULL;
	size_t n = 0;

	if (c->root || access("/run/systemd/system", F_OK) < 0)
		return;
	if (program_run(argv, &said, &e) != 0) {
		finding_add(f, "box", FINDING_NOTE, NULL, "systemctl does not answer: %.100s",
			    said.n ? said.p : "");
		return;
	}
	for (char *line = strtok_r(said.n ? said.p : NULL, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), n++) {
		char what[256];
		int len = (int)strcspn(line, " ");

		snprintf(what, sizeof(what), "journalctl -xeu %.*s, then systemctl restart %.*s",
			 len, line, len, line);
		finding_add(f, "box", FINDING_ACT, what, "unit %.*s has failed", len, line);
	}
	if (!n)
		finding_add(f, "box", FINDING_OK, NULL, "no unit of Hearth has failed");
}

void doctor_box(const struct ctl *c, struct findings *f)
{
	struct utsname u;

	if (uname(&u) == 0)
		finding_add(f, "box", FINDING_OK, NULL, "%s, Linux %s on %s, %ld processors",
			    u.nodename, u.release, u.machine, sysconf(_SC_NPROCESSORS_ONLN));
	look_at_units(c, f);
}

/* ---- driver ------------------------------------------------------------------------- */

/* Display and 3D controllers of NVIDIA on the PCI bus. */
static unsigned count_gpus(const struct ctl *c)
{
	char dir[PATH_MAX];
	unsigned n = 0;
	DIR *d;

	path_at(c, "/sys/bus/pci/devices", dir);
	d = opendir(dir);
	for (struct dirent *x; d && (x = readdir(d));) {
		char path[PATH_MAX], vendor[32], class[32];

		if (*x->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", x->d_name);
		first_line(c, path, vendor, sizeof(vendor));
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", x->d_name);
		first_line(c, path, class, sizeof(class));
		n += !strcmp(vendor, "0x10de") && !strncmp(class, "0x03", 4);
	}
	if (d)
		closedir(d);
	return n;
}

void doctor_driver(const struct ctl *c, struct findings *f)
{
	char line[256], path[PATH_MAX], *p;
	unsigned n = count_gpus(c);

	first_line(c, "/proc/driver/nvidia/version", line, sizeof(line));
	path_at(c, "/dev/nvidia0", path);
	p = strstr(line, "  ");
	if (!*line && n)
		finding_add(f, "driver", FINDING_ACT,
			    "install NVIDIA's driver for this kernel, or see why it did not load: "
			    "dmesg | grep -i nvidia",
			    "%u GPU%s of NVIDIA, and no driver is loaded", n, n == 1 ? "" : "s");
	else if (!*line)
		finding_add(f, "driver", FINDING_OK, NULL,
			    "no GPU of NVIDIA: models run on the CPU back end");
	else if (access(path, F_OK) < 0)
		finding_add(f, "driver", FINDING_ACT, "nvidia-modprobe -u -c 0",
			    "the driver is loaded, but there is no /dev/nvidia0");
	else if (access(path, R_OK | W_OK) < 0)
		finding_add(f, "driver", FINDING_NOTE,
			    "run doctor as root, or join the group that owns it (video or render)",
			    "/dev/nvidia0 may not be opened by this user");
	else
		finding_add(f, "driver", FINDING_OK, NULL, "%u GPU%s, driver %.200s", n,
			    n == 1 ? "" : "s", p ? p + strspn(p, " ") : line);
}

/* ---- memory ------------------------------------------------------------------------- */

static void look_at_grants(const Hb__Memory *m, struct findings *f)
{
	if (m->level == HB__LEVEL_KIND__RED)
		finding_add(
			f, "memory", FINDING_ACT,
			"hearthctl memory says who holds it; hearthctl unload gives a model's back",
			"level red: %s available, workers are being stopped", BYTES(m->available));
	else if (m->level == HB__LEVEL_KIND__YELLOW)
		finding_add(f, "memory", FINDING_ACT, "hearthctl memory says who holds it",
			    "level yellow: %s available, new requests are refused",
			    BYTES(m->available));
	else
		finding_add(f, "memory", FINDING_OK, NULL, "%s of %s can still be granted",
			    BYTES(m->usable), BYTES(m->total));
	for (size_t i = 0; i < m->n_note; i++)
		finding_add(f, "memory", FINDING_NOTE, NULL, "%s", m->note[i]);
	for (size_t i = 0; i < m->n_alias; i++)
		if (m->alias[i]->short_by && m->alias[i]->need > m->total)
			finding_add(f, "memory", FINDING_ACT,
				    "a smaller model, or fewer streams or a shorter context in "
				    "hearthd.conf",
				    "'%s' needs %s, more than this box has", m->alias[i]->alias,
				    BYTES(m->alias[i]->need));
}

static void look_at_kernel(const struct ctl *c, struct findings *f)
{
	struct meminfo m;
	struct meminfo_psi p;
	struct err e;

	if (meminfo_read(c->root, &m, &e) < 0) {
		finding_add(f, "memory", FINDING_ACT, "is /proc mounted?", "%s", e.text);
		return;
	}
	if (m.available < m.total / 16)
		finding_add(f, "memory", FINDING_ACT, "ps -eo rss,comm --sort=-rss | head",
			    "only %s of %s are available", BYTES(m.available), BYTES(m.total));
	else
		finding_add(f, "memory", FINDING_OK, NULL, "%s of %s available", BYTES(m.available),
			    BYTES(m.total));
	if (m.swap_total - m.swap_free > BYTES_GIB)
		finding_add(f, "memory", FINDING_ACT,
			    "find the cause, then swapoff -a && swapon -a",
			    "swap holds %s: memory was short before",
			    BYTES(m.swap_total - m.swap_free));
	if (meminfo_psi_read(c->root, &p) < 0)
		finding_add(f, "memory", FINDING_NOTE, "boot with psi=1",
			    "this kernel counts no memory pressure");
	else if (p.full10 > LONG_PSI)
		finding_add(f, "memory", FINDING_ACT, "hearthctl memory, or top, says who holds it",
			    "for %.0f %% of the last 10 s everything waited for memory", p.full10);
}

void doctor_memory(const struct ctl *c, struct findings *f)
{
	const char *path = c->hearthd ? c->hearthd : BOX_SOCKET;
	struct box_msg m = { 0 };
	struct err e;

	look_at_kernel(c, f);
	if (!c->hearthd && access(path, F_OK) < 0) {
		finding_add(f, "memory", FINDING_NOTE, NULL,
			    "no hearthd on this machine: nothing keeps models within its memory");
		return;
	}
	if (ctl_ask_memory(c, &m, &e) < 0) {
		finding_add(f, "memory", FINDING_ACT,
			    "systemctl status hearthd; root and the group hearth may ask it", "%s",
			    e.text);
		return;
	}
	look_at_grants(m.body.memory, f);
	box_msg_done(&m);
}

/* ---- clock -------------------------------------------------------------------------- */

void doctor_clock(struct findings *f)
{
	struct timex t = { .modes = 0 };
	int state = adjtimex(&t);

	if (state < 0)
		finding_add(f, "clock", FINDING_NOTE, NULL,
			    "the kernel does not say whether the clock is right: %s",
			    strerror(errno));
	else if (state == TIME_ERROR || (t.status & STA_UNSYNC))
		finding_add(
			f, "clock", FINDING_ACT,
			"timedatectl set-ntp true, or chrony where there is no internet",
			"the clock is kept right by nobody: journals of boxes cannot be compared");
	else
		finding_add(f, "clock", FINDING_OK, NULL, "kept right, to %.1f ms",
			    (double)t.maxerror / 1000);
}
