/* step.h - `hearth-bench step`: prefill and decode speed through submit and collect. */
#ifndef HEARTH_BENCH_STEP_H
#define HEARTH_BENCH_STEP_H

/* 0; EX_USAGE; EX_CONFIG: this model, device or table cannot be measured; EX_SOFTWARE: a step failed, the table
 * says where. */
int bench_step_main(int argc, char **argv);

#endif
