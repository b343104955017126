/* measure.h - what a device can say beside results: for measurements (bench/), not for serving.
 *
 * A back end answers what it can and -ENOTSUP for the rest.  Sizes are bytes.
 *
 * Thread: as step.h.  Every call waits for the steps in flight.
 */
#ifndef HEARTH_KERNELS_MEASURE_H
#define HEARTH_KERNELS_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/step.h"

#define MEASURE_MAX_CLASSES 16

/* What is asked for; each fills the fields named below and leaves the others alone. */
enum measure {
	MEASURE_DEVICE,	/* `device`, `driver`, `free`, `prompt_rows`; also before device_load() */
	/* `read_roof`; takes memory for some tenths of a second: before device_load() */
	MEASURE_ROOF,
	MEASURE_READS,		/* `step_bytes`, `expert_bytes`; after device_load() */
	MEASURE_STEPS,		/* `experts_active`, `n_classes`, `classes`: since the last time */
};

struct device_class {
	const char *name;	/* static */
	double ms;
};

struct device_measures {
	char device[96];	/* the chip, in words */
	char driver[64];	/* "" where there is none */
	uint64_t free;		/* memory that a device of this kind could take now */
	uint32_t prompt_rows;	/* rows of a prompt that it likes in one step */
	double read_roof;	/* bytes a second: the best of some plain reads */
	/* What a decode step reads of the matrices, as the device keeps them: always, and for each
	 * distinct expert of a layer, in the mean over layers. */
	uint64_t step_bytes, expert_bytes;
	/* distinct experts, summed over decoder layers and passes; some back ends count in profiled
	 * steps alone */
	uint64_t experts_active;
	uint32_t n_classes;		/* 0: it does not tell classes apart */
	/* time in profiled steps; sums over steps */
	struct device_class classes[MEASURE_MAX_CLASSES];
};

/* 0, -ENOTSUP, -EINVAL (not at this time), -ENOMEM, -ENODEV. */
int device_measure(struct device *d, enum measure what, struct device_measures *ret);
/* Times the kernels of every step from now on, which makes steps slower; a profiler that waits for the
 * program (ncu --profile-from-start off) counts from here until it is off.  -ENOTSUP. */
int device_profile(struct device *d, bool on);

#endif
