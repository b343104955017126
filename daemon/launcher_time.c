/* launcher_time.c - what is due, and what follows when its time has come. */
#include "daemon/launcher_int.h"
#include "lib/clock.h"

static uint64_t ttl_end(const struct launcher *l, const struct launch_model *m)
{
	bool counts = m->state == LAUNCH_READY && m->ttl_s && !m->pin && l->router &&
		      !m->in_flight && !m->waiting;

	return counts ? m->used_ns + m->ttl_s * NS_PER_S : UINT64_MAX;
}

static uint64_t stall_end(const struct launcher *l, const struct launch_model *m)
{
	return launch_loads(m) ? m->moved_ns + l->policy.stall_ms * NS_PER_MS : UINT64_MAX;
}

static uint64_t retire_end(const struct launcher *l, const struct launch_model *m)
{
	return m->state == LAUNCH_RETIRING ? m->since_ns + l->policy.retire_ms * NS_PER_MS :
					     UINT64_MAX;
}

static uint64_t healthy_at(const struct launcher *l, const struct launch_model *m)
{
	return m->state == LAUNCH_READY && m->failures ?
		       m->since_ns + l->policy.healthy_ms * NS_PER_MS : UINT64_MAX;
}

static void give_up(struct launcher *l, struct launch_model *m, uint64_t now)
{
	launch_say(l, m, "no progress for %u s while %s", l->policy.stall_ms / 1000,
		   launch_state_name(m->state));
	m->stuck = true;
	m->todo = LAUNCH_KILL;
	launch_enter(l, m, LAUNCH_STOPPING, now);
}

static void tick_one(struct launcher *l, struct launch_model *m, uint64_t now)
{
	if (now >= stall_end(l, m)) {
		give_up(l, m, now);
	} else if (now >= retire_end(l, m)) {
		launch_stop(l, m, now);
	} else if (now >= ttl_end(l, m)) {
		m->wanted = false;
		launch_retire(l, m, now);
	} else if (m->state == LAUNCH_BACKOFF && now >= m->due_ns) {
		launch_enter(l, m, m->wanted ? LAUNCH_WAITING : LAUNCH_UNLOADED, now);
	}
	if (now >= healthy_at(l, m)) {
		m->failures = 0;
		l->version++;
	}
}

void launcher_tick(struct launcher *l, uint64_t now)
{
	for (size_t i = 0; i < l->n; i++)
		tick_one(l, &l->model[i], now);
	launch_forget(l);
	launch_place(l, now);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t launcher_due(const struct launcher *l)
{
	uint64_t at = launch_place_due(l);

	for (size_t i = 0; i < l->n; i++) {
		const struct launch_model *m = &l->model[i];

		at = earlier(at, earlier(stall_end(l, m), retire_end(l, m)));
		at = earlier(at, earlier(ttl_end(l, m), healthy_at(l, m)));
		if (m->state == LAUNCH_BACKOFF)
			at = earlier(at, m->due_ns);
	}
	return at;
}
