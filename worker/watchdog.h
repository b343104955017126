/* watchdog.h - a thread that sees whether something else moves.
 *
 * It counts its own ticks and looks at no clock: a tick in which nothing moved while there was work
 * counts as tick_ms, however long it took.  A process that was stopped (SIGSTOP, a debugger) or a
 * machine that slept has lost one tick, not the hours between; a machine that is too busy to run
 * the thread is given more time, not less.
 */
#ifndef HEARTH_WORKER_WATCHDOG_H
#define HEARTH_WORKER_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct watchdog;

struct watch_look {
	bool busy;		/* there is something that should end */
	uint64_t mark;		/* differs from the last look when something moved */
	uint64_t bound_ms;	/* for standing still while busy */
};

/* Both run in the watchdog's thread. */
struct watch_hooks {
	void *ctx;
	void (*look)(void *ctx, struct watch_look *ret);
	void (*bite)(void *ctx, uint64_t stood_ms);	/* once; the thread ends after it */
};

/* 0; -EAGAIN (no thread), -ENOMEM.  Signals are blocked in the thread. */
int watchdog_start(const struct watch_hooks *h, uint32_t tick_ms, struct watchdog **ret);
/* waits for its thread; NULL ok; returns NULL */
struct watchdog *watchdog_stop(struct watchdog *w);

#endif
