/* model_conf.c - see model_conf.h. */
#include "daemon/model_conf.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"
#include "proto/wire.h"

enum { ROOM_MS = 5000 };

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static uint32_t get_u32(const struct conf *c, const char *section, const char *name,
			const char *key)
{
	return (uint32_t)conf_int(c, section, name, key);
}

#define NAME_RULE WIRE_ALIAS_RULE ", on a box without /"

/* Names become file names, unit names and words of a command line. */
static bool name_ok(const char *s)
{
	return wire_alias_ok(s) && !strchr(s, '/');
}

/* Also read by systemd from an environment file: no blanks, quotes, dollars or backslashes. */
static bool word_ok(const char *s)
{
	for (; *s; s++)
		if (*s <= ' ' || *s > '~' || strchr("\"'\\$`#;", *s))
			return false;
	return true;
}

static int copy(char **ret, const char *text, struct err *e)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? no_memory(e) : 0;
}

static int check_args(const char *name, const char *args, struct err *e)
{
	for (const char *p = args; p && *p; p++)
		if (*p != ' ' && *p != '\t' && *p != '\n' && !word_ok((char[]){ *p, '\0' }))
			return err_set(e, -EINVAL, "[model %s]: args may not hold '%c'", name, *p);
	return 0;
}

static int load_model(const struct conf *c, const char *name, struct model_conf *m, struct err *e)
{
	const char *path = conf_text(c, "model", name, "path");
	const char *alias = conf_text(c, "model", name, "alias");
	const char *args = conf_text(c, "model", name, "args");

	if (!alias)
		alias = name;
	if (!name_ok(alias))
		return err_set(e, -EINVAL, "[model %s]: '%s' cannot be an alias: " NAME_RULE, name,
			       alias);
	if (!path)
		return err_set(e, -EINVAL, "[model %s]: path is missing", name);
	if (!word_ok(path))
		return err_set(e, -EINVAL, "[model %s]: path may hold neither blanks nor quotes", name);
	if (!word_ok(conf_text(c, "model", name, "device")))
		return err_set(e, -EINVAL, "[model %s]: device is not a word", name);
	if (check_args(name, args, e) < 0)
		return -EINVAL;
	m->pin = conf_bool(c, "model", name, "pin");
	m->on_demand = conf_bool(c, "model", name, "on_demand");
	m->ttl_s = get_u32(c, "model", name, "ttl_s");
	m->context = get_u32(c, "model", name, "context");
	m->max_streams = get_u32(c, "model", name, "max_streams");
	m->queue = get_u32(c, "model", name, "queue");
	m->threads = get_u32(c, "model", name, "threads");
	m->memory = (uint64_t)conf_int(c, "model", name, "memory_mib") << 20;
	m->kv = (uint64_t)conf_int(c, "model", name, "kv_mib") << 20;
	if (copy(&m->alias, alias, e) < 0 || copy(&m->path, path, e) < 0 ||
	    copy(&m->args, args, e) < 0)
		return -ENOMEM;
	if (copy(&m->quantize, conf_text(c, "model", name, "quantize"), e) < 0 ||
	    copy(&m->kv_format, conf_text(c, "model", name, "kv"), e) < 0 ||
	    copy(&m->prefill_fp4, conf_text(c, "model", name, "prefill_fp4"), e) < 0)
		return -ENOMEM;
	return copy(&m->device, conf_text(c, "model", name, "device"), e);
}

static int load_models(const struct conf *c, struct box_conf *b, struct err *e)
{
	size_t n = 0, pins = 0;

	while (conf_name(c, "model", n))
		n++;
	if (n > LAUNCH_MAX_MODELS)
		return err_set(e, -EINVAL, "%zu models, %d at most", n, LAUNCH_MAX_MODELS);
	b->models = calloc(n ? n : 1, sizeof(*b->models));
	if (!b->models)
		return no_memory(e);
	while (b->n_models < n) {
		struct model_conf *m = &b->models[b->n_models++];
		int r = load_model(c, conf_name(c, "model", b->n_models - 1), m, e);

		if (r < 0)
			return r;
		pins += m->pin;
		if (box_conf_model(b, m->alias) != m)
			return err_set(e, -EINVAL, "[model]: two have the alias %s", m->alias);
	}
	if (b->policy.max_models && pins > b->policy.max_models)
		return err_set(e, -EINVAL, "box.max_models is %u, but %zu models are pinned",
			       b->policy.max_models, pins);
	return 0;
}

static void load_policy(const struct conf *c, struct box_conf *b)
{
	b->policy = (struct launch_policy){
		.max_models = get_u32(c, "box", NULL, "max_models"),
		.keep_ms = get_u32(c, "box", NULL, "keep_s") * 1000,
		.retire_ms = get_u32(c, "box", NULL, "retire_s") * 1000,
		.stall_ms = get_u32(c, "box", NULL, "stall_s") * 1000,
		.backoff_ms = get_u32(c, "box", NULL, "backoff_ms"),
		.backoff_max_ms = get_u32(c, "box", NULL, "backoff_max_s") * 1000,
		.crash_limit = get_u32(c, "box", NULL, "crash_limit"),
		.healthy_ms = get_u32(c, "box", NULL, "healthy_s") * 1000,
		.room_ms = ROOM_MS,
	};
	b->stop_ms = get_u32(c, "box", NULL, "stop_s") * 1000;
}

static int load_name(const struct conf *c, struct box_conf *b, struct err *e)
{
	const char *name = conf_text(c, "box", NULL, "name");
	char host[64] = "box";

	if (!name && gethostname(host, sizeof(host) - 1) == 0)
		name = host;
	if (!name || !name_ok(name))
		return err_set(e, -EINVAL, "box.name: '%s' cannot be a name: " NAME_RULE,
			       name ? name : "");
	return copy(&b->name, name, e);
}

/* The worker beside us, wherever we were installed or built. */
static int load_worker(const struct conf *c, struct box_conf *b, struct err *e)
{
	const char *given = conf_text(c, "box", NULL, "worker");
	char self[512];
	ssize_t n;
	char *slash;

	if (given)
		return copy(&b->worker, given, e);
	n = readlink("/proc/self/exe", self, sizeof(self) - 32);
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return copy(&b->worker, "hearth-worker", e);
	strcpy(slash + 1, "hearth-worker");
	if (access(self, X_OK) < 0) {	/* sbin/hearthd, bin/hearth-worker */
		*slash = '\0';
		slash = strrchr(self, '/');
		if (slash)
			strcpy(slash, "/bin/hearth-worker");
	}
	return copy(&b->worker, self, e);
}

static int load_box(const struct conf *c, struct box_conf *b, struct err *e)
{
	const char *launcher = conf_text(c, "box", NULL, "launcher");
	const char *stop = conf_text(c, "box", NULL, "stop_workers");
	const char *metrics = conf_text(c, "box", NULL, "metrics");
	int r = load_name(c, b, e);

	if (r == 0)
		r = load_worker(c, b, e);
	if (r == 0)
		r = copy(&b->router, conf_text(c, "box", NULL, "router"), e);
	if (r == 0)
		r = copy(&b->run_dir, conf_text(c, "box", NULL, "run_dir"), e);
	if (r == 0)
		r = copy(&b->curve_public, conf_text(c, "box", NULL, "curve_public"), e);
	if (r == 0)
		r = copy(&b->curve_secret_file, conf_text(c, "box", NULL, "curve_secret_file"), e);
	if (r == 0)
		r = copy(&b->curve_server, conf_text(c, "box", NULL, "curve_server"), e);
	if (r == 0 && metrics && *metrics)
		r = copy(&b->metrics, metrics, e);
	if (r == 0)
		r = copy(&b->metrics_key_file, conf_text(c, "box", NULL, "metrics_key_file"), e);
	if (r < 0)
		return r;
	if (!b->curve_public != !b->curve_secret_file || !b->curve_public != !b->curve_server)
		return err_set(e, -EINVAL, "box.curve_public, curve_secret_file and curve_server go "
					   "together");
	if (!word_ok(b->router) || !word_ok(b->run_dir) || *b->run_dir != '/')
		return err_set(e, -EINVAL, "box.router and box.run_dir: no blanks or quotes, and "
					   "run_dir begins with /");
	b->want_units = !strcmp(launcher, "systemd");
	b->forbid_units = !strcmp(launcher, "spawn");
	b->stop_workers_set = strcmp(stop, "auto") != 0;
	b->stop_workers = !strcmp(stop, "yes");
	load_policy(c, b);
	return 0;
}

static void box_conf_freep(struct box_conf **b)
{
	box_conf_free(*b);
}

int box_conf_load(const struct conf *c, struct box_conf **ret, struct err *e)
{
	CLEANUP(box_conf_freep) struct box_conf *b = calloc(1, sizeof(*b));
	int r = b ? load_box(c, b, e) : no_memory(e);

	if (r == 0)
		r = load_models(c, b, e);
	if (r < 0)
		return r;
	*ret = TAKE(b);
	return 0;
}

struct box_conf *box_conf_free(struct box_conf *b)
{
	if (!b)
		return NULL;
	for (size_t i = 0; i < b->n_models; i++) {
		free(b->models[i].alias);
		free(b->models[i].path);
		free(b->models[i].args);
		free(b->models[i].device);
		free(b->models[i].quantize);
		free(b->models[i].kv_format);
		free(b->models[i].prefill_fp4);
	}
	free(b->models);
	free(b->name);
	free(b->router);
	free(b->run_dir);
	free(b->worker);
	free(b->memory_socket);
	free(b->curve_public);
	free(b->curve_secret_file);
	free(b->curve_server);
	free(b->metrics);
	free(b->metrics_key_file);
	free(b);
	return NULL;
}

const struct model_conf *box_conf_model(const struct box_conf *b, const char *alias)
{
	for (size_t i = 0; i < b->n_models; i++)
		if (!strcmp(b->models[i].alias, alias))
			return &b->models[i];
	return NULL;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

bool model_conf_same_worker(const struct model_conf *a, const struct model_conf *b)
{
	return same(a->path, b->path) && same(a->args, b->args) && same(a->device, b->device) &&
	       same(a->quantize, b->quantize) && same(a->kv_format, b->kv_format) &&
	       same(a->prefill_fp4, b->prefill_fp4) &&
	       a->context == b->context && a->max_streams == b->max_streams &&
	       a->queue == b->queue && a->threads == b->threads && a->kv == b->kv;
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

uint64_t model_conf_bytes(const struct model_conf *m)
{
	CLEANUP(closedirp) DIR *d = opendir(m->path);
	const struct dirent *entry;
	uint64_t sum = 0;

	while (d && (entry = readdir(d))) {
		struct stat st;

		if (fstatat(dirfd(d), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	}
	return sum;
}

void model_conf_worker_name(const struct box_conf *b, const char *alias, char ret[192])
{
	snprintf(ret, 192, "%.63s/%.120s", b->name, alias);
}
