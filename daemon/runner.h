/* runner.h - who starts and stops worker processes: systemd (sdbus.c), or we (spawn.c).
 *
 * One interface, chosen at run time.  A process is named by its alias; `instance` is the
 * launcher's number of it and comes back with every report, so that what an older process
 * says is told from what the present one does.  Hooks are called from the loop's thread, never
 * from inside start or stop.
 */
#ifndef HEARTH_DAEMON_RUNNER_H
#define HEARTH_DAEMON_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/launcher.h"
#include "daemon/model_conf.h"

struct event_base;
struct runner;

struct runner_hooks {
	void (*progress)(void *arg, const char *alias, uint32_t instance, uint32_t permille);
	void (*ready)(void *arg, const char *alias, uint32_t instance);
	/* why: for a person; borrowed */
	void (*exited)(void *arg, const char *alias, uint32_t instance, enum launch_end end,
		       const char *why);
	/* A worker that was started before we were; answers its instance, 0 to leave it alone. */
	uint32_t (*found)(void *arg, const char *alias, bool ready);
	void (*by_hand)(void *arg);	/* ops->by_hand() would say another number */
	void *arg;
};

struct runner_ops {
	/* 0: a process is on its way, exited() will come.  Otherwise nothing was begun. */
	int (*start)(struct runner *r, const struct box_conf *b, const struct model_conf *m,
		     uint32_t instance, struct err *e);
	/* In order (SIGTERM, then SIGKILL after stop_ms), or by force at once. */
	void (*stop)(struct runner *r, const char *alias, uint32_t stop_ms, bool force);
	int (*pid)(const struct runner *r, const char *alias);	/* 0: none, or not known */
	/* How many workers of known models run that are not ours: a person started the unit.
	 * NULL: there is no such thing. */
	uint32_t (*by_hand)(const struct runner *r);
	/* Looks for workers of these models that are there already: found(). */
	int (*adopt)(struct runner *r, const struct box_conf *b, struct err *e);
	/* Workers go on. */
	void (*close)(struct runner *r);
	const char *name;
	bool outlive;		/* its workers are somebody else's: they stay when we stop */
};

struct runner {			/* the first member of spawn's and sdbus' own */
	const struct runner_ops *ops;
};

int spawn_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
	       struct runner **ret, struct err *e);
/* -ENOTSUP: built without libsystemd, or systemd is not the manager here. */
int sdbus_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
	       struct runner **ret, struct err *e);
/* The one that box.launcher asks for. */
int runner_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
		struct runner **ret, struct err *e);

/* ---- shared by both ---------------------------------------------------------------------- */

/* "loading 41 %" -> 410; -1: it says something else. */
int runner_permille(const char *status);
/* How a worker's exit status is to be taken (sysexits.h): 0 in order; 64, 78 will not get better;
 * 75 was refused memory; else failed. */
enum launch_end runner_end_of(int exit_status);

#endif
