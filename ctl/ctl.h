/* ctl.h - what the commands of hearthctl share. */
#ifndef HEARTH_CTL_CTL_H
#define HEARTH_CTL_CTL_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/err.h"

struct ctl {
	const char *url;		/* http://127.0.0.1:8080 */
	char *key;			/* NULL: none */
	const char *hearthd;		/* its socket; NULL: the usual one */
	const char *model;		/* NULL: the first that the router has */
	const char *box;		/* NULL: the only one that has the alias */
	bool json, color, wait;
};

/* GET (body NULL) or POST.  Bytes of a 200 go to `take` as they come (not 0 from it ends the
 * transfer), or into out when take is NULL.  0; -EREMOTEIO: another status, e says the server's
 * own message; -ECONNREFUSED and the like: e says why. */
int ctl_request(const struct ctl *c, const char *path, const struct buf *body, struct buf *out,
		int (*take)(void *arg, const char *p, size_t n), void *arg, struct err *e);

/* load, unload, drain, undrain ALIAS (or * of a box); wait: until it is loaded. */
int ctl_model(const struct ctl *c, const char *verb, const char *alias, struct err *e);
/* The memory of this box, from its hearthd. */
int ctl_memory(const struct ctl *c, struct err *e);
int ctl_status(const struct ctl *c, struct err *e);
/* One question, or with question NULL a conversation from stdin. */
int ctl_chat(const struct ctl *c, const char *question, struct err *e);

#endif
