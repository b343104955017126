/* record.h - what became of the requests of the last while: for `hearthctl explain`.
 *
 * A job writes its record as it goes; ended, it stays among the last `keep_requests`.  No prompt,
 * no answer, no key is in it.  Times are milliseconds from the request's first byte.  Loop's
 * thread.
 */
#ifndef HEARTH_ROUTER_RECORD_H
#define HEARTH_ROUTER_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"

enum { RECORD_MAX_TRIES = 128, RECORD_NEVER = UINT32_MAX };

struct record_try {		/* a target that was asked, or a box that was waited for */
	char target[96];	/* "worker:w1", "upstream:c", "box:b1" */
	char box[64];		/* of a worker; "": no box reports it */
	char result[24];	/* "ok", "lost"; "": not over */
	char why[256];		/* of a failure */
	uint32_t began_ms, accepted_ms, first_ms, ended_ms;	/* RECORD_NEVER: did not happen */
};

struct record {
	char id[64], alias[132], key[64], peer[48];
	char *chain;			/* "worker:tiny upstream:c"; NULL: no alias */
	int64_t wall_ms;		/* when it began, since 1970 */
	uint64_t started_ns;
	bool stream, over;
	int status;
	char who, phase;		/* of the log line's term= */
	char error[256];		/* what the client was told */
	uint32_t prompt, output, first_ms, total_ms;
	struct record_try *tries;
	uint32_t n_tries;
};

struct records;

int records_new(uint32_t keep, struct records **ret);		/* -ENOMEM */
struct records *records_free(struct records *r);		/* NULL ok */

/* NULL: out of memory, and all calls below take NULL for a record. */
struct record *record_begin(const char *id, const char *peer, const char *key, uint64_t started_ns);
void record_try(struct record *r, const char *target, const char *box, uint64_t began_ns);
void record_accepted(struct record *r);
void record_first(struct record *r);
void record_result(struct record *r, const char *result);	/* of the last try */
void record_why(struct record *r, const char *why);
/* Takes the record. */
void records_add(struct records *all, struct record *r);

/* By its whole id, or what follows "req-" in it; newest first.  NULL: not, or no longer, there. */
const struct record *records_find(const struct records *all, const char *id);
/* The i-th of those that are over, newest first; NULL past the end. */
const struct record *records_at(const struct records *all, size_t i);
void record_put_json(const struct record *r, bool tries, struct buf *out);

#endif
