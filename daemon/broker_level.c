/* broker_level.c - green, yellow, red: how the box is, and who must go when red does not end. */
#include <stdio.h>

#include "daemon/broker_int.h"
#include "lib/bytes.h"
#include "lib/clock.h"

/* Workers get this long to give memory back by themselves before one of them is stopped. */
#define SHED_AFTER_NS (NS_PER_S / 2)

static enum broker_level level_of(const struct broker *b)
{
	const struct broker_policy *p = &b->policy;
	uint64_t have = b->now.available;
	/* waiting in a container with a limit of its own is not this box's distress */
	uint32_t psi = have < p->reserve ? b->now.psi : 0;

	if (have < p->red || (p->red_psi && psi >= p->red_psi))
		return LEVEL_RED;
	if (have < p->yellow || (p->yellow_psi && psi >= p->yellow_psi))
		return LEVEL_YELLOW;
	return LEVEL_GREEN;
}

/* Up at once, down after a while of quiet: a level that flickers preempts everybody twice. */
void broker_watch(struct broker *b, uint64_t now)
{
	enum broker_level seen = level_of(b);

	if (seen >= b->level) {
		if (seen > b->level && seen == LEVEL_RED)
			b->shed_ns = now + SHED_AFTER_NS;
		b->level = seen;
		b->quiet_ns = 0;
		return;
	}
	if (!b->quiet_ns)
		b->quiet_ns = now;
	else if (now - b->quiet_ns >= b->policy.calm_ms * NS_PER_MS) {
		b->level = seen;
		b->quiet_ns = 0;
	}
}

static const struct broker_claim *youngest(const struct broker *b)
{
	const struct broker_claim *y = NULL;	/* ids count up, over restarts of ours too */

	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].state == CLAIM_LEASED && (!y || b->claim[i].id > y->id))
			y = &b->claim[i];
	return y;
}

bool broker_guard(struct broker *b, uint64_t now, struct broker_action *a)
{
	static const char *const names[] = { "green", "yellow", "red" };
	const struct broker_claim *y;

	if (b->level != b->told) {
		b->told = b->level;
		a->what = BROKER_LEVEL;
		a->level = b->level;
		snprintf(a->text, sizeof(a->text),
			 "%s: MemAvailable %s (yellow below %s, red below "
			 "%s), all tasks waited for memory %u %% of the time",
			 names[b->level], BYTES(b->now.available), BYTES(b->policy.yellow),
			 BYTES(b->policy.red), b->now.psi);
		return true;
	}
	/* the level may linger; only numbers that are red now cost somebody his worker */
	if (b->level != LEVEL_RED || level_of(b) != LEVEL_RED || now < b->shed_ns)
		return false;
	y = youngest(b);
	if (!y)
		return false;
	b->shed_ns = now + b->policy.back_ms * NS_PER_MS;
	snprintf(a->text, sizeof(a->text),
		 "MemAvailable is %s, below %s: worker %s (process %d, "
		 "the youngest) is stopped",
		 BYTES(b->now.available), BYTES(b->policy.red), y->alias, y->pid);
	return broker_say(a, BROKER_STOP_YOUNGEST, y, 0);
}

enum broker_level broker_level(const struct broker *b)
{
	return b->level;
}
