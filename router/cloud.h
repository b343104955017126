/* cloud.h - tries at other servers that speak the OpenAI dialect (libcurl multi).
 *
 * The answer is always asked for as a stream and read into Deltas and Dones, so that all
 * above sees one kind of target.  Redirects are not followed; a key never leaves
 * for another host than its own.
 */
#ifndef HEARTH_ROUTER_CLOUD_H
#define HEARTH_ROUTER_CLOUD_H

#include "lib/err.h"
#include "router/attempt.h"
#include "router/openai_request.h"
#include "router/route.h"
#include "router/settings.h"

struct event_base;
struct cloud;
struct cloud_call;

/* What is remembered of an upstream, by name, over reloads. */
struct upstream_state {
	struct upstream_state *next;
	char *name;
	struct route_breaker breaker;
	uint32_t in_flight, penalty;
	uint64_t used_ns, requests, failures;
	bool probing;
};

int cloud_open(struct event_base *base, struct cloud **ret, struct err *e);
struct cloud *cloud_close(struct cloud *c);	/* no call may be left */

/* Made on first mention; NULL: out of memory. */
struct upstream_state *cloud_state(struct cloud *c, const char *name);

/* Begins a try, with one more header's line.  u and r must outlive it.  0 or -ENOMEM. */
int cloud_generate(struct cloud *c, const struct upstream_conf *u, const char *model,
		   const char *header, const struct oa_request *r,
		   const struct attempt_hooks *hooks, void *arg, struct cloud_call **ret);
/* Ends it; the hooks are not called again. */
void cloud_call_cancel(struct cloud_call *call);
/* While paused at most 64 KiB wait here and the rest at the other server. */
void cloud_call_pause(struct cloud_call *call, bool paused);

/* Asks GET url/models; the breaker learns from it.  Nothing when one is under way. */
void cloud_probe(struct cloud *c, const struct settings *s, const struct upstream_conf *u);

/* The body that is sent there: the client's, with model and stream set, and without what
 * is meant for our own workers or says who the user is. */
int cloud_body(const struct oa_request *r, const char *model, struct buf *out);

#endif
