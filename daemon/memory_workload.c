/* memory_workload.c - foreign workloads: one was stopped for the claim that is judged, or none is
 * left; who still needs the room they made. */
#include <stdio.h>
#include <string.h>

#include "daemon/memory_int.h"
#include "lib/clock.h"

enum { PRESENT_TURNS = 10 };	/* of the slow clock: this long, leases may still be presented */

static const struct broker_claim *judged(const struct memory *m)
{
	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (broker_at(m->broker, i)->state == CLAIM_JUDGED)
			return broker_at(m->broker, i);
	return NULL;
}

void memory_on_stopping(void *arg, const struct workload *w)
{
	struct memory *m = arg;
	const struct broker_claim *c = judged(m);
	char text[256];

	if (!c)
		return;
	snprintf(text, sizeof(text), "workload %.60s (%.120s) is stopped to make room",
		 w->conf->name, w->conf->unit);
	broker_stopping(m->broker, c->id);
	memory_tell_waiting(m, c->id, text);
}

void memory_on_stopped(void *arg, const struct workload *w)
{
	struct memory *m = arg;
	const struct broker_claim *c = judged(m);

	(void)w;
	memory_measure(m);
	if (c)
		broker_stopped(m->broker, c->id, clock_ns());
	memory_soon(m);
}

void memory_on_none(void *arg)
{
	struct memory *m = arg;
	const struct broker_claim *c = judged(m);

	if (c)
		broker_no_room(m->broker, c->id);
	memory_soon(m);
}

bool memory_alias_needed(void *arg, const char *alias)
{
	struct memory *m = arg;
	struct memory_alias row;

	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (!strcmp(broker_at(m->broker, i)->alias, alias))
			return true;
	/* In the first moments, leases of an earlier hearthd are still being presented; of an alias
	 * whose lease was, and is no more, all is known. */
	if (m->slow_turns <= PRESENT_TURNS && !memory_known(m, alias))
		return true;
	/* between two attempts of a worker that is wanted */
	for (size_t i = 0; m->hooks.alias(m->hooks.arg, i, &row); i++)
		if (!strcmp(row.alias, alias))
			return strcmp(row.state, "unloaded") != 0 &&
			       strcmp(row.state, "quarantined") != 0;
	return false;
}
