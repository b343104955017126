/* main.c - hearthctl: options and commands. */
#include "config.h"

#include <curl/curl.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "lib/own.h"

enum { MAX_KEY = 4096 };

static int read_key(const char *path, char **ret, struct err *e)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	char line[MAX_KEY];

	if (!f || !fgets(line, sizeof(line), f))
		return err_set(e, -EINVAL, "cannot read a key from %s", path);
	line[strcspn(line, "\r\n")] = '\0';
	free(*ret);
	*ret = strdup(line);
	return *ret ? 0 : -ENOMEM;
}

static int read_interval(const char *text, uint32_t *ret_ms)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s >= 0.1 && s <= 3600))
		return -EINVAL;
	*ret_ms = (uint32_t)(s * 1000);
	return 0;
}

static int add_word(const char **list, size_t *n)
{
	if (*n == CTL_MAX_FILES)
		return -EINVAL;
	list[(*n)++] = optarg;
	return 0;
}

static void print(void (*put)(struct buf *out))
{
	struct buf b = BUF_INIT;

	put(&b);
	opts_print(&b);
	exit(0);
}

static int take(int opt, struct ctl *c, struct err *e)
{
	switch (opt) {
	case 'u': c->url = optarg; return 0;
	case 'k': return read_key(optarg, &c->key, e);
	case 'm': c->model = optarg; return 0;
	case 'b': c->box = optarg; return 0;
	case 'w': c->wait = true; return 0;
	case CTL_HEARTHD: c->hearthd = optarg; return 0;
	case CTL_ONCE: c->once = true; return 0;
	case CTL_INTERVAL: return read_interval(optarg, &c->interval_ms);
	case CTL_LOG: return add_word(c->files, &c->n_files);
	case CTL_ON: return add_word(c->hosts, &c->n_hosts);
	case CTL_ROOT: c->root = optarg; return 0;
	case CTL_ETC: c->etc = optarg; return 0;
	case CTL_KEYS_FILE: c->keys_file = optarg; return 0;
	case CTL_ROLE: c->role = optarg; return 0;
	case CTL_BUS: c->bus = optarg; return 0;
	case CTL_NO_RELOAD: c->no_reload = true; return 0;
	case CTL_COMPLETION: c->completion = optarg; return 0;
	case CTL_JSON: c->json = true; return 0;
	case CTL_DUMP: print(ctl_put_dump); return 0;
	case 'h': print(ctl_put_help); return 0;
	case 'V': puts("hearthctl " PACKAGE_VERSION); exit(0);
	default: return -EINVAL;
	}
}

static int run(const struct ctl *c, int argc, char **argv, struct err *e)
{
	int used, r;
	const struct ctl_command *m = ctl_find(argc, argv, &used);

	if (!m)
		return err_set(e, -EINVAL, "no such command; see --help");
	if (argc - used < m->min_args || argc - used > m->max_args)
		return err_set(e, -EINVAL, "usage: hearthctl %s%s%s", m->name, m->arg ? " " : "",
			       m->arg ? m->arg : "");
	r = m->run(c, argv + used, e);
	return fflush(stdout) == 0 || r < 0 ? r : err_set(e, -EIO, "cannot write");
}

static int complete(const struct ctl *c)
{
	struct buf b = BUF_INIT;
	int r;

	if (!strcmp(c->completion, "alias") || !strcmp(c->completion, "box"))
		r = ctl_put_names(c, c->completion, &b);
	else
		r = ctl_put_completion(c->completion, &b);
	if (r == -EINVAL)
		fputs("hearthctl: --completion is for bash and zsh\n", stderr);
	opts_print(&b);
	return r;
}

/* Whoever wrote --json behind what is wrong wants it all the same. */
static int wrong_usage(struct ctl *c, int argc, char **argv, struct err *e)
{
	for (int i = optind; i < argc; i++)
		c->json |= !strcmp(argv[i], "--json");
	return *e->text ? -EINVAL : err_set(e, -EINVAL, "wrong usage; see --help");
}

int main(int argc, char **argv)
{
	struct ctl c = { .url = "http://127.0.0.1:8080", .etc = "/etc/hearth",
			 .interval_ms = 1000 };
	struct err e = { 0 };
	int opt, r = 0;

	setlocale(LC_ALL, "");		/* libsmartcols measures text by it */
	c.color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	while (r == 0 && (opt = opts_next(ctl_options, argc, argv)) >= 0)
		r = take(opt, &c, &e);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	if (r == 0 && c.completion) {
		r = ctl_exit_status(complete(&c));
	} else {
		if (r < 0 || optind == argc)
			r = wrong_usage(&c, argc, argv, &e);
		else
			r = run(&c, argc - optind, argv + optind, &e);
		if (r < 0)
			r = ctl_fail(&c, NULL, r, &e);
	}
	free(c.key);
	curl_global_cleanup();
	return r;
}
