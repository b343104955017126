/* launcher.c - see launcher.h: the models, their states, what happened to a process. */
#include "daemon/launcher.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/launcher_int.h"
#include "lib/clock.h"

const char *launch_state_name(enum launch_state s)
{
	static const char *const names[] = {
		[LAUNCH_UNLOADED] = "unloaded", [LAUNCH_WAITING] = "waiting",
		[LAUNCH_STARTING] = "starting", [LAUNCH_LOADING] = "loading",
		[LAUNCH_READY] = "ready",	[LAUNCH_RETIRING] = "retiring",
		[LAUNCH_STOPPING] = "stopping", [LAUNCH_BACKOFF] = "backoff",
		[LAUNCH_QUARANTINED] = "quarantined",
	};

	return names[s];
}

int launcher_new(const struct launch_policy *p, struct launcher **ret)
{
	struct launcher *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->policy = *p;
	*ret = l;
	return 0;
}

struct launcher *launcher_free(struct launcher *l)
{
	free(l);
	return NULL;
}

void launcher_policy(struct launcher *l, const struct launch_policy *p)
{
	l->policy = *p;
}

size_t launcher_count(const struct launcher *l)
{
	return l->n;
}

const struct launch_model *launcher_at(const struct launcher *l, size_t i)
{
	return i < l->n ? &l->model[i] : NULL;
}

struct launch_model *launch_find(struct launcher *l, const char *alias)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->model[i].alias, alias))
			return &l->model[i];
	return NULL;
}

const struct launch_model *launcher_find(const struct launcher *l, const char *alias)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->model[i].alias, alias))
			return &l->model[i];
	return NULL;
}

uint64_t launcher_version(const struct launcher *l)
{
	return l->version;
}

bool launch_state_has_process(enum launch_state s)
{
	return s == LAUNCH_STARTING || s == LAUNCH_LOADING || s == LAUNCH_READY ||
	       s == LAUNCH_RETIRING || s == LAUNCH_STOPPING;
}

bool launch_has_process(const struct launch_model *m)
{
	return launch_state_has_process(m->state);
}

bool launch_loads(const struct launch_model *m)
{
	return m->state == LAUNCH_STARTING || m->state == LAUNCH_LOADING;
}

void launch_enter(struct launcher *l, struct launch_model *m, enum launch_state s, uint64_t now)
{
	m->state = s;
	m->since_ns = now;
	m->due_ns = 0;
	if (s != LAUNCH_WAITING)
		m->asked = false;
	if (s != LAUNCH_LOADING)
		m->permille = 0;
	l->version++;
}

void launch_say(struct launcher *l, struct launch_model *m, const char *fmt, ...)
{
	char was[LAUNCH_REASON];
	va_list ap;

	memcpy(was, m->reason, sizeof(was));
	va_start(ap, fmt);
	vsnprintf(m->reason, sizeof(m->reason), fmt, ap);
	va_end(ap);
	if (strcmp(was, m->reason) != 0)
		l->version++;
}

void launch_want(struct launcher *l, struct launch_model *m, uint64_t now)
{
	if (m->wanted)
		return;
	m->wanted = true;
	/* wishes of the same moment keep their order, too */
	m->wanted_ns = now > l->asked_last ? now : l->asked_last + 1;
	l->asked_last = m->wanted_ns;
}

void launch_stop(struct launcher *l, struct launch_model *m, uint64_t now)
{
	launch_enter(l, m, LAUNCH_STOPPING, now);
	m->todo = (m->todo & ~(unsigned)(LAUNCH_ASK | LAUNCH_START)) | LAUNCH_STOP;
}

void launch_retire(struct launcher *l, struct launch_model *m, uint64_t now)
{
	switch (m->state) {
	case LAUNCH_STARTING:
	case LAUNCH_LOADING:
		launch_stop(l, m, now);
		break;
	case LAUNCH_READY:
		launch_enter(l, m, LAUNCH_RETIRING, now);
		if (m->in_flight == 0 || !l->router)
			launch_stop(l, m, now);
		break;
	case LAUNCH_WAITING:
	case LAUNCH_BACKOFF:
		launch_enter(l, m, LAUNCH_UNLOADED, now);
		break;
	default:
		break;		/* on its way, or not there */
	}
}

void launch_forget(struct launcher *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (l->model[i].gone && !launch_has_process(&l->model[i]) && !l->model[i].todo) {
			l->version++;
			continue;
		}
		if (n != i)
			l->model[n] = l->model[i];
		n++;
	}
	l->n = n;
}

static struct launch_model *find_instance(struct launcher *l, const char *alias, uint32_t instance)
{
	struct launch_model *m = launch_find(l, alias);

	return m && m->instance == instance && launch_has_process(m) ? m : NULL;
}

uint32_t launcher_adopt(struct launcher *l, const char *alias, bool ready, uint64_t now)
{
	struct launch_model *m = launch_find(l, alias);

	if (!m || launch_has_process(m))
		return 0;
	launch_want(l, m, now);
	m->began_ns = 0;		/* unknown */
	m->moved_ns = m->used_ns = m->loaded_ns = now;
	m->served = true;
	m->todo = 0;
	*m->reason = '\0';
	launch_enter(l, m, ready ? LAUNCH_READY : LAUNCH_STARTING, now);
	return ++m->instance;
}

void launcher_progress(struct launcher *l, const char *alias, uint32_t instance,
		       uint32_t permille, uint64_t now)
{
	struct launch_model *m = find_instance(l, alias, instance);

	if (!m || !launch_loads(m))
		return;
	if (m->state == LAUNCH_STARTING)
		launch_enter(l, m, LAUNCH_LOADING, now);
	if (permille > 1000)
		permille = 1000;
	if (permille > m->permille || m->moved_ns < m->since_ns)
		m->moved_ns = now;
	m->permille = permille;
}

/* How fast this box reads, for models that were never loaded. */
static void learn_speed(struct launcher *l, struct launch_model *m, uint64_t now)
{
	uint64_t ms = (now - m->began_ns) / NS_PER_MS;

	if (!m->began_ns)
		return;
	m->last_load_ms = ms < 1 ? 1 : ms > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)ms;
	if (m->bytes > (64u << 20))	/* a small one says how long a process takes to start */
		l->bytes_s = m->bytes / m->last_load_ms * 1000;
}

void launcher_ready(struct launcher *l, const char *alias, uint32_t instance, uint64_t now)
{
	struct launch_model *m = find_instance(l, alias, instance);

	if (!m || !launch_loads(m))
		return;
	learn_speed(l, m, now);
	*m->reason = '\0';
	m->loaded_ns = m->used_ns = now;
	m->in_flight = 0;
	m->served = m->waiting == 0;
	launch_enter(l, m, LAUNCH_READY, now);
	launch_place(l, now);
}

static uint64_t backoff_ns(const struct launcher *l, const struct launch_model *m)
{
	uint64_t ms = l->policy.backoff_ms;

	for (uint32_t i = 1; i < m->failures && ms < l->policy.backoff_max_ms; i++)
		ms *= 2;
	if (ms > l->policy.backoff_max_ms)
		ms = l->policy.backoff_max_ms;
	return ms * NS_PER_MS;
}

static void quarantine(struct launcher *l, struct launch_model *m, uint64_t now)
{
	m->wanted = false;
	launch_enter(l, m, LAUNCH_QUARANTINED, now);
}

static void failed(struct launcher *l, struct launch_model *m, const char *why, uint64_t now)
{
	bool was_healthy = m->state == LAUNCH_READY &&
			   now - m->since_ns >= l->policy.healthy_ms * NS_PER_MS;

	if (was_healthy || m->failures == 0) {
		m->failures = 0;
		m->failed_ns = now;
	}
	m->failures++;
	m->n_failures++;
	if (m->failures >= l->policy.crash_limit) {
		launch_say(l, m, "%u failures in a row within %llu s, the last: %s", m->failures,
			   (unsigned long long)((now - m->failed_ns) / NS_PER_S), why);
		quarantine(l, m, now);
		return;
	}
	launch_say(l, m, "%s", why);
	launch_enter(l, m, LAUNCH_BACKOFF, now);
	m->due_ns = now + backoff_ns(l, m);
}

/* One that was on its way out is gone, whatever it says about itself. */
static void left(struct launcher *l, struct launch_model *m, uint64_t now)
{
	m->evicted = m->stuck = false;
	launch_enter(l, m, LAUNCH_UNLOADED, now);
}

void launcher_exited(struct launcher *l, const char *alias, uint32_t instance, enum launch_end end,
		     const char *why, uint64_t now)
{
	struct launch_model *m = find_instance(l, alias, instance);

	if (!m)
		return;
	m->todo = 0;
	for (size_t i = 0; i < l->n; i++)
		l->model[i].retry_ns = 0;	/* memory comes back: worth another question */
	if (m->stuck) {
		char stuck[LAUNCH_REASON];

		memcpy(stuck, m->reason, sizeof(stuck));
		m->stuck = false;
		failed(l, m, stuck, now);
	} else if (m->state == LAUNCH_STOPPING || m->state == LAUNCH_RETIRING) {
		left(l, m, now);
	} else if (end == LAUNCH_ENDED) {	/* somebody else ended it, and meant it */
		launch_say(l, m, "%s", why);
		m->wanted = false;
		left(l, m, now);
	} else if (end == LAUNCH_NO_ROOM) {
		launch_say(l, m, "%s", why);
		launch_enter(l, m, LAUNCH_WAITING, now);
		m->retry_ns = now + l->policy.room_ms * NS_PER_MS;
	} else if (end == LAUNCH_HOPELESS) {
		launch_say(l, m, "it cannot work as it is: %s", why);
		m->failures++;
		m->n_failures++;
		quarantine(l, m, now);
	} else {
		failed(l, m, why, now);
	}
	m->in_flight = 0;
	launch_forget(l);
	launch_place(l, now);
}

bool launcher_next(struct launcher *l, struct launch_action *ret)
{
	/* what frees memory before what takes it */
	static const enum launch_what order[] = { LAUNCH_KILL, LAUNCH_STOP, LAUNCH_ASK,
						  LAUNCH_START };

	for (size_t k = 0; k < sizeof(order) / sizeof(*order); k++) {
		for (size_t i = 0; i < l->n; i++) {
			struct launch_model *m = &l->model[i];

			if (!(m->todo & order[k]))
				continue;
			m->todo &= ~(unsigned)order[k];
			m->n_starts += order[k] == LAUNCH_START;
			*ret = (struct launch_action){ order[k], m };
			return true;
		}
	}
	return false;
}
