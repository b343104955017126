/* holders.h - who holds memory on this box that is not a worker of ours: by unit, else by process.
 *
 * A process belongs to the innermost service or scope of its control group, which is how
 * containers look, too (docker-ID.scope, libpod-ID.scope, machine-NAME.scope).  Its size is PSS
 * (pages shared by n processes count 1/n); RSS where that may not be read.  What a unit has in
 * the page cache is named beside it: that part goes when caches are dropped.  They are listed,
 * never touched.
 */
#ifndef HEARTH_DAEMON_HOLDERS_H
#define HEARTH_DAEMON_HOLDERS_H

#include "daemon/broker.h"

struct nvml;

/* The largest, at most n, none below `least` bytes.  root: before /proc and /sys, NULL: none.
 * not_of: processes that are left out (ours).  nvml may be NULL.  How many. */
size_t holders_read(const char *root, struct nvml *nvml, const int *not_of, size_t n_not_of,
		    uint64_t least, struct broker_holder *ret, size_t n);

/* Anonymous and shared memory of a process: what it took that is no file.  -errno: it is gone. */
int holders_taken(const char *root, int pid, uint64_t *ret);

/* "/system.slice/tts.service/x" -> "tts.service"; false: no unit in it. */
bool holders_unit(const char *cgroup, char *ret, size_t n);
/* The unit and name of a process.  "" what is not known. */
void holders_who(const char *root, int pid, char *unit, size_t n_unit, char *name, size_t n_name);

#endif
