/* life_int.h - what life.c, life_turn.c and life_uplink.c share. */
#ifndef HEARTH_DAEMON_LIFE_INT_H
#define HEARTH_DAEMON_LIFE_INT_H

#include <event2/util.h>

#include "daemon/estimate.h"
#include "daemon/life.h"
#include "daemon/runner.h"
#include "daemon/uplink.h"

struct life {
	struct event_base *base;
	struct box_conf *conf;
	struct launcher *launcher;
	struct runner *runner;
	struct uplink *uplink;
	struct estimate *estimate;
	struct life_hooks hooks;
	struct event *turn, *timer;
	uint64_t reported_version, said_version, opened_ns;
	uint32_t said_by_hand;
	char curve_secret[LINK_KEY];
	void (*stopped)(void *arg);
	void *stopped_arg;
};

/* life_turn.c */
/* Whatever happened, the launcher's wishes are met in the same turn of the loop, from the top. */
void life_soon(struct life *l);
void life_on_turn(evutil_socket_t fd, short what, void *arg);
void life_on_timer(evutil_socket_t fd, short what, void *arg);
void life_report(struct life *l);	/* to the router */
uint64_t life_memory_of(const struct model_conf *m);	/* what it will take: configured, said by its worker, or its files */

/* life_uplink.c: opens it with these hooks; -errno with the reason. */
int life_open_uplink(struct life *l, struct err *e);

#endif
