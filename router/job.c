/* job.c - the life of a request: begin, wait, end. */
#include "router/job.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "router/job_int.h"

void job_free(struct job *j)
{
	struct router *rt = j->rt;

	if (j->gen || j->cloud)
		job_drop_try(j, "cancelled");
	job_wait_end(j);
	if (j->next)
		j->next->prev = j->prev;
	*j->prev = j->next;
	rt->n_jobs--;
	if (j->timer)
		event_free(j->timer);
	oa_request_done(&j->req);
	oa_out_done(&j->out);
	buf_done(&j->attempts);
	buf_done(&j->notes);
	buf_done(&j->frames);
	free(j->numeric_class);
	free(j->known);
	records_add(rt->records, j->record);
	settings_drop(j->settings);
	free(j);
}

void job_arm(struct job *j, uint64_t at_ns)
{
	uint64_t now = clock_ns();
	uint64_t wait = at_ns > now ? at_ns - now : 0;
	struct timeval tv = { .tv_sec = (time_t)(wait / NS_PER_S),
			      .tv_usec = (suseconds_t)(wait % NS_PER_S / 1000) };

	if (j->timer_ns && j->timer_ns <= at_ns)
		return;
	j->timer_ns = at_ns;
	event_add(j->timer, &tv);
}

void job_fail(struct job *j, const struct oa_error *e, char who)
{
	int status = j->committed ? 200 : e->status;

	if (j->record)
		text_add(j->record->error, sizeof(j->record->error), 0, e->message);
	job_reply_error(j, e);
	job_log(j, status, who);
	job_free(j);
}

static void client_gone(void *arg)
{
	struct job *j = arg;

	j->call = NULL;
	metrics_add(j->rt->metrics, "hearth_client_gone", "", 1);
	job_log(j, j->committed ? 200 : 499, 'C');
	job_free(j);
}

/* The reader caught up: the worker gets the credit that was held back. */
static void client_drained(void *arg)
{
	struct job *j = arg;

	if (j->gen && j->owed) {
		gen_credit(j->gen, j->owed);
		j->owed = 0;
	}
	if (j->cloud)
		cloud_call_pause(j->cloud, false);
	j->last_heard_ns = clock_ns();
}

static bool client_is_slow(const struct job *j)
{
	return http_backlog(j->call) > HTTP_LOW_WATER;
}

static void out_of_time(struct job *j)
{
	struct attempt_failure f = { .fault = FAULT_TIMEOUT };

	snprintf(f.message, sizeof(f.message), "%s: no answer in time", j->target);
	metrics_add(j->rt->metrics, "hearth_attempt_timeouts", "", 1);
	job_drop_try(j, "timeout");
	job_try_failed(j, &f);
}

/* When the try at hand has taken too long. */
static uint64_t try_limit(const struct job *j)
{
	if (!j->try_tokens && j->gen && !j->accepted)
		return j->try_began_ns + j->settings->accept_ms * NS_PER_MS;
	if (!j->try_tokens)
		return j->try_began_ns + j->try_first_ms * NS_PER_MS;
	return (client_is_slow(j) ? clock_ns() : j->last_heard_ns) + j->try_idle_ms * NS_PER_MS;
}

static void send_comment(struct job *j, uint64_t now)
{
	char text[400] = ": keep-alive\n\n";

	if (*j->waits)
		job_wait_text(j, text, sizeof(text));
	if (!client_is_slow(j))
		http_write(j->call, text, strlen(text));
	j->last_write_ns = now;
	metrics_add(j->rt->metrics, "hearth_keepalive", "", 1);
}

/* Commit and keep-alive; answers when to look again. */
static uint64_t tend_stream(struct job *j, uint64_t now)
{
	uint64_t at;

	if (!j->req.stream)
		return UINT64_MAX;
	if (!j->committed) {
		at = j->started_ns + j->settings->grace_ms * NS_PER_MS;
		if (now < at)
			return at;
		j->late_provenance = true;
		job_commit(j);
		if (*j->waits)
			send_comment(j, now);
	}
	at = j->last_write_ns + j->settings->keepalive_ms * NS_PER_MS;
	if (now >= at) {
		send_comment(j, now);
		at = now + j->settings->keepalive_ms * NS_PER_MS;
	}
	return at;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct job *j = arg;
	uint64_t now = clock_ns(), deadline, at, limit;
	uint32_t budget_ms;
	struct oa_error e;

	(void)fd, (void)what;
	j->timer_ns = 0;
	/* one budget for all tries until there is an answer, a larger one for the whole of it */
	budget_ms = j->first_ns ? j->settings->deadline_ms : j->settings->answer_ms;
	deadline = j->started_ns + budget_ms * NS_PER_MS;
	if (now >= deadline) {
		job_drop_try(j, "deadline");
		oa_error_set(&e, 504, "timeout", NULL, "%s within %u s",
			     j->first_ns ? "not finished" : "no answer", budget_ms / 1000);
		e.no_retry = true;	/* the whole budget once more, on top of what others ask */
		job_fail(j, &e, 'R');
		return;
	}
	limit = *j->waits ? j->wait_until_ns : try_limit(j);
	if (now >= limit) {
		if (*j->waits)
			job_next_try(j);	/* goes on without it, or says why not */
		else
			out_of_time(j);
		return;
	}
	at = tend_stream(j, now);
	if (limit < at)
		at = limit;
	job_arm(j, deadline < at ? deadline : at);
}

/* From a pool: each look at the kernel's random numbers is a system call. */
static uint64_t new_seed(void)
{
	static uint64_t pool[64];	/* the loop's thread alone comes here */
	static size_t left;

	if (!left) {
		arc4random_buf(pool, sizeof(pool));
		left = sizeof(pool) / sizeof(*pool);
	}
	return pool[--left] >> 11;	/* 53 bits: a client in JavaScript can send it back */
}

static struct job *job_new(struct router *rt, struct http_call *call)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->rt = rt;
	j->timer = event_new(rt->base, -1, 0, on_timer, j);
	if (!j->timer) {
		free(j);
		return NULL;
	}
	j->settings = settings_share(rt->settings);
	j->call = call;
	j->started_ns = http_call_started_ns(call);
	text_add(j->peer, sizeof(j->peer), 0, http_call_peer(call));
	text_add(j->id, sizeof(j->id), 0, http_call_id(call));
	j->next = rt->jobs;
	j->prev = &rt->jobs;
	if (j->next)
		j->next->prev = &j->next;
	rt->jobs = j;
	rt->n_jobs++;
	return j;
}

static int job_read(struct job *j, enum oa_kind kind, struct oa_error *e)
{
	const char *choice = conf_text(j->settings->conf, "openai", NULL, "reasoning_fields");
	enum oa_reasoning reasoning = !strcmp(choice, "both") ? OA_REASONING_BOTH :
				      !strcmp(choice, "reasoning") ? OA_REASONING_SHORT :
								     OA_REASONING_CONTENT;
	char id[64];
	int r;

	j->body = http_call_body(j->call, &j->n_body);
	r = oa_request_parse(kind, j->body, j->n_body, &j->req, e);
	if (r < 0)
		return r;
	text_add(id, sizeof(id),
		 text_add(id, sizeof(id), 0, kind == OA_CHAT ? "chatcmpl-" : "cmpl-"),
		 j->id + strlen("req-"));
	j->client_seed = j->req.sampling.has_seed;
	j->seed = j->client_seed ? j->req.sampling.seed : new_seed();
	j->cannot_continue = j->req.n > 1;
	r = oa_out_init(&j->out, &j->req, id, reasoning);
	if (r < 0)
		oa_error_set(e, 503, "server_overloaded", NULL, "out of memory");
	return r;
}

static void note_alias(struct job *j)
{
	const struct alias *a = settings_alias(j->settings, j->req.model);

	if (!j->record)
		return;
	text_add(j->record->alias, sizeof(j->record->alias), 0, j->req.model);
	j->record->stream = j->req.stream;
	if (a)
		j->record->chain = strdup(conf_text(j->settings->conf, "alias", a->name, "chain"));
}

void job_start(struct router *rt, struct http_call *call, enum oa_kind kind, const char *key_name)
{
	struct job *j = job_new(rt, call);
	struct oa_error e;

	if (!j) {
		oa_error_set(&e, 503, "server_overloaded", NULL, "out of memory");
		api_refuse(call, &e, NULL);
		return;
	}
	j->key_name = key_name;
	j->record = record_begin(j->id, j->peer, key_name, j->started_ns);
	http_call_watch(call, client_gone, client_drained, j);
	if (job_read(j, kind, &e) < 0) {
		job_fail(j, &e, 'C');
		return;
	}
	note_alias(j);
	job_next_try(j);
}

void job_end_all(struct router *rt, const char *why)
{
	while (rt->jobs) {
		struct oa_error e;

		job_drop_try(rt->jobs, "stopped");
		oa_error_set(&e, 503, "server_overloaded", NULL, "%s", why);
		e.retry_after_ms = 1000;
		job_fail(rt->jobs, &e, 'R');
	}
}
