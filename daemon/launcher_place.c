/* launcher_place.c - who may start now, and who must go for it; how long a load will take. */
#include <stdio.h>
#include <string.h>

#include "daemon/launcher_int.h"
#include "lib/clock.h"

enum { SPEED_MIB_S = 1024, START_MS = 1000, GUESS_MS = 15000, SERVE_MS = 5000 };

static bool leaving(const struct launch_model *m)
{
	return m->state == LAUNCH_RETIRING || m->state == LAUNCH_STOPPING;
}

static uint64_t memory_of(const struct launch_model *m)
{
	return m->memory ? m->memory : m->bytes;
}

/* Two that are both asked for must each get to answer, or they would only load in turns. */
static uint64_t may_go_at(const struct launcher *l, const struct launch_model *m)
{
	uint64_t ms = l->policy.keep_ms;

	if (!m->served && ms < SERVE_MS)
		ms = SERVE_MS;
	return m->loaded_ns + ms * NS_PER_MS;
}

static bool may_go(const struct launcher *l, const struct launch_model *m, uint64_t now)
{
	return m->state == LAUNCH_READY && !m->pin && now >= may_go_at(l, m);
}

static bool goes_before(const struct launch_model *a, const struct launch_model *b)
{
	bool a_busy = a->in_flight || a->waiting, b_busy = b->in_flight || b->waiting;

	return a_busy != b_busy ? b_busy : a->used_ns < b->used_ns;
}

static struct launch_model *victim(struct launcher *l, uint64_t now)
{
	struct launch_model *best = NULL;

	for (size_t i = 0; i < l->n; i++) {
		struct launch_model *m = &l->model[i];

		if (may_go(l, m, now) && (!best || goes_before(m, best)))
			best = m;
	}
	return best;
}

/* Wanted again by those that still ask for it, but only after it has gone. */
static void evict(struct launcher *l, struct launch_model *m, const struct launch_model *why,
		  uint64_t now)
{
	m->wanted = false;
	m->evicted = true;
	launch_say(l, m, "made room for %s", why->alias);
	launch_retire(l, m, now);
}

/* Whether one is about to be free to go, which is worth a look at the clock. */
static bool any_later(const struct launcher *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->model[i].state == LAUNCH_READY && !l->model[i].pin)
			return true;
	return false;
}

/* true: there is a place, or one that leaves has been promised. */
static bool has_place(struct launcher *l, struct launch_model *m, uint64_t now)
{
	uint32_t used = 0, go = 0;
	struct launch_model *v;

	if (!l->policy.max_models)
		return true;
	for (size_t i = 0; i < l->n; i++) {
		used += launch_has_process(&l->model[i]);
		go += leaving(&l->model[i]);
	}
	if (used < l->policy.max_models)
		return true;
	if (used - go < l->policy.max_models) {
		launch_say(l, m, "waits until another model has gone");
		return false;
	}
	v = victim(l, now);
	if (!v) {
		launch_say(l, m, any_later(l) ? "all %u places are taken, by models that came less "
					       "than %u s ago or are pinned" :
					       "all %u places are taken by models that stay",
			   l->policy.max_models, l->policy.keep_ms / 1000);
		return false;
	}
	launch_say(l, m, "waits until %s has gone", v->alias);
	evict(l, v, m, now);
	return false;
}

static void start(struct launcher *l, struct launch_model *m, uint64_t now)
{
	m->instance++;
	m->began_ns = m->moved_ns = now;
	*m->reason = '\0';
	m->todo |= LAUNCH_START;
	launch_enter(l, m, LAUNCH_STARTING, now);
}

/* As many as it takes, or none: an eviction that does not help is not made. */
static void make_room(struct launcher *l, struct launch_model *m, uint64_t short_by, uint64_t now)
{
	uint64_t sum = 0, coming = 0;
	struct launch_model *v;

	for (size_t i = 0; i < l->n; i++) {
		if (may_go(l, &l->model[i], now))
			sum += memory_of(&l->model[i]);
		if (leaving(&l->model[i]))
			coming += memory_of(&l->model[i]);
	}
	if (sum + coming < short_by)
		return;
	while (coming < short_by && (v = victim(l, now))) {
		coming += memory_of(v);
		evict(l, v, m, now);
	}
}

void launcher_room(struct launcher *l, const char *alias, bool fits, uint64_t short_by,
		   const char *why, uint64_t now)
{
	struct launch_model *m = launch_find(l, alias);

	if (!m || m->state != LAUNCH_WAITING || !m->asked)
		return;
	m->asked = false;
	if (fits) {
		start(l, m, now);
		launch_place(l, now);
		return;
	}
	launch_say(l, m, "%s", why ? why : "there is no memory for it");
	make_room(l, m, short_by, now);
	m->retry_ns = now + l->policy.room_ms * NS_PER_MS;
	launch_place(l, now);
}

static struct launch_model *next_waiting(struct launcher *l, uint64_t after)
{
	struct launch_model *best = NULL;

	for (size_t i = 0; i < l->n; i++) {
		struct launch_model *m = &l->model[i];

		if (m->state == LAUNCH_WAITING && m->wanted_ns > after &&
		    (!best || m->wanted_ns < best->wanted_ns))
			best = m;
	}
	return best;
}

static bool any_asked(const struct launcher *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->model[i].asked)
			return true;
	return false;
}

static bool any_leaving(const struct launcher *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (leaving(&l->model[i]))
			return true;
	return false;
}

/* In the order they were asked for.  While one goes away for the first in the row, nobody
 * takes its place; one that nothing can be done for does not hold up the others. */
void launch_place(struct launcher *l, uint64_t now)
{
	struct launch_model *m;

	l->placed_ns = now;
	if (l->stopping)
		return;
	for (size_t i = 0; i < l->n; i++) {
		m = &l->model[i];
		if (m->state == LAUNCH_UNLOADED && m->wanted && !m->drained && !m->gone)
			launch_enter(l, m, LAUNCH_WAITING, now);
	}
	for (m = next_waiting(l, 0); m && !any_asked(l); m = next_waiting(l, m->wanted_ns)) {
		if (now >= m->retry_ns && now >= m->hold_ns && has_place(l, m, now)) {
			m->asked = true;	/* memory is judged one at a time */
			m->todo |= LAUNCH_ASK;
		} else if (any_leaving(l)) {
			return;
		}
	}
}

/* What was due when launch_place() last looked had its chance then. */
static uint64_t sooner(const struct launcher *l, uint64_t t, uint64_t best)
{
	return t > l->placed_ns && t < best ? t : best;
}

uint64_t launch_place_due(const struct launcher *l)
{
	uint64_t at = UINT64_MAX;
	bool waits = false;

	for (size_t i = 0; i < l->n; i++) {
		const struct launch_model *m = &l->model[i];

		if (m->state != LAUNCH_WAITING || m->asked)
			continue;
		waits = true;
		at = sooner(l, m->retry_ns, sooner(l, m->hold_ns, at));
	}
	for (size_t i = 0; waits && i < l->n; i++) {
		const struct launch_model *m = &l->model[i];

		if (m->state == LAUNCH_READY && !m->pin)
			at = sooner(l, may_go_at(l, m), at);
	}
	return at;
}

/* ---- how long ------------------------------------------------------------------------ */

static uint64_t expected_ms(const struct launcher *l, const struct launch_model *m)
{
	if (m->last_load_ms)
		return m->last_load_ms;
	if (!m->bytes)
		return GUESS_MS;
	return START_MS + m->bytes / (l->bytes_s / 1000 ? l->bytes_s / 1000 :
							  (uint64_t)SPEED_MIB_S * 1049);
}

static uint64_t remaining_ms(const struct launcher *l, const struct launch_model *m, uint64_t now)
{
	uint64_t spent = m->began_ns ? (now - m->began_ns) / NS_PER_MS : 0, all = expected_ms(l, m);

	/* the first percents say little about the rest */
	if (m->permille >= 20 && spent)
		all = spent * 1000 / m->permille;
	return all > spent ? all - spent : START_MS / 2;
}

uint32_t launcher_ready_ms(const struct launcher *l, const struct launch_model *m, uint64_t now)
{
	uint64_t ms = 0;

	if (m->state == LAUNCH_QUARANTINED || m->drained || m->gone)
		return UINT32_MAX;
	switch (m->state) {
	case LAUNCH_READY:
		return 0;
	case LAUNCH_STARTING:
	case LAUNCH_LOADING:
		ms = remaining_ms(l, m, now);
		break;
	case LAUNCH_BACKOFF:
		ms = expected_ms(l, m) + (m->due_ns > now ? (m->due_ns - now) / NS_PER_MS : 0);
		break;
	default:
		ms = expected_ms(l, m);
	}
	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX - 1;
}
