/* compare.h - `hearth-bench compare`: one device or checkpoint against another, on real text. */
#ifndef HEARTH_BENCH_COMPARE_H
#define HEARTH_BENCH_COMPARE_H

int bench_compare_main(int argc, char **argv);	/* an exit code of sysexits.h; 1: a bar was missed */

#endif
