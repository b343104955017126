/* serve_guard.h - what `hearth-worker serve` does about a device that hangs, is lost, or gives no
 * numbers: one line, and exit status 70 (EX_SOFTWARE). */
#ifndef HEARTH_WORKER_SERVE_GUARD_H
#define HEARTH_WORKER_SERVE_GUARD_H

#include "worker/serve.h"

/* Once the engine is loaded: engine_guard() with a line for the journal and the end of the process.
 * alias: borrowed for as long as the engine lives. */
int serve_guard(struct engine *engine, const char *alias, uint32_t step_s, uint32_t no_numbers,
		struct err *e);

/* serve_run() or self_test() answered r < 0.  When the engine is the reason: its line, once, and
 * EX_SOFTWARE; it does not return when the device hangs, since whatever would free the engine would
 * hang with it.  0: it is something else. */
int serve_guard_end(struct engine *engine, const char *alias);

#endif
