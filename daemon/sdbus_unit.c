/* sdbus_unit.c - a worker's unit: its file of arguments, what its properties say became of it. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/sdbus_int.h"
#include "daemon/unit_facts.h"
#include "lib/log.h"

struct unit *sdbus_unit(const struct sdbus *s, const char *alias)
{
	for (struct unit *u = s->units; u; u = u->next)
		if (!strcmp(u->alias, alias))
			return u;
	return NULL;
}

void unit_env_path(const struct sdbus *s, const char *alias, char ret[600])
{
	snprintf(ret, 600, "%s/worker/%s.env", s->run_dir, alias);
}

void unit_forget_env(const struct unit *u)
{
	char path[600];

	unit_env_path(u->bus, u->alias, path);
	(void)unlink(path);
}

bool unit_has_env(const struct unit *u)
{
	char path[600];

	unit_env_path(u->bus, u->alias, path);
	return access(path, F_OK) == 0;
}

static void ended(struct unit *u, const struct unit_facts *f)
{
	struct sdbus *s = u->bus;
	char why[LAUNCH_REASON];
	enum launch_end end = unit_facts_end(f, why, sizeof(why));

	u->live = u->ready_told = false;
	u->pid = 0;
	unit_forget_env(u);
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
	/* Not while our own start waits for the same moment: it would be called off with the other. */
	bool again = !strcmp(f->sub, "auto-restart") && !u->start_pending;
	int permille = runner_permille(f->status);

	if (u->adopting && over)
		unit_forget_env(u);
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
	if (again) /* the unit's Restart=: when to try again is the launcher's to say */
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

void unit_look(struct unit *u)
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
	unit_look(arg);
	return 0;
}

int unit_watch(struct unit *u)
{
	return sd_bus_match_signal_async(u->bus->bus, &u->changed, "org.freedesktop.systemd1",
					 u->path, PROPERTIES, "PropertiesChanged", on_changed, NULL,
					 u);
}

int unit_on_said(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	const struct unit *u = arg;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	(void)ignored;
	if (e)
		log_warn("%s: %s", u->name, e->message ? e->message : "refused");
	return 0;
}

void unit_kill(struct unit *u)
{
	if (u->bus->bus)
		(void)sd_bus_call_method_async(u->bus->bus, NULL, MANAGER, "KillUnit", unit_on_said,
					       u, "ssi", u->name, "all", SIGKILL);
	sdbus_arm(u->bus);
}

static void on_kill_time(evutil_socket_t fd, short what, void *arg)
{
	struct unit *u = arg;

	(void)fd, (void)what;
	log_warn("%s: did not end in time, killed", u->name);
	unit_kill(u);
}

struct unit *unit_free(struct unit *u)
{
	sd_bus_slot_unref(u->changed);
	if (u->kill)
		event_free(u->kill);
	free(u->path);
	free(u->job);
	free(u);
	return NULL;
}

struct unit *sdbus_add_unit(struct sdbus *s, const char *alias)
{
	struct unit *u = sdbus_unit(s, alias);

	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->bus = s;
	snprintf(u->alias, sizeof(u->alias), "%s", alias);
	snprintf(u->name, sizeof(u->name), "hearth-worker@%s.service", alias);
	u->kill = event_new(s->base, -1, 0, on_kill_time, u);
	if (!u->kill ||
	    sd_bus_path_encode("/org/freedesktop/systemd1/unit", u->name, &u->path) < 0 ||
	    (s->bus && unit_watch(u) < 0))
		return unit_free(u);
	u->next = s->units;
	s->units = u;
	return u;
}
