/* step_conditions.h - everything that a reader of the table would ask. */
#ifndef HEARTH_BENCH_STEP_CONDITIONS_H
#define HEARTH_BENCH_STEP_CONDITIONS_H

#include "bench/step_report.h"

void step_conditions(struct step_report *p, const struct step_run *r);

#endif
