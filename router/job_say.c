/* job_say.c - what the client of a job is sent, and the line that is logged about it. */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/json.h"
#include "lib/log.h"
#include "router/job_int.h"

enum { HEADERS_BYTES = 400 };	/* what one of our answers says about itself, usually */

static const char event_stream[] = "text/event-stream; charset=utf-8";

/* ---- who answered ------------------------------------------------------------------ */

#define PUT(b, literal) buf_put(b, literal, sizeof(literal) - 1)

static void put_line(struct buf *h, const char *name, const char *value)
{
	buf_puts(h, name);
	buf_puts(h, value);
	PUT(h, "\r\n");
}

static void put_attempts(const struct job *j, bool answered, struct buf *h)
{
	bool at_work = answered && j->gen;

	PUT(h, "x-hearth-attempts: ");
	buf_put(h, j->attempts.p, j->attempts.n);
	if (j->attempts.n && at_work)
		PUT(h, ", ");
	if (at_work) {
		buf_puts(h, j->target);
		PUT(h, "=ok");
	}
	PUT(h, "\r\n");
}

/* As a client writes it: what is below 0 to it is again, so that it can be sent back. */
static void put_seed(struct buf *out, uint64_t seed)
{
	if ((int64_t)seed < 0)
		buf_putc(out, '-');
	buf_put_uint(out, (int64_t)seed < 0 ? -seed : seed);
}

static void put_headers(const struct job *j, bool answered, struct buf *h)
{
	buf_reserve(h, HEADERS_BYTES);
	if (answered && *j->target)
		put_line(h, "x-hearth-served-by: ", j->target);
	if (j->attempts.n || answered)
		put_attempts(j, answered, h);
	if (answered && (j->try_worker || j->client_seed)) {
		PUT(h, "x-hearth-seed: ");
		put_seed(h, j->seed);
		PUT(h, "\r\n");
	}
	if (answered && j->notes.n)
		put_line(h, "x-hearth-note: ", j->notes.p);
	if (j->req.ignored.n)
		put_line(h, "x-hearth-ignored: ", j->req.ignored.p);
}

void job_put_provenance(const struct job *j, struct buf *out)
{
	buf_reserve(out, HEADERS_BYTES);
	buf_puts(out, "\"hearth\":{\"request_id\":\"");
	buf_puts(out, j->id);
	buf_puts(out, "\",\"served_by\":");
	jx_put_str(out, j->target, strlen(j->target));
	if (j->try_worker || j->client_seed) {
		PUT(out, ",\"seed\":");
		put_seed(out, j->seed);
	}
	buf_puts(out, ",\"attempts\":");
	jx_put_str(out, j->attempts.n ? j->attempts.p : "", j->attempts.n);
	buf_putc(out, '}');
}

void job_commit(struct job *j)
{
	struct buf h = BUF_INIT;

	/* "ok" in the header is a promise that only a first token can make */
	put_headers(j, !j->late_provenance, &h);
	buf_puts(&h, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
	http_begin(j->call, 200, h.p, event_stream);
	buf_done(&h);
	j->committed = true;
	j->last_write_ns = clock_ns();
}

/* ---- tokens -------------------------------------------------------------------------- */

static int remember_tokens(struct job *j, const Hw__Delta *d)
{
	if (j->cannot_continue || !j->req.stream)
		return 0;
	if (d->n_piece && !d->n_token) {
		j->cannot_continue = true;
		return 0;
	}
	if (j->n_known + d->n_token > j->cap_known) {
		size_t cap = (j->n_known + d->n_token) * 2;
		uint32_t *p = realloc(j->known, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		j->known = p;
		j->cap_known = cap;
	}
	if (d->n_token)
		memcpy(j->known + j->n_known, d->token, d->n_token * sizeof(*d->token));
	j->n_known += d->n_token;
	return 0;
}

static void give_credit(struct job *j)
{
	bool slow = j->req.stream && http_backlog(j->call) > HTTP_HIGH_WATER;

	if (j->cloud && slow)
		cloud_call_pause(j->cloud, true);
	if (!j->gen || ++j->owed < j->settings->credit / 2 || slow)
		return;
	gen_credit(j->gen, j->owed);
	j->owed = 0;
}

static void first_token(struct job *j)
{
	j->try_tokens = true;
	j->phase = JOB_DATA;
	record_first(j->record);
	if (j->first_ns)
		return;
	j->first_ns = j->last_heard_ns;
	metrics_time(j->rt->metrics, "hearth_ttft",
		     j->gen ? "kind=\"worker\"" : "kind=\"upstream\"", j->first_ns - j->started_ns);
	job_arm(j, j->first_ns + (j->req.stream && j->settings->keepalive_ms < j->try_idle_ms ?
				  j->settings->keepalive_ms : j->try_idle_ms) * NS_PER_MS);
}

static void send_frames(struct job *j)
{
	if (!j->frames.n)
		return;
	if (!j->committed) {
		job_commit(j);
	} else if (j->late_provenance && !j->told) {
		struct buf c = BUF_INIT;

		buf_puts(&c, ": {");
		job_put_provenance(j, &c);
		buf_puts(&c, "}\n\n");
		http_write(j->call, c.p, c.n);
		buf_done(&c);
	}
	j->told = true;
	j->sent = true;
	http_write(j->call, j->frames.p, j->frames.n);
	j->last_write_ns = j->last_heard_ns;
}

static void broken_answer(struct job *j, int code)
{
	struct attempt_failure f = { .fault = code == -ENOMEM ? FAULT_SERVER : FAULT_GARBAGE };

	snprintf(f.message, sizeof(f.message), "%s: %s", j->target,
		 code == -ENOMEM ? "out of memory" : "an answer out of order");
	job_drop_try(j, attempt_fault_name(f.fault));
	job_try_failed(j, &f);
}

void job_say_delta(struct job *j, const Hw__Delta *d)
{
	int r;

	j->last_heard_ns = clock_ns();
	if (!j->try_tokens)
		first_token(j);
	buf_clear(&j->frames);
	r = oa_out_delta(&j->out, d, &j->frames);
	if (r == 0)
		r = remember_tokens(j, d);
	if (r < 0) {
		broken_answer(j, r);
		return;
	}
	if (j->req.stream)
		send_frames(j);
	give_credit(j);
}

/* ---- the end --------------------------------------------------------------------------- */

static void count_end(struct job *j, int status)
{
	struct metrics *m = j->rt->metrics;
	const char *alias = j->req.model && (settings_alias(j->settings, j->req.model) ||
					     fleet_knows_model(j->rt->fleet, j->req.model)) ?
				    j->req.model : "other";
	char labels[192];

	snprintf(labels, sizeof(labels), "alias=\"%s\",code=\"%d\"", alias, status);
	metrics_add(m, "hearth_requests", labels, 1);
	metrics_time(m, "hearth_request", "", clock_ns() - j->started_ns);
	metrics_add(m, "hearth_tokens", "kind=\"prompt\"", j->out.usage.prompt);
	metrics_add(m, "hearth_tokens", "kind=\"output\"", j->out.usage.completion);
}

void job_log(struct job *j, int status, char who)
{
	static const char phases[] = { 'Q', 'P', 'D' };
	uint64_t now = clock_ns();

	count_end(j, status);
	if (j->record) {
		j->record->status = status;
		j->record->who = who;
		j->record->phase = who == '-' ? '-' : phases[j->phase];
		j->record->prompt = j->out.usage.prompt;
		j->record->output = j->out.usage.completion;
	}
	log_event(LOG_NOTE, EVENT_REQUEST_ENDED,
		  LOG_FIELDS({ "REQUEST_ID", j->id }, { "ALIAS", j->req.model },
			     { "KEY_ID", j->key_name }, { "ATTEMPTS", j->attempts.p }),
		 "request %s peer=%s key=%s model=%s stream=%d status=%d term=%c%c prompt=%u "
		 "output=%u "
		 "first_ms=%llu total_ms=%llu attempts=\"%s\"",
		 j->id, j->peer, j->key_name ? j->key_name : "-", j->req.model ? j->req.model : "-",
		 j->req.stream, status, who, who == '-' ? '-' : phases[j->phase],
		 j->out.usage.prompt, j->out.usage.completion,
		 j->first_ns ? (unsigned long long)((j->first_ns - j->started_ns) / NS_PER_MS)
			     : 0ULL,
		 (unsigned long long)((now - j->started_ns) / NS_PER_MS),
		 j->attempts.n ? j->attempts.p : "");
}

static void end_well(struct job *j, const char *extra)
{
	struct http_call *call = j->call;
	struct buf h = BUF_INIT;

	if (oa_out_end(&j->out, extra, &j->frames) < 0) {
		broken_answer(j, -ENOMEM);
		return;
	}
	j->call = NULL;
	if (j->req.stream) {
		http_write(call, j->frames.p, j->frames.n);
		http_end(call, false);
	} else {
		put_headers(j, true, &h);
		http_reply(call, 200, h.p, "application/json", j->frames.p, j->frames.n);
		buf_done(&h);
	}
	job_log(j, 200, '-');
	job_free(j);
}

void job_say_done(struct job *j, const Hw__Done *d)
{
	struct buf extra = BUF_INIT;
	int r;

	j->last_heard_ns = clock_ns();
	if (!j->try_tokens)
		first_token(j);
	job_put_provenance(j, &extra);
	buf_clear(&j->frames);
	r = oa_out_finish(&j->out, d, extra.p, &j->frames);
	if (r < 0) {
		buf_done(&extra);
		broken_answer(j, r);
		return;
	}
	if (j->req.stream)
		send_frames(j);
	buf_clear(&j->frames);
	if (oa_out_all_done(&j->out))
		end_well(j, extra.p);
	buf_done(&extra);
}

void job_reply_error(struct job *j, const struct oa_error *e)
{
	struct http_call *call = j->call;
	struct buf h = BUF_INIT;

	j->call = NULL;
	if (!call)
		return;
	if (j->committed) {
		/* the status is out: an error event, and no [DONE] */
		buf_clear(&j->frames);
		oa_out_error(e, &j->frames);
		http_write(call, j->frames.p, j->frames.n);
		http_end(call, true);
		metrics_add(j->rt->metrics, "hearth_stream_cut", "", 1);
		return;
	}
	put_headers(j, false, &h);
	api_refuse(call, e, h.p);
	buf_done(&h);
}
