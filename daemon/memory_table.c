/* memory_table.c - the box in one message, for `hearthctl memory`. */
#include <stdlib.h>
#include <string.h>

#include "daemon/memory_int.h"
#include "daemon/nvml.h"
#include "lib/own.h"

enum { MAX_ALIASES = 256 };

struct table {
	Hb__Memory m;
	Hb__LeaseRow lease[BROKER_MAX_CLAIMS], *p_lease[BROKER_MAX_CLAIMS];
	Hb__Holder holder[2 * MEMORY_HOLDERS], *p_holder[2 * MEMORY_HOLDERS];
	Hb__AliasRow alias[MAX_ALIASES], *p_alias[MAX_ALIASES];
	Hb__WorkloadRow workload[64], *p_workload[64];
	Hb__GpuRow gpu[BROKER_MAX_GPUS], *p_gpu[BROKER_MAX_GPUS];
	char *note[CHECKS_MAX];
	struct broker_holder found[2 * MEMORY_HOLDERS];
	char state[64][BROKER_NAME + 16];
};

static void put_leases(const struct memory *m, struct table *t)
{
	static const char *const states[] = { "", "queued", "judged", "granted" };
	const struct broker_claim *c;

	for (size_t i = 0; (c = broker_at(m->broker, i)); i++) {
		Hb__LeaseRow *r = &t->lease[i];

		hb__lease_row__init(r);
		r->alias = (char *)c->alias;
		r->pid = (uint32_t)c->pid;
		r->state = (char *)states[c->state];
		r->weights = c->need.weights;
		r->kv = c->need.kv;
		r->states = c->need.states;
		r->workspace = c->need.workspace;
		r->graphs = c->need.graphs;
		r->pinned = c->need.pinned;
		r->taken = c->taken_host + c->taken_device;
		r->has_gpu = 1;
		r->gpu = c->gpu;
		r->has_lease = 1;
		r->lease = c->id;
		t->p_lease[i] = r;
		t->m.n_lease = i + 1;
	}
	t->m.lease = t->p_lease;
}

static void put_holders(struct memory *m, struct table *t)
{
	size_t n = memory_holders(m, t->found, 2 * MEMORY_HOLDERS);

	for (size_t i = 0; i < n; i++) {
		hb__holder__init(&t->holder[i]);
		t->holder[i].name = t->found[i].name;
		t->holder[i].bytes = t->found[i].bytes;
		t->p_holder[i] = &t->holder[i];
	}
	t->m.n_holder = n;
	t->m.holder = t->p_holder;
}

static bool has_lease(const struct memory *m, const char *alias)
{
	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (!strcmp(broker_at(m->broker, i)->alias, alias))
			return true;
	return false;
}

static void put_aliases(struct memory *m, struct table *t)
{
	struct memory_alias row;

	for (size_t i = 0; i < MAX_ALIASES && m->hooks.alias(m->hooks.arg, i, &row); i++) {
		Hb__AliasRow *r = &t->alias[i];
		uint64_t known = memory_known(m, row.alias);

		hb__alias_row__init(r);
		r->alias = (char *)row.alias;
		r->state = (char *)row.state;
		r->need = known ? known : row.need;
		if (!has_lease(m, row.alias))
			(void)broker_would_fit(m->broker, r->need,
					       workloads_stoppable(m->workloads, row.alias),
					       &r->short_by);
		t->p_alias[i] = r;
		t->m.n_alias = i + 1;
	}
	t->m.alias = t->p_alias;
}

static void put_workloads(struct memory *m, struct table *t)
{
	const struct workload *w;

	for (size_t i = 0; i < 64 && (w = workloads_at(m->workloads, i)); i++) {
		Hb__WorkloadRow *r = &t->workload[i];

		hb__workload_row__init(r);
		r->name = w->conf->name;
		r->unit = w->conf->unit;
		r->bytes = w->conf->memory;
		if (w->state == WORKLOAD_RUNNING)
			snprintf(t->state[i], sizeof(t->state[i]), "%s",
				 !w->known ? "unknown" : w->active ? "running" : "not running");
		else
			snprintf(t->state[i], sizeof(t->state[i]), "%s%s",
				 w->state == WORKLOAD_STOPPING ? "stopping for " :
				 w->state == WORKLOAD_STOPPED ? "stopped for " : "starting",
				 w->state == WORKLOAD_STARTING ? "" : w->for_alias);
		r->state = t->state[i];
		t->p_workload[i] = r;
		t->m.n_workload = i + 1;
	}
	t->m.workload = t->p_workload;
}

static void put_gpus(const struct memory *m, struct table *t)
{
	for (unsigned i = 0; i < BROKER_MAX_GPUS; i++) {
		Hb__GpuRow *r = &t->gpu[t->m.n_gpu];

		if (!m->gpus_own[i])
			continue;
		hb__gpu_row__init(r);
		r->index = i;
		r->total = m->measure.gpu_total[i];
		r->free = m->measure.gpu_free[i];
		t->p_gpu[t->m.n_gpu++] = r;
	}
	t->m.gpu = t->p_gpu;
}

static void put_box(struct memory *m, Hb__Memory *r)
{
	static const char *const drops[] = { "auto", "always", "never" };
	const struct broker_measure *now = broker_measured(m->broker);
	const struct broker_policy *p = broker_policy_of(m->broker);

	r->total = now->total;
	r->free = now->free;
	r->available = now->available;
	r->cached = m->info.cached;
	r->droppable = now->droppable;
	r->reserve = p->reserve;
	r->owed = broker_owed(m->broker, -1);
	r->usable = broker_usable(m->broker, -1);
	r->awaited = broker_awaited(m->broker);
	r->swap_used = m->info.swap_total - m->info.swap_free;
	r->level = broker_level(m->broker) == LEVEL_RED ? HB__LEVEL_KIND__RED :
		   broker_level(m->broker) == LEVEL_YELLOW ? HB__LEVEL_KIND__YELLOW :
							     HB__LEVEL_KIND__GREEN;
	r->pressure = now->psi;
	r->drop_caches = (char *)drops[p->drop];
}

void memory_on_ask(void *arg, struct visitor *v, bool holders)
{
	struct memory *m = arg;
	CLEANUP(freep) struct table *t = calloc(1, sizeof(*t));

	if (!t)
		return;
	memory_measure(m);
	hb__memory__init(&t->m);
	put_box(m, &t->m);
	put_leases(m, t);
	put_aliases(m, t);
	put_workloads(m, t);
	put_gpus(m, t);
	if (holders)
		put_holders(m, t);
	for (size_t i = 0; i < m->checks.n; i++)
		t->note[i] = m->checks.text[i];
	t->m.n_note = m->checks.n;
	t->m.note = t->note;
	desk_send(v, BOX_MEMORY, &t->m.base);
}
