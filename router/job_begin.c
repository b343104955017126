/* job_begin.c - a try begins: what a worker or another server is asked. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "lib/text.h"
#include "router/job_int.h"

static int remaining_ms(const struct job *j)
{
	uint64_t used = (clock_ns() - j->started_ns) / NS_PER_MS;

	return used < j->settings->deadline_ms ? (int)(j->settings->deadline_ms - used) : 1;
}

static void fill_prompt(struct job *j, Hw__Generate *m)
{
	const struct buf *chat = &j->req.chat;

	if (j->req.kind == OA_CHAT) {
		m->has_chat = 1;
		m->chat.data = (uint8_t *)(uintptr_t)(j->req.rewritten ? chat->p : j->body);
		m->chat.len = j->req.rewritten ? chat->n : j->n_body;
	} else if (j->req.prompt) {
		m->has_text = 1;
		m->text.data = (uint8_t *)j->req.prompt;
		m->text.len = j->req.n_prompt;
	} else {
		m->token = j->req.token;
		m->n_token = j->req.n_token;
	}
}

static int begin_worker(struct job *j, struct worker *w)
{
	Hw__Generate m = HW__GENERATE__INIT;
	ProtobufCBinaryData stop[OA_MAX_STOPS];
	const struct oa_request *q = &j->req;

	m.model = w->model;
	m.credit = j->settings->credit;
	m.has_deadline_ms = 1;
	m.deadline_ms = (uint32_t)remaining_ms(j);
	fill_prompt(j, &m);
	m.has_max_tokens = q->has_max_tokens;
	m.max_tokens = q->max_tokens;
	m.has_n = 1;
	m.n = q->n;
	for (uint32_t i = 0; i < q->n_stop; i++)
		stop[i] = (ProtobufCBinaryData){ strlen(q->stop[i]), (uint8_t *)q->stop[i] };
	m.stop = stop;
	m.n_stop = q->n_stop;
	m.stop_token = q->stop_token;
	m.n_stop_token = q->n_stop_token;
	m.has_ignore_eos = q->ignore_eos;
	m.ignore_eos = q->ignore_eos;
	m.has_echo = q->echo;
	m.echo = q->echo;
	j->req.sampling.has_seed = 1;
	j->req.sampling.seed = j->seed;
	m.sampling = &j->req.sampling;
	m.known = j->known;
	m.n_known = j->sent ? j->n_known : 0;
	text_add(j->target, sizeof(j->target), text_add(j->target, sizeof(j->target), 0, "worker:"),
		 w->name);
	text_add(j->model, sizeof(j->model), 0, w->model);
	j->try_first_ms = j->settings->first_ms;
	j->try_idle_ms = j->settings->idle_ms;
	return fleet_generate(j->rt->fleet, w, &m, &job_hooks, j, &j->gen);
}

static int begin_upstream(struct job *j, const struct job_target *t)
{
	struct upstream_state *s = cloud_state(j->rt->cloud, t->upstream->name);
	CLEANUP(buf_donep) struct buf via = BUF_INIT;

	if (job_put_via(j, &via) < 0)
		return -ENOMEM;
	snprintf(j->target, sizeof(j->target), "upstream:%.80s", t->upstream->name);
	j->try_first_ms = t->upstream->first_ms;
	j->try_idle_ms = t->upstream->idle_ms;
	j->upstream = s;
	return cloud_generate(j->rt->cloud, t->upstream, t->model, via.p, &j->req, &job_hooks, j,
			      &j->cloud);
}

static void mark_tried(struct job *j, const struct job_target *t)
{
	j->n_tries++;
	if (j->n_tried == JOB_MAX_TARGETS)
		return;
	j->tried[j->n_tried].worker_uid = t->worker_uid;
	j->tried[j->n_tried].upstream = t->upstream;
	j->tried[j->n_tried++].model = t->model;
}

void job_note_attempt(struct job *j, const char *result)
{
	char labels[160];
	size_t n;

	if (j->attempts.n < 2000) {
		buf_puts(&j->attempts, j->attempts.n ? ", " : "");
		buf_puts(&j->attempts, j->target);
		buf_putc(&j->attempts, '=');
		buf_puts(&j->attempts, result);
	}
	n = text_add(labels, sizeof(labels), 0, "target=\"");
	n = text_add(labels, sizeof(labels), n, j->target);
	n = text_add(labels, sizeof(labels), n, "\",result=\"");
	n = text_add(labels, sizeof(labels), n, result);
	text_add(labels, sizeof(labels), n, "\"");
	metrics_add(j->rt->metrics, "hearth_attempts", labels, 1);
	record_result(j->record, result);
}

/* What a person is told when a try could not even begin. */
static void could_not_begin(struct job *j, int code)
{
	bool large = code == -EMSGSIZE;

	job_note_attempt(j, large ? "too_large" : "refused");
	j->last = (struct attempt_failure){ .fault = large ? FAULT_REJECTED : FAULT_LOST,
					    .status = large ? 413 : 0 };
	snprintf(j->last.message, sizeof(j->last.message), "%s: %s", j->target,
		 large ? "the request is larger than a worker takes" : strerror(-code));
	j->has_last = true;
	j->may_recover = true;
	record_why(j->record, j->last.message);
}

int job_begin_try(struct job *j, const struct job_target *t)
{
	struct worker *w = t->worker_uid ? fleet_worker(j->rt->fleet, t->worker_uid) : NULL;
	int r;

	mark_tried(j, t);
	j->try_worker = t->worker_uid;
	j->accepted = j->try_tokens = false;
	j->owed = 0;
	j->try_began_ns = j->last_heard_ns = clock_ns();
	if (!j->sent) {
		j->n_known = 0;
		oa_out_restart(&j->out);
		if (oa_out_fingerprint(&j->out, w ? w->numeric_class : NULL) < 0)
			return -ENOMEM;
	}
	r = w ? begin_worker(j, w) : begin_upstream(j, t);
	if (r == 0)		/* else nobody would tell the breaker how it ended */
		route_breaker_use(w ? &w->breaker : &j->upstream->breaker, clock_ns());
	record_try(j->record, j->target,
		   w ? boxes_of_worker(fleet_boxes(j->rt->fleet), w->name) : NULL, j->try_began_ns);
	if (r < 0)
		could_not_begin(j, r);
	return r;
}
