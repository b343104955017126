/* sdbus.c - workers as units hearth-worker@ALIAS.service, started and stopped over sd-bus.
 *
 * RUN_DIR/worker/ALIAS.env is written first: HEARTH_WORKER_ARGS holds the words of `hearth-worker
 * serve`, for ExecStart=.  It lies there as long as the unit is ours, and so tells a later hearthd
 * which units are: one that a person started is that person's.  A restart by systemd itself (Restart=) is called off: when to try again
 * is the launcher's to say.  systemd is told what to do by jobs, and what became of it is read from the
 * unit's properties whenever a job ends or a property changes: never guessed from the order of
 * signals.
 */
#include "config.h"

#include "daemon/runner.h"
#include "daemon/unit_facts.h"

#ifdef HAVE_SYSTEMD

#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/own.h"

#define MANAGER "org.freedesktop.systemd1", "/org/freedesktop/systemd1", \
		"org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

enum { REOPEN_MS = 1000, IN_A_ROW = 256 };

struct unit {
	struct unit *next;
	struct sdbus *bus;
	char alias[LAUNCH_NAME], name[LAUNCH_NAME + 32];
	char *path, *job;
	sd_bus_slot *changed;		/* the match of its properties */
	uint32_t instance;
	bool live;			/* started or found; exited() is owed */
	bool start_pending, ready_told, adopting;
	bool by_hand;			/* active, and not ours */
	int pid;
	struct event *kill;
	uint64_t asked, answered;	/* property reads: only the newest answer counts */
};

struct sdbus {
	struct runner runner;
	struct event_base *base;
	struct runner_hooks hooks;
	char *run_dir;
	sd_bus *bus;
	struct event *io, *timer;
	struct unit *units;
};

static struct sdbus *sdbus_of(struct runner *r)
{
	return (struct sdbus *)(void *)r;
}

static void look(struct unit *u);
static void arm(struct sdbus *s);

static struct unit *find(const struct sdbus *s, const char *alias)
{
	for (struct unit *u = s->units; u; u = u->next)
		if (!strcmp(u->alias, alias))
			return u;
	return NULL;
}

static void env_path(const struct sdbus *s, const char *alias, char ret[600])
{
	snprintf(ret, 600, "%s/worker/%s.env", s->run_dir, alias);
}

static void forget_env(const struct unit *u)
{
	char path[600];

	env_path(u->bus, u->alias, path);
	(void)unlink(path);
}

static bool has_env(const struct unit *u)
{
	char path[600];

	env_path(u->bus, u->alias, path);
	return access(path, F_OK) == 0;
}

/* ---- what became of it --------------------------------------------------------------------- */

static void ended(struct unit *u, const struct unit_facts *f)
{
	struct sdbus *s = u->bus;
	char why[LAUNCH_REASON];
	enum launch_end end = unit_facts_end(f, why, sizeof(why));

	u->live = u->ready_told = false;
	u->pid = 0;
	forget_env(u);
	event_del(u->kill);
	log_line(end == LAUNCH_ENDED ? LOG_NOTE : LOG_WARN, "%s: %s", u->name, why);
	s->hooks.exited(s->hooks.arg, u->alias, u->instance, end, why);
}

static void adopt(struct unit *u, bool active)
{
	u->adopting = false;
	u->instance = u->bus->hooks.found(u->bus->hooks.arg, u->alias, active);
	u->live = u->instance != 0;
	u->ready_told = u->live && active;
	if (u->live)
		log_note("%s: found %s", u->name, active ? "active" : "starting");
}

static void call_off(struct unit *u)
{
	u->start_pending = false;
	(void)sd_bus_call_method_async(u->bus->bus, NULL, MANAGER, "StopUnit", NULL, NULL, "ss",
				       u->name, "replace");
}

static void judge(struct unit *u, const struct unit_facts *f)
{
	bool active = !strcmp(f->active, "active") || !strcmp(f->active, "reloading");
	bool over = !strcmp(f->active, "inactive") || !strcmp(f->active, "failed");
	bool again = !strcmp(f->sub, "auto-restart");
	int permille = runner_permille(f->status);

	if (u->adopting && over)
		forget_env(u);
	else if (u->adopting && strcmp(f->active, "deactivating") != 0)
		adopt(u, active);
	u->adopting = false;
	if (u->by_hand != (!u->live && active)) {
		u->by_hand = !u->by_hand;
		u->bus->hooks.by_hand(u->bus->hooks.arg);
	}
	if (!u->live)
		return;
	u->pid = f->pid;
	if (again)		/* the unit's Restart=: when to try again is the launcher's to say */
		call_off(u);
	if ((over && !u->start_pending) || again) {
		ended(u, f);
	} else if (active && !u->ready_told) {
		u->ready_told = true;
		u->bus->hooks.ready(u->bus->hooks.arg, u->alias, u->instance);
	} else if (permille >= 0 && !u->ready_told) {
		u->bus->hooks.progress(u->bus->hooks.arg, u->alias, u->instance,
				       (uint32_t)permille);
	}
}

/* ---- reading properties ----------------------------------------------------------------------- */

static int on_facts(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct unit *u = arg;
	struct unit_facts f = { 0 };

	(void)ignored;
	u->answered++;
	if (u->answered != u->asked)
		return 0;		/* a newer question is on its way */
	if (sd_bus_message_is_method_error(m, NULL))
		log_warn("%s: its state cannot be read: %s", u->name,
			 sd_bus_message_get_error(m)->message);
	else if (unit_facts_read(m, &f) < 0 || !*f.active)
		log_warn("%s: its state cannot be understood", u->name);
	else
		judge(u, &f);
	return 0;
}

static void look(struct unit *u)
{
	if (!u->bus->bus)
		return;
	if (sd_bus_call_method_async(u->bus->bus, NULL, "org.freedesktop.systemd1", u->path,
				     PROPERTIES, "GetAll", on_facts, u, "s", "") >= 0)
		u->asked++;
}

static int on_changed(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	(void)m, (void)ignored;
	look(arg);
	return 0;
}

static int on_job_removed(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct sdbus *s = arg;
	const char *job, *name, *result;
	uint32_t id;

	(void)ignored;
	if (sd_bus_message_read(m, "uoss", &id, &job, &name, &result) < 0)
		return 0;
	for (struct unit *u = s->units; u; u = u->next) {
		if (strcmp(u->name, name) != 0)
			continue;
		if (u->job && !strcmp(u->job, job)) {
			u->start_pending = false;
			if (strcmp(result, "done") != 0)
				log_note("%s: the start job ended with '%s'", u->name, result);
		}
		look(u);
	}
	return 0;
}

/* ---- starting, stopping ------------------------------------------------------------------------- */

static int on_started(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct unit *u = arg;
	const sd_bus_error *e = sd_bus_message_get_error(m);
	const char *job;
	char why[LAUNCH_REASON];

	(void)ignored;
	if (!e && sd_bus_message_read(m, "o", &job) >= 0) {
		free(u->job);
		u->job = strdup(job);
		return 0;
	}
	u->start_pending = u->live = false;
	forget_env(u);
	snprintf(why, sizeof(why), "systemd refused the start: %s",
		 e && e->message ? e->message : "an answer that cannot be understood");
	log_warn("%s: %s", u->name, why);
	u->bus->hooks.exited(u->bus->hooks.arg, u->alias, u->instance, LAUNCH_FAILED, why);
	return 0;
}

static int on_said(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	const struct unit *u = arg;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	(void)ignored;
	if (e)
		log_warn("%s: %s", u->name, e->message ? e->message : "refused");
	return 0;
}

static int write_env(const struct sdbus *s, const struct box_conf *b, const struct model_conf *m)
{
	CLEANUP(freep) char **words = model_conf_argv(b, m);
	CLEANUP(fclosep) FILE *f = NULL;
	char dir[400], path[600];

	snprintf(dir, sizeof(dir), "%s/worker", s->run_dir);
	env_path(s, m->alias, path);
	if (!words)
		return -ENOMEM;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	f = fopen(path, "we");
	if (!f)
		return -errno;
	fputs("HEARTH_WORKER_ARGS=\"", f);
	for (size_t i = 1; words[i]; i++)	/* "serve" stands in the unit */
		fprintf(f, "%s%s", i > 1 ? " " : "", words[i]);
	return fputs("\"\n", f) < 0 || fflush(f) != 0 ? -errno : 0;
}

static struct unit *unit_free(struct unit *u)
{
	sd_bus_slot_unref(u->changed);
	if (u->kill)
		event_free(u->kill);
	free(u->path);
	free(u->job);
	free(u);
	return NULL;
}

static void send_kill(struct unit *u)
{
	if (u->bus->bus)
		(void)sd_bus_call_method_async(u->bus->bus, NULL, MANAGER, "KillUnit", on_said, u,
					       "ssi", u->name, "all", SIGKILL);
	arm(u->bus);
}

static void on_kill_time(evutil_socket_t fd, short what, void *arg)
{
	struct unit *u = arg;

	(void)fd, (void)what;
	log_warn("%s: did not end in time, killed", u->name);
	send_kill(u);
}

static int watch(struct unit *u)
{
	return sd_bus_match_signal_async(u->bus->bus, &u->changed, "org.freedesktop.systemd1",
					 u->path, PROPERTIES, "PropertiesChanged", on_changed, NULL,
					 u);
}

static struct unit *unit_of(struct sdbus *s, const char *alias)
{
	struct unit *u = find(s, alias);

	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->bus = s;
	snprintf(u->alias, sizeof(u->alias), "%s", alias);
	snprintf(u->name, sizeof(u->name), "hearth-worker@%s.service", alias);
	u->kill = event_new(s->base, -1, 0, on_kill_time, u);
	if (!u->kill || sd_bus_path_encode("/org/freedesktop/systemd1/unit", u->name, &u->path) < 0 ||
	    (s->bus && watch(u) < 0))
		return unit_free(u);
	u->next = s->units;
	s->units = u;
	return u;
}

static int sdbus_start(struct runner *r, const struct box_conf *b, const struct model_conf *m,
		       uint32_t instance, struct err *e)
{
	struct sdbus *s = sdbus_of(r);
	struct unit *u = unit_of(s, m->alias);
	int code;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	if (!s->bus)
		return err_set(e, -ENOTCONN, "the system bus is away");
	code = write_env(s, b, m);
	if (code < 0)
		return err_set(e, code, "%s/worker/%s.env: %s", s->run_dir, m->alias,
			       strerror(-code));
	/* a unit that failed before would be refused for starting too often: that is our judgement */
	(void)sd_bus_call_method_async(s->bus, NULL, MANAGER, "ResetFailedUnit", NULL, NULL, "s",
				       u->name);
	code = sd_bus_call_method_async(s->bus, NULL, MANAGER, "StartUnit", on_started, u, "ss",
					u->name, "replace");
	if (code < 0)
		return err_set(e, code, "%s: %s", u->name, strerror(-code));
	u->instance = instance;
	u->live = u->start_pending = true;
	u->ready_told = u->adopting = u->by_hand = false;
	arm(s);
	return 0;
}

static void sdbus_stop(struct runner *r, const char *alias, uint32_t stop_ms, bool force)
{
	struct sdbus *s = sdbus_of(r);
	struct unit *u = find(s, alias);
	struct timeval tv = { .tv_sec = stop_ms / 1000, .tv_usec = stop_ms % 1000 * 1000 };

	if (!u || !s->bus)
		return;
	u->start_pending = false;
	if (force)
		send_kill(u);
	(void)sd_bus_call_method_async(s->bus, NULL, MANAGER, "StopUnit", on_said, u, "ss",
				       u->name, "replace");
	if (!force)
		event_add(u->kill, &tv);
	arm(s);
}

static int sdbus_pid(const struct runner *r, const char *alias)
{
	const struct unit *u = find((const struct sdbus *)(const void *)r, alias);

	return u ? u->pid : 0;
}

static uint32_t sdbus_by_hand(const struct runner *r)
{
	uint32_t n = 0;

	for (const struct unit *u = ((const struct sdbus *)(const void *)r)->units; u; u = u->next)
		n += u->by_hand;
	return n;
}

static int sdbus_adopt(struct runner *r, const struct box_conf *b, struct err *e)
{
	struct sdbus *s = sdbus_of(r);

	for (size_t i = 0; i < b->n_models; i++) {
		struct unit *u = unit_of(s, b->models[i].alias);

		if (!u)
			return err_set(e, -ENOMEM, "out of memory");
		if (u->live)
			continue;
		u->adopting = has_env(u);
		look(u);	/* not ours without: then it is only counted */
	}
	arm(s);
	return 0;
}

/* ---- the bus in the loop -------------------------------------------------------------------------- */

static int connect_bus(struct sdbus *s)
{
	int r = sd_bus_open_system(&s->bus);

	if (r >= 0)
		r = sd_bus_match_signal_async(s->bus, NULL, MANAGER, "JobRemoved", on_job_removed,
					      NULL, s);
	if (r >= 0)
		r = sd_bus_call_method_async(s->bus, NULL, MANAGER, "Subscribe", NULL, NULL, "");
	for (struct unit *u = s->units; u && r >= 0; u = u->next) {
		u->asked = u->answered = 0;
		r = watch(u);
		look(u);
	}
	if (r < 0)
		s->bus = sd_bus_close_unref(s->bus);
	return r;
}

static void disconnect_bus(struct sdbus *s)
{
	for (struct unit *u = s->units; u; u = u->next) {
		u->changed = sd_bus_slot_unref(u->changed);
		u->start_pending = false;	/* its end would not be heard: the state decides */
	}
	if (s->io)
		event_free(s->io);
	s->io = NULL;
	s->bus = sd_bus_close_unref(s->bus);
}

static void on_bus(evutil_socket_t fd, short what, void *arg)
{
	struct sdbus *s = arg;
	int r = 1;

	(void)fd, (void)what;
	if (!s->bus && connect_bus(s) >= 0)
		log_note("the system bus is back");
	for (int i = 0; i < IN_A_ROW && s->bus && r > 0; i++)
		r = sd_bus_process(s->bus, NULL);
	if (s->bus && r < 0) {
		log_warn("the system bus is lost (%s), connecting anew", strerror(-r));
		disconnect_bus(s);
	}
	arm(s);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	on_bus(fd, what, arg);
}

/* sd-bus says anew after each turn what it waits for. */
static void arm(struct sdbus *s)
{
	struct timeval tv = { .tv_sec = REOPEN_MS / 1000 };
	uint64_t at = UINT64_MAX, now = clock_ns() / 1000;
	int events;

	if (s->bus) {
		events = sd_bus_get_events(s->bus);
		if (s->io)
			event_free(s->io);
		s->io = event_new(s->base, sd_bus_get_fd(s->bus),
				  (short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0)),
				  on_io, s);
		if (s->io)
			event_add(s->io, NULL);
		if (sd_bus_get_timeout(s->bus, &at) < 0 || at == UINT64_MAX)
			at = now + 60 * 1000000ULL;
		at = at > now ? at - now : 0;
		tv = (struct timeval){ .tv_sec = (time_t)(at / 1000000),
				       .tv_usec = (suseconds_t)(at % 1000000) };
	}
	event_add(s->timer, &tv);
}

static void sdbus_close(struct runner *r)
{
	struct sdbus *s = sdbus_of(r);

	if (s->bus)
		sd_bus_flush(s->bus);
	disconnect_bus(s);
	while (s->units) {
		struct unit *u = s->units;

		s->units = u->next;
		unit_free(u);
	}
	if (s->timer)
		event_free(s->timer);
	free(s->run_dir);
	free(s);
}

static const struct runner_ops ops = { .start = sdbus_start, .stop = sdbus_stop, .pid = sdbus_pid,
				       .by_hand = sdbus_by_hand, .adopt = sdbus_adopt, .close = sdbus_close,
				       .name = "systemd", .outlive = true };

int sdbus_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
	       struct runner **ret, struct err *e)
{
	struct sdbus *s;
	int r;

	if (!b->want_units && sd_booted() <= 0)
		return err_set(e, -ENOTSUP, "systemd is not the service manager here");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	*s = (struct sdbus){ .runner = { &ops }, .base = base, .hooks = *h };
	s->run_dir = strdup(b->run_dir);
	s->timer = event_new(base, -1, 0, on_bus, s);
	r = s->run_dir && s->timer ? connect_bus(s) : -ENOMEM;
	if (r < 0) {
		sdbus_close(&s->runner);
		return err_set(e, r, "the system bus: %s", strerror(-r));
	}
	arm(s);
	*ret = &s->runner;
	return 0;
}

#else

int sdbus_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
	       struct runner **ret, struct err *e)
{
	(void)base, (void)b, (void)h, (void)ret;
	return err_set(e, -ENOTSUP, "built without libsystemd");
}

#endif
