/* launcher.h - the life of one worker per configured alias: a state machine without I/O.
 *
 *	         demand, load, pin          room          progress        READY=1
 *	UNLOADED ----------> WAITING ----------> STARTING -------> LOADING -----> READY
 *	    ^                   ^                    |  it ended  |                 |  ttl, unload,
 *	    |                   +---- BACKOFF <------+------------+-----------------+  drain, swap
 *	    |                            | too often, or hopeless                   v
 *	    +---- STOPPING <-------------|------------------------------------- RETIRING
 *	                                 v
 *	                           QUARANTINED   (left by a person's load or undrain)
 *
 * Whoever owns the launcher tells it what happened (every call takes the time), then takes
 * what is to be done from launcher_next() until it says false, and calls launcher_tick()
 * no later than launcher_due().  Times are clock_ns().
 *
 * Who goes when two models do not fit together: never a pinned one, never one that came less
 * than keep_ms ago or has not yet taken in those that waited for it; of the others an idle one
 * before a busy one, then the one whose last use is longest ago.  It takes nothing new, its running
 * answers get retire_ms, and what is asked of it meanwhile waits its turn.  Those that wait are
 * served in the order they were asked for.
 *
 * One thread; allocates only in launcher_new() and launcher_set().
 */
#ifndef HEARTH_DAEMON_LAUNCHER_H
#define HEARTH_DAEMON_LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum launch_state {	/* the numbers of hw.ModelState */
	LAUNCH_UNLOADED = 1,
	LAUNCH_WAITING,
	LAUNCH_STARTING,
	LAUNCH_LOADING,
	LAUNCH_READY,
	LAUNCH_RETIRING,
	LAUNCH_STOPPING,
	LAUNCH_BACKOFF,
	LAUNCH_QUARANTINED,
};

const char *launch_state_name(enum launch_state s);	/* "waiting" */
bool launch_state_has_process(enum launch_state s);

enum { LAUNCH_MAX_MODELS = 256, LAUNCH_NAME = 128, LAUNCH_REASON = 256 };

struct launch_policy {
	uint32_t max_models;	/* with a process at the same time; 0: no such limit */
	uint32_t keep_ms;	/* loaded at least this long before another may take its place */
	uint32_t retire_ms;	/* running answers get this long */
	uint32_t stall_ms;	/* a start or load without progress counts as failed */
	uint32_t backoff_ms, backoff_max_ms;	/* first pause after a failure, doubling */
	uint32_t crash_limit;	/* failures in a row that end in quarantine */
	uint32_t healthy_ms;	/* ready this long: earlier failures are forgotten */
	uint32_t room_ms;	/* memory was refused: ask again after */
};

struct launch_conf {
	const char *alias;	/* copied */
	bool pin, on_demand;
	uint32_t ttl_s;		/* 0: stays until something else is wanted */
	uint64_t bytes;		/* of its files, for the first estimate; 0: unknown */
	uint64_t memory;	/* that it will take; 0: unknown, its files' size is taken */
};

struct launch_model {		/* to be read by anyone, written by the launcher only */
	char alias[LAUNCH_NAME];
	bool pin, on_demand, drained, gone;	/* gone: no longer configured */
	uint32_t ttl_s;
	uint64_t bytes, memory;
	enum launch_state state;
	uint32_t instance;	/* of its process: what an older one reports is not believed */
	uint32_t permille, failures;
	uint32_t in_flight, waiting;	/* requests, as the router says */
	char reason[LAUNCH_REASON];	/* "": none */

	bool wanted, evicted;	/* evicted: goes, whatever is asked of it meanwhile */
	bool asked;		/* whether there is memory */
	bool served;		/* those that waited for this load have got in */
	bool stuck;		/* it is being ended because nothing moved */
	unsigned todo;		/* actions to hand out */
	uint64_t since_ns, wanted_ns, began_ns, moved_ns, loaded_ns, used_ns, failed_ns;
	uint64_t due_ns;	/* BACKOFF: its end */
	uint64_t retry_ns, hold_ns;	/* WAITING: not before */
	uint32_t last_load_ms;	/* 0: never yet */
	uint64_t n_starts, n_failures;	/* in all, for /metrics */
};

struct launcher;

int launcher_new(const struct launch_policy *p, struct launcher **ret);
struct launcher *launcher_free(struct launcher *l);

/* ---- configuration ------------------------------------------------------------------- */
void launcher_policy(struct launcher *l, const struct launch_policy *p);
/* Adds a model or changes what it is; a running one is not disturbed.  -ENOSPC, -EINVAL. */
int launcher_set(struct launcher *l, const struct launch_conf *c, uint64_t now);
/* What it will take is known better now.  An alias that is not there: nothing. */
void launcher_memory(struct launcher *l, const char *alias, uint64_t bytes);
/* No longer configured: it is retired, then forgotten. */
void launcher_remove(struct launcher *l, const char *alias, uint64_t now);

/* ---- what people and requests want ------------------------------------------------------ */
void launcher_demand(struct launcher *l, const char *alias, uint64_t now);
/* 0, or -ENOENT, -EINVAL with the reason in e; -EALREADY: nothing to do.  A load takes the
 * model out of quarantine, but not out of a drain (-EPERM). */
int launcher_load(struct launcher *l, const char *alias, uint64_t now, struct err *e);
int launcher_unload(struct launcher *l, const char *alias, uint64_t now, struct err *e);
int launcher_drain(struct launcher *l, const char *alias, uint64_t now, struct err *e);
int launcher_undrain(struct launcher *l, const char *alias, uint64_t now, struct err *e);
/* Memory runs out: this one (NULL: the youngest) goes at once.  False: it has no process. */
bool launcher_shed(struct launcher *l, const char *alias, const char *why, uint64_t now);
/* We stop, and the workers with us. */
void launcher_stop_all(struct launcher *l, uint64_t now);

/* ---- what happened ------------------------------------------------------------------------ */
void launcher_use(struct launcher *l, const char *alias, uint32_t in_flight, uint32_t waiting,
		  uint64_t now);
/* Without a router nobody says what is in use: ttl stands still. */
void launcher_router(struct launcher *l, bool there, uint64_t now);
/* The answer to LAUNCH_ASK.  short_by: bytes that must go first; 0 with fits false: unknown. */
void launcher_room(struct launcher *l, const char *alias, bool fits, uint64_t short_by,
		   const char *why, uint64_t now);
/* A process of this alias was found alive; it gets the instance that is answered (0: no such
 * alias, or it has one). */
uint32_t launcher_adopt(struct launcher *l, const char *alias, bool ready, uint64_t now);
void launcher_progress(struct launcher *l, const char *alias, uint32_t instance,
		       uint32_t permille, uint64_t now);
void launcher_ready(struct launcher *l, const char *alias, uint32_t instance, uint64_t now);

enum launch_end {
	LAUNCH_ENDED,		/* on its own, in order */
	LAUNCH_FAILED,		/* crashed, or could not be started: again later */
	LAUNCH_HOPELESS,	/* this model or these options cannot work */
	LAUNCH_NO_ROOM,		/* memory was refused */
};
void launcher_exited(struct launcher *l, const char *alias, uint32_t instance, enum launch_end end,
		     const char *why, uint64_t now);

/* ---- what is to be done ------------------------------------------------------------------- */
enum launch_what {
	LAUNCH_ASK = 1,		/* is there memory for it?  Answer with launcher_room() */
	LAUNCH_START = 2,	/* a process, as `instance` */
	LAUNCH_STOP = 4,	/* in order, by force when it does not go */
	LAUNCH_KILL = 8,	/* by force: it is stuck */
};
struct launch_action {
	enum launch_what what;
	const struct launch_model *model;
};

bool launcher_next(struct launcher *l, struct launch_action *ret);
void launcher_tick(struct launcher *l, uint64_t now);
uint64_t launcher_due(const struct launcher *l);	/* UINT64_MAX: nothing is due */
/* Counts up with every change that a report would show (not with progress). */
uint64_t launcher_version(const struct launcher *l);

size_t launcher_count(const struct launcher *l);
const struct launch_model *launcher_at(const struct launcher *l, size_t i);
const struct launch_model *launcher_find(const struct launcher *l, const char *alias);
/* Milliseconds until it could serve if it were asked now, from measured progress, the last load,
 * or its size; UINT32_MAX: it will not. */
uint32_t launcher_ready_ms(const struct launcher *l, const struct launch_model *m, uint64_t now);

#endif
