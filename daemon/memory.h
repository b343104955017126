/* memory.h - the memory broker as a whole on an event base: the desk, the judgement, the drop,
 * the workloads and the watchdog.
 *
 * The owner of the process (main.c) opens it, asks it before a worker is started, and is told
 * when one must go.  Locks its memory: what watches for a full box must not wait for one.
 */
#ifndef HEARTH_DAEMON_MEMORY_H
#define HEARTH_DAEMON_MEMORY_H

#include <stdbool.h>

#include "daemon/broker.h"
#include "daemon/memory_conf.h"

struct event_base;
struct memory;

struct memory_alias {			/* a row of `hearthctl memory` */
	const char *alias, *state;
	const char *folder, *device;	/* NULL: not known */
	uint64_t need;			/* 0: not known */
};

struct memory_hooks {
	/* Red, and this worker is the youngest: stop it.  False: it is not yours; it gets a
	 * signal. */
	bool (*stop)(void *arg, const char *alias, int pid, const char *why);
	/* The i-th alias of this box; false past the end. */
	bool (*alias)(void *arg, size_t i, struct memory_alias *ret);
	void *arg;
};

/* Takes conf over on success.  -errno with the reason. */
int memory_open(struct event_base *base, struct memory_conf *conf, const struct memory_hooks *h,
		struct memory **ret, struct err *e);
struct memory *memory_close(struct memory *m);		/* NULL ok; leases end with us */
/* Another configuration; leases are not disturbed.  Takes conf over. */
void memory_reload(struct memory *m, struct memory_conf *conf);

struct expo;
void memory_put_metrics(const struct memory *m, struct expo *x);

/* What a worker of this alias once presented no longer holds: its options changed. */
void memory_forget(struct memory *m, const char *alias);
/* Would a worker of this alias fit, with what can be had back?  why: one line when not. */
bool memory_would_fit(const struct memory *m, const char *alias, uint64_t need,
		      uint64_t *ret_short, char *why, size_t n_why);

#endif
