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

enum { EXIT_USAGE = 64, EXIT_UNAVAILABLE = 69, MAX_KEY = 4096 };

static const char help[] =
	"hearthctl - look at a Hearth router and talk to it\n\n"
	"usage: hearthctl [OPTION]... COMMAND\n\n"
	"  status                 workers, upstreams and aliases as the router sees them\n"
	"  memory                 this box's memory: who holds it, what each model would need\n"
	"  chat [TEXT]            ask once, or without TEXT line by line\n"
	"  load ALIAS             have a box load a model (also out of quarantine)\n"
	"  unload ALIAS           running answers are finished first\n"
	"  drain ALIAS            unload it, and keep it out until undrain\n"
	"  undrain ALIAS\n\n"
	"  -u, --url URL          the router (default http://127.0.0.1:8080)\n"
	"  -k, --key-file FILE    API key, the file's first line\n"
	"  -m, --model NAME       for chat (default: the first the router has)\n"
	"  -b, --box NAME         for load to undrain: of this box; ALIAS may then be '*'\n"
	"  -w, --wait             for load: until it is ready, with its progress\n"
	"      --hearthd SOCKET   for memory (default /run/hearthd/memory)\n"
	"      --json             status, memory and answers as JSON\n"
	"  -h, --help\n  -V, --version\n\n"
	"Colour is used on a terminal unless NO_COLOR is set.  Exit status: 0, 64 wrong usage,\n"
	"69 the router or a box cannot be reached, or refused.\n";

static int read_key(const char *path, char **ret)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	char line[MAX_KEY];

	if (!f || !fgets(line, sizeof(line), f)) {
		fprintf(stderr, "hearthctl: cannot read a key from %s\n", path);
		return -ENOENT;
	}
	line[strcspn(line, "\r\n")] = '\0';
	*ret = strdup(line);
	return *ret ? 0 : -ENOMEM;
}

static int parse(int argc, char **argv, struct ctl *c)
{
	static const struct option longs[] = {
		{"url", required_argument, NULL, 'u'},
		{"key-file", required_argument, NULL, 'k'},
		{"model", required_argument, NULL, 'm'},
		{"box", required_argument, NULL, 'b'},
		{"wait", no_argument, NULL, 'w'},
		{"hearthd", required_argument, NULL, 'd'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "u:k:m:b:whV", longs, NULL)) >= 0) {
		switch (opt) {
		case 'u': c->url = optarg; break;
		case 'k':
			if (read_key(optarg, &c->key) < 0)
				return -EINVAL;
			break;
		case 'm': c->model = optarg; break;
		case 'b': c->box = optarg; break;
		case 'w': c->wait = true; break;
		case 'd': c->hearthd = optarg; break;
		case 'j': c->json = true; break;
		case 'h': fputs(help, stdout); exit(0);
		case 'V': puts("hearthctl " PACKAGE_VERSION); exit(0);
		default: return -EINVAL;
		}
	}
	return optind < argc ? 0 : -EINVAL;
}

static int run(const struct ctl *c, int argc, char **argv, struct err *e)
{
	static const char *const verbs[] = { "load", "unload", "drain", "undrain" };

	if (!strcmp(argv[0], "status") && argc == 1)
		return ctl_status(c, e);
	if (!strcmp(argv[0], "memory") && argc == 1)
		return ctl_memory(c, e);
	if (!strcmp(argv[0], "chat") && argc <= 2)
		return ctl_chat(c, argc == 2 ? argv[1] : NULL, e);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (!strcmp(argv[0], verbs[i]) && argc == 2)
			return ctl_model(c, argv[0], argv[1], e);
	return err_set(e, -EINVAL, "no such command; see --help");
}

int main(int argc, char **argv)
{
	struct ctl c = { .url = "http://127.0.0.1:8080" };
	struct err e = { 0 };
	int r;

	setlocale(LC_ALL, "");		/* libsmartcols measures text by it */
	c.color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	if (parse(argc, argv, &c) < 0) {
		fputs("hearthctl: see --help\n", stderr);
		return EXIT_USAGE;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	r = run(&c, argc - optind, argv + optind, &e);
	if (r < 0)
		fprintf(stderr, "hearthctl: %s\n", e.text);
	free(c.key);
	curl_global_cleanup();
	return r == 0 ? 0 : r == -EINVAL ? EXIT_USAGE : EXIT_UNAVAILABLE;
}
