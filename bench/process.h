/* process.h - what another process has used, as /proc says. */
#ifndef HEARTH_BENCH_PROCESS_H
#define HEARTH_BENCH_PROCESS_H

#include <stdint.h>

struct process_use {
	double user_s, system_s;	/* CPU of all its threads, in the clock's ticks (10 ms) */
	uint64_t rss_kib;
	uint64_t n_switches;		/* context switches of its threads, both kinds */
	unsigned n_threads;
	char name[32];			/* the program's */
};

/* 0; -ESRCH: there is no such process, or it may not be looked at. */
int process_read(int pid, struct process_use *ret);

#endif
