/* raw_read.h - files read from end to end with O_DIRECT, the bytes thrown away: what a disk gives. */
#ifndef HEARTH_BENCH_RAW_READ_H
#define HEARTH_BENCH_RAW_READ_H

#include "lib/err.h"
#include "worker/weights/checkpoint.h"

/* All files of c, one after the other, as many requests of `request` bytes in flight as fit in `room`. */
int raw_read(const struct checkpoint *c, enum read_how how, size_t request, size_t room,
	     uint64_t *ret_bytes, double *ret_s, struct err *e);
/* Bytes of c's files that are in the page cache (mincore(2): the caller's own files, or root). */
uint64_t raw_cached(const struct checkpoint *c);

#endif
