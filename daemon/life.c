/* life.c - see life.h. */
#include "daemon/life.h"

#include <event2/event.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/report.h"
#include "daemon/runner.h"
#include "daemon/uplink.h"
#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"
#include "lib/svc.h"

struct life {
	struct event_base *base;
	struct box_conf *conf;
	struct launcher *launcher;
	struct runner *runner;
	struct uplink *uplink;
	struct life_hooks hooks;
	struct event *turn, *timer;
	uint64_t reported_version, said_version, opened_ns;
	uint32_t said_by_hand;
	char curve_secret[41];
	void (*stopped)(void *arg);
	void *stopped_arg;
};

static uint64_t memory_of(const struct model_conf *m)
{
	return m->memory ? m->memory : model_conf_bytes(m) + m->kv;
}

/* ---- doing what the launcher says --------------------------------------------------------- */

/* Whatever happened, the launcher's wishes are met in the same turn of the loop, from the top. */
static void soon(struct life *l)
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
		l->hooks.ask(l->hooks.arg, l, a->model->alias, m ? memory_of(m) : 0);
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
	for (size_t i = 0; i < launcher_count(l->launcher); i++) {
		enum launch_state s = launcher_at(l->launcher, i)->state;

		if (s >= LAUNCH_STARTING && s <= LAUNCH_STOPPING)
			return true;
	}
	return false;
}

static void report(struct life *l)
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

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct life *l = arg;
	struct launch_action a;

	(void)fd, (void)what;
	while (launcher_next(l->launcher, &a))
		act(l, &a);
	if (launcher_version(l->launcher) != l->reported_version)
		report(l);
	say_status(l);
	arm(l);
	if (l->stopped && !any_process(l)) {
		void (*done)(void *) = l->stopped;

		l->stopped = NULL;
		done(l->stopped_arg);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct life *l = arg;

	(void)fd, (void)what;
	launcher_tick(l->launcher, clock_ns());
	soon(l);
}

/* ---- what the runner says ------------------------------------------------------------------- */

static void on_progress(void *arg, const char *alias, uint32_t instance, uint32_t permille)
{
	struct life *l = arg;

	launcher_progress(l->launcher, alias, instance, permille, clock_ns());
	soon(l);
}

static void on_ready(void *arg, const char *alias, uint32_t instance)
{
	struct life *l = arg;
	const struct launch_model *m = launcher_find(l->launcher, alias);

	launcher_ready(l->launcher, alias, instance, clock_ns());
	if (m && m->state == LAUNCH_READY && m->last_load_ms)
		log_note("%s: ready after %.1f s", alias, m->last_load_ms / 1000.0);
	soon(l);
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
	soon(l);
}

static uint32_t on_found(void *arg, const char *alias, bool ready)
{
	struct life *l = arg;
	uint32_t instance = launcher_adopt(l->launcher, alias, ready, clock_ns());

	soon(l);
	return instance;
}

static void on_by_hand(void *arg)
{
	soon(arg);
}

/* ---- what the router says --------------------------------------------------------------------- */

static void on_up(void *arg, bool up)
{
	struct life *l = arg;

	launcher_router(l->launcher, up, clock_ns());
	if (up)
		report(l);
	l->said_version = 0;
	soon(l);
}

static int obey(struct life *l, Hw__BoxVerb verb, const char *alias, struct err *e)
{
	uint64_t now = clock_ns();

	switch (verb) {
	case HW__BOX_VERB__DEMAND:
		launcher_demand(l->launcher, alias, now);
		return 0;
	case HW__BOX_VERB__LOAD:
		return launcher_load(l->launcher, alias, now, e);
	case HW__BOX_VERB__UNLOAD:
		return launcher_unload(l->launcher, alias, now, e);
	case HW__BOX_VERB__DRAIN:
		return launcher_drain(l->launcher, alias, now, e);
	default:
		return launcher_undrain(l->launcher, alias, now, e);
	}
}

/* All of the box's models; those for which there is nothing to do are no failure. */
static int obey_all(struct life *l, Hw__BoxVerb verb, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < launcher_count(l->launcher); i++) {
		struct err mine;
		int one = obey(l, verb, launcher_at(l->launcher, i)->alias, &mine);

		if (one < 0 && one != -EALREADY && r == 0) {
			r = one;
			*e = mine;
		}
	}
	return r;
}

static void on_command(void *arg, const Hw__BoxCommand *c)
{
	static const char *const names[] = { "", "demand", "load", "unload", "drain", "undrain" };
	struct life *l = arg;
	struct err e = { 0 };
	int r = !strcmp(c->alias, "*") ? obey_all(l, c->verb, &e) : obey(l, c->verb, c->alias, &e);

	if (c->verb != HW__BOX_VERB__DEMAND)
		log_note("router: %s %s%s%s", names[c->verb], c->alias, r < 0 ? ": " : "",
			 r < 0 ? e.text : "");
	/* first the state after it, so that who asks for it next sees it */
	on_turn(-1, 0, l);
	uplink_reply(l->uplink, c->request, r == 0 || r == -EALREADY, r < 0 ? e.text : NULL);
}

static void on_use(void *arg, const Hw__BoxUse *u)
{
	struct life *l = arg;

	for (size_t i = 0; i < u->n_use; i++)
		launcher_use(l->launcher, u->use[i]->alias, u->use[i]->in_flight,
			     u->use[i]->waiting, clock_ns());
	soon(l);
}

static void on_beat(void *arg)
{
	report(arg);
}

/* ---- configuration -------------------------------------------------------------------------------- */

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
					       .memory = memory_of(m) };

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

		if (was && m && m->state >= LAUNCH_STARTING && m->state <= LAUNCH_STOPPING &&
		    !model_conf_same_worker(was, &conf->models[i]))
			log_note("%s: changed; the loaded one goes on as it is until it is loaded "
				 "anew", m->alias);
	}
	launcher_policy(l->launcher, &conf->policy);
	if (set_models(l, conf, l->conf, &e) < 0)
		log_error("reload: %s", e.text);
	box_conf_free(l->conf);
	l->conf = conf;
	soon(l);
}

static int read_secret(const char *name, char ret[41], struct err *e)
{
	CLEANUP(fclosep) FILE *f = NULL;
	char path[PATH_MAX];
	int r = svc_path(name, path, sizeof(path), e);

	if (r < 0)
		return r;
	f = fopen(path, "re");
	if (!f)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (fread(ret, 1, 40, f) != 40)
		return err_set(e, -EINVAL, "%s: not a secret key of 40 characters", path);
	ret[40] = '\0';
	return 0;
}

static int open_uplink(struct life *l, struct err *e)
{
	const struct box_conf *b = l->conf;
	const struct uplink_hooks h = { .up = on_up, .command = on_command, .use = on_use,
					.beat = on_beat, .arg = l };
	const struct link_curve curve = { .own_public = b->curve_public,
					  .own_secret = l->curve_secret,
					  .server_public = b->curve_server };
	int r = b->curve_public ? read_secret(b->curve_secret_file, l->curve_secret, e) : 0;

	if (r == 0)
		r = uplink_open(l->base, b->router, b->curve_public ? &curve : NULL, b->name, &h,
				&l->uplink, e);
	explicit_bzero(l->curve_secret, sizeof(l->curve_secret));	/* the link has its own */
	return r;
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
	l->turn = event_new(base, -1, 0, on_turn, l);
	l->timer = event_new(base, -1, 0, on_timer, l);
	if (!l->turn || !l->timer)
		return err_set(e, -ENOMEM, "out of memory");
	r = set_models(l, conf, NULL, e);
	if (r == 0)
		r = runner_open(base, conf, &rh, &l->runner, e);
	l->conf = conf;
	if (r == 0)
		r = open_uplink(l, e);
	if (r == 0)
		r = l->runner->ops->adopt(l->runner, conf, e);
	if (r < 0) {
		l->conf = NULL;		/* stays the caller's */
		return r;
	}
	log_note("box %s: %zu models, workers run by %s, router at %s", conf->name, conf->n_models,
		 l->runner->ops->name, conf->router);
	launcher_tick(l->launcher, clock_ns());
	soon(l);
	*ret = TAKE(l);
	return 0;
}

struct life *life_close(struct life *l)
{
	if (!l)
		return NULL;
	uplink_close(l->uplink);
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

/* ---- for main ---------------------------------------------------------------------------------------- */

void life_room(struct life *l, const char *alias, bool fits, uint64_t short_by, const char *why)
{
	launcher_room(l->launcher, alias, fits, short_by, why, clock_ns());
	soon(l);
}

bool life_shed(struct life *l, const char *alias, const char *why)
{
	bool any = launcher_shed(l->launcher, alias, why, clock_ns());

	soon(l);
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
	soon(l);
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
