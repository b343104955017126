/* sdbus_none.c - in the place of sdbus*.c where there is no libsystemd. */
#include "daemon/runner.h"

int sdbus_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
	       struct runner **ret, struct err *e)
{
	(void)base, (void)b, (void)h, (void)ret;
	return err_set(e, -ENOTSUP, "built without libsystemd");
}
