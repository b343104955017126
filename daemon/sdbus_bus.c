/* sdbus_bus.c - the system bus in the loop: connected, read, lost, connected anew; ends of jobs. */
#include <event2/event.h>
#include <poll.h>
#include <string.h>

#include "daemon/sdbus_int.h"
#include "lib/clock.h"
#include "lib/log.h"

enum { REOPEN_MS = 1000, IN_A_ROW = 256 };

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
		unit_look(u);
	}
	return 0;
}

int sdbus_connect(struct sdbus *s)
{
	int r = sd_bus_open_system(&s->bus);

	if (r >= 0)
		r = sd_bus_match_signal_async(s->bus, NULL, MANAGER, "JobRemoved", on_job_removed,
					      NULL, s);
	if (r >= 0)
		r = sd_bus_call_method_async(s->bus, NULL, MANAGER, "Subscribe", NULL, NULL, "");
	for (struct unit *u = s->units; u && r >= 0; u = u->next) {
		u->asked = u->answered = 0;
		r = unit_watch(u);
		unit_look(u);
	}
	if (r < 0)
		s->bus = sd_bus_close_unref(s->bus);
	return r;
}

void sdbus_disconnect(struct sdbus *s)
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

void sdbus_on_bus(evutil_socket_t fd, short what, void *arg)
{
	struct sdbus *s = arg;
	int r = 1;

	(void)fd, (void)what;
	if (!s->bus && sdbus_connect(s) >= 0)
		log_note("the system bus is back");
	for (int i = 0; i < IN_A_ROW && s->bus && r > 0; i++)
		r = sd_bus_process(s->bus, NULL);
	if (s->bus && r < 0) {
		log_warn("the system bus is lost (%s), connecting anew", strerror(-r));
		sdbus_disconnect(s);
	}
	sdbus_arm(s);
}

/* sd-bus says anew after each turn what it waits for. */
void sdbus_arm(struct sdbus *s)
{
	struct timeval tv = { .tv_sec = REOPEN_MS / 1000 };
	uint64_t at = UINT64_MAX, now = clock_ns() / 1000;
	int events;

	if (s->bus) {
		events = sd_bus_get_events(s->bus);
		if (s->io)
			event_free(s->io);
		s->io = event_new(s->base, sd_bus_get_fd(s->bus),
				  (short)((events & POLLIN ? EV_READ : 0) |
					  (events & POLLOUT ? EV_WRITE : 0)),
				  sdbus_on_bus, s);
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
