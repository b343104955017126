/* broker.h - who may have how much of this box's memory: a judgement without I/O.
 *
 * The owner measures (broker_measure) and tells what happened; the broker says what to do
 * next, one thing at a time (broker_next).  A *claim* is what a worker asks for, a *lease* a
 * claim that was granted; both are of a process and end with it.
 *
 *	claim -> queue -> judged, one at a time, on what was measured --> lease
 *	                    |  caches stand in the way: drop, measure      refusal
 *	                    |  a workload of the owner's may go: stop, measure
 *	                    |  a dead worker's memory is not back: wait, measure
 *
 * What a judgement holds against (bytes, no fraction anywhere):
 *
 *	owed      what leases may still take: granted - taken, over all of them
 *	usable    MemAvailable - owed - reserve
 *	free      MemFree - owed            (JUDGE_FREE: a device that counts cache as used)
 *
 * A claim is granted when need <= usable, and need <= free where that counts.  Memory of a
 * worker that died is not booked anywhere: it is granted again when it is measured.  That it
 * is still on its way only decides whether to wait or to refuse.
 *
 * Memory of a GPU of its own (not shared with the box) is a pool by itself: the claim's device
 * bytes are judged against that pool, its host bytes against the box.
 *
 * One thread.  Nothing is allocated after broker_new().  Times are clock_ns().
 */
#ifndef HEARTH_DAEMON_BROKER_H
#define HEARTH_DAEMON_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum {
	BROKER_MAX_CLAIMS = 64, BROKER_MAX_HOLDERS = 16, BROKER_MAX_GPUS = 16,
	BROKER_NAME = 128, BROKER_TEXT = 2048,
};

enum broker_drop { DROP_AUTO, DROP_ALWAYS, DROP_NEVER };
enum broker_judge { JUDGE_FREE, JUDGE_AVAILABLE };

struct broker_policy {
	uint64_t reserve;		/* never granted, of the box */
	uint64_t gpu_reserve;		/* of each GPU with memory of its own */
	uint64_t yellow, red;		/* MemAvailable below: red < yellow <= reserve */
	uint64_t limit;			/* the box counts as no larger than this; 0: as it is */
	/* % of the time in which all tasks waited; 0: not looked at */
	uint32_t yellow_psi, red_psi;
	uint32_t calm_ms;		/* quiet for so long before a level is left */
	uint32_t back_ms;	/* wait so long for a dead worker's memory, or a stopped unit's */
	enum broker_drop drop;
	enum broker_judge judge;
};

/* A budget.  On a device that shares the box's memory all of it is the box's. */
struct broker_need {
	uint64_t weights, kv, states, workspace, graphs, pinned;
};

uint64_t broker_need_total(const struct broker_need *n);

struct broker_measure {
	uint64_t total, free, available, droppable;	/* of the box */
	uint32_t psi;					/* %, 0 when unknown */
	uint64_t gpu_total[BROKER_MAX_GPUS], gpu_free[BROKER_MAX_GPUS];	/* 0: no such pool */
};

struct broker_holder {
	char name[BROKER_NAME];		/* "unit docker-3f.scope", "process python3 (1234)" */
	uint64_t bytes;
};

enum claim_state { CLAIM_NONE, CLAIM_QUEUED, CLAIM_JUDGED, CLAIM_LEASED };

struct broker_claim {			/* to be read by anyone, written by the broker only */
	enum claim_state state;
	uint64_t id;			/* never used twice in the life of a box */
	char alias[BROKER_NAME];
	int pid;
	int gpu;			/* its pool; -1: the box's memory */
	bool measured;			/* `taken` is measured by the owner, not reported */
	struct broker_need need;
	uint64_t host, device;		/* the need by pool */
	uint64_t taken_host, taken_device;
	uint64_t since_ns;		/* asked for, then granted */
	/* while it is judged */
	enum broker_pending { PENDING_NONE, PENDING_DROP, PENDING_STOP, PENDING_LOOK } pending;
	bool dropped, no_room, waited;
	bool hopeless;			/* larger than the box, with its leases */
	bool undroppable;		/* caches could not be dropped */
	uint32_t stops;			/* workloads that were stopped for it */
	uint64_t back_until_ns;		/* 0: does not wait */
};

enum broker_level { LEVEL_GREEN, LEVEL_YELLOW, LEVEL_RED };

enum broker_what {
	BROKER_DROP = 1,	/* drop caches, measure, broker_dropped() */
	/* stop a workload for claim->alias: broker_stopping() or broker_no_room() */
	BROKER_MAKE_ROOM,
	BROKER_LOOK,		/* list the holders of memory: broker_holders() */
	BROKER_WAIT,		/* nothing now: memory is on its way back (say so; asked once) */
	BROKER_GRANT,		/* claim is a lease now */
	BROKER_REFUSE,		/* claim is forgotten; text says why */
	BROKER_LEVEL,		/* `level` was entered */
	BROKER_STOP_YOUNGEST,	/* red, and nothing else helped: claim is the youngest lease */
};

struct broker_action {
	enum broker_what what;
	struct broker_claim claim;	/* a copy */
	enum broker_level level;
	uint64_t short_by;		/* BROKER_REFUSE, BROKER_MAKE_ROOM */
	char text[BROKER_TEXT];		/* for a person: one line, the numbers in it */
};

struct broker;

/* first_id: ids begin here; of a later hearthd they begin later (time since 1970 will do). */
int broker_new(const struct broker_policy *p, uint64_t first_id, struct broker **ret);
struct broker *broker_free(struct broker *b);
void broker_policy(struct broker *b, const struct broker_policy *p);

/* ---- claims and leases --------------------------------------------------------------- */

/* -EINVAL: a number no box has, -ENOSPC: too many, -EBUSY: this process has one.
 * gpu -1: all of it is the box's memory. */
int broker_claim(struct broker *b, const char *alias, int pid, int gpu, bool measured,
		 const struct broker_need *need, uint64_t now, uint64_t *ret_id, struct err *e);
/* A worker that got its lease from an earlier hearthd presents it again: it holds, whatever
 * the numbers say now.  -EEXIST: that id is taken, by another process. */
int broker_adopt(struct broker *b, uint64_t id, const char *alias, int pid, int gpu,
		 bool measured, const struct broker_need *need, uint64_t now, struct err *e);
/* How much of its lease it has taken (all of it: the rest is not owed any more). */
void broker_taken(struct broker *b, uint64_t id, uint64_t host, uint64_t device);
/* The process is gone, or gives it back.  Its memory is awaited for back_ms. */
void broker_gone(struct broker *b, uint64_t id, uint64_t now);

/* ---- what the owner did --------------------------------------------------------------- */
/* At least every 250 ms, and before an answer to an action that changed something. */
void broker_measure(struct broker *b, const struct broker_measure *m, uint64_t now);
/* helped: caches were dropped.  Where that cannot be done, a claim on the CPU (`measured`) is
 * judged by MemAvailable alone: the kernel gives cache up as a CPU worker touches its memory. */
void broker_dropped(struct broker *b, uint64_t id, bool helped);
void broker_stopping(struct broker *b, uint64_t id);	/* one is being stopped */
/* it is, its memory may be back */
void broker_stopped(struct broker *b, uint64_t id, uint64_t now);
void broker_no_room(struct broker *b, uint64_t id);	/* nobody is left to stop */
void broker_holders(struct broker *b, uint64_t id, const struct broker_holder *h, size_t n);

/* False: nothing to do until something changes. */
bool broker_next(struct broker *b, uint64_t now, struct broker_action *ret);

/* ---- to be asked ------------------------------------------------------------------------ */
/* Without a claim: would `need` fit, with what can be had back?  *ret_short: 0 or what lacks.
 * stoppable: what workloads that may go would give. */
bool broker_would_fit(const struct broker *b, uint64_t need, uint64_t stoppable,
		      uint64_t *ret_short);
enum broker_level broker_level(const struct broker *b);
const struct broker_policy *broker_policy_of(const struct broker *b);
const struct broker_measure *broker_measured(const struct broker *b);
uint64_t broker_owed(const struct broker *b, int gpu);
uint64_t broker_usable(const struct broker *b, int gpu);
uint64_t broker_awaited(const struct broker *b);	/* of dead workers, not measured yet */
const struct broker_claim *broker_at(const struct broker *b, size_t i);	/* NULL past the end */
const struct broker_claim *broker_find(const struct broker *b, uint64_t id);
const struct broker_claim *broker_of_pid(const struct broker *b, int pid);

/* broker_text.c: why a claim is refused; one line, cut at n. */
void broker_say_refusal(const struct broker *b, const struct broker_claim *c,
			const struct broker_holder *h, size_t n_holders, char *out, size_t n);

#endif
