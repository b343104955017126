/* attempt.h - one try of a request at one target, whatever the target is.
 *
 * Whoever makes the try (fleet.c: a worker; cloud.c: another server) reports through
 * these hooks, from the loop's thread, never from inside the call that started the try.
 * After failed(), or after done() of the last choice, the try is over and its handle gone.
 */
#ifndef HEARTH_ROUTER_ATTEMPT_H
#define HEARTH_ROUTER_ATTEMPT_H

#include "proto/wire.h"

enum attempt_fault {
	FAULT_REQUEST,		/* the client's mistake; no other target would take it */
	FAULT_REJECTED,		/* this server refuses the request; another may not */
	FAULT_CONTEXT,		/* too long for this target */
	FAULT_UNSUPPORTED,
	FAULT_BUSY,		/* queue full, draining, 429, 503 */
	FAULT_REFUSED,		/* no connection, wrong key */
	FAULT_LOST,		/* the worker or connection went away */
	FAULT_TIMEOUT,
	FAULT_SERVER,		/* 5xx, or a worker's own failure */
	FAULT_GARBAGE,		/* an answer that cannot be understood */
};

const char *attempt_fault_name(enum attempt_fault f);	/* "lost", for headers and labels */

struct attempt_failure {
	enum attempt_fault fault;
	int status;			/* of an upstream, or 0 */
	uint32_t retry_after_ms;	/* 0: not said */
	char message[256];
	char param[96];
};

struct attempt_hooks {
	/* The prompt is in. */
	void (*accepted)(void *arg, const Hw__Accepted *m);
	void (*alive)(void *arg);
	void (*delta)(void *arg, const Hw__Delta *d);
	void (*done)(void *arg, const Hw__Done *d);
	void (*failed)(void *arg, const struct attempt_failure *f);
};

#endif
