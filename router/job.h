/* job.h - one request of a client, from its body to its last byte.
 *
 *	parse -> [pick a target -> try it]* -> answer
 *
 * Promises (gateway design, "commit window"): nothing is sent for grace_ms unless a token
 * comes; a failure until then walks the chain or becomes a true status.  With a live try
 * at the end of the window a stream gets its 200 and a comment every keepalive_ms; the chain
 * is still walked until the first token.  After it a lost worker's stream goes on exactly,
 * on another worker of the same numeric class, or ends with the dialect's error event and
 * without [DONE].  A request whose only target is a local model that is not loaded has its box
 * load it and waits, as far as what the box measures lets it hope.  A reply that is not streamed is
 * sent when it is whole.
 */
#ifndef HEARTH_ROUTER_JOB_H
#define HEARTH_ROUTER_JOB_H

#include "router/router.h"

/* Takes the call: it is answered, now or later. */
void job_start(struct router *rt, struct http_call *call, enum oa_kind kind, const char *key_name);
/* Those that wait for a model look again; the argument is a struct router. */
void job_wake_all(void *router);
/* Ends all jobs under way (their clients get an error). */
void job_end_all(struct router *rt, const char *why);

#endif
