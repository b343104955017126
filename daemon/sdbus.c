/* sdbus.c - workers as units hearth-worker@ALIAS.service, started and stopped over sd-bus.
 *
 * RUN_DIR/worker/ALIAS.env is written first: HEARTH_WORKER_ARGS holds the words of `hearth-worker
 * serve`, for ExecStart=.  It lies there as long as the unit is ours, and so tells a later hearthd
 * which units are: one that a person started is that person's.  A restart by systemd itself
 * (Restart=) is called off: when to try again is the launcher's to say.  systemd is told what to do
 * by jobs, and what became of it is read from the unit's properties whenever a job ends or a
 * property changes: never guessed from the order of signals.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "daemon/sdbus_int.h"
#include "lib/log.h"
#include "lib/own.h"

static struct sdbus *sdbus_of(struct runner *r)
{
	return (struct sdbus *)(void *)r;
}

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
	unit_forget_env(u);
	snprintf(why, sizeof(why), "systemd refused the start: %s",
		 e && e->message ? e->message : "an answer that cannot be understood");
	log_warn("%s: %s", u->name, why);
	u->bus->hooks.exited(u->bus->hooks.arg, u->alias, u->instance, LAUNCH_FAILED, why);
	return 0;
}

static int write_env(const struct sdbus *s, const struct box_conf *b, const struct model_conf *m)
{
	CLEANUP(freep) char **words = model_conf_argv(b, m);
	CLEANUP(fclosep) FILE *f = NULL;
	char dir[400], path[600];

	snprintf(dir, sizeof(dir), "%s/worker", s->run_dir);
	unit_env_path(s, m->alias, path);
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

static int sdbus_start(struct runner *r, const struct box_conf *b, const struct model_conf *m,
		       uint32_t instance, struct err *e)
{
	struct sdbus *s = sdbus_of(r);
	struct unit *u = sdbus_add_unit(s, m->alias);
	int code;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	if (!s->bus)
		return err_set(e, -ENOTCONN, "the system bus is away");
	code = write_env(s, b, m);
	if (code < 0)
		return err_set(e, code, "%s/worker/%s.env: %s", s->run_dir, m->alias,
			       strerror(-code));
	/* a unit that failed before would be refused for starting too often: ours to judge */
	(void)sd_bus_call_method_async(s->bus, NULL, MANAGER, "ResetFailedUnit", NULL, NULL, "s",
				       u->name);
	code = sd_bus_call_method_async(s->bus, NULL, MANAGER, "StartUnit", on_started, u, "ss",
					u->name, "replace");
	if (code < 0)
		return err_set(e, code, "%s: %s", u->name, strerror(-code));
	u->instance = instance;
	u->live = u->start_pending = true;
	u->ready_told = u->adopting = u->by_hand = false;
	sdbus_arm(s);
	return 0;
}

static void sdbus_stop(struct runner *r, const char *alias, uint32_t stop_ms, bool force)
{
	struct sdbus *s = sdbus_of(r);
	struct unit *u = sdbus_unit(s, alias);
	struct timeval tv = { .tv_sec = stop_ms / 1000, .tv_usec = stop_ms % 1000 * 1000 };

	if (!u || !s->bus)
		return;
	u->start_pending = false;
	if (force)
		unit_kill(u);
	(void)sd_bus_call_method_async(s->bus, NULL, MANAGER, "StopUnit", unit_on_said, u, "ss",
				       u->name, "replace");
	if (!force)
		event_add(u->kill, &tv);
	sdbus_arm(s);
}

static int sdbus_pid(const struct runner *r, const char *alias)
{
	const struct unit *u = sdbus_unit((const struct sdbus *)(const void *)r, alias);

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
		struct unit *u = sdbus_add_unit(s, b->models[i].alias);

		if (!u)
			return err_set(e, -ENOMEM, "out of memory");
		if (u->live)
			continue;
		u->adopting = unit_has_env(u);
		unit_look(u);	/* not ours without: then it is only counted */
	}
	sdbus_arm(s);
	return 0;
}

static void sdbus_close(struct runner *r)
{
	struct sdbus *s = sdbus_of(r);

	if (s->bus)
		sd_bus_flush(s->bus);
	sdbus_disconnect(s);
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
				       .by_hand = sdbus_by_hand, .adopt = sdbus_adopt,
				       .close = sdbus_close, .name = "systemd", .outlive = true };

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
	s->timer = event_new(base, -1, 0, sdbus_on_bus, s);
	r = s->run_dir && s->timer ? sdbus_connect(s) : -ENOMEM;
	if (r < 0) {
		sdbus_close(&s->runner);
		return err_set(e, r, "the system bus: %s", strerror(-r));
	}
	sdbus_arm(s);
	*ret = &s->runner;
	return 0;
}
