/* memory_metrics.c - the broker's part of /metrics. */
#include <stdio.h>
#include <string.h>

#include "daemon/memory_int.h"
#include "daemon/metric_table.h"
#include "lib/clock.h"

static void put_one(struct expo *x, enum metric id, double value)
{
	expo_begin(x, &metric_table[id]);
	expo_put(x, value, NULL);
}

static void put_box(const struct memory *m, struct expo *x)
{
	const struct meminfo *i = &m->info;

	put_one(x, METRIC_MEM_TOTAL, (double)i->total);
	put_one(x, METRIC_MEM_FREE, (double)i->free);
	put_one(x, METRIC_MEM_AVAILABLE, (double)i->available);
	put_one(x, METRIC_MEM_CACHED, (double)i->cached);
	put_one(x, METRIC_MEM_DROPPABLE, (double)m->measure.droppable);
	put_one(x, METRIC_MEM_RESERVE, (double)broker_policy_of(m->broker)->reserve);
	put_one(x, METRIC_MEM_OWED, (double)broker_owed(m->broker, -1));
	put_one(x, METRIC_MEM_USABLE, (double)broker_usable(m->broker, -1));
	put_one(x, METRIC_MEM_AWAITED, (double)broker_awaited(m->broker));
	put_one(x, METRIC_SWAP, (double)(i->swap_total - i->swap_free));
}

static void put_gpus(const struct memory *m, struct expo *x)
{
	const enum metric ids[] = { METRIC_GPU_TOTAL, METRIC_GPU_FREE };

	for (int k = 0; k < 2; k++) {
		const uint64_t *bytes = k ? m->measure.gpu_free : m->measure.gpu_total;
		char index[16];

		expo_begin(x, &metric_table[ids[k]]);
		for (int i = 0; i < BROKER_MAX_GPUS; i++) {
			snprintf(index, sizeof(index), "%d", i);
			if (m->gpus_own[i])
				expo_put(x, (double)bytes[i], "gpu", index, NULL);
		}
	}
}

static void put_watchdog(const struct memory *m, struct expo *x)
{
	static const char *const names[] = { "green", "yellow", "red" };

	expo_begin(x, &metric_table[METRIC_LEVEL]);
	for (int i = 0; i < 3; i++)
		expo_put(x, broker_level(m->broker) == (enum broker_level)i, "level", names[i],
			 NULL);
	expo_begin(x, &metric_table[METRIC_LEVELS]);
	for (int i = 0; i < 3; i++)
		expo_put(x, (double)m->counts.levels[i], "level", names[i], NULL);
	expo_begin(x, &metric_table[METRIC_PRESSURE]);
	if (m->psi_known)
		expo_put(x, m->psi / 100.0, NULL);
	put_one(x, METRIC_LOOKS, (double)m->counts.looks);
	put_one(x, METRIC_LOOK_GAP, (double)m->counts.gap_ns / (double)NS_PER_S);
}

static void put_classes(struct expo *x, const struct broker_claim *c)
{
	const struct {
		const char *name;
		uint64_t bytes;
	} classes[] = {
		{ "weights", c->need.weights }, { "kv", c->need.kv }, { "states", c->need.states },
		{ "workspace", c->need.workspace }, { "graphs", c->need.graphs },
		{ "pinned", c->need.pinned },
	};

	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		expo_put(x, (double)classes[i].bytes, "alias", c->alias, "class", classes[i].name,
			 NULL);
}

/* An alias has one worker, so that its name tells grants apart; a second claim of the same name
 * (somebody's own worker, or the successor of one that is just ending) is counted, not listed. */
static bool is_shown(const struct memory *m, size_t at)
{
	const struct broker_claim *c = broker_at(m->broker, at);

	if (c->state != CLAIM_LEASED)
		return false;
	for (size_t i = 0; i < at; i++)
		if (broker_at(m->broker, i)->state == CLAIM_LEASED &&
		    !strcmp(broker_at(m->broker, i)->alias, c->alias))
			return false;
	return true;
}

static void put_grants(const struct memory *m, struct expo *x)
{
	static const char *const states[] = { "queued", "judged", "granted" };
	const struct broker_claim *c;
	unsigned n[3] = { 0 };

	for (size_t i = 0; (c = broker_at(m->broker, i)); i++)
		if (c->state != CLAIM_NONE)
			n[c->state - CLAIM_QUEUED]++;
	expo_begin(x, &metric_table[METRIC_GRANTS]);
	for (int i = 0; i < 3; i++)
		expo_put(x, n[i], "state", states[i], NULL);
	expo_begin(x, &metric_table[METRIC_GRANT_BYTES]);
	for (size_t i = 0; (c = broker_at(m->broker, i)); i++)
		if (is_shown(m, i))
			put_classes(x, c);
	expo_begin(x, &metric_table[METRIC_GRANT_TAKEN]);
	for (size_t i = 0; (c = broker_at(m->broker, i)); i++)
		if (is_shown(m, i))
			expo_put(x, (double)(c->taken_host + c->taken_device), "alias", c->alias,
				 NULL);
}

static void put_counts(const struct memory *m, struct expo *x)
{
	const struct workload *w;

	put_one(x, METRIC_GRANTED, (double)m->counts.granted);
	put_one(x, METRIC_REFUSED, (double)m->counts.refused);
	expo_begin(x, &metric_table[METRIC_DROPS]);
	expo_put(x, (double)m->counts.drops, "helped", "yes", NULL);
	expo_put(x, (double)m->counts.drops_failed, "helped", "no", NULL);
	put_one(x, METRIC_SHED, (double)m->counts.stopped);
	expo_begin(x, &metric_table[METRIC_WORKLOAD]);
	for (size_t i = 0; (w = workloads_at(m->workloads, i)); i++)
		expo_put(x, w->state == WORKLOAD_STOPPED, "workload", w->conf->name, NULL);
}

void memory_put_metrics(const struct memory *m, struct expo *x)
{
	put_box(m, x);
	put_gpus(m, x);
	put_watchdog(m, x);
	put_grants(m, x);
	put_counts(m, x);
}
