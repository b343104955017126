/* flight.h - a step that was given to the device and not yet collected, in figures. */
#ifndef HEARTH_WORKER_FLIGHT_H
#define HEARTH_WORKER_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/step.h"

enum {
	FLIGHT_TEXT = 160,
	FLIGHT_MOST_ROWS = 1024,	/* who takes more rows in a step takes them fast */
};

struct step_flight {
	uint64_t step;			/* 1, 2, ... since the start */
	uint32_t n_runs;
	uint32_t rows[ROW_REPLAY + 1];	/* by enum row_kind */
};

/* "step 41: 3 runs, 2 decode + 64 prefill rows; step 42: ..." or "no step in flight". */
void flights_text(const struct step_flight *f, uint32_t n, char ret[FLIGHT_TEXT]);
/* How long these steps may take when an idle device gets base_ms: a six-hundredth of it more for
 * each of the first FLIGHT_MOST_ROWS rows, so that the prompt of a slow back end is not taken for a
 * hang. */
uint64_t flights_bound_ms(const struct step_flight *f, uint32_t n, uint64_t base_ms);

/* ---- rows without numbers -------------------------------------------------------------
 * One such row may be the request's: a bug that only its prompt reaches.  Several in a row, or a
 * step of several rows that has nothing else, are the device's or the model's. */
struct number_watch {
	uint32_t limit;		/* rows in a row within a minute */
	uint32_t n;
	uint64_t since_ns;	/* of the first of them */
};

/* A step was collected, n_bad of its n_sampled samples without a number.  True: it must not go
 * on. */
bool number_watch_step(struct number_watch *w, uint32_t n_sampled, uint32_t n_bad, uint64_t now_ns);

#endif
