/* sdbus_int.h - shared by sdbus.c (the runner), sdbus_unit.c (a unit), sdbus_bus.c (the bus). */
#ifndef HEARTH_DAEMON_SDBUS_INT_H
#define HEARTH_DAEMON_SDBUS_INT_H

#include <event2/util.h>
#include <systemd/sd-bus.h>

#include "daemon/runner.h"

#define MANAGER "org.freedesktop.systemd1", "/org/freedesktop/systemd1", \
		"org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

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

/* sdbus_unit.c */
struct unit *sdbus_unit(const struct sdbus *s, const char *alias);	/* NULL: none yet */
/* it, or a new one, or NULL */
struct unit *sdbus_add_unit(struct sdbus *s, const char *alias);
struct unit *unit_free(struct unit *u);		/* not the list's link */
void unit_env_path(const struct sdbus *s, const char *alias, char ret[600]);
void unit_forget_env(const struct unit *u);
bool unit_has_env(const struct unit *u);	/* it is ours */
void unit_look(struct unit *u);			/* reads its properties; what follows comes later */
int unit_watch(struct unit *u);			/* is told when they change */
void unit_kill(struct unit *u);
/* The answer to a call for u whose success says nothing: an error is logged. */
int unit_on_said(sd_bus_message *m, void *arg, sd_bus_error *ignored);

/* sdbus_bus.c */
int sdbus_connect(struct sdbus *s);
void sdbus_disconnect(struct sdbus *s);
void sdbus_on_bus(evutil_socket_t fd, short what, void *arg);
/* After each turn in which something was sent: sd-bus says anew what it waits for. */
void sdbus_arm(struct sdbus *s);

#endif
