/* unit_facts.h - what systemd says about a worker's unit, and what its end means. */
#ifndef HEARTH_DAEMON_UNIT_FACTS_H
#define HEARTH_DAEMON_UNIT_FACTS_H

#include <stddef.h>

#include "daemon/launcher.h"

struct sd_bus_message;

struct unit_facts {	/* the properties of these names; "" or 0 when not said */
	char active[32], sub[32], result[32], status[256];
	int main_code, main_status, pid;
};

/* From the reply to GetAll of all its interfaces.  0, or -errno: not understood. */
int unit_facts_read(struct sd_bus_message *m, struct unit_facts *ret);
/* How a unit that is inactive or failed ended; `why` is for a person. */
enum launch_end unit_facts_end(const struct unit_facts *f, char *why, size_t n);

#endif
