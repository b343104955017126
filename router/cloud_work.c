/* cloud_work.c - what the bytes of a call mean: deltas, an end, a failure and whose it is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "router/cloud_int.h"

static void read_error_body(const struct cloud_call *call, struct attempt_failure *f)
{
	JX_OWNED json_t *v = NULL;
	const json_t *error;
	const char *text = NULL, *param = NULL, *code = NULL;

	if (jx_load(call->in.n ? call->in.p : "", call->in.n, &v, NULL) == 0) {
		error = json_object_get(v, "error");
		text = jx_is_str(error) ? jx_str(error, NULL) :
					  jx_str(json_object_get(error, "message"), NULL);
		param = jx_str(json_object_get(error, "param"), NULL);
		code = jx_str(json_object_get(error, "code"), NULL);
	}
	if (code && !strcmp(code, "context_length_exceeded"))
		f->fault = FAULT_CONTEXT;
	snprintf(f->message, sizeof(f->message), "%.60s answered %ld: %.160s", call->state->name,
		 call->status, text ? text : "no reason given");
	snprintf(f->param, sizeof(f->param), "%s", param ? param : "");
}

static void status_failure(const struct cloud_call *call, struct attempt_failure *f)
{
	long s = call->status;

	f->status = (int)s;
	f->retry_after_ms = call->retry_after_ms;
	if (s == 429 || s == 503 || s == 529)
		f->fault = FAULT_BUSY;
	else if (s == 408 || s == 504)
		f->fault = FAULT_TIMEOUT;
	else if (s >= 500 || s < 400)
		f->fault = s >= 500 ? FAULT_SERVER : FAULT_GARBAGE;
	else if (s == 401 || s == 403 || s == 404)
		f->fault = FAULT_REFUSED;
	else
		f->fault = FAULT_REJECTED;
	read_error_body(call, f);
}

static void transfer_failure(const struct cloud_call *call, struct attempt_failure *f)
{
	f->fault = call->result == CURLE_OPERATION_TIMEDOUT ? FAULT_TIMEOUT :
		   call->status || call->result == CURLE_GOT_NOTHING ||
				   call->result == CURLE_RECV_ERROR ? FAULT_LOST : FAULT_REFUSED;
	snprintf(f->message, sizeof(f->message), "%.60s: %.160s", call->state->name,
		 *call->error ? call->error : curl_easy_strerror(call->result));
}

static void fail_call(struct cloud_call *call, const struct attempt_failure *f)
{
	const struct attempt_hooks *hooks = call->hooks;
	void *arg = call->arg;

	call->state->failures++;
	cloud_call_free(call);
	hooks->failed(arg, f);
}

static void end_probe(struct cloud_call *call)
{
	bool well = call->result == CURLE_OK && call->status > 0 && call->status < 500 &&
		    call->status != 429;

	if (well)
		route_breaker_ok(&call->state->breaker);
	else
		route_breaker_fail(&call->state->breaker, call->breaker_failures, call->breaker_ms,
				   clock_ns());
	cloud_call_free(call);
}

/* Named after the upstream, since the reader does not know whom it reads. */
static void reader_failure(struct cloud_call *call, struct attempt_failure *f)
{
	*f = call->reader.failure;
	snprintf(f->message, sizeof(f->message), "%.60s: %.160s", call->state->name,
		 call->reader.failure.message);
}

/* The transfer is over and its bytes are read. */
static void end_call(struct cloud_call *call)
{
	struct attempt_failure f = { 0 };

	if (!call->status)
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->status);
	if (call->status && call->status != 200) {
		status_failure(call, &f);
	} else if (call->result != CURLE_OK && !call->reader.said_done) {
		transfer_failure(call, &f);
	} else if (cloud_reader_end(&call->reader) == 0) {
		cloud_call_free(call);
		return;
	} else {
		reader_failure(call, &f);
	}
	fail_call(call, &f);
}

/* True when the call is gone. */
static bool feed(struct cloud_call *call)
{
	struct attempt_failure f = { 0 };
	CLEANUP(buf_donep) struct buf in = call->in;
	int r;

	call->in = BUF_INIT;
	r = cloud_reader_feed(&call->reader, in.p, in.n);
	if (r == 0)
		return false;
	if (r == -ECANCELED) {
		cloud_call_free(call);
	} else if (r > 0) {
		call->result = CURLE_OK;
		end_call(call);
	} else {
		reader_failure(call, &f);
		fail_call(call, &f);
	}
	return true;
}

bool cloud_call_has_work(const struct cloud_call *call)
{
	if (call->gone)
		return true;
	if (!call->hooks || (call->status && call->status != 200))
		return call->finished;
	return !call->paused && (call->in.n || call->finished || call->curl_paused);
}

void cloud_call_work(struct cloud_call *call)
{
	if (call->gone) {
		cloud_call_free(call);
		return;
	}
	if (!call->hooks) {
		if (!call->status)
			curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->status);
		end_probe(call);
		return;
	}
	if (call->status == 200 && call->in.n && feed(call))
		return;
	if (call->gone) {
		cloud_call_free(call);
	} else if (call->finished && (call->status != 200 || !call->in.n)) {
		end_call(call);
	} else if (call->curl_paused && !call->paused) {
		call->curl_paused = false;
		curl_easy_pause(call->easy, CURLPAUSE_CONT);	/* may call on_bytes() */
	}
}
