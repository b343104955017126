/* serve_int.h - what the files of serve share. */
#ifndef HEARTH_WORKER_SERVE_INT_H
#define HEARTH_WORKER_SERVE_INT_H

#include "worker/generation.h"
#include "worker/serve.h"

/* One answer of a request. */
struct choice {
	uint64_t seq_id;		/* 0: never given to the engine */
	struct generation *gen;
	bool paused;			/* the engine was told so */
	bool ended;			/* nothing more will be said; Done follows what is left */
	bool done;			/* Done was sent */
	Hw__Finish finish;		/* when ended */
	const char *why;		/* static; NULL: nothing to explain */
};

/* A Generate under way. */
struct job {
	uint64_t request;		/* the router's number */
	uint64_t serial;		/* ours: seq_id / MAX_CHOICES */
	uint32_t credit;
	uint32_t seq;			/* of the next Delta or Done */
	uint32_t n_prompt, prompt_done, told_done;
	bool logprobs;
	uint64_t accepted_ns, first_token_ns, told_ns;
	uint64_t deadline_ns;		/* 0: none */
	uint32_t first_choice, n_choices;
	struct choice *choices;
};

enum { MAX_CHOICES = 256 };

enum link_state { LINK_DOWN, LINK_GREETED, LINK_UP };

struct serve {
	const struct serve_options *o;
	const struct text_model *model;
	struct engine *engine;
	struct link_client *link;
	int signals;			/* signalfd */

	enum link_state state;
	bool link_failed;		/* something could not be sent: the loop gives it up */
	uint64_t boot;
	uint64_t heard_ns;		/* the last message from the router */
	uint64_t beat_ns;		/* the next beat is due */
	uint32_t beat_ms, dead_ms;	/* as the router wants them */

	struct job **jobs;		/* oldest first */
	size_t n_jobs, cap_jobs;
	uint64_t next_serial;

	/* for the service manager */
	uint64_t dog_turns, dog_ns;	/* the engine's pulse when it last moved */
	uint64_t fed_ns, told_ns;
	bool stuck;			/* it was said that the engine does not move */
	uint64_t down_ns;		/* since when there is no router; 0: there is one */

	enum grant_level level;		/* of the box's memory */
	bool draining;
	uint64_t drain_ns;		/* what still runs then is cut; 0: no limit */
	bool quit;
	int lost;			/* the engine's code */

	/* measured, for beats and Retry-After */
	struct sched_stats last_stats;
	uint64_t last_stats_ns;
	double decode_s, prefill_s;	/* tokens a second */
	uint64_t last_end_ns;		/* when a job ended, while others ran or waited */
	double end_gap_ms;		/* mean time between two ends, moving */
};

/* ---- serve_send.c: every message that leaves ------------------------------------------
 * A message that cannot be sent means that the connection is gone, or that its pipe is full
 * of what nobody reads: `link_failed` is set, and the loop draws the consequences. */
void send_hello(struct serve *s);
void send_beat(struct serve *s);
void send_goodbye(struct serve *s, const char *reason);
void send_accepted(struct serve *s, const struct job *j, uint64_t seed, const char *const *notes,
		   size_t n_notes);
void send_refused(struct serve *s, uint64_t request, Hw__Refusal reason, const char *message,
		  const char *param, uint32_t retry_after_ms);
void send_progress(struct serve *s, const struct job *j, uint32_t queue_position);
/* One Delta with as much of the choice's output as fits into one, which is taken off it. */
void send_delta(struct serve *s, struct job *j, uint32_t choice);
void send_done(struct serve *s, struct job *j, uint32_t choice);

/* ---- serve_job.c: requests under way ----------------------------------------------------- */
struct job *job_find(const struct serve *s, uint64_t request);
/* Takes j. 0 or -ENOMEM. */
int job_add(struct serve *s, struct job *j);
struct job *job_free(struct job *j);	/* NULL ok */
void job_event(struct serve *s, const struct engine_event *ev);
/* Sends what there is to send and may be sent; frees jobs that are over. */
void jobs_flush(struct serve *s);
void jobs_deadlines(struct serve *s, uint64_t now);
/* Ends all choices that have not ended. */
void job_end(struct serve *s, struct job *j, Hw__Finish how, const char *why);
/* The connection is gone: nobody is there to be told. */
void jobs_drop(struct serve *s);

/* ---- serve_svc.c: readiness, the watchdog, the line of `systemctl status` ----------------- */
void svc_turn(struct serve *s, uint64_t now);

/* ---- serve_generate.c -------------------------------------------------------------------- */
void on_generate(struct serve *s, const Hw__Generate *g);

#endif
