/* report.h - what the router and `systemctl status` hear about this box. */
#ifndef HEARTH_DAEMON_REPORT_H
#define HEARTH_DAEMON_REPORT_H

#include "daemon/launcher.h"
#include "daemon/model_conf.h"
#include "daemon/runner.h"
#include "daemon/uplink.h"

struct report_env {
	const struct box_conf *conf;
	const struct launcher *launcher;
	const struct runner *runner;
	uint64_t up_s;
};

void report_send(const struct report_env *env, struct uplink *u);
/* "2 of 3 models ready, 1 more started by hand, qwen36-bf16 loading 41 %, no router" */
void report_line(const struct launcher *l, uint32_t by_hand, bool router, char *ret, size_t n);

#endif
