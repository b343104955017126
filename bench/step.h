/* step.h - `hearth-bench step`: prefill and decode speed through submit and collect. */
#ifndef HEARTH_BENCH_STEP_H
#define HEARTH_BENCH_STEP_H

int bench_step_main(int argc, char **argv);	/* an exit code of sysexits.h */

#endif
