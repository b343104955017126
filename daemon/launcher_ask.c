/* launcher_ask.c - what configuration, people and requests want of the launcher. */
#include <string.h>

#include "daemon/launcher_int.h"
#include "lib/clock.h"

enum { SHED_HOLD_MS = 30000 };

static void fill(struct launch_model *m, const struct launch_conf *c)
{
	m->pin = c->pin;
	m->on_demand = c->on_demand;
	m->ttl_s = c->ttl_s;
	m->bytes = c->bytes;
	m->memory = c->memory;
	m->gone = false;
}

void launcher_memory(struct launcher *l, const char *alias, uint64_t bytes)
{
	struct launch_model *m = launch_find(l, alias);

	if (m)
		m->memory = bytes;
}

int launcher_set(struct launcher *l, const struct launch_conf *c, uint64_t now)
{
	struct launch_model *m = launch_find(l, c->alias);

	if (strlen(c->alias) >= LAUNCH_NAME || !*c->alias)
		return -EINVAL;
	if (!m) {
		if (l->n == LAUNCH_MAX_MODELS)
			return -ENOSPC;
		m = &l->model[l->n++];
		*m = (struct launch_model){ .state = LAUNCH_UNLOADED, .since_ns = now };
		strcpy(m->alias, c->alias);
	}
	fill(m, c);
	if (m->state == LAUNCH_QUARANTINED) {	/* its lines changed: another chance */
		m->failures = 0;
		*m->reason = '\0';
		launch_enter(l, m, LAUNCH_UNLOADED, now);
	}
	if (m->pin && !m->drained)
		launch_want(l, m, now);
	l->version++;
	return 0;
}

void launcher_remove(struct launcher *l, const char *alias, uint64_t now)
{
	struct launch_model *m = launch_find(l, alias);

	if (!m)
		return;
	m->gone = m->evicted = true;
	m->wanted = false;
	launch_retire(l, m, now);
	l->version++;
	launch_forget(l);
}

void launcher_demand(struct launcher *l, const char *alias, uint64_t now)
{
	struct launch_model *m = launch_find(l, alias);

	if (!m || m->drained || m->gone || m->state == LAUNCH_QUARANTINED || l->stopping)
		return;
	if (!m->on_demand && !m->wanted)
		return;
	m->used_ns = now;
	launch_want(l, m, now);
	if (m->state == LAUNCH_RETIRING && !m->evicted)
		launch_enter(l, m, LAUNCH_READY, now);
	launch_place(l, now);
}

static struct launch_model *find_for(struct launcher *l, const char *alias, struct err *e)
{
	struct launch_model *m = launch_find(l, alias);

	if (!m || m->gone)
		err_set(e, -ENOENT, "this box has no model '%s'", alias);
	return m && !m->gone ? m : NULL;
}

int launcher_load(struct launcher *l, const char *alias, uint64_t now, struct err *e)
{
	struct launch_model *m = find_for(l, alias, e);

	if (!m)
		return -ENOENT;
	if (m->drained)
		return err_set(e, -EPERM, "%s is drained; undrain it first", alias);
	if (m->state == LAUNCH_READY)
		return err_set(e, -EALREADY, "%s is loaded", alias);
	m->used_ns = now;
	launch_want(l, m, now);
	if (m->state == LAUNCH_QUARANTINED || m->state == LAUNCH_BACKOFF) {
		m->failures = 0;
		*m->reason = '\0';
		launch_enter(l, m, LAUNCH_UNLOADED, now);
	}
	if (m->state == LAUNCH_RETIRING && !m->evicted)
		launch_enter(l, m, LAUNCH_READY, now);
	launch_place(l, now);
	return 0;
}

/* Goes; what is asked of it on its way out waits until it has gone and come again. */
static void take_out(struct launcher *l, struct launch_model *m, uint64_t now)
{
	m->wanted = false;
	m->evicted = launch_has_process(m);
	launch_retire(l, m, now);
	launch_place(l, now);
}

int launcher_unload(struct launcher *l, const char *alias, uint64_t now, struct err *e)
{
	struct launch_model *m = find_for(l, alias, e);

	if (!m)
		return -ENOENT;
	if (m->state == LAUNCH_UNLOADED || m->state == LAUNCH_QUARANTINED)
		return err_set(e, -EALREADY, "%s is %s", alias, launch_state_name(m->state));
	launch_say(l, m, "unloaded by a person");
	take_out(l, m, now);
	return 0;
}

int launcher_drain(struct launcher *l, const char *alias, uint64_t now, struct err *e)
{
	struct launch_model *m = find_for(l, alias, e);

	if (!m)
		return -ENOENT;
	if (m->drained)
		return err_set(e, -EALREADY, "%s is drained already", alias);
	m->drained = true;
	launch_say(l, m, "drained by a person");
	take_out(l, m, now);
	l->version++;
	return 0;
}

int launcher_undrain(struct launcher *l, const char *alias, uint64_t now, struct err *e)
{
	struct launch_model *m = find_for(l, alias, e);

	if (!m)
		return -ENOENT;
	if (!m->drained)
		return err_set(e, -EALREADY, "%s is not drained", alias);
	m->drained = false;
	*m->reason = '\0';
	if (m->state == LAUNCH_RETIRING) {	/* in time: it never went */
		m->evicted = false;
		launch_want(l, m, now);
		launch_enter(l, m, LAUNCH_READY, now);
	}
	if (m->state == LAUNCH_QUARANTINED) {
		m->failures = 0;
		launch_enter(l, m, LAUNCH_UNLOADED, now);
	}
	if (m->pin)
		launch_want(l, m, now);
	l->version++;
	launch_place(l, now);
	return 0;
}

bool launcher_shed(struct launcher *l, const char *alias, const char *why, uint64_t now)
{
	struct launch_model *young = NULL;

	for (size_t i = 0; i < l->n; i++) {
		struct launch_model *m = &l->model[i];

		if (launch_has_process(m) && m->state != LAUNCH_STOPPING &&
		    (!alias || !strcmp(alias, m->alias)) &&
		    (!young || m->began_ns > young->began_ns))
			young = m;
	}
	if (!young)
		return false;
	launch_say(l, young, "%s", why);
	young->in_flight = 0;		/* no time for running answers */
	if (young->state == LAUNCH_RETIRING)
		launch_enter(l, young, LAUNCH_READY, now);
	young->evicted = true;
	launch_retire(l, young, now);
	young->wanted = young->pin;
	young->hold_ns = now + SHED_HOLD_MS * NS_PER_MS;
	return true;
}

void launcher_stop_all(struct launcher *l, uint64_t now)
{
	l->stopping = true;
	for (size_t i = 0; i < l->n; i++) {
		l->model[i].wanted = false;
		launch_retire(l, &l->model[i], now);
	}
}

void launcher_use(struct launcher *l, const char *alias, uint32_t in_flight, uint32_t waiting,
		  uint64_t now)
{
	struct launch_model *m = launch_find(l, alias);

	if (!m)
		return;
	if (in_flight || waiting || m->in_flight || m->waiting)
		m->used_ns = now;
	m->in_flight = in_flight;
	m->waiting = waiting;
	if (m->state == LAUNCH_READY && (in_flight || !waiting))
		m->served = true;
	if (m->state == LAUNCH_RETIRING && !in_flight) {
		launch_enter(l, m, LAUNCH_READY, now);
		launch_retire(l, m, now);
	}
	if (waiting)
		launcher_demand(l, alias, now);
	else
		launch_place(l, now);
}

void launcher_router(struct launcher *l, bool there, uint64_t now)
{
	l->router = there;
	for (size_t i = 0; i < l->n; i++) {
		l->model[i].in_flight = l->model[i].waiting = 0;
		l->model[i].used_ns = now;
	}
}
