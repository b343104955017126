/* notify.h - the receiving side of sd_notify(3), for workers that we run ourselves.
 *
 * The sender is known by what the kernel says (SCM_CREDENTIALS), not by what it writes. */
#ifndef HEARTH_DAEMON_NOTIFY_H
#define HEARTH_DAEMON_NOTIFY_H

#include "lib/err.h"

struct event_base;
struct notify;

/* Makes DIR/notify.  `take` is called for each line KEY=VALUE of a process. */
int notify_open(struct event_base *base, const char *dir,
		void (*take)(void *arg, int pid, const char *key, const char *value), void *arg,
		struct notify **ret, struct err *e);
struct notify *notify_close(struct notify *n);
const char *notify_path(const struct notify *n);

#endif
