/* workload.h - foreign workloads: units that may be stopped to make room, and started again.
 *
 *	RUNNING --make_room--> STOPPING --job done--> STOPPED for ALIAS
 *	   ^                                              | release
 *	   +----------------- STARTING <------------------+
 *
 * Only a unit that was active is stopped, so that nothing is started that its owner had
 * stopped.  Which ones we stopped is kept in STATE_DIR/workloads: a later hearthd starts them
 * again just the same.  systemd is asked over sd-bus, never waited for.
 */
#ifndef HEARTH_DAEMON_WORKLOAD_H
#define HEARTH_DAEMON_WORKLOAD_H

#include "daemon/memory_conf.h"

struct event_base;
struct workloads;

enum workload_state { WORKLOAD_RUNNING, WORKLOAD_STOPPING, WORKLOAD_STOPPED, WORKLOAD_STARTING };

struct workload {		/* to be read */
	const struct workload_conf *conf;
	enum workload_state state;
	char for_alias[BROKER_NAME];	/* STOPPING, STOPPED */
	bool active;			/* as systemd said last */
	bool known;			/* it did say */
};

struct workload_hooks {
	/* The answer to workloads_make_room(): one is being stopped; then, is stopped; or none. */
	void (*stopping)(void *arg, const struct workload *w);
	void (*stopped)(void *arg, const struct workload *w);
	void (*none)(void *arg);
	void *arg;
};

/* conf: borrowed, must outlive it or be replaced by workloads_reload().  -ENOMEM. */
int workloads_new(struct event_base *base, const struct memory_conf *conf,
		  const struct workload_hooks *h, struct workloads **ret);
struct workloads *workloads_free(struct workloads *w);		/* NULL ok */
void workloads_reload(struct workloads *w, const struct memory_conf *conf);

/* Stops one that makes room for this alias; a hook says what became of it, later.  One question
 * at a time: a new one takes the place of the old. */
void workloads_make_room(struct workloads *w, const char *alias);
/* Starts what was stopped for aliases that `needs` does not know (any more). */
void workloads_release(struct workloads *w, bool (*needs)(void *arg, const char *alias),
		       void *arg);
/* What active ones would give for this alias. */
uint64_t workloads_stoppable(const struct workloads *w, const char *alias);
/* Asks systemd how they are; the answer comes later. */
void workloads_refresh(struct workloads *w);
/* NULL past the end */
const struct workload *workloads_at(const struct workloads *w, size_t i);

#endif
