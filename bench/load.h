/* load.h - `hearth-bench load`: how fast a checkpoint is loaded, beside a raw read of its files. */
#ifndef HEARTH_BENCH_LOAD_H
#define HEARTH_BENCH_LOAD_H

int bench_load_main(int argc, char **argv);	/* an exit code of sysexits.h; 1: a bar was missed */

#endif
