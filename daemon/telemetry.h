/* telemetry.h - how the box is: what /proc says, as it says it. */
#ifndef HEARTH_DAEMON_TELEMETRY_H
#define HEARTH_DAEMON_TELEMETRY_H

#include <stdint.h>

struct telemetry {
	uint64_t memory_total, memory_free, memory_available, memory_cached;	/* bytes */
	double pressure_some, pressure_full;	/* PSI of memory, % of the last 10 s; 0: unknown */
	double load_1;
};

/* What cannot be read stays 0. */
void telemetry_read(struct telemetry *ret);

#endif
