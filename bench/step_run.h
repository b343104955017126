/* step_run.h - measures cells on a device that is loaded, through submit and collect alone.
 *
 * Prompts are random and never the same twice.  A sequence's answer is what it samples: each step takes the
 * sample of the one before on the device (IN_LAST_SAMPLE).
 *
 * Cells of one context begin from the same states: those are saved behind the prompts, and restored.  So what a
 * cell samples is a function of the options and the numeric class alone, and its digest tells two builds apart.
 */
#ifndef HEARTH_BENCH_STEP_RUN_H
#define HEARTH_BENCH_STEP_RUN_H

#include "bench/step_bytes.h"
#include "bench/step_cells.h"
#include "kernels/step.h"

struct step_run {
	struct device *d;
	const struct step_options *o;
	const struct step_model *m;
	const struct step_table *t;
	struct step_bytes bytes;
	bool reads_known, profiles;	/* what the device can say */
	uint64_t step_bytes, expert_bytes;
	uint32_t n_classes;
	const char *class_name[MEASURE_MAX_CLASSES];
	/* private */
	uint32_t n_prompts;		/* made so far: so that none is made twice */
	uint64_t sampled;		/* digest of what this cell sampled so far */
	uint32_t state_tokens, n_states;	/* states of slots 0..n-1 behind so many tokens; n_states 0: none */
	char *states;
	uint32_t *ids;
	kv_block *blocks;		/* [n_slots][pages] */
	uint32_t pages;
	struct plan_run *runs;
	struct run_result *results;
};

/* `d` is loaded.  -ENOMEM and what the device answers. */
int step_run_open(struct device *d, const struct step_options *o, const struct step_model *m,
		  const struct step_table *t, struct step_run *ret);
void step_run_close(struct step_run *r);
/* Measures one cell.  What device_submit() and device_collect() answer; -EPROTO: a step did not sample. */
int step_run_cell(struct step_run *r, struct step_cell *c);

#endif
