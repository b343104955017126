/* faulty_worker.c - the worker as it is shipped, but for its device: the fake one
 * (tests/fake/device.h), which fails when a test says so.  `tests/tools/faulty_worker serve ...`
 * takes what `hearth-worker serve` takes, with
 * --device fake. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "worker/serve.h"

int main(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "serve")) {
		fprintf(stderr,
			"usage: %s serve MODEL_DIR --device fake --connect ENDPOINT --alias NAME\n",
			argv[0]);
		return EX_USAGE;
	}
	return serve_main(argc - 1, argv + 1);
}
