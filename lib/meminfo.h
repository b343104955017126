/* meminfo.h - what the kernel says about the memory of this box.
 *
 * `root` stands before /proc and /sys, so that tests can hand in a tree of their own; NULL
 * or "" is the running kernel.  All sizes are bytes.  A field the kernel does not have is 0;
 * a file that is there and cannot be read is an error.  Thread-safe.
 */
#ifndef HEARTH_LIB_MEMINFO_H
#define HEARTH_LIB_MEMINFO_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct meminfo {
	uint64_t total, free, available;
	uint64_t cached, buffers, shmem, reclaimable;	/* reclaimable: of the slab */
	uint64_t dirty, writeback, mapped;
	uint64_t swap_total, swap_free;
	uint64_t hugetlb;			/* reserved for huge pages */
	uint64_t cma_total, cma_free;
	uint64_t unevictable;
};

/* 0; -errno of the file; -EBADMSG: MemTotal, MemFree or MemAvailable is not in it. */
int meminfo_read(const char *root, struct meminfo *ret, struct err *e);

/* What dropping caches could turn into free memory at most: clean file pages and slab. */
uint64_t meminfo_droppable(const struct meminfo *m);

/* Free pages on the CPUs' own lists, which neither MemFree nor MemAvailable counts: since Linux 6.7
 * up to an eighth of the box, for half a minute after a large process ended.  The kernel takes them
 * back before it refuses an allocation.  0 where /proc/zoneinfo cannot be read. */
uint64_t meminfo_percpu(const char *root);

struct meminfo_psi {
	double some10, full10;		/* % of the last 10 s in which tasks waited for memory */
	uint64_t some_us, full_us;	/* in all since boot: differences make a short window */
};

/* -ENOENT: this kernel counts no pressure (psi=0, or older than 4.20). */
int meminfo_psi_read(const char *root, struct meminfo_psi *ret);

/* Free memory in blocks of 2 MiB and more: what a device driver can take in large pages.
 * *ret_small: free memory in smaller pieces.  -ENOENT: no such file. */
int meminfo_buddy_read(const char *root, uint64_t *ret_large, uint64_t *ret_small);

#endif
