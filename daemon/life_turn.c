/* life_turn.c - one turn: the launcher's wishes are met, who asked is told, the timer is set. */
#include <event2/event.h>
#include <string.h>

#include "daemon/life_int.h"
#include "daemon/report.h"
#include "lib/clock.h"
#include "lib/log.h"

uint64_t life_memory_of(const struct model_conf *m)
{
	if (m->memory)
		return m->memory;
	return m->budget ? m->budget : model_conf_bytes(m) + m->kv;
}

void life_soon(struct life *l)
{
	event_active(l->turn, EV_TIMEOUT, 0);
}

static void start(struct life *l, const struct launch_model *lm)
{
	const struct model_conf *m = box_conf_model(l->conf, lm->alias);
	uint32_t instance = lm->instance;
	char alias[LAUNCH_NAME];
	struct err e = { 0 };

	memcpy(alias, lm->alias, sizeof(alias));
	if (m && l->runner->ops->start(l->runner, l->conf, m, instance, &e) == 0)
		return;
	log_warn("worker %s: %s", alias, m ? e.text : "no longer configured");
	launcher_exited(l->launcher, alias, instance, LAUNCH_FAILED,
			m ? e.text : "no longer configured", clock_ns());
}

static void act(struct life *l, const struct launch_action *a)
{
	const struct model_conf *m = box_conf_model(l->conf, a->model->alias);

	switch (a->what) {
	case LAUNCH_ASK:
		l->hooks.ask(l->hooks.arg, l, a->model->alias, m ? life_memory_of(m) : 0);
		break;
	case LAUNCH_START:
		start(l, a->model);
		break;
	case LAUNCH_STOP:
	case LAUNCH_KILL:
		l->runner->ops->stop(l->runner, a->model->alias, l->conf->stop_ms,
				     a->what == LAUNCH_KILL);
		break;
	}
}

static bool any_process(const struct life *l)
{
	for (size_t i = 0; i < launcher_count(l->launcher); i++)
		if (launch_state_has_process(launcher_at(l->launcher, i)->state))
			return true;
	return false;
}

void life_report(struct life *l)
{
	struct report_env env = { .conf = l->conf, .launcher = l->launcher, .runner = l->runner,
				  .up_s = (clock_ns() - l->opened_ns) / NS_PER_S };

	report_send(&env, l->uplink);
	l->reported_version = launcher_version(l->launcher);
}

static void say_status(struct life *l)
{
	const struct runner_ops *ops = l->runner->ops;
	uint32_t by_hand = ops->by_hand ? ops->by_hand(l->runner) : 0;
	char line[256];

	if (l->said_version == launcher_version(l->launcher) && l->said_by_hand == by_hand)
		return;
	l->said_version = launcher_version(l->launcher);
	l->said_by_hand = by_hand;
	report_line(l->launcher, by_hand, uplink_is_up(l->uplink), line, sizeof(line));
	if (l->hooks.status)
		l->hooks.status(l->hooks.arg, line);
}

static void arm(struct life *l)
{
	uint64_t due = launcher_due(l->launcher), now = clock_ns(), wait;
	struct timeval tv;

	if (due == UINT64_MAX) {
		event_del(l->timer);
		return;
	}
	wait = due > now ? due - now + NS_PER_MS : 0;
	tv = (struct timeval){ .tv_sec = (time_t)(wait / NS_PER_S),
			       .tv_usec = (suseconds_t)(wait % NS_PER_S / 1000) };
	event_add(l->timer, &tv);
}

void life_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct life *l = arg;
	struct launch_action a;

	(void)fd, (void)what;
	while (launcher_next(l->launcher, &a))
		act(l, &a);
	if (launcher_version(l->launcher) != l->reported_version)
		life_report(l);
	say_status(l);
	arm(l);
	if (l->stopped && !any_process(l)) {
		void (*done)(void *) = l->stopped;

		l->stopped = NULL;
		done(l->stopped_arg);
	}
}

void life_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct life *l = arg;

	(void)fd, (void)what;
	launcher_tick(l->launcher, clock_ns());
	life_soon(l);
}
