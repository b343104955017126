/* chip.h - memory and read speed of the machines that a model may run on. */
#ifndef HEARTH_WORKER_CHIP_H
#define HEARTH_WORKER_CHIP_H

#include <stdbool.h>
#include <stdint.h>

struct chip {
	char name[64];
	double bytes_per_s;	/* of its memory: from the data sheet, or measured */
	uint64_t memory;	/* bytes; 0: not known */
	bool measured;
	bool cpu;		/* keeps every weight in bfloat16 */
};

/* Chip i of the list that is always shown; false behind the last. */
bool chip_known(uint32_t i, struct chip *ret);
/* The GPU that the driver of this machine names; false when there is none, or none that is
 * known. */
bool chip_gpu_here(struct chip *ret);
/* This machine's processor: reads memory with all its cores for some tenths of a second.
 * False when there is no memory for that. */
bool chip_cpu_here(struct chip *ret);

#endif
