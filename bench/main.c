/* main.c - hearth-bench: speed, with every condition printed. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bench/compare.h"
#include "bench/load.h"
#include "bench/router.h"
#include "bench/step.h"

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("hearth-bench " PACKAGE_VERSION);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "step") == 0)
		return bench_step_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "load") == 0)
		return bench_load_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "router") == 0)
		return bench_router_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "compare") == 0)
		return bench_compare_main(argc - 1, argv + 1);
	fprintf(stderr, "usage: hearth-bench compare [options] MODEL < ids\n"
			"       hearth-bench step [options] MODEL\n"
			"       hearth-bench load [options] MODEL\n"
			"       hearth-bench router [options] HOST:PORT\n");
	return EX_USAGE;
}
