/* main.c - hearthd: options, configuration, signals, start and stop. */
#include "config.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "daemon/life.h"
#include "daemon/memory.h"
#include "daemon/metric_table.h"
#include "daemon/scrape.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/opts.h"
#include "lib/own.h"
#include "lib/svc.h"

enum { MAX_OVERRIDES = 64 };

#define DEFAULT_CONFIG "/etc/hearth/hearthd.conf"

static const struct conf_section sections[] = {
	MODEL_CONF_SECTIONS,
	MEMORY_CONF_SECTIONS,
	{ "log", false, "What is written to the journal" },
	{ NULL, false, NULL },
};
static const struct conf_key keys[] = {
	MODEL_CONF_KEYS,
	MEMORY_CONF_KEYS,
	{"log", "level", CONF_CHOICE, 0, 0, "error|warning|notice|debug", "notice", true,
	 "lines above this level are not written"},
	{.key = NULL},
};
static const struct conf_table table = { sections, keys };

static struct {
	struct event_base *base;
	struct event *term, *interrupt, *hangup, *dog;
	struct life *life;
	struct memory *memory;
	struct scrape *scrape;
	struct conf *conf;
	const char *config;
	const char *overrides[MAX_OVERRIDES];
	size_t n_overrides;
	uint64_t started_ns;
	bool check, print_sample, dump_keys, stopping;
} app;

/* ---- options ------------------------------------------------------------------------ */

enum { OPT_CHECK = OPTS_LONG_ONLY, OPT_SAMPLE, OPT_KEYS, OPT_METRICS, OPT_DUMP };

static const struct opts_row rows[] = {
	{ 'c', "config", "FILE", "default " DEFAULT_CONFIG "; FILE.d/*.conf are read after it" },
	{ 'o', "option", "S.K=VALUE", "one value over the file's" },
	{ OPT_CHECK, "check", NULL, "read the configuration and its files of secrets, say what is "
				    "wrong; exit as a start would" },
	{ OPT_SAMPLE, "print-config-sample", NULL, "the sample file" },
	{ OPT_KEYS, "dump-keys", NULL,
	  "every key, a line each, a tab between its parts: hearth.conf(5) is made of it" },
	{ OPT_METRICS, "dump-metrics", NULL,
	  "every metric, a line each: name, kind, text; hearthd(8) is made of it" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void print_help(void)
{
	struct buf b = BUF_INIT;

	buf_puts(&b,
		 "hearthd - the box's daemon: starts and stops workers, reports to the router\n\n"
		 "usage: hearthd [-c FILE] [-o SECTION.KEY=VALUE]...\n\n");
	opts_put_help(rows, &b);
	buf_puts(&b, "\nSignals: TERM ends, a second one at once; HUP reads the configuration "
		     "again.\n\nConfiguration, section.key=default:\n");
	conf_put_help(&table, &b);
	opts_print(&b);
}

static void print_metrics(void)
{
	static const char *const kinds[] = { "gauge", "counter", "info" };

	for (int i = 0; i < N_METRICS; i++)
		printf("%s\t%s\t%s\n", metric_table[i].name, kinds[metric_table[i].kind],
		       metric_table[i].help);
}

static int parse_options(int argc, char **argv)
{
	int c;

	while ((c = opts_next(rows, argc, argv)) >= 0) {
		switch (c) {
		case 'c': app.config = optarg; break;
		case 'o':
			if (app.n_overrides == MAX_OVERRIDES)
				return EX_USAGE;
			app.overrides[app.n_overrides++] = optarg;
			break;
		case OPT_CHECK: app.check = true; break;
		case OPT_SAMPLE: app.print_sample = true; break;
		case OPT_KEYS: app.dump_keys = true; break;
		case OPT_METRICS: print_metrics(); exit(0);
		case OPT_DUMP: opts_print_dump(rows); exit(0);
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
		conf_put_rows(&table, &b);
	fwrite(b.p, 1, b.n, stdout);
	buf_done(&b);
	return 0;
}

/* ---- configuration ----------------------------------------------------------------------- */

/* The configuration as text, and as its two readers want it. */
struct loaded {
	struct conf *conf;
	struct box_conf *box;
	struct memory_conf *memory;
};

static void unload(struct loaded *l)
{
	memory_conf_free(l->memory);
	box_conf_free(l->box);
	conf_free(l->conf);
}

static int load(struct loaded *ret, struct err *e)
{
	const char *path = app.config ? app.config :
			   access(DEFAULT_CONFIG, F_OK) == 0 ? DEFAULT_CONFIG : NULL;
	struct loaded l = { 0 };
	int r = conf_load(&table, path, &l.conf, e);

	for (size_t i = 0; i < app.n_overrides && r == 0; i++)
		r = conf_override(l.conf, app.overrides[i], e);
	if (r == 0)
		r = box_conf_load(l.conf, &l.box, e);
	if (r == 0 && l.box->metrics)
		r = scrape_check(l.box->metrics, l.box->metrics_key_file, e);
	if (r == 0)
		r = memory_conf_load(l.conf, l.box->run_dir, &l.memory, e);
	if (r == 0) {
		l.box->memory_socket = strdup(l.memory->socket);
		r = l.box->memory_socket ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		unload(&l);
		return r;
	}
	*ret = l;
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

/* What a worker of other options presented says nothing of the next one. */
static void forget_changed(const struct box_conf *now)
{
	for (size_t i = 0; i < now->n_models; i++) {
		const struct model_conf *m = &now->models[i];
		const struct model_conf *was = box_conf_model(life_conf(app.life), m->alias);

		if (was && !model_conf_same_worker(was, m))
			memory_forget(app.memory, m->alias);
	}
}

static void on_hangup(evutil_socket_t fd, short what, void *arg)
{
	struct loaded now;
	struct buf restart = BUF_INIT;
	struct err e;

	(void)fd, (void)what, (void)arg;
	svc_reloading();
	if (load(&now, &e) < 0) {
		log_error("reload: %s; the configuration stays as it was", e.text);
		svc_ready();
		return;
	}
	conf_needs_restart(app.conf, now.conf, &restart);
	if (restart.n)
		log_warn("reload: a change of %s needs a restart", restart.p);
	buf_done(&restart);
	conf_free(app.conf);
	app.conf = now.conf;
	set_log_level(now.conf);
	log_note("reload: %zu models", now.box->n_models);
	memory_reload(app.memory, now.memory);
	forget_changed(now.box);
	life_reload(app.life, now.box);
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

/* ---- start and stop ------------------------------------------------------------------ */

static void on_ask(void *arg, struct life *l, const char *alias, uint64_t bytes)
{
	uint64_t short_by = 0;
	char why[256];
	bool fits = memory_would_fit(app.memory, alias, bytes, &short_by, why, sizeof(why));

	(void)arg;
	life_room(l, alias, fits, short_by, fits ? NULL : why);
}

static void on_status(void *arg, const char *line)
{
	(void)arg;
	svc_status("%s", line);
}

static bool on_stop(void *arg, const char *alias, int pid, const char *why)
{
	(void)arg;
	return app.life && life_pid(app.life, alias) == pid && life_shed(app.life, alias, why);
}

static bool on_alias(void *arg, size_t i, struct memory_alias *ret)
{
	const struct launch_model *l = app.life ? launcher_at(life_launcher(app.life), i) : NULL;
	const struct model_conf *m = l ? box_conf_model(life_conf(app.life), l->alias) : NULL;

	(void)arg;
	if (!l)
		return false;
	*ret = (struct memory_alias){ .alias = l->alias, .state = launch_state_name(l->state),
				      .folder = m ? m->path : NULL,
				      .device = m ? m->device : NULL,
				      .need = l->memory ? l->memory : l->bytes };
	return true;
}

static void on_scrape(void *arg, struct expo *x)
{
	(void)arg;
	x->labels[0] = "box";
	x->labels[1] = life_conf(app.life)->name;
	expo_begin(x, &metric_table[METRIC_BUILD]);
	expo_put(x, 1, "version", PACKAGE_VERSION, NULL);
	expo_begin(x, &metric_table[METRIC_UP_S]);
	expo_put(x, (double)((clock_ns() - app.started_ns) / NS_PER_S), NULL);
	memory_put_metrics(app.memory, x);
	life_put_metrics(app.life, x);
}

/* Takes the configuration over, whatever comes of it. */
static int start(struct loaded *l, struct err *e)
{
	const struct memory_hooks mh = { .stop = on_stop, .alias = on_alias };
	const struct life_hooks h = { .ask = on_ask, .status = on_status };
	int r;

	app.base = event_base_new();
	if (!app.base || watch_signals() < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	else
		r = memory_open(app.base, l->memory, &mh, &app.memory, e);
	if (r == 0) {
		l->memory = NULL;
		r = life_open(app.base, l->box, &h, &app.life, e);
	}
	if (r == 0)
		l->box = NULL;
	if (r == 0 && life_conf(app.life)->metrics)
		r = scrape_open(app.base, life_conf(app.life)->metrics,
				life_conf(app.life)->metrics_key_file, on_scrape, NULL, &app.scrape,
				e);
	app.started_ns = clock_ns();
	app.conf = TAKE(l->conf);
	unload(l);
	return r;
}

static void stop(void)
{
	struct event *events[] = { app.term, app.interrupt, app.hangup, app.dog };

	app.scrape = scrape_close(app.scrape);
	app.life = life_close(app.life);
	memory_close(app.memory);
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (events[i])
			event_free(events[i]);
	if (app.base)
		event_base_free(app.base);
	conf_free(app.conf);
	libevent_global_shutdown();
}

/* ---- --check ------------------------------------------------------------------------------ */

static bool can_look(const char *key, const char *file)
{
	bool can = svc_can_look(file);

	if (!can)
		fprintf(stderr, "hearthd: %s: %s was not looked at: the service manager gives "
			"credentials to the running service only\n", key, file);
	return can;
}

/* What start() would read besides.  Not in load(): a reload does not read them again. */
static int check_secrets(const struct box_conf *b, struct err *e)
{
	int r = 0;

	if (b->curve_public && can_look("box.curve_secret_file", b->curve_secret_file))
		r = life_check_secret(b, e);
	if (r == 0 && b->metrics && b->metrics_key_file &&
	    can_look("box.metrics_key_file", b->metrics_key_file))
		r = scrape_check_key(b->metrics_key_file, e);
	return r;
}

/* A file that the configuration names and that cannot be had will be no better at the next start. */
static int status(int r)
{
	return r == 0 ? 0 : r == -ENOENT || r == -EACCES || r == -EINVAL ? EX_CONFIG : 1;
}

static int check(struct loaded *l)
{
	struct err e;
	int r = check_secrets(l->box, &e);

	if (r < 0)
		fprintf(stderr, "hearthd: %s\n", e.text);
	unload(l);
	return status(r);
}

int main(int argc, char **argv)
{
	struct loaded l;
	struct err e;
	int r = parse_options(argc, argv);

	if (r) {
		fputs("hearthd: see --help\n", stderr);
		return r;
	}
	if (app.print_sample || app.dump_keys)
		return print_generated();
	if (load(&l, &e) < 0) {
		fprintf(stderr, "hearthd: %s\n", e.text);
		return EX_CONFIG;
	}
	if (app.check)
		return check(&l);
	set_log_level(l.conf);
	r = start(&l, &e);
	if (r < 0) {
		log_error("cannot start: %s", e.text);
	} else {
		svc_ready();
		event_base_dispatch(app.base);
		log_note("stopped");
	}
	stop();
	return status(r);
}
