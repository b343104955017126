/* engine.h - the thread that owns the device.
 *
 * An actor: one thread runs the scheduler and is the only one that ever calls the
 * device, from device_open() to device_close().  Everybody else gives it sequences and
 * words about them (cancel, pause), and takes events.  Start and stop are handshakes:
 * when engine_start() returns the device is loaded, when engine_stop() returns the
 * thread has ended.  A mutex guards the two queues, and nothing else; it is never held
 * while the device works.
 *
 * All calls below: from one thread (the owner), which watches engine_fd().
 */
#ifndef HEARTH_WORKER_ENGINE_H
#define HEARTH_WORKER_ENGINE_H

#include <stddef.h>

#include "worker/sched.h"

struct engine;

/* Runs in the engine's thread: opens the device and loads it, and answers what the
 * scheduler is to know (n_slots .. max_context as the device got them). */
typedef int engine_open_fn(void *ctx, struct device **ret, struct sched_config *ret_config,
			   struct err *e);

/* 0, or what `open` answered; -EINVAL, -ENOMEM, -EAGAIN (no thread). */
int engine_start(engine_open_fn *open, void *ctx, struct engine **ret, struct err *e);
/* Ends what runs, without events about it.  NULL ok; returns NULL. */
struct engine *engine_stop(struct engine *e);

enum engine_event_kind {
	ENGINE_PROGRESS,	/* prompt_done positions are prefilled */
	ENGINE_TOKEN,		/* a sample; not for known output */
	ENGINE_DONE,		/* the last word about a sequence */
	ENGINE_LOST,	/* nothing more comes, end the process; engine_why_lost() has the words */
};

struct engine_event {
	enum engine_event_kind kind;
	uint64_t id;		/* of the sequence */
	uint64_t time_ns;	/* clock_ns() when the step was collected */
	union {
		uint32_t prompt_done;
		struct {
			uint32_t token;
			float logprob;
			uint32_t n_top;
			struct {
				uint32_t id;
				float logprob;
			} top[STEP_MAX_TOP];
		};
		struct {
			enum seq_end end;
			uint32_t slot, pos;	/* SEQ_END_NO_NUMBER: where */
		};
		/* -ETIMEDOUT: a step does not finish, and engine_stop() would not either; -EDOM: no
		 * numbers; else the device's code */
		int code;
	};
};

/* Takes the n sequences of one request: all of them, or none.  -ENOBUFS: the queue has no
 * room for them; -E2BIG: one is longer than engine_max_tokens(); -ENOMEM; -ENODEV. */
int engine_add(struct engine *e, struct seq **seqs, uint32_t n);
/* Words about sequences that may have ended meanwhile are harmless.  0 or -ENOMEM. */
int engine_cancel(struct engine *e, uint64_t id);
int engine_pause(struct engine *e, uint64_t id, bool paused);

/* Readable while there are events. */
int engine_fd(const struct engine *e);
/* All events there are, oldest first; they last until the next call.  Never blocks. */
size_t engine_take(struct engine *e, const struct engine_event **ret);

/* ---- the guard: a device that hangs ----------------------------------------------------
 * A thread of its own (watchdog.h) that needs the engine's only to move.  From engine_guard() to
 * the end of engine_stop(): a step that is not collected, or any other call of the device that does
 * not return, within step_ms (and more for steps of many rows: flights_bound_ms()) is said, told as
 * ENGINE_LOST, and after grace_ms for those last words `leave` ends the process, whether or not the
 * owner still does. */
struct engine_guard {
	uint32_t step_ms;
	uint32_t grace_ms;
	/* rows without a number in a row that end the engine; 0: any number of them is survived.
	 * Without a guard: 3 */
	uint32_t no_numbers;
	void *ctx;
	/* Both in the guard's thread. */
	void (*say)(void *ctx, const char *text);
	void (*leave)(void *ctx);
};

/* Once, by the owner.  The engine is loaded by then, so a load is never timed.  0, -ENOMEM,
 * -EAGAIN. */
int engine_guard(struct engine *e, const struct engine_guard *g);
/* After ENGINE_LOST: its code, and a line that says what was in flight.  0: it is not lost. */
int engine_why_lost(struct engine *e, struct err *ret);

/* For the service manager's watchdog.  True: the loop sleeps because there is nothing to do.
 * Otherwise it is in a turn, the *ret_turns-th: when that number stands still for long, the device
 * hangs. */
bool engine_pulse(struct engine *e, uint64_t *ret_turns);

void engine_stats(struct engine *e, struct sched_stats *ret);
const struct sched_config *engine_config(const struct engine *e);

#endif
