/* target.h - which model runs where, for the programs of hearth-bench that are asked for it in the
 * same words: MODEL, or --dummy FORMAT [--shape SHAPE]; --device; --kv; --threads.
 */
#ifndef HEARTH_BENCH_TARGET_H
#define HEARTH_BENCH_TARGET_H

#include "bench/step_model.h"
#include "kernels/step.h"
#include "lib/opts.h"

struct target {
	const char *device, *model, *dummy, *shape;	/* model NULL: made-up weights */
	uint32_t threads;
	enum kv_format kv;
	struct step_model m;
	struct device *d;
};

#define TARGET_INIT { .device = "cpu", .shape = "35b" }

/* Keys of their own; a program's table has TARGET_ROWS among its rows. */
enum { TARGET_DEVICE = OPTS_LONG_ONLY + 100, TARGET_DUMMY, TARGET_SHAPE, TARGET_KV, TARGET_THREADS };

#define TARGET_ROWS \
	{ TARGET_DEVICE, "device", "DEVICE", "cpu or cuda:N (default: cpu)" }, \
	{ TARGET_DUMMY, "dummy", "FORMAT", \
	  "no MODEL: weights made up in bf16, fp8, nvfp4 or nvfp4-fp8" }, \
	{ TARGET_SHAPE, "shape", "SHAPE", \
	  "of --dummy: 35b, 27b or a folder with config.json (default: 35b)" }, \
	{ TARGET_KV, "kv", "FORMAT", "of keys and values: bf16 or fp8 (default: bf16)" }, \
	{ TARGET_THREADS, "threads", "N", "of the CPU back end (default: one a core)" }

/* An option, its argument in optarg.  False: none of these, or not possible. */
bool target_take(struct target *t, int key);
/* What is left of the command line.  False: not one MODEL where there is no --dummy, or one. */
bool target_rest(struct target *t, int argc, char **argv);
/* Shape and source; then the device, loaded.  *t must stay where it is. */
int target_find(struct target *t, struct err *e);
int target_open(struct target *t, struct device_limits limits, struct err *e);
void target_close(struct target *t);
/* For a line to a person. */
const char *target_name(const struct target *t);

#endif
