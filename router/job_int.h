/* job_int.h - a job's parts, shared by job.c (its life), job_target.c (who may answer it),
 * job_begin.c, job_try.c (its tries), job_wait.c, job_say.c and job_error.c (what the client is
 * sent).
 */
#ifndef HEARTH_ROUTER_JOB_INT_H
#define HEARTH_ROUTER_JOB_INT_H

#include "router/job.h"

enum { JOB_MAX_TARGETS = 64 };

enum job_phase {	/* also the second letter of a log line's termination code */
	JOB_QUEUE,	/* no try has been accepted */
	JOB_PROMPT,	/* accepted, no token yet */
	JOB_DATA,	/* tokens come */
};

struct job_target {		/* what job_target.c makes of alias and fleet */
	uint64_t worker_uid;	/* 0: an upstream */
	const struct chain_step *step;
	const struct upstream_conf *upstream;
	const char *model;
};

struct job {
	struct job *next, **prev;
	struct router *rt;
	struct settings *settings;
	struct http_call *call;		/* NULL: the client is gone or answered */
	struct oa_request req;
	struct oa_out out;
	char id[HTTP_ID_BYTES];		/* "req-..." */
	char peer[48];			/* the client's address */
	const char *key_name;		/* borrowed from settings */
	const char *body;		/* the client's bytes, until the call ends */
	size_t n_body;
	enum job_phase phase;
	struct record *record;		/* NULL: no memory for it */

	/* the try at hand: one of these, or none */
	struct gen *gen;
	struct cloud_call *cloud;
	struct upstream_state *upstream;
	uint64_t try_worker;		/* uid; 0: an upstream */
	uint32_t try_first_ms, try_idle_ms;
	uint64_t try_began_ns;
	char target[96];		/* "worker:w1" */
	char model[132];		/* the worker's model, for an exact continuation */
	bool told, accepted, try_tokens;/* tokens came in this try */
	uint32_t owed;			/* credit to give back to the worker */

	struct {			/* what was tried */
		uint64_t worker_uid;
		const struct upstream_conf *upstream;
		const char *model;
	} tried[JOB_MAX_TARGETS];
	uint32_t n_tried, n_tries;
	struct buf notes;		/* what the worker changed on the way in */
	struct buf attempts;		/* worker:a=lost, worker:b=ok */
	struct attempt_failure last;	/* the failure the client hears of, if it must */
	bool has_last;
	bool may_recover;		/* a try failed of what may be over soon */

	/* while it waits for a model to be loaded */
	char waits[132];		/* its name; "": it does not wait */
	char wait_box[132];
	uint64_t wait_began_ns, wait_until_ns;
	TAILQ_ENTRY(job) row;
	bool in_row;

	/* for an exact continuation */
	char *numeric_class;
	uint64_t seed;
	bool client_seed;		/* the client gave it */
	uint32_t *known;
	size_t n_known, cap_known;
	bool cannot_continue;		/* a delta without token ids came, or n > 1 */

	/* towards the client */
	bool committed, sent;		/* headers; a chunk */
	bool late_provenance;		/* headers left before it was known who answers */
	struct buf frames;		/* reused for every delta */
	uint64_t started_ns, first_ns, last_write_ns, last_heard_ns;
	struct event *timer;
	uint64_t timer_ns;		/* when it fires */
};

/* job.c */
void job_free(struct job *j);
void job_arm(struct job *j, uint64_t at_ns);	/* the timer, no later than this */
/* Ends the job with this answer or event, whatever the client already has. */
void job_fail(struct job *j, const struct oa_error *e, char who);

/* job_target.c */
struct job_table {		/* route[i] is what routing is to know of target[i] */
	struct route_target route[JOB_MAX_TARGETS];
	struct job_target target[JOB_MAX_TARGETS];
	size_t n;
	uint32_t step;
	bool unprobed;		/* an upstream waits for a probe that was just sent */
};
/* Fills the table anew and answers which of its targets is next, or why none is. */
struct route_answer job_choose(struct job *j, struct job_table *t);

/* job_begin.c */
int job_begin_try(struct job *j, const struct job_target *t);	/* -errno: on to the next */
/* "worker:w1=lost", and its metric */
void job_note_attempt(struct job *j, const char *result);

/* job_via.c */
bool job_was_here(const struct job *j);		/* other servers sent it back to this router */
int job_put_via(const struct job *j, struct buf *out);	/* the header's line; 0 or -ENOMEM */

/* job_error.c */
void job_last_error(const struct job *j, struct oa_error *e);	/* of the last try */
void job_no_target(struct job *j, const struct route_answer *a);	/* ends the job */

/* job_try.c */
void job_next_try(struct job *j);	/* the job may be gone afterwards */
void job_drop_try(struct job *j, const char *result);
void job_try_failed(struct job *j, const struct attempt_failure *f);
extern const struct attempt_hooks job_hooks;

/* job_wait.c */
/* Whether the job waits for a local model (after the first token: for the successor of the worker
 * that gave it) before step `before` of its chain, or was refused because
 * it would be too long (it may be gone then).  others: there is a target to go on to. */
bool job_wait(struct job *j, uint32_t before, bool others);
void job_wait_end(struct job *j);
void job_wait_text(const struct job *j, char *ret, size_t n);	/* a comment for the stream */

/* job_say.c */
void job_commit(struct job *j);
void job_put_provenance(const struct job *j, struct buf *out);	/* "hearth":{...} */
void job_say_delta(struct job *j, const Hw__Delta *d);
void job_say_done(struct job *j, const Hw__Done *d);
void job_reply_error(struct job *j, const struct oa_error *e);
void job_log(struct job *j, int status, char who);

#endif
