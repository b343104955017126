/* exact.h - `hearth-bench exact`: the same request gives the same bits, whoever else is served. */
#ifndef HEARTH_BENCH_EXACT_H
#define HEARTH_BENCH_EXACT_H

int bench_exact_main(int argc, char **argv);	/* an exit code of sysexits.h; 1: a bit differed */

#endif
