/* uplink.h - hearthd's connection to the router: greets as a box, sends reports, takes commands.
 *
 * Reconnects by itself; a router that is silent too long is left and connected to anew.
 */
#ifndef HEARTH_DAEMON_UPLINK_H
#define HEARTH_DAEMON_UPLINK_H

#include <stdbool.h>

#include "lib/err.h"
#include "proto/link.h"

struct event_base;
struct uplink;

struct uplink_hooks {
	void (*up)(void *arg, bool up);		/* the router welcomed us, or is lost */
	void (*command)(void *arg, const Hw__BoxCommand *c);
	void (*use)(void *arg, const Hw__BoxUse *u);
	void (*beat)(void *arg);		/* a report is due */
	void *arg;
};

/* The strings are copied where they must live on. */
int uplink_open(struct event_base *base, const char *endpoint, const struct link_curve *curve,
		const char *box, const struct uplink_hooks *h, struct uplink **ret, struct err *e);
struct uplink *uplink_close(struct uplink *u);		/* says goodbye */
bool uplink_is_up(const struct uplink *u);
/* Dropped while there is no router: the next report says it all anew. */
void uplink_report(struct uplink *u, const Hw__BoxReport *r);
void uplink_reply(struct uplink *u, uint64_t request, bool ok, const char *message);

#endif
