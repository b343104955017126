/* step_cells.h - the table to measure: which cells there are, which of them fit, and what came out. */
#ifndef HEARTH_BENCH_STEP_CELLS_H
#define HEARTH_BENCH_STEP_CELLS_H

#include "bench/step_model.h"
#include "bench/step_options.h"
#include "kernels/measure.h"

enum { STEP_WARM_UP = 8, STEP_PROFILED = 24 };	/* decode steps before and after those that are timed */
enum { STEP_MAX_CELLS = STEP_MAX_LIST * STEP_MAX_LIST + STEP_MAX_LIST };

/* What is not known is negative. */
struct step_cell {
	bool prompt;			/* else: decode */
	uint32_t batch;			/* sequences; of a prompt 1 */
	uint32_t tokens;		/* of the prompt; before the first step */
	bool skipped;
	/* measured */
	uint32_t steps;			/* in `seconds` */
	double seconds;			/* of all timed steps; of the fastest prompt */
	double median;			/* of the prompts, seconds */
	double in_submit;		/* of `seconds`: the host making and submitting plans */
	double bytes, device_bytes;	/* a step: by the formats of the checkpoint, as the device keeps them */
	double experts, expected;	/* distinct experts a layer and step; of tokens that choose independently */
	double class_ms[MEASURE_MAX_CLASSES];	/* of a profiled step, or prompt */
	uint64_t ids;			/* XXH64 of all that was sampled: the same in every run that is right */
};

struct step_table {
	struct step_cell cell[STEP_MAX_CELLS];
	uint32_t n;
	struct device_limits limits;	/* with which all cells that are not skipped can run */
	struct device_budget budget;	/* of them */
	struct device_measures facts;	/* MEASURE_DEVICE */
	uint64_t memory;		/* that the budget had to fit into; 0: not known */
};

typedef void step_skip(void *ctx, const struct step_cell *c, const char *why);

/* Blocks that a sequence of the cell needs. */
uint32_t step_cell_blocks(const struct step_cell *c, const struct step_options *o);
/* Prompts first, then decode by context and batch.  Cells that the model's positions or the device's memory do
 * not permit are marked, each with a line to `skip`.  -ENOMEM: not one is left. */
int step_table_plan(const struct step_options *o, const struct step_model *m, struct step_table *ret,
		    step_skip *skip, void *ctx, struct err *e);

#endif
