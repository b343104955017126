/* main.c - hearth-router: options, start and stop. */
#include "config.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/opts.h"
#include "lib/own.h"
#include "lib/svc.h"
#include "router/job.h"
#include "router/reload.h"
#include "router/service.h"

enum { EXIT_USAGE = 64, EXIT_CONFIG = 78, MAX_OVERRIDES = 64 };

#define DEFAULT_CONFIG "/etc/hearth/hearth.conf"

struct options {
	const char *config;
	const char *overrides[MAX_OVERRIDES];
	size_t n_overrides;
	bool check, reload, print_sample, dump_keys, print_port;
};

static struct {
	struct router rt;
	struct options opt;
} app;

/* ---- options ------------------------------------------------------------------------- */

enum { OPT_CHECK = OPTS_LONG_ONLY, OPT_RELOAD, OPT_SAMPLE, OPT_KEYS, OPT_PORT, OPT_DUMP };

static const struct opts_row rows[] = {
	{ 'c', "config", "FILE", "default " DEFAULT_CONFIG "; FILE.d/*.conf are read after it" },
	{ 'o', "option", "S.K=VALUE", "one value over the file's" },
	{ OPT_CHECK, "check", NULL, "read the configuration, say what is wrong; exit 0 or 78" },
	{ OPT_RELOAD, "reload", NULL, "for the unit's ExecReload=: exit 0 when the running router "
	  "took the new configuration, else 1 and why" },
	{ OPT_SAMPLE, "print-config-sample", NULL, "the sample file" },
	{ OPT_KEYS, "dump-keys", NULL,
	  "every key, a line each, a tab between its parts: hearth.conf(5) is made of it" },
	{ OPT_PORT, "print-port", NULL, "write the port that was bound to stdout" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void print_help(void)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "hearth-router - one OpenAI endpoint in front of workers and other servers\n\n"
		     "usage: hearth-router [-c FILE] [-o SECTION.KEY=VALUE]...\n\n");
	opts_put_help(rows, &b);
	buf_puts(&b, "\nSignals: TERM ends after the requests under way, again at once; HUP reads the\n"
		     "configuration again.\n\nConfiguration, section.key=default:\n");
	conf_put_help(&settings_table, &b);
	opts_print(&b);
}

static int parse_options(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = opts_next(rows, argc, argv)) >= 0) {
		switch (c) {
		case 'c': o->config = optarg; break;
		case 'o':
			if (o->n_overrides == MAX_OVERRIDES)
				return EXIT_USAGE;
			o->overrides[o->n_overrides++] = optarg;
			break;
		case OPT_CHECK: o->check = true; break;
		case OPT_RELOAD: o->reload = true; break;
		case OPT_SAMPLE: o->print_sample = true; break;
		case OPT_KEYS: o->dump_keys = true; break;
		case OPT_PORT: o->print_port = true; break;
		case OPT_DUMP: opts_print_dump(rows); exit(0);
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
		conf_put_rows(&settings_table, &b);
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
	r = service_check_sockets(rt->settings, e);
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
			   "retry-after, retry-after-ms, x-should-retry\r\n",
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
	uint64_t name;
	int r;

	TAILQ_INIT(&rt->waiters);
	arc4random_buf(&name, sizeof(name));
	snprintf(rt->name, sizeof(rt->name), "%016" PRIx64, name);
	rt->base = event_base_new();
	if (!rt->base ||
	    records_new((uint32_t)conf_int(rt->settings->conf, "log", NULL, "keep_requests"),
			&rt->records) < 0 || metrics_new(&rt->metrics) < 0 || service_watch(rt, load) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	rt->started_ns = clock_ns();
	rt->started_s = clock_wall_s();
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
	if (rt->http)
		job_end_all(rt, "the router stops");
	http_server_close(rt->http);
	cloud_close(rt->cloud);
	fleet_close(rt->fleet);
	metrics_free(rt->metrics);
	records_free(rt->records);
	service_done();
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
		  "listening on %s, workers at %s; %zu aliases, %zu upstreams, %zu keys, %zu of "
		  "them admin", at.p ? at.p : "", rt->settings->bus[0], rt->settings->n_aliases,
		  rt->settings->n_upstreams, rt->settings->n_keys, rt->settings->n_admin_keys);
	settings_warn_keys(rt->settings);
	if (app.opt.print_port) {
		printf("%u\n", http_server_port(rt->http, 0));
		fflush(stdout);
	}
	service_started();
}

static int ask_reload(void)
{
	struct err e;
	int r = reload_ask(&e);

	if (r < 0)
		fprintf(stderr, "hearth-router: not reloaded: %s\n", e.text);
	return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct err e;
	int r = parse_options(argc, argv, &app.opt);

	if (r) {
		fputs("hearth-router: see --help\n", stderr);
		return r;
	}
	if (app.opt.print_sample || app.opt.dump_keys)
		return print_generated(&app.opt);
	if (app.opt.reload)
		return ask_reload();
	if (load(&app.rt.settings, &e) < 0) {
		log_event(LOG_ERROR, EVENT_ROUTER_CANNOT_START,
			  LOG_FIELDS({ "REASON", e.text }), "hearth-router: %s", e.text);
		return EXIT_CONFIG;
	}
	if (app.opt.check) {
		settings_warn_keys(app.rt.settings);
		settings_drop(app.rt.settings);
		return 0;
	}
	service_log_level(app.rt.settings);
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
