/* job_via.c - the routers that a request came by, in x-hearth-via: each adds a random name of its
 * process where it asks another server.
 *
 * Chains of two routers may lead to each other, or one's to itself.  When nobody serves a model, a
 * request would go to and fro between them until connections ran out.  So a router that finds its
 * own name asks no other server again; its own workers it asks.
 */
#include <string.h>

#include "router/job_int.h"

#define VIA "x-hearth-via"

enum { MAX_VIA = 800 };		/* more routers than anybody has: taken as having been here */

/* What other routers wrote; "": nothing, or not theirs. */
static const char *came_by(const struct job *j)
{
	const char *via = j->call ? http_call_header(j->call, VIA) : NULL;

	return via && !via[strspn(via, "0123456789abcdef, ")] ? via : "";
}

bool job_was_here(const struct job *j)
{
	const char *via = came_by(j);

	return strlen(via) > MAX_VIA || strstr(via, j->rt->name);
}

int job_put_via(const struct job *j, struct buf *out)
{
	const char *via = came_by(j);

	return buf_printf(out, VIA ": %s%s%s", via, *via ? ", " : "", j->rt->name);
}
