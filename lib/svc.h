/* svc.h - telling the service manager how we are (sd_notify), where there is one.
 *
 * Without NOTIFY_SOCKET, or built without libsystemd, every call does nothing.
 * Thread-safe.
 */
#ifndef HEARTH_LIB_SVC_H
#define HEARTH_LIB_SVC_H

#include <stdint.h>

void svc_ready(void);
void svc_stopping(void);
void svc_reloading(void);	/* then svc_ready() again */
/* One line for `systemctl status`. */
void svc_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "I am alive": call it from the loop whose health it vouches for. */
void svc_watchdog(void);
/* Start may take `usec` more from now on; repeat while it advances. */
void svc_extend_start(uint64_t usec);
/* Half of WatchdogSec= in ms, the rhythm for svc_watchdog(); 0: no watchdog. */
uint32_t svc_watchdog_ms(void);

#endif
