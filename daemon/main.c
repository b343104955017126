/* main.c - hearthd: options, configuration, signals, start and stop. */
#include "config.h"

#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "daemon/life.h"
#include "lib/log.h"
#include "lib/own.h"
#include "lib/svc.h"

enum { MAX_OVERRIDES = 64 };

#define DEFAULT_CONFIG "/etc/hearth/hearthd.conf"

static const struct conf_section sections[] = {
	MODEL_CONF_SECTIONS,
	{ "log", false, "What is written to the journal" },
	{ NULL, false, NULL },
};
static const struct conf_key keys[] = {
	MODEL_CONF_KEYS,
	{"log", "level", CONF_CHOICE, 0, 0, "error|warning|notice|debug", "notice", true,
	 "lines above this level are not written"},
	{.key = NULL},
};
static const struct conf_table table = { sections, keys };

static struct {
	struct event_base *base;
	struct event *term, *interrupt, *hangup, *dog;
	struct life *life;
	struct conf *conf;
	const char *config;
	const char *overrides[MAX_OVERRIDES];
	size_t n_overrides;
	bool check, print_sample, print_man, stopping;
} app;

/* ---- options ------------------------------------------------------------------------ */

static void print_help(void)
{
	struct buf b = BUF_INIT;

	conf_put_help(&table, &b);
	printf("hearthd - the box's daemon: starts and stops workers, reports to the router\n\n"
	       "usage: hearthd [-c FILE] [-o SECTION.KEY=VALUE]...\n\n"
	       "  -c, --config FILE         default " DEFAULT_CONFIG
	       "; FILE.d/*.conf are read after it\n"
	       "  -o, --option S.K=VALUE    one value over the file's\n"
	       "      --check               read the configuration, say what is wrong; exit 0 or "
	       "78\n"
	       "      --print-config-sample the sample file\n"
	       "      --print-man-options   the option list as man(7) source\n"
	       "  -h, --help\n  -V, --version\n\n"
	       "Signals: TERM ends, a second one at once; HUP reads the configuration again.\n\n"
	       "Configuration, section.key=default:\n%s", b.p ? b.p : "");
	buf_done(&b);
}

static int parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"option", required_argument, NULL, 'o'},
		{"check", no_argument, NULL, 'C'},
		{"print-config-sample", no_argument, NULL, 'S'},
		{"print-man-options", no_argument, NULL, 'M'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:o:hV", longs, NULL)) >= 0) {
		switch (c) {
		case 'c': app.config = optarg; break;
		case 'o':
			if (app.n_overrides == MAX_OVERRIDES)
				return EX_USAGE;
			app.overrides[app.n_overrides++] = optarg;
			break;
		case 'C': app.check = true; break;
		case 'S': app.print_sample = true; break;
		case 'M': app.print_man = true; break;
		case 'h': print_help(); exit(0);
		case 'V': puts("hearthd " PACKAGE_VERSION); exit(0);
		default: return EX_USAGE;
		}
	}
	return optind == argc ? 0 : EX_USAGE;
}

static int print_generated(void)
{
	struct buf b = BUF_INIT;

	if (app.print_sample)
		conf_put_sample(&table, &b);
	else
		conf_put_man(&table, &b);
	fwrite(b.p, 1, b.n, stdout);
	buf_done(&b);
	return 0;
}

/* ---- configuration ----------------------------------------------------------------------- */

static int load(struct conf **ret_conf, struct box_conf **ret_box, struct err *e)
{
	const char *path = app.config ? app.config :
			   access(DEFAULT_CONFIG, F_OK) == 0 ? DEFAULT_CONFIG : NULL;
	struct conf *c = NULL;
	int r = conf_load(&table, path, &c, e);

	for (size_t i = 0; i < app.n_overrides && r == 0; i++)
		r = conf_override(c, app.overrides[i], e);
	if (r == 0)
		r = box_conf_load(c, ret_box, e);
	if (r < 0) {
		conf_free(c);
		return r;
	}
	*ret_conf = c;
	return 0;
}

static void set_log_level(const struct conf *c)
{
	enum log_level level;

	if (log_level_parse(conf_text(c, "log", NULL, "level"), &level) == 0)
		log_set_level(level);
}

/* ---- signals --------------------------------------------------------------------------------- */

static void on_stopped(void *arg)
{
	(void)arg;
	event_base_loopbreak(app.base);
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	svc_stopping();
	if (app.stopping) {
		log_note("stopping at once: a second signal");
		event_base_loopbreak(app.base);
		return;
	}
	app.stopping = true;
	log_note("stopping");
	life_stop(app.life, on_stopped, NULL);
}

static void on_hangup(evutil_socket_t fd, short what, void *arg)
{
	struct box_conf *box;
	struct conf *now;
	struct buf restart = BUF_INIT;
	struct err e;

	(void)fd, (void)what, (void)arg;
	svc_reloading();
	if (load(&now, &box, &e) < 0) {
		log_error("reload: %s; the configuration stays as it was", e.text);
		svc_ready();
		return;
	}
	conf_needs_restart(app.conf, now, &restart);
	if (restart.n)
		log_warn("reload: a change of %s needs a restart", restart.p);
	buf_done(&restart);
	conf_free(app.conf);
	app.conf = now;
	set_log_level(now);
	log_note("reload: %zu models", box->n_models);
	life_reload(app.life, box);
	svc_ready();
}

static void on_dog(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	svc_watchdog();
}

static int watch_signals(void)
{
	uint32_t ms = svc_watchdog_ms() ? svc_watchdog_ms() : 1000;
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	signal(SIGPIPE, SIG_IGN);
	app.term = evsignal_new(app.base, SIGTERM, on_term, NULL);
	app.interrupt = evsignal_new(app.base, SIGINT, on_term, NULL);
	app.hangup = evsignal_new(app.base, SIGHUP, on_hangup, NULL);
	app.dog = event_new(app.base, -1, EV_PERSIST, on_dog, NULL);
	if (!app.term || !app.interrupt || !app.hangup || !app.dog)
		return -ENOMEM;
	event_add(app.term, NULL);
	event_add(app.interrupt, NULL);
	event_add(app.hangup, NULL);
	event_add(app.dog, &tv);
	return 0;
}

/* ---- start and stop ----------------------------------------------------------------------------- */

static void on_ask(void *arg, struct life *l, const char *alias, uint64_t bytes)
{
	(void)arg, (void)bytes;
	life_room(l, alias, true, 0, NULL);
}

static void on_status(void *arg, const char *line)
{
	(void)arg;
	svc_status("%s", line);
}

static int start(struct box_conf *box, struct err *e)
{
	const struct life_hooks h = { .ask = on_ask, .status = on_status };
	int r;

	app.base = event_base_new();
	if (!app.base || watch_signals() < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	else
		r = life_open(app.base, box, &h, &app.life, e);
	if (r < 0)
		box_conf_free(box);
	return r;
}

static void stop(void)
{
	struct event *events[] = { app.term, app.interrupt, app.hangup, app.dog };

	life_close(app.life);
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (events[i])
			event_free(events[i]);
	if (app.base)
		event_base_free(app.base);
	conf_free(app.conf);
	libevent_global_shutdown();
}

int main(int argc, char **argv)
{
	struct box_conf *box;
	struct err e;
	int r = parse_options(argc, argv);

	if (r) {
		fputs("hearthd: see --help\n", stderr);
		return r;
	}
	if (app.print_sample || app.print_man)
		return print_generated();
	if (load(&app.conf, &box, &e) < 0) {
		fprintf(stderr, "hearthd: %s\n", e.text);
		return EX_CONFIG;
	}
	if (app.check) {
		box_conf_free(box);
		conf_free(app.conf);
		return 0;
	}
	set_log_level(app.conf);
	r = start(box, &e);
	if (r < 0) {
		log_error("cannot start: %s", e.text);
	} else {
		svc_ready();
		event_base_dispatch(app.base);
		log_note("stopped");
	}
	stop();
	return r < 0 ? 1 : 0;
}
