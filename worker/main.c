/* main.c - hearth-worker SUBCOMMAND ...: picks the program behind the name. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#ifdef WITH_SERVING
#include "worker/serve.h"
#endif
#include "worker/check.h"
#include "worker/text/cli.h"

struct subcommand {
	const char *name;
	const char *help;
	int (*main)(int argc, char **argv);	/* argv[0] is the name */
};

static const struct subcommand subcommands[] = {
#ifdef WITH_SERVING
	{ "serve", "hold a model and answer a router's requests", serve_main },
#endif
	{ "check", "say what a model folder is, needs and could do, without a GPU", check_main },
	{ "--check", "the same", check_main },
	{ "text", "render, encode, decode or parse JSON lines", text_cli_main },
};

static void usage(FILE *f)
{
	fprintf(f, "usage: hearth-worker SUBCOMMAND ...\n");
	for (size_t i = 0; i < sizeof(subcommands) / sizeof(*subcommands); i++)
		fprintf(f, "  %-8s %s\n", subcommands[i].name, subcommands[i].help);
	fprintf(f, "Each has --help.\n");
}

int main(int argc, char **argv)
{
	const size_t n = sizeof(subcommands) / sizeof(*subcommands);
	const char *word = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < n; i++)
		if (!strcmp(word, subcommands[i].name))
			return subcommands[i].main(argc - 1, argv + 1);
	if (!strcmp(word, "--dump-options")) {
		for (size_t i = 0; i < n; i++)
			printf("%s\t...\t%s\n", subcommands[i].name, subcommands[i].help);
		return 0;
	}
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		puts("hearth-worker " PACKAGE_VERSION);
		return 0;
	}
	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		usage(stdout);
		return 0;
	}
	usage(stderr);
	return EX_USAGE;
}
