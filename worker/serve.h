/* serve.h - a worker's conversation with its router.
 *
 * One thread, one loop: the link (proto/link.h), the engine's events, signals, timers.
 *
 *	Generate -> prompt ids -> sequences for the engine -> Accepted (or Refused)
 *	engine's tokens -> generation -> Delta (as long as there is credit) -> Done
 *
 * - Tokens that arrive in one wake leave as one Delta for each choice.  A choice without
 *   credit keeps what it has to say; when that grows past a bound its sequence is paused, and
 *   if others need the room, preempted: a slow reader costs nobody else anything.
 * - Beats go both ways.  A router that is silent for too long, or whose connection is lost,
 *   takes its requests with it; the link connects anew by itself.
 * - Drain (a message, or SIGTERM): nothing new is taken, what runs ends, then the loop
 *   does.  A second SIGTERM ends it at once.
 */
#ifndef HEARTH_WORKER_SERVE_H
#define HEARTH_WORKER_SERVE_H

#include "lib/err.h"
#include "proto/grant.h"
#include "proto/link.h"
#include "worker/engine.h"
#include "worker/text_model.h"

struct serve_options {
	const char *endpoint;
	const struct link_curve *curve;	/* NULL: none */
	const char *name;		/* of this worker, unique in the rack */
	const char *alias;		/* the model it serves */
	const char *numeric_class;
	const char *version;
	const char *quantize;		/* what became FP8, for the status line; NULL: nothing */
	uint32_t max_running;
	uint32_t drain_ms;		/* after SIGTERM, for what runs */
	struct grant *grant;		/* memory's; NULL: none.  Borrowed */
};

/* Runs until drained (0) or until the engine is lost (-ENODEV; engine_why_lost() says more).  -EINVAL, -EPERM and other
 * codes of the link: this endpoint cannot be connected to.  The caller has blocked SIGTERM
 * and SIGINT in all threads.  Nothing is owned. */
int serve_run(const struct serve_options *o, const struct text_model *model,
	      struct engine *engine, struct err *e);

/* hearth-worker serve: argv[0] is "serve".  The exit status: 0; 1 this machine, now; 64 wrong
 * usage; 70 the device hangs, was lost, or gives no numbers; 75 hearthd refused the memory; 78 a model or a
 * configuration that cannot work. */
int serve_main(int argc, char **argv);

#endif
