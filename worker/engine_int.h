/* engine_int.h - what engine.c (the thread) and engine_guard.c (who sees that it hangs) share. */
#ifndef HEARTH_WORKER_ENGINE_INT_H
#define HEARTH_WORKER_ENGINE_INT_H

#include <pthread.h>

#include "worker/engine.h"
#include "worker/watchdog.h"

enum word_kind { WORD_ADD, WORD_CANCEL, WORD_PAUSE, WORD_RESUME };

struct word {
	enum word_kind kind;
	uint64_t id;
	struct seq *seq;	/* WORD_ADD: owned */
};

struct words {
	struct word *p;
	size_t n, cap;
};

struct events {
	struct engine_event *p;
	size_t n, cap;
};

struct engine {
	pthread_t thread;
	bool started;			/* the thread is there to be joined */
	int fd;				/* eventfd: `out` is not empty */
	struct sched_config config;	/* set before the handshake, then constant */

	pthread_mutex_t lock;
	pthread_cond_t wake;		/* the thread sleeps on it while there is nothing to do */
	/* under the lock */
	bool stop;
	bool open_done;			/* the handshake: open_code is valid */
	int open_code;
	int lost;			/* code of the device's failure */
	struct err why_lost;
	struct step_flight flights[STEP_AHEAD];
	uint32_t n_flights;
	uint64_t n_moves;		/* of steps, in and out */
	struct number_watch numbers;
	bool ended;			/* the thread calls the device no more */
	struct words in;
	uint32_t n_in_adds;
	struct events out;
	struct sched_stats stats;	/* as of the last turn */
	uint64_t n_turns;
	bool asleep;			/* waits for words, with nothing to run */

	/* the owner's */
	struct events taken;
	struct engine_guard guard;	/* set before its thread is there */
	struct watchdog *watchdog;

	/* the engine thread's */
	engine_open_fn *open;
	void *open_ctx;
	struct err open_err;		/* written before the handshake */
	struct device *device;
	struct sched *sched;
	struct words doing;
	struct events made;		/* in this turn */
	int failed;			/* an event could not be kept */
};

/* Room for `more` events. 0 or -ENOMEM. */
int events_reserve(struct events *l, size_t more);
/* Under the lock: the engine is lost, and what was in flight then. */
void engine_set_why(struct engine *e, int code, const char *what);

#endif
