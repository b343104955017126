/* svc.h - telling the service manager how we are (sd_notify), where there is one.
 *
 * Without NOTIFY_SOCKET, or built without libsystemd, every call does nothing.
 * Thread-safe.
 */
#ifndef HEARTH_LIB_SVC_H
#define HEARTH_LIB_SVC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

void svc_ready(void);
void svc_stopping(void);
void svc_reloading(void);	/* then svc_ready() again */
/* One line for `systemctl status`; said again only when it differs from the last. */
void svc_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "I am alive": call it from the loop whose health it vouches for. */
void svc_watchdog(void);
/* Start, or stop, may take `usec` more from now on; repeat while it advances. */
void svc_extend(uint64_t usec);
/* Half of WatchdogSec= in ms, the rhythm for svc_watchdog(); 0: no watchdog. */
uint32_t svc_watchdog_ms(void);
/* Sockets that the manager opened for us (systemd.socket(5)): how many, and the first of
 * their descriptors, which follow one another.  They are the caller's. */
int svc_sockets(int *ret_first);
/* "credential:NAME" becomes the path of what LoadCredential= brought, anything else stays.
 * 0; -ENOENT: no such credential, or an empty one; -EINVAL: not a name. */
int svc_path(const char *value, char *ret, size_t n, struct err *e);
/* False: `value` is a credential:NAME, and this process was given none at all.  So it is for a person's
 * command, and for a unit's ExecReload= (systemd issue 35227): whoever only checks cannot know. */
bool svc_can_look(const char *value);

#endif
