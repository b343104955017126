/* life.c - see life.h: opened, closed, configured anew; what the runner says. */
#include "daemon/life.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/life_int.h"
#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"

static void on_progress(void *arg, const char *alias, uint32_t instance, uint32_t permille)
{
	struct life *l = arg;

	launcher_progress(l->launcher, alias, instance, permille, clock_ns());
	life_soon(l);
}

static void on_ready(void *arg, const char *alias, uint32_t instance)
{
	struct life *l = arg;
	const struct launch_model *m = launcher_find(l->launcher, alias);

	launcher_ready(l->launcher, alias, instance, clock_ns());
	if (m && m->state == LAUNCH_READY && m->last_load_ms)
		log_note("%s: ready after %.1f s", alias, m->last_load_ms / 1000.0);
	life_soon(l);
}

static void on_exited(void *arg, const char *alias, uint32_t instance, enum launch_end end,
		      const char *why)
{
	struct life *l = arg;
	const struct launch_model *m;

	launcher_exited(l->launcher, alias, instance, end, why, clock_ns());
	m = launcher_find(l->launcher, alias);
	if (m && m->state == LAUNCH_QUARANTINED)
		log_event(LOG_ERROR, EVENT_MODEL_QUARANTINED,
			  LOG_FIELDS({ "ALIAS", alias }, { "REASON", m->reason }),
			  "%s: quarantined, %s; `hearthctl load %s` tries it again", alias,
			  m->reason, alias);
	else if (m && m->state == LAUNCH_BACKOFF)
		log_event(LOG_WARN, EVENT_MODEL_BACKOFF,
			  LOG_FIELDS({ "ALIAS", alias }, { "REASON", m->reason }),
			  "%s: failure %u (%s), again in %.1f s", alias, m->failures, m->reason,
			  (double)(m->due_ns - m->since_ns) / (double)NS_PER_S);
	life_soon(l);
}

static uint32_t on_found(void *arg, const char *alias, bool ready)
{
	struct life *l = arg;
	uint32_t instance = launcher_adopt(l->launcher, alias, ready, clock_ns());

	life_soon(l);
	return instance;
}

static void on_by_hand(void *arg)
{
	life_soon(arg);
}

/* A model that has not changed takes what it took, until its worker has been asked again. */
static void keep_budgets(struct box_conf *conf, const struct box_conf *was)
{
	for (size_t i = 0; i < conf->n_models; i++) {
		const struct model_conf *m = box_conf_model(was, conf->models[i].alias);

		if (m && model_conf_same_worker(m, &conf->models[i]))
			conf->models[i].budget = m->budget;
	}
}

static void on_budget_said(void *arg, const char *alias, uint64_t bytes)
{
	struct life *l = arg;

	for (size_t i = 0; i < l->conf->n_models; i++) {
		struct model_conf *m = &l->conf->models[i];

		if (strcmp(m->alias, alias) != 0)
			continue;
		m->budget = bytes;
		launcher_memory(l->launcher, alias, life_memory_of(m));
		life_soon(l);
	}
}

static int set_models(struct life *l, const struct box_conf *conf, const struct box_conf *was,
		      struct err *e)
{
	uint64_t now = clock_ns();
	int r = 0;

	for (size_t i = 0; i < conf->n_models && r == 0; i++) {
		const struct model_conf *m = &conf->models[i];
		const struct launch_conf c = { .alias = m->alias, .pin = m->pin,
					       .on_demand = m->on_demand, .ttl_s = m->ttl_s,
					       .bytes = model_conf_bytes(m),
					       .memory = life_memory_of(m) };

		r = launcher_set(l->launcher, &c, now);
	}
	for (size_t i = 0; was && i < was->n_models; i++)
		if (!box_conf_model(conf, was->models[i].alias))
			launcher_remove(l->launcher, was->models[i].alias, now);
	return r < 0 ? err_set(e, r, "the models: %s", strerror(-r)) : 0;
}

void life_reload(struct life *l, struct box_conf *conf)
{
	struct err e;

	for (size_t i = 0; i < conf->n_models; i++) {
		const struct model_conf *was = box_conf_model(l->conf, conf->models[i].alias);
		const struct launch_model *m = launcher_find(l->launcher, conf->models[i].alias);

		if (was && m && launch_state_has_process(m->state) &&
		    !model_conf_same_worker(was, &conf->models[i]))
			log_note("%s: changed; the loaded one goes on as it is until it is loaded "
				 "anew", m->alias);
	}
	launcher_policy(l->launcher, &conf->policy);
	keep_budgets(conf, l->conf);
	if (set_models(l, conf, l->conf, &e) < 0)
		log_error("reload: %s", e.text);
	box_conf_free(l->conf);
	l->conf = conf;
	estimate_ask(l->estimate, conf);
	life_soon(l);
}

static void life_closep(struct life **l)
{
	life_close(*l);
}

int life_open(struct event_base *base, struct box_conf *conf, const struct life_hooks *h,
	      struct life **ret, struct err *e)
{
	CLEANUP(life_closep) struct life *l = calloc(1, sizeof(*l));
	const struct runner_hooks rh = { .progress = on_progress, .ready = on_ready,
					 .exited = on_exited, .found = on_found,
					 .by_hand = on_by_hand, .arg = l };
	int r;

	if (!l || launcher_new(&conf->policy, &l->launcher) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	l->base = base;
	l->hooks = *h;
	l->opened_ns = clock_ns();
	l->turn = event_new(base, -1, 0, life_on_turn, l);
	l->timer = event_new(base, -1, 0, life_on_timer, l);
	if (!l->turn || !l->timer || estimate_new(base, on_budget_said, l, &l->estimate) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = set_models(l, conf, NULL, e);
	if (r == 0)
		r = runner_open(base, conf, &rh, &l->runner, e);
	l->conf = conf;
	if (r == 0)
		r = life_open_uplink(l, e);
	if (r == 0)
		r = l->runner->ops->adopt(l->runner, conf, e);
	if (r < 0) {
		l->conf = NULL;		/* stays the caller's */
		return r;
	}
	log_note("box %s: %zu models, workers run by %s, router at %s", conf->name, conf->n_models,
		 l->runner->ops->name, conf->router);
	launcher_tick(l->launcher, clock_ns());
	estimate_ask(l->estimate, conf);
	life_soon(l);
	*ret = TAKE(l);
	return 0;
}

struct life *life_close(struct life *l)
{
	if (!l)
		return NULL;
	uplink_close(l->uplink);
	estimate_free(l->estimate);
	if (l->runner)
		l->runner->ops->close(l->runner);
	if (l->turn)
		event_free(l->turn);
	if (l->timer)
		event_free(l->timer);
	launcher_free(l->launcher);
	box_conf_free(l->conf);
	free(l);
	return NULL;
}

void life_room(struct life *l, const char *alias, bool fits, uint64_t short_by, const char *why)
{
	launcher_room(l->launcher, alias, fits, short_by, why, clock_ns());
	life_soon(l);
}

bool life_shed(struct life *l, const char *alias, const char *why)
{
	bool any = launcher_shed(l->launcher, alias, why, clock_ns());

	life_soon(l);
	return any;
}

void life_stop(struct life *l, void (*done)(void *arg), void *arg)
{
	const struct box_conf *b = l->conf;
	bool stop = b->stop_workers_set ? b->stop_workers : !l->runner->ops->outlive;

	if (!stop) {
		done(arg);
		return;
	}
	l->stopped = done;
	l->stopped_arg = arg;
	launcher_stop_all(l->launcher, clock_ns());
	life_soon(l);
}

bool life_router_up(const struct life *l)
{
	return uplink_is_up(l->uplink);
}

const struct launcher *life_launcher(const struct life *l)
{
	return l->launcher;
}

const struct box_conf *life_conf(const struct life *l)
{
	return l->conf;
}

int life_pid(const struct life *l, const char *alias)
{
	return l->runner->ops->pid(l->runner, alias);
}
