/* fleet.h - the workers: who is there, how they are, and what they are doing for us.
 *
 * Holds the bus (proto/link.h).  A worker is known from its Hello until its connection
 * closes, it stays silent for dead_ms, or it breaks the protocol; then each of its tries
 * fails with FAULT_LOST.  A worker that comes back is a new one (its boot nonce differs).
 */
#ifndef HEARTH_ROUTER_FLEET_H
#define HEARTH_ROUTER_FLEET_H

#include "lib/err.h"
#include "proto/link.h"
#include "router/attempt.h"
#include "router/box.h"
#include "router/route.h"

struct event_base;
struct fleet;
struct gen;		/* one try at a worker */

struct worker {
	struct worker *next;
	uint64_t uid;			/* never used twice */
	link_peer peer;
	char *name, *model, *numeric_class, *version;
	uint64_t boot, created;
	uint32_t able, max_context, max_running, max_queue;
	uint32_t n_gens;		/* tries given to it */
	uint32_t running, waiting, free_blocks, total_blocks;	/* as its beat says */
	uint64_t prompt_tokens, output_tokens;
	double decode_tokens_s, prefill_tokens_s;
	bool draining, doomed;		/* doomed: its pipe failed, the end will be reported */
	int pid, uid_of;
	uint64_t heard_ns, used_ns, since_ns;
	uint32_t penalty;		/* recent failures, as load; halves each beat */
	struct route_breaker breaker;
	struct gen *gens;
};

struct fleet_settings {
	const char *const *endpoints;
	size_t n_endpoints;
	const struct link_curve *curve;
	uint32_t beat_ms, dead_ms;
	/* Worth another look: a worker or a box came, went or changed.  From the loop, once a
	 * turn. */
	void (*changed)(void *arg);
	void *arg;
};

int fleet_open(struct event_base *base, const struct fleet_settings *s, struct fleet **ret,
	       struct err *e);
/* Says goodbye to the workers.  No try may be left. */
struct fleet *fleet_close(struct fleet *f);

/* The public keys of boxes that may connect from now on; what others have is cut.  0; -EINVAL. */
int fleet_allow(struct fleet *f, const char *const *allowed, size_t n, struct err *e);

const struct worker *fleet_workers(const struct fleet *f);
struct boxes *fleet_boxes(struct fleet *f);
struct worker *fleet_worker(struct fleet *f, uint64_t uid);	/* NULL: gone */
/* Whether a worker ever served this model, or a box has it: gone is not the same as never heard
 * of. */
bool fleet_knows_model(const struct fleet *f, const char *model);

/* Gives g (its `request` is filled in here) to w.  0; otherwise nothing was begun. */
int fleet_generate(struct fleet *f, struct worker *w, Hw__Generate *g,
		   const struct attempt_hooks *hooks, void *arg, struct gen **ret);
/* The worker is told to stop, and the hooks are not called again. */
void gen_cancel(struct gen *g);
void gen_credit(struct gen *g, uint32_t more);
struct worker *gen_worker(struct gen *g);

#endif
