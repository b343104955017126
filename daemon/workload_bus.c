/* workload_bus.c - StopUnit and StartUnit over sd-bus, on the loop. */
#include "config.h"

#include "daemon/workload_int.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"

#ifdef HAVE_SYSTEMD

#include <systemd/sd-bus.h>

#define SERVICE   "org.freedesktop.systemd1"
#define MANAGER   SERVICE, "/org/freedesktop/systemd1", SERVICE ".Manager"
#define REOPEN_NS (2 * NS_PER_S)

static void arm(struct workloads *w);

/* ---- answers ------------------------------------------------------------------------------ */

/* Only the entry that this slot belongs to, and the slot is spent. */
static struct entry *answered(void *arg, bool query)
{
	struct entry *en = arg;
	struct sd_bus_slot **slot = query ? &en->query : &en->call;

	sd_bus_slot_unref(*slot);
	*slot = NULL;
	return en;
}

static int on_state(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct entry *en = answered(arg, true);
	const char *state = NULL;

	(void)ignored;
	if (sd_bus_message_is_method_error(m, NULL) ||
	    sd_bus_message_read(m, "v", "s", &state) < 0 || !state)
		workload_is(en->owner, en, false, "systemd does not say");
	else
		workload_is(en->owner, en, !strcmp(state, "active") ||
			    !strcmp(state, "reloading") || !strcmp(state, "activating"), state);
	return 0;
}

static int on_called(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct entry *en = answered(arg, false);
	const sd_bus_error *why = sd_bus_message_get_error(m);
	const char *job;

	(void)ignored;
	if (why || sd_bus_message_read(m, "o", &job) < 0) {
		log_warn("workload %s: %s: %s", en->w.conf->name, en->w.conf->unit,
			 why && why->message ? why->message : "an answer that is none");
		workload_job_over(en->owner, en, "failed");
		return 0;
	}
	snprintf(en->job, sizeof(en->job), "%s", job);
	return 0;
}

static int on_job_removed(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct workloads *w = arg;
	const char *path, *unit, *result;
	uint32_t id;

	(void)ignored;
	if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &result) < 0)
		return 0;
	for (size_t i = 0; i < w->n; i++) {
		if (!*w->at[i].job || strcmp(w->at[i].job, path) != 0)
			continue;
		w->at[i].job[0] = '\0';
		workload_job_over(w, &w->at[i], result);
		break;
	}
	return 0;
}

/* ---- the connection -------------------------------------------------------------------------- */

void workload_bus_close(struct workloads *w)
{
	if (w->io)
		event_free(w->io);
	if (w->timer)
		event_free(w->timer);
	w->io = w->timer = NULL;
	if (w->bus)
		sd_bus_close_unref(w->bus);
	w->bus = NULL;
}

/* Whoever waited for an answer gets one: it will not come any more. */
static void lost(struct workloads *w)
{
	log_warn("workloads: the connection to systemd was lost");
	for (size_t i = 0; i < w->n; i++)
		workload_forget(&w->at[i]);
	workload_bus_close(w);
	for (size_t i = 0; i < w->n; i++)
		if (w->at[i].w.state == WORKLOAD_STOPPING || w->at[i].w.state == WORKLOAD_STARTING)
			workload_job_over(w, &w->at[i], "lost");
	if (w->asked && w->asked->w.state == WORKLOAD_RUNNING)
		workload_next(w);
}

static void on_bus(evutil_socket_t fd, short what, void *arg)
{
	struct workloads *w = arg;
	int r;

	(void)fd, (void)what;
	do
		r = sd_bus_process(w->bus, NULL);
	while (r > 0);
	if (r < 0)
		lost(w);
	else
		arm(w);
}

/* libsystemd says what it waits for, and until when. */
static void arm(struct workloads *w)
{
	int fd = sd_bus_get_fd(w->bus), events = sd_bus_get_events(w->bus);
	short what = EV_PERSIST;
	uint64_t until = UINT64_MAX, now = clock_ns() / 1000;
	struct timeval tv;

	if (fd < 0 || events < 0)
		return;
	what |= (short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0));
	if (w->io) {
		event_del(w->io);
		event_assign(w->io, w->base, fd, what, on_bus, w);
	} else {
		w->io = event_new(w->base, fd, what, on_bus, w);
	}
	if (w->io)
		event_add(w->io, NULL);
	if (!w->timer)
		w->timer = event_new(w->base, -1, 0, on_bus, w);
	if (!w->timer)
		return;
	event_del(w->timer);
	if (sd_bus_get_timeout(w->bus, &until) < 0 || until == UINT64_MAX)
		return;
	until = until > now ? until - now : 0;
	tv = (struct timeval){ .tv_sec = (time_t)(until / 1000000),
			       .tv_usec = (suseconds_t)(until % 1000000) };
	event_add(w->timer, &tv);
}

static int connect_bus(struct workloads *w)
{
	uint64_t now = clock_ns();
	int r;

	if (w->bus)
		return 0;
	if (w->tried_ns && now - w->tried_ns < REOPEN_NS)
		return -ENOTCONN;
	w->tried_ns = now;
	r = sd_bus_open_system(&w->bus);
	if (r >= 0)
		r = sd_bus_match_signal(w->bus, NULL, SERVICE, "/org/freedesktop/systemd1",
					SERVICE ".Manager", "JobRemoved", on_job_removed, w);
	/* systemd tells jobs to those only who asked for it */
	if (r >= 0)
		r = sd_bus_call_method_async(w->bus, NULL, MANAGER, "Subscribe", NULL, NULL, NULL);
	if (r < 0) {
		log_warn("workloads: systemd cannot be reached: %s", strerror(-r));
		w->bus = sd_bus_unref(w->bus);
		return r;
	}
	return 0;
}

/* ---- questions ----------------------------------------------------------------------- */

int workload_query(struct workloads *w, struct entry *en)
{
	char *path = NULL;
	int r = connect_bus(w);

	if (r < 0 || en->query)
		return r;
	r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", en->w.conf->unit, &path);
	if (r >= 0)	/* systemd loads the unit when it is asked about it */
		r = sd_bus_call_method_async(w->bus, &en->query, SERVICE, path,
					     "org.freedesktop.DBus.Properties", "Get", on_state, en,
					     "ss", SERVICE ".Unit", "ActiveState");
	free(path);
	arm(w);
	return r < 0 ? r : 0;
}

int workload_call(struct workloads *w, struct entry *en, const char *method)
{
	int r = connect_bus(w);

	if (r < 0)
		return r;
	en->job[0] = '\0';
	en->call = sd_bus_slot_unref(en->call);
	r = sd_bus_call_method_async(w->bus, &en->call, MANAGER, method, on_called, en, "ss",
				     en->w.conf->unit, "replace");
	arm(w);
	return r < 0 ? r : 0;
}

void workload_forget(struct entry *en)
{
	en->query = sd_bus_slot_unref(en->query);
	en->call = sd_bus_slot_unref(en->call);
	en->job[0] = '\0';
}

#else

int workload_query(struct workloads *w, struct entry *en)
{
	(void)w, (void)en;
	return -ENOTSUP;
}

int workload_call(struct workloads *w, struct entry *en, const char *method)
{
	(void)w, (void)en, (void)method;
	return -ENOTSUP;
}

void workload_forget(struct entry *en)
{
	(void)en;
}

void workload_bus_close(struct workloads *w)
{
	(void)w;
}

#endif
