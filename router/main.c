/* main.c - hearth-router: options, signals, start and stop. */
#include "config.h"

#include <event2/event.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"
#include "lib/svc.h"
#include "router/job.h"

enum { EXIT_USAGE = 64, EXIT_CONFIG = 78, MAX_OVERRIDES = 64, EXTEND_US = 5000000 };

#define DEFAULT_CONFIG "/etc/hearth/hearth.conf"

struct options {
	const char *config;
	const char *overrides[MAX_OVERRIDES];
	size_t n_overrides;
	bool check, print_sample, print_man, print_port;
};

static struct {
	struct router rt;
	struct options opt;
	struct event *term, *interrupt, *hangup, *poll;
	uint64_t drain_until_ns, told_ns;
	char note[256];			/* of the last reload, when it was refused */
} app;

/* ---- options ------------------------------------------------------------------------- */

static void print_help(void)
{
	struct buf b = BUF_INIT;

	conf_put_help(&settings_table, &b);
	printf("hearth-router - one OpenAI endpoint in front of workers and other servers\n\n"
	       "usage: hearth-router [-c FILE] [-o SECTION.KEY=VALUE]...\n\n"
	       "  -c, --config FILE         default " DEFAULT_CONFIG
	       "; FILE.d/*.conf are read after it\n"
	       "  -o, --option S.K=VALUE    one value over the file's\n"
	       "      --check               read the configuration, say what is wrong; exit 0 or "
	       "78\n"
	       "      --print-config-sample the sample file\n"
	       "      --print-man-options   the option list as man(7) source\n"
	       "      --print-port          write the port that was bound to stdout\n"
	       "  -h, --help\n  -V, --version\n\n"
	       "Signals: TERM ends after the requests under way, again at once; HUP reads the\n"
	       "configuration again.\n\nConfiguration, section.key=default:\n%s",
	       b.p ? b.p : "");
	buf_done(&b);
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"option", required_argument, NULL, 'o'},
		{"check", no_argument, NULL, 'C'},
		{"print-config-sample", no_argument, NULL, 'S'},
		{"print-man-options", no_argument, NULL, 'M'},
		{"print-port", no_argument, NULL, 'P'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:o:hV", longs, NULL)) >= 0) {
		switch (c) {
		case 'c': o->config = optarg; break;
		case 'o':
			if (o->n_overrides == MAX_OVERRIDES)
				return EXIT_USAGE;
			o->overrides[o->n_overrides++] = optarg;
			break;
		case 'C': o->check = true; break;
		case 'S': o->print_sample = true; break;
		case 'M': o->print_man = true; break;
		case 'P': o->print_port = true; break;
		case 'h': print_help(); exit(0);
		case 'V': puts("hearth-router " PACKAGE_VERSION); exit(0);
		default: return EXIT_USAGE;
		}
	}
	return optind == argc ? 0 : EXIT_USAGE;
}

static int print_generated(const struct options *o)
{
	struct buf b = BUF_INIT;

	if (o->print_sample)
		conf_put_sample(&settings_table, &b);
	else
		conf_put_man(&settings_table, &b);
	fwrite(b.p, 1, b.n, stdout);
	buf_done(&b);
	return 0;
}

/* Without -c, a missing default file means the defaults. */
static const char *config_path(const struct options *o)
{
	if (o->config)
		return o->config;
	return access(DEFAULT_CONFIG, F_OK) == 0 ? DEFAULT_CONFIG : NULL;
}

static int load(struct settings **ret, struct err *e)
{
	return settings_load(config_path(&app.opt), app.opt.overrides, app.opt.n_overrides, ret, e);
}

static void set_log_level(const struct settings *s)
{
	enum log_level level;

	if (log_level_parse(conf_text(s->conf, "log", NULL, "level"), &level) == 0)
		log_set_level(level);
}

/* ---- signals --------------------------------------------------------------------------- */

/* What stands in the way of these settings on the sockets there are. */
static int check_sockets(const struct settings *s, struct err *e)
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
	snprintf(app.note, sizeof(app.note), "; last reload refused: %.200s", e->text);
}

static void note_restart(const struct settings *now)
{
	CLEANUP(buf_donep) struct buf restart = BUF_INIT;

	conf_needs_restart(app.rt.settings->conf, now->conf, &restart);
	if (restart.n)
		log_event(LOG_WARN, EVENT_RELOAD_NEEDS_RESTART,
			  LOG_FIELDS({ "KEYS", restart.p }),
			  "reload: a change of %s needs a restart", restart.p);
}

static void take_settings(struct settings *now)
{
	char generation[16];

	note_restart(now);
	settings_drop(app.rt.settings);
	app.rt.settings = now;
	app.rt.generation++;
	app.note[0] = '\0';
	set_log_level(now);
	snprintf(generation, sizeof(generation), "%u", app.rt.generation);
	log_event(LOG_NOTE, EVENT_RELOAD_DONE, LOG_FIELDS({ "GENERATION", generation }),
		  "reload: %zu aliases, %zu upstreams, %zu keys", now->n_aliases,
		  now->n_upstreams, now->n_keys);
}

/* One line for `systemctl status`. */
static void tell_status(void)
{
	const struct router *rt = &app.rt;
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
			   rt->generation, app.note);
}

static void on_hangup(evutil_socket_t fd, short what, void *arg)
{
	struct settings *now = NULL;
	struct err e;
	int r;

	(void)fd, (void)what, (void)arg;
	svc_reloading();
	r = load(&now, &e);
	if (r == 0)
		r = check_sockets(now, &e);
	if (r == 0) {
		take_settings(now);
	} else {
		refuse_reload(&e);
		settings_drop(now);
	}
	svc_ready();
	tell_status();
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
	if (now - app.told_ns >= NS_PER_S) {
		app.told_ns = now;
		tell_status();
		if (app.rt.draining)
			svc_extend(EXTEND_US);
	}
	if (app.rt.draining && (drained(&app.rt) || now >= app.drain_until_ns))
		event_base_loopbreak(app.rt.base);
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = { .tv_usec = 50000 };

	(void)fd, (void)what, (void)arg;
	if (app.rt.draining) {
		event_base_loopbreak(app.rt.base);
		return;
	}
	svc_stopping();
	log_event(LOG_NOTE, EVENT_ROUTER_STOPPING, NULL,
		  "stopping: %u requests under way get %u s", app.rt.n_jobs,
		  app.rt.settings->drain_ms / 1000);
	app.rt.draining = true;
	app.drain_until_ns = clock_ns() + app.rt.settings->drain_ms * NS_PER_MS;
	http_server_drain(app.rt.http);
	tell_status();
	event_add(app.poll, &tv);
}

static int watch_signals(void)
{
	struct timeval tv = { .tv_sec = 1 };
	uint32_t dog = svc_watchdog_ms();

	if (dog && dog < 1000)
		tv = (struct timeval){ .tv_usec = dog * 1000 };
	signal(SIGPIPE, SIG_IGN);
	app.term = evsignal_new(app.rt.base, SIGTERM, on_term, NULL);
	app.interrupt = evsignal_new(app.rt.base, SIGINT, on_term, NULL);
	app.hangup = evsignal_new(app.rt.base, SIGHUP, on_hangup, NULL);
	app.poll = event_new(app.rt.base, -1, EV_PERSIST, on_poll, NULL);
	if (!app.term || !app.interrupt || !app.hangup || !app.poll)
		return -ENOMEM;
	event_add(app.term, NULL);
	event_add(app.interrupt, NULL);
	event_add(app.hangup, NULL);
	event_add(app.poll, &tv);
	return 0;
}

/* ---- start and stop --------------------------------------------------------------------- */

static void raise_file_limit(uint32_t wanted)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &l);
	if (l.rlim_cur != RLIM_INFINITY && l.rlim_cur < wanted + 256)
		log_warn("only %llu descriptors for %u connections: some will have to wait",
			 (unsigned long long)l.rlim_cur, wanted);
}

static int open_http(struct router *rt, struct err *e)
{
	const struct conf *c = rt->settings->conf;
	const char *cors = conf_text(c, "http", NULL, "cors_origin");
	const struct http_limits limits = {
		.max_body = (size_t)conf_int(c, "http", NULL, "max_body_mib") << 20,
		.max_bodies = (size_t)conf_int(c, "http", NULL, "max_bodies_mib") << 20,
		.max_header = (size_t)conf_int(c, "http", NULL, "max_header_kib") << 10,
		.header_ms = (uint32_t)conf_int(c, "http", NULL, "header_s") * 1000,
		.body_ms = (uint32_t)conf_int(c, "http", NULL, "body_s") * 1000,
		.idle_ms = (uint32_t)conf_int(c, "http", NULL, "idle_s") * 1000,
		.stall_ms = (uint32_t)conf_int(c, "http", NULL, "stall_s") * 1000,
		.max_connections = (uint32_t)conf_int(c, "http", NULL, "max_connections"),
	};
	const struct http_hooks hooks = { api_request, api_error, rt };
	struct buf h = BUF_INIT;
	int first, n_sockets = svc_sockets(&first);
	int r;

	raise_file_limit(limits.max_connections);
	r = check_sockets(rt->settings, e);
	if (r < 0)
		return r;
	r = http_server_open(rt->base, (const char *const *)rt->settings->listen,
			     n_sockets ? 0 : rt->settings->n_listen, &limits, &hooks, &rt->http, e);
	for (int i = 0; i < n_sockets && r == 0; i++)
		r = http_server_adopt(rt->http, first + i, e);
	if (r == 0 && cors && *cors) {
		buf_printf(&h,
			   "Access-Control-Allow-Origin: %s\r\n"
			   "Access-Control-Expose-Headers: x-request-id, x-hearth-served-by, "
			   "x-hearth-attempts, x-hearth-seed, x-hearth-note, x-hearth-ignored, "
			   "retry-after\r\n",
			   cors);
		http_server_set_headers(rt->http, h.p);
		buf_done(&h);
	}
	return r;
}

static int open_fleet(struct router *rt, struct err *e)
{
	const struct settings *s = rt->settings;
	const struct link_curve curve = {.own_public = s->curve_public,
					 .own_secret = s->curve_secret,
					 .allowed = (const char *const *)s->curve_allowed,
					 .n_allowed = s->n_curve_allowed};
	const struct fleet_settings f = {
		.endpoints = (const char *const *)s->bus, .n_endpoints = s->n_bus,
		.curve = s->curve_secret ? &curve : NULL,
		.beat_ms = (uint32_t)conf_int(s->conf, "bus", NULL, "beat_ms"),
		.dead_ms = (uint32_t)conf_int(s->conf, "bus", NULL, "dead_ms"),
		.changed = job_wake_all, .arg = rt,
	};

	return fleet_open(rt->base, &f, &rt->fleet, e);
}

static int start(struct router *rt, struct err *e)
{
	int r;

	TAILQ_INIT(&rt->waiters);
	rt->base = event_base_new();
	if (!rt->base || metrics_new(&rt->metrics) < 0 || watch_signals() < 0)
		return err_set(e, -ENOMEM, "out of memory");
	arc4random_buf(&rt->id_salt, sizeof(rt->id_salt));
	rt->started_ns = clock_ns();
	rt->generation = 1;
	r = cloud_open(rt->base, &rt->cloud, e);
	if (r == 0)
		r = open_fleet(rt, e);
	if (r == 0)
		r = open_http(rt, e);
	return r;
}

static void stop(struct router *rt)
{
	struct event *events[] = { app.term, app.interrupt, app.hangup, app.poll };

	if (rt->http)
		job_end_all(rt, "the router stops");
	http_server_close(rt->http);
	cloud_close(rt->cloud);
	fleet_close(rt->fleet);
	metrics_free(rt->metrics);
	for (size_t i = 0; i < 4; i++)
		if (events[i])
			event_free(events[i]);
	if (rt->base)
		event_base_free(rt->base);
	settings_drop(rt->settings);
	libevent_global_shutdown();
}

/* Where clients find us, and a word when that is not where http.listen says. */
static void listen_text(const struct settings *s, struct buf *out)
{
	char address[80] = "?";
	int first, n = svc_sockets(&first);

	for (int i = 0; i < n; i++) {
		(void)http_socket_address(first + i, address, sizeof(address), NULL);
		buf_printf(out, "%s%s", i ? " " : "", address);
	}
	if (n && strcmp(out->p ? out->p : "", conf_text(s->conf, "http", NULL, "listen")))
		log_event(LOG_WARN, EVENT_SOCKETS_DIFFER,
			  LOG_FIELDS({ "SOCKETS", out->p },
				     { "CONFIGURED", conf_text(s->conf, "http", NULL, "listen") }),
			  "http.listen = %s has no effect: hearth-router.socket listens on %s",
			  conf_text(s->conf, "http", NULL, "listen"), out->p);
	if (!n)
		buf_puts(out, conf_text(s->conf, "http", NULL, "listen"));
}

static void announce(const struct router *rt)
{
	CLEANUP(buf_donep) struct buf at = BUF_INIT;

	listen_text(rt->settings, &at);
	log_event(LOG_NOTE, EVENT_ROUTER_LISTENING,
		  LOG_FIELDS({ "ADDRESS", at.p }, { "BUS", rt->settings->bus[0] }),
		  "listening on %s, workers at %s; %zu aliases, %zu upstreams, %zu keys",
		  at.p ? at.p : "", rt->settings->bus[0], rt->settings->n_aliases,
		  rt->settings->n_upstreams, rt->settings->n_keys);
	if (app.opt.print_port) {
		printf("%u\n", http_server_port(rt->http, 0));
		fflush(stdout);
	}
	svc_ready();
	tell_status();
}

int main(int argc, char **argv)
{
	struct err e;
	int r = parse_options(argc, argv, &app.opt);

	if (r) {
		fputs("hearth-router: see --help\n", stderr);
		return r;
	}
	if (app.opt.print_sample || app.opt.print_man)
		return print_generated(&app.opt);
	if (load(&app.rt.settings, &e) < 0) {
		log_event(LOG_ERROR, EVENT_ROUTER_CANNOT_START,
			  LOG_FIELDS({ "REASON", e.text }), "hearth-router: %s", e.text);
		return EXIT_CONFIG;
	}
	if (app.opt.check) {
		settings_drop(app.rt.settings);
		return 0;
	}
	set_log_level(app.rt.settings);
	r = start(&app.rt, &e);
	if (r < 0) {
		log_event(LOG_ERROR, EVENT_ROUTER_CANNOT_START,
			  LOG_FIELDS({ "REASON", e.text }), "cannot start: %s", e.text);
		svc_status("cannot start: %s", e.text);
	} else {
		announce(&app.rt);
		event_base_dispatch(app.rt.base);
		log_note("stopped");
	}
	stop(&app.rt);
	return r < 0 ? 1 : 0;
}
