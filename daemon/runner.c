/* runner.c - see runner.h: what both ways of running workers share. */
#include "daemon/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "lib/log.h"

int runner_permille(const char *status)
{
	double percent;

	if (strncmp(status, "loading ", 8) != 0 || sscanf(status + 8, "%lf %%", &percent) != 1 ||
	    !(percent >= 0 && percent <= 100))
		return -1;
	return (int)(percent * 10);
}

enum launch_end runner_end_of(int exit_status)
{
	switch (exit_status) {
	case 0:
		return LAUNCH_ENDED;
	case EX_USAGE:
	case EX_CONFIG:
		return LAUNCH_HOPELESS;
	case EX_TEMPFAIL:
		return LAUNCH_NO_ROOM;
	default:
		return LAUNCH_FAILED;
	}
}

int runner_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
		struct runner **ret, struct err *e)
{
	int r;

	if (b->forbid_units)
		return spawn_open(base, b, h, ret, e);
	r = sdbus_open(base, b, h, ret, e);
	if (r == 0 || b->want_units)
		return r;
	log_note("workers are our own children: %s", e->text);
	return spawn_open(base, b, h, ret, e);
}
