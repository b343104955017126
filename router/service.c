/* service.c - see service.h. */
#include "router/service.h"

#include <event2/event.h>
#include <signal.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"
#include "lib/svc.h"
#include "router/reload.h"

enum { EXTEND_US = 5000000, SETTLE_LOOK_MS = 20 };

static struct {
	struct router *rt;
	service_load_fn *load;
	struct event *term, *interrupt, *hangup, *poll, *settle;
	uint64_t drain_until_ns, told_ns, settle_until_ns;
	char note[256];			/* of the last reload, when it was refused */
} life;

void service_log_level(const struct settings *s)
{
	enum log_level level;

	if (log_level_parse(conf_text(s->conf, "log", NULL, "level"), &level) == 0)
		log_set_level(level);
}

/* What stands in the way of these settings on the sockets there are. */
int service_check_sockets(const struct settings *s, struct err *e)
{
	char address[80];
	int first, n = svc_sockets(&first), r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		r = http_socket_address(first + i, address, sizeof(address), e);
		if (r == 0 && !s->n_keys && !http_is_loopback(address))
			r = err_set(e, -EPERM, "the service manager's socket %s is not loopback, "
				    "so http.keys_file is needed", address);
	}
	return r;
}

static void refuse_reload(const struct err *e)
{
	log_event(LOG_ERROR, EVENT_RELOAD_REFUSED, LOG_FIELDS({ "REASON", e->text }),
		  "reload: %s; the configuration stays as it was", e->text);
	snprintf(life.note, sizeof(life.note), "; last reload refused: %.200s", e->text);
}

static void take_settings(struct settings *now, struct buf *restart)
{
	char generation[16];

	conf_needs_restart(life.rt->settings->conf, now->conf, restart);
	if (restart->n)
		log_event(LOG_WARN, EVENT_RELOAD_NEEDS_RESTART,
			  LOG_FIELDS({ "KEYS", restart->p }),
			  "reload: a change of %s needs a restart", restart->p);
	settings_drop(life.rt->settings);
	life.rt->settings = now;
	life.rt->generation++;
	life.note[0] = '\0';
	service_log_level(now);
	snprintf(generation, sizeof(generation), "%u", life.rt->generation);
	log_event(LOG_NOTE, EVENT_RELOAD_DONE, LOG_FIELDS({ "GENERATION", generation }),
		  "reload: %zu aliases, %zu upstreams, %zu keys, %zu of them admin", now->n_aliases,
		  now->n_upstreams, now->n_keys, now->n_admin_keys);
	settings_warn_keys(now);
}

/* One line for `systemctl status`. */
static void tell_status(void)
{
	const struct router *rt = life.rt;
	uint32_t n = 0, out = 0;

	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next) {
		n++;
		out += w->draining || w->doomed || route_breaker_until(&w->breaker) > clock_ns();
	}
	if (rt->draining)
		svc_status("stopping: %u requests and %u connections to finish", rt->n_jobs,
			   http_server_connections(rt->http));
	else
		svc_status("%u of %u workers ready, %u requests, %u connections, configuration "
			   "%u%s", n - out, n, rt->n_jobs, http_server_connections(rt->http),
			   rt->generation, life.note);
}

int service_look(struct settings **ret, struct err *e)
{
	struct settings *now = NULL;
	int r = life.load(&now, e);

	if (r == 0)
		r = service_check_sockets(now, e);
	*ret = r < 0 ? settings_drop(now) : now;
	return r;
}

int service_reload(struct buf *restart, struct err *e)
{
	struct settings *now;
	int r = service_look(&now, e);

	if (r == 0)
		r = fleet_allow(life.rt->fleet, (const char *const *)now->curve_allowed,
				now->n_curve_allowed, e);
	if (r == 0) {
		take_settings(now, restart);
	} else {
		refuse_reload(e);
		settings_drop(now);
	}
	reload_tell(r < 0 ? e->text : NULL);
	tell_status();
	return r;
}

static void on_hangup(evutil_socket_t fd, short what, void *arg)
{
	CLEANUP(buf_donep) struct buf restart = BUF_INIT;
	struct err e;

	(void)fd, (void)what, (void)arg;
	svc_reloading();
	(void)service_reload(&restart, &e);
	svc_ready();
}

/* Replies leave after their requests are over: connections count too. */
static bool drained(const struct router *rt)
{
	return !rt->n_jobs && !http_server_connections(rt->http);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	uint64_t now = clock_ns();

	(void)fd, (void)what, (void)arg;
	svc_watchdog();
	if (now - life.told_ns >= NS_PER_S) {
		life.told_ns = now;
		tell_status();
		if (life.rt->draining)
			svc_extend(EXTEND_US);
	}
	if (life.rt->draining && (drained(life.rt) || now >= life.drain_until_ns))
		event_base_loopbreak(life.rt->base);
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = { .tv_usec = 50000 };

	(void)fd, (void)what, (void)arg;
	if (life.rt->draining) {
		event_base_loopbreak(life.rt->base);
		return;
	}
	svc_stopping();
	log_event(LOG_NOTE, EVENT_ROUTER_STOPPING, NULL,
		  "stopping: %u requests under way get %u s", life.rt->n_jobs,
		  life.rt->settings->drain_ms / 1000);
	life.rt->draining = true;
	life.drain_until_ns = clock_ns() + life.rt->settings->drain_ms * NS_PER_MS;
	http_server_drain(life.rt->http);
	tell_status();
	event_add(life.poll, &tv);
}

/* Whether every model that an alias may need has a worker again. */
static bool all_there(const struct router *rt)
{
	for (size_t i = 0; i < rt->settings->n_aliases; i++) {
		const struct alias *a = &rt->settings->aliases[i];

		for (size_t k = 0; k < a->n_steps; k++) {
			const struct worker *w = fleet_workers(rt->fleet);

			if (a->steps[k].upstream)
				continue;
			while (w && strcmp(w->model, a->steps[k].model))
				w = w->next;
			if (!w)
				return false;
		}
	}
	return true;
}

/* After a restart the clients that waited in the kept sockets would all be there before the
 * first worker has connected again, and hear 503: so they wait a moment longer. */
static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = { .tv_usec = SETTLE_LOOK_MS * 1000 };

	(void)fd, (void)what, (void)arg;
	if (life.rt->draining)
		return;
	if (all_there(life.rt) || clock_ns() >= life.settle_until_ns)
		http_server_accept(life.rt->http);
	else
		event_add(life.settle, &tv);
}

int service_watch(struct router *rt, service_load_fn *load)
{
	struct timeval tv = { .tv_sec = 1 };
	uint32_t dog = svc_watchdog_ms();

	if (dog && dog < 1000)
		tv = (struct timeval){ .tv_usec = dog * 1000 };
	life.rt = rt;
	life.load = load;
	signal(SIGPIPE, SIG_IGN);
	life.term = evsignal_new(life.rt->base, SIGTERM, on_term, NULL);
	life.interrupt = evsignal_new(life.rt->base, SIGINT, on_term, NULL);
	life.hangup = evsignal_new(life.rt->base, SIGHUP, on_hangup, NULL);
	life.poll = event_new(life.rt->base, -1, EV_PERSIST, on_poll, NULL);
	life.settle = event_new(life.rt->base, -1, 0, on_settle, NULL);
	if (!life.term || !life.interrupt || !life.hangup || !life.poll || !life.settle)
		return -ENOMEM;
	event_add(life.term, NULL);
	event_add(life.interrupt, NULL);
	event_add(life.hangup, NULL);
	event_add(life.poll, &tv);
	return 0;
}

void service_started(void)
{
	svc_ready();
	tell_status();
	life.settle_until_ns = clock_ns() + life.rt->settings->settle_ms * NS_PER_MS;
	on_settle(-1, 0, NULL);
}

void service_done(void)
{
	struct event *events[] = { life.term, life.interrupt, life.hangup, life.poll, life.settle };

	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (events[i])
			event_free(events[i]);
}
