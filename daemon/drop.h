/* drop.h - dropping caches before a judgement.
 *
 *	posix_fadvise(DONTNEED) on the files of known models	here, a piece each turn of the loop
 *	sync, drop_caches 1, then 3				hearth-dropcaches, over its socket
 *
 * Every step is a line in the log, with MemFree, MemAvailable and Cached before and after.  One
 * drop at a time; it ends within a minute whatever the helper does.
 */
#ifndef HEARTH_DAEMON_DROP_H
#define HEARTH_DAEMON_DROP_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct event_base;
struct drop;

/* socket: of the helper; where nothing listens there, the helper beside this program is started.
 * The string is copied. */
int drop_new(struct event_base *base, const char *socket, struct drop **ret);
struct drop *drop_free(struct drop *d);		/* NULL ok; done() is not called any more */

/* Drops; done() comes later, never from inside.  folders: of models, may repeat; copied.
 * helped: the helper did its part; text: what was gained, or why not; to be logged.  -EBUSY: one is
 * under way; -ENOMEM. */
int drop_start(struct drop *d, const char *const *folders, size_t n,
	       void (*done)(void *arg, bool helped, const char *text), void *arg);

#endif
