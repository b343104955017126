/* nvml.h - what the NVIDIA driver says, where there is one: NVML by dlopen, nothing linked.
 *
 * On a GPU that shares the box's memory (GB10) the driver answers "not supported" to questions
 * about memory: that is how such a GPU is told from one with memory of its own.  Indices are
 * NVML's (the order of the PCI bus).  One thread.
 */
#ifndef HEARTH_DAEMON_NVML_H
#define HEARTH_DAEMON_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nvml;

enum { NVML_MAX_GPUS = 16, NVML_MAX_PROCESSES = 64 };

struct nvml_gpu {
	char name[96];
	bool own_memory;		/* false: the box's, or the driver does not say */
	uint64_t total, free;		/* own_memory */
};

struct nvml_process {
	int pid;
	unsigned gpu;
	uint64_t bytes;			/* 0: the driver does not say */
};

struct nvml *nvml_open(void);		/* NULL: no driver, no library, or it fails to start */
struct nvml *nvml_close(struct nvml *n);
const char *nvml_driver(const struct nvml *n);		/* "580.95.05"; "" when unknown */
unsigned nvml_count(const struct nvml *n);		/* 0 for NULL */
/* 0; -EIO: the driver does not answer. */
int nvml_read(struct nvml *n, unsigned gpu, struct nvml_gpu *ret);
/* Processes on all GPUs, n at most.  How many. */
size_t nvml_processes(struct nvml *n, struct nvml_process *ret, size_t max);

#endif
