/* reload.h - how `systemctl reload` learns what became of it.
 *
 * SIGHUP has no answer.  So the router writes the outcome of each reload into
 * $RUNTIME_DIRECTORY/reload, and `hearth-router --reload`, which is the unit's ExecReload=,
 * sends the signal and waits for that.  The check happens where the configuration will be
 * used: in the running process, with its rights and its credentials.
 */
#ifndef HEARTH_ROUTER_RELOAD_H
#define HEARTH_ROUTER_RELOAD_H

#include "lib/err.h"

/* The outcome of a reload: why NULL: it took effect.  Without $RUNTIME_DIRECTORY: nothing. */
void reload_tell(const char *why);

/* Signals the process $MAINPID and waits for its word, 20 s at most.  0; -EINVAL: refused, e
 * says why; -ETIMEDOUT, -ESRCH: no word, no process; -ENOTSUP: not started by a manager. */
int reload_ask(struct err *e);

#endif
