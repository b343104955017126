/* main.c - hearth-bench: speed, with every condition printed. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bench/compare.h"
#include "bench/exact.h"
#include "bench/load.h"
#include "bench/router.h"
#include "bench/soak.h"
#include "bench/step.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} verbs[] = {
	{ "compare", bench_compare_main }, { "exact", bench_exact_main },
	{ "load", bench_load_main },	   { "router", bench_router_main },
	{ "soak", bench_soak_main },	   { "step", bench_step_main },
};

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("hearth-bench " PACKAGE_VERSION);
		return 0;
	}
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].main(argc - 1, argv + 1);
	fprintf(stderr, "usage: hearth-bench compare [options] MODEL < ids\n"
			"       hearth-bench step [options] MODEL\n"
			"       hearth-bench exact [options] MODEL\n"
			"       hearth-bench soak [options] MODEL\n"
			"       hearth-bench load [options] MODEL\n"
			"       hearth-bench router [options] HOST:PORT\n");
	return EX_USAGE;
}
