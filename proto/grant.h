/* grant.h - a worker's side of the memory broker.
 *
 *	grant_ask()		blocks until hearthd granted or refused the budget
 *	grant_room()		before each slab: is MemAvailable still above the floor?
 *	grant_taken()		as memory is allocated
 *	grant_fd(), grant_turn()	in service: levels of pressure; a hearthd that was restarted
 *				gets the lease presented again, and nothing else changes
 *
 * The lease is held by hearthd through a pidfd of this process: it ends with the process,
 * not with the connection.  Calls from one thread at a time.
 */
#ifndef HEARTH_PROTO_GRANT_H
#define HEARTH_PROTO_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"

struct grant;

struct grant_budget {
	uint64_t weights, kv, states, workspace, graphs, pinned;
};

struct grant_request {
	const char *socket;		/* of hearthd */
	const char *alias, *device, *model;	/* model: its folder, or NULL */
	struct grant_budget budget;
	/* Called twice a second while waiting, and with every line that hearthd says (else NULL):
	 * what it waits for, and the whole of a refusal.  Not 0: stop waiting, that is the answer.
	 * NULL ok. */
	int (*wait)(void *ctx, const char *text);
	void *ctx;
};

/* 0; -EDQUOT: refused, with the numbers in e (the whole text went to wait()); -ENOENT: no such
 * socket; -EACCES: it is not ours to use; -ETIMEDOUT: nobody answers there; -EPROTO; or what wait()
 * said.  The strings are copied. */
int grant_ask(const struct grant_request *q, struct grant **ret, struct err *e);
/* NULL ok.  The lease stays until the process ends */
struct grant *grant_free(struct grant *g);

/* Whether `more` bytes can be taken without touching the reserve.  -EDQUOT with the numbers. */
int grant_room(const struct grant *g, uint64_t more, struct err *e);
void grant_taken(struct grant *g, uint64_t bytes);	/* in all */

enum grant_level { GRANT_GREEN = 1, GRANT_YELLOW, GRANT_RED };

int grant_fd(const struct grant *g);	/* to be watched for reading; -1: not connected */
/* Reads what there is; connects anew when it is time.  Never blocks.  True: something changed
 * that is worth a line, in *ret_text (borrowed until the next call). */
bool grant_turn(struct grant *g, uint64_t now_ns, const char **ret_text);
uint64_t grant_due(const struct grant *g);	/* when to call grant_turn() again; UINT64_MAX */
enum grant_level grant_level(const struct grant *g);

#endif
