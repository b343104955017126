/* sched_int.h - what the sched*.c share. */
#ifndef HEARTH_WORKER_SCHED_INT_H
#define HEARTH_WORKER_SCHED_INT_H

#include "worker/chunk.h"
#include "worker/kv_pool.h"
#include "worker/sched.h"

/* Sequences by age, oldest first. */
struct seq_list {
	struct seq **p;
	uint32_t n, cap;
};

/* A step in flight, run by run as it was planned. */
struct flight {
	uint32_t n;
	struct seq **seq;	/* NULL: ended, cancelled or preempted since */
	struct sched_run *run;
	struct step_flight told;
	uint32_t part, n_parts;		/* of its last run; n_parts 0: it is whole */
	uint64_t submitted_ns;
};

/* A prompt that is taken in parts (step.h).  Its sequence moves on with the last one. */
struct open_prompt {
	struct seq *seq;		/* NULL: there is none */
	struct plan_run run;		/* borrows from seq */
	uint32_t part, n_parts;		/* the next one, of */
};

struct sched {
	struct device *device;		/* borrowed */
	struct sched_config config;
	struct sched_sink sink;
	struct kv_pool *pool;
	struct seq_list waiting;	/* QUEUED */
	struct seq_list running;	/* PREFILL, REPLAY, DECODE */
	uint32_t *free_slots, n_free_slots;
	uint32_t n_new;			/* of those waiting: never ran yet */
	uint64_t next_arrival;

	struct flight flights[STEP_AHEAD];
	uint32_t first_flight, n_flights;
	uint64_t collected_ns;		/* the last one */
	struct chunk chunk;
	struct open_prompt open;
	struct plan_run *runs;		/* of the plan being made; n_slots */
	struct run_result *results;	/* n_slots */

	struct sched_stats stats;
};

/* sched_list.c */
int seq_list_add(struct seq_list *l, struct seq *q);		/* 0 or -ENOMEM */
void seq_list_remove(struct seq_list *l, const struct seq *q);	/* it is there */
struct seq *seq_list_find(const struct seq_list *l, uint64_t id);	/* NULL: it is not */

/* sched_room.c */
/* Blocks and slot; rows in flight may still write there, see sched.h. */
void sched_give_back(struct sched *s, struct seq *q);
bool seq_never_ran(const struct seq *q);
/* The last word about q, which is freed. */
void sched_end(struct sched *s, struct seq *q, enum seq_end how);
/* Blocks for n positions of q, at the cost of others.  -ENOSPC: q itself was preempted.  The
 * victims are younger than q, or paused, so they have no run in the plan that is being made. */
int sched_grow(struct sched *s, struct seq *q, uint32_t n);
/* The next that would start; NULL: nobody waits who may. */
struct seq *sched_first(const struct sched *s);
/* The head of the queue, as long as there is room; what is paused makes room. */
int sched_admit(struct sched *s);

/* sched_step.c */
int sched_submit(struct sched *s);	/* 1: a step was submitted; 0: there is nothing to run */
int sched_collect(struct sched *s);	/* the oldest step in flight; waits for it */

#endif
