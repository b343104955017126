/* life_metrics.c - the life cycle's part of /metrics. */
#include "daemon/life.h"
#include "daemon/metric_table.h"

static void put_each(const struct launcher *l, struct expo *x, enum metric id,
		     double (*get)(const struct launch_model *m))
{
	expo_begin(x, &metric_table[id]);
	for (size_t i = 0; i < launcher_count(l); i++)
		expo_put(x, get(launcher_at(l, i)), "alias", launcher_at(l, i)->alias, NULL);
}

static double get_load(const struct launch_model *m)
{
	return m->state == LAUNCH_READY || m->state == LAUNCH_RETIRING ? 1 :
	       m->state == LAUNCH_LOADING ? m->permille / 1000.0 : 0;
}

static double get_in_flight(const struct launch_model *m)
{
	return m->in_flight;
}

static double get_waiting(const struct launch_model *m)
{
	return m->waiting;
}

static double get_starts(const struct launch_model *m)
{
	return (double)m->n_starts;
}

static double get_failures(const struct launch_model *m)
{
	return (double)m->n_failures;
}

void life_put_metrics(const struct life *life, struct expo *x)
{
	const struct launcher *l = life_launcher(life);

	expo_begin(x, &metric_table[METRIC_STATE]);
	for (size_t i = 0; i < launcher_count(l); i++)
		expo_put(x, 1, "alias", launcher_at(l, i)->alias, "state",
			 launch_state_name(launcher_at(l, i)->state), NULL);
	put_each(l, x, METRIC_LOAD_RATIO, get_load);
	put_each(l, x, METRIC_IN_FLIGHT, get_in_flight);
	put_each(l, x, METRIC_WAITING, get_waiting);
	put_each(l, x, METRIC_STARTS, get_starts);
	put_each(l, x, METRIC_FAILURES, get_failures);
	expo_begin(x, &metric_table[METRIC_ROUTER_UP]);
	expo_put(x, life_router_up(life), NULL);
}
