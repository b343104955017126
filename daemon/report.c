/* report.c - see report.h. */
#include "daemon/report.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/telemetry.h"
#include "lib/clock.h"
#include "lib/own.h"

_Static_assert((int)LAUNCH_UNLOADED == (int)HW__MODEL_STATE__UNLOADED &&
	       (int)LAUNCH_QUARANTINED == (int)HW__MODEL_STATE__QUARANTINED, "one set of states");

struct row {
	Hw__BoxModel m;
	char worker[192];
};

static void fill_row(const struct report_env *env, const struct launch_model *l, struct row *r,
		     uint64_t now)
{
	uint32_t ready_ms = launcher_ready_ms(env->launcher, l, now);
	Hw__BoxModel *m = &r->m;
	int pid = env->runner->ops->pid(env->runner, l->alias);

	hw__box_model__init(m);
	model_conf_worker_name(env->conf, l->alias, r->worker);
	m->alias = (char *)(uintptr_t)l->alias;
	m->worker = r->worker;
	m->state = (Hw__ModelState)l->state;
	m->has_permille = l->state == LAUNCH_LOADING;
	m->permille = l->permille;
	m->has_ready_ms = ready_ms != UINT32_MAX;
	m->ready_ms = ready_ms;
	m->reason = *l->reason ? (char *)(uintptr_t)l->reason : NULL;
	m->has_pinned = m->has_drained = m->has_on_demand = m->has_failures = 1;
	m->pinned = l->pin;
	m->drained = l->drained;
	m->on_demand = l->on_demand;
	m->failures = l->failures;
	m->has_idle_s = l->state == LAUNCH_READY && !l->in_flight;
	m->idle_s = now > l->used_ns ? (uint32_t)((now - l->used_ns) / NS_PER_S) : 0;
	m->has_ttl_s = m->has_bytes = 1;
	m->ttl_s = l->ttl_s;
	m->bytes = l->bytes;
	m->has_pid = pid > 0;
	m->pid = (uint32_t)pid;
}

static void fill_telemetry(Hw__BoxReport *r)
{
	struct telemetry t;

	telemetry_read(&t);
	r->has_memory_total = r->has_memory_free = r->has_memory_available = r->has_memory_cached =
		1;
	r->memory_total = t.memory_total;
	r->memory_free = t.memory_free;
	r->memory_available = t.memory_available;
	r->memory_cached = t.memory_cached;
	r->has_pressure_some = r->has_pressure_full = r->has_load_1 = 1;
	r->pressure_some = t.pressure_some;
	r->pressure_full = t.pressure_full;
	r->load_1 = t.load_1;
}

void report_send(const struct report_env *env, struct uplink *u)
{
	size_t n = launcher_count(env->launcher);
	CLEANUP(freep) struct row *rows = calloc(n + 1, sizeof(*rows));
	CLEANUP(freep) Hw__BoxModel **list = calloc(n + 1, sizeof(*list));
	Hw__BoxReport r = HW__BOX_REPORT__INIT;
	uint64_t now = clock_ns();

	if (!rows || !list || !uplink_is_up(u))
		return;		/* the next beat tries again */
	for (size_t i = 0; i < n; i++) {
		fill_row(env, launcher_at(env->launcher, i), &rows[i], now);
		list[i] = &rows[i].m;
	}
	r.n_model = n;
	r.model = list;
	r.has_max_models = r.has_up_s = 1;
	r.max_models = env->conf->policy.max_models;
	r.up_s = env->up_s;
	fill_telemetry(&r);
	uplink_report(u, &r);
}

void report_line(const struct launcher *l, uint32_t by_hand, bool router, char *ret, size_t n)
{
	size_t ready = 0, at;
	char more[48] = "";

	for (size_t i = 0; i < launcher_count(l); i++)
		ready += launcher_at(l, i)->state == LAUNCH_READY;
	if (by_hand)
		snprintf(more, sizeof(more), ", %u more started by hand", by_hand);
	snprintf(ret, n, "%zu of %zu models ready%s%s", ready, launcher_count(l), more,
		 router ? "" : ", no router");
	for (size_t i = 0; i < launcher_count(l); i++) {
		const struct launch_model *m = launcher_at(l, i);

		at = 0;
		while (at < n && ret[at])
			at++;
		if (m->state == LAUNCH_LOADING)
			snprintf(ret + at, n - at, ", %s loading %u %%", m->alias,
				 m->permille / 10);
		else if (m->state != LAUNCH_READY && m->state != LAUNCH_UNLOADED)
			snprintf(ret + at, n - at, ", %s %s", m->alias,
				 launch_state_name(m->state));
	}
}
