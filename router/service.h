/* service.h - the router as a service: signals, reload, the stop that lets streams end, the
 * first moment after a start, and what the service manager is told meanwhile.
 *
 *	start --> settle --> serve --TERM--> drain --> the loop ends
 *	                      ^ | HUP
 *	                      +-+ new settings, or the old ones and a reason
 *
 * There is one router in a process; its thread is that of the event base.
 */
#ifndef HEARTH_ROUTER_SERVICE_H
#define HEARTH_ROUTER_SERVICE_H

#include "router/router.h"

/* The configuration as it is now: files, then the command line. */
typedef int service_load_fn(struct settings **ret, struct err *e);

/* Signals, the watchdog, the status line; rt->base is there.  0 or -ENOMEM. */
int service_watch(struct router *rt, service_load_fn *load);
/* Everything listens: READY, and clients in inherited sockets as soon as workers are there. */
void service_started(void);
/* Frees the events; may follow a service_watch() that failed, or none. */
void service_done(void);

/* The configuration as it is now, checked and not taken.  -EINVAL and the like: e says file and
 * line; *ret is settings_drop()ped by the caller. */
int service_look(struct settings **ret, struct err *e);
/* Takes it, as SIGHUP does; *restart gets the keys that want a restart.  < 0: nothing changed. */
int service_reload(struct buf *restart, struct err *e);

/* Whether the sockets of the service manager may be served with these keys.  0; -EPERM. */
int service_check_sockets(const struct settings *s, struct err *e);
void service_log_level(const struct settings *s);

#endif
