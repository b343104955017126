/* soak.h - `hearth-bench soak`: random serving under memory pressure, for minutes. */
#ifndef HEARTH_BENCH_SOAK_H
#define HEARTH_BENCH_SOAK_H

/* An exit code of sysexits.h; 1: something went wrong on the way. */
int bench_soak_main(int argc, char **argv);

#endif
