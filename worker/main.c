/* main.c - hearth-worker SUBCOMMAND ...: picks the program behind the name. */
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

int main(int argc, char **argv)
{
	const size_t n = sizeof(subcommands) / sizeof(*subcommands);

	for (size_t i = 0; argc > 1 && i < n; i++)
		if (!strcmp(argv[1], subcommands[i].name))
			return subcommands[i].main(argc - 1, argv + 1);

	if (argc == 2 && !strcmp(argv[1], "--dump-options")) {
		for (size_t i = 0; i < n; i++)
			printf("%s\t...\t%s\n", subcommands[i].name, subcommands[i].help);
		return 0;
	}
	fprintf(stderr, "usage: hearth-worker SUBCOMMAND ...\n");
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "  %-8s %s\n", subcommands[i].name, subcommands[i].help);
	return EX_USAGE;
}
