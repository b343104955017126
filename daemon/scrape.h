/* scrape.h - a socket that answers GET and HEAD of /metrics and nothing else.
 *
 * One request a connection, SCRAPE_MAX of them at the same time, 8 KiB of request, 5 s for all of
 * it. Off loopback a key is required, which comes as "Authorization: Bearer KEY".  One thread.
 */
#ifndef HEARTH_DAEMON_SCRAPE_H
#define HEARTH_DAEMON_SCRAPE_H

#include "lib/expo.h"
#include "lib/err.h"

struct event_base;
struct scrape;

enum { SCRAPE_MAX = 16 };

/* Whether it could be opened like this: 0; -EINVAL: no address; -EPERM: off loopback without a
 * key. */
int scrape_check(const char *address, const char *key_file, struct err *e);
/* Whether the key could be read: 0, or what scrape_open() would say. */
int scrape_check_key(const char *key_file, struct err *e);
/* address: "127.0.0.1:9465", "[::1]:9465"; key_file: its first line is the key, a path or
 * credential:NAME; NULL: none; put: called for each answer.
 * 0; as scrape_check(); -errno of the file or the socket. */
int scrape_open(struct event_base *base, const char *address, const char *key_file,
		void (*put)(void *arg, struct expo *x), void *arg, struct scrape **ret,
		struct err *e);
struct scrape *scrape_close(struct scrape *s);		/* NULL ok; returns NULL */

#endif
