/* access.h - who may ask for what: API keys, their roles, and callers of this machine.
 *
 * Without http.keys_file there are no keys, and the router listens on loopback only: whoever is
 * there may everything.  With it, a key is asked for; one of the role client does not open /admin.
 * A caller of this machine who sends no key may use /admin and /metrics as long as
 * http.trust_local says so, and no proxy says that it speaks for somebody else.
 */
#ifndef HEARTH_ROUTER_ACCESS_H
#define HEARTH_ROUTER_ACCESS_H

#include "router/router.h"

enum access_need {
	ACCESS_OPEN,		/* anybody */
	ACCESS_KEY,		/* any key */
	ACCESS_METRICS,		/* any key, or none from this machine */
	ACCESS_ADMIN,		/* a key of the role admin, or none from this machine; never a browser's page */
};

/* False: it may not, and the call is answered (401: no key or a wrong one; 403: not the role, a page).
 * *ret_name: the key's, NULL without one; it lives as long as the settings.  path: for the log. */
bool access_check(const struct router *rt, struct http_call *call, enum access_need need,
		  const char *path, const char **ret_name);

#endif
