/* cloud.c - see cloud.h.
 *
 * libcurl may not be called from inside its own callbacks, and hooks end and begin tries as
 * they like.  So a callback only puts bytes aside; what they mean is looked at after
 * curl_multi_socket_action() has returned (work()).
 */
#include "router/cloud.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "router/cloud_reader.h"

enum { WAITING_BYTES = 64 << 10, ERROR_BYTES = 64 << 10, PROBE_MS = 5000 };

struct cloud_call {
	struct cloud *cloud;
	struct cloud_call *next, **prev;
	CURL *easy;
	struct curl_slist *headers;
	struct buf body, in;
	struct cloud_reader reader;
	struct upstream_state *state;
	const struct attempt_hooks *hooks;	/* NULL: a probe */
	void *arg;
	long status;
	uint32_t retry_after_ms, breaker_failures, breaker_ms;
	bool paused, curl_paused, finished, gone;
	CURLcode result;
	char error[CURL_ERROR_SIZE];
};

struct sock {
	struct event *ev;
};

struct cloud {
	struct event_base *base;
	CURLM *multi;
	struct event *timer, *wake;
	struct cloud_call *calls;
	struct upstream_state *states;
	bool working;
};

static void work(struct cloud *c);

/* ---- libcurl's side of the loop ---------------------------------------------------- */

static void drive(struct cloud *c, curl_socket_t fd, int what)
{
	int running;

	curl_multi_socket_action(c->multi, fd, what, &running);
	work(c);
}

static void on_socket_ready(evutil_socket_t fd, short what, void *arg)
{
	drive(arg, fd,
	      (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	work(arg);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock_arg)
{
	struct cloud *c = arg;
	struct sock *s = sock_arg;
	short events = (short)((what & CURL_POLL_IN ? EV_READ : 0) |
			       (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);

	(void)easy;
	if (s) {
		event_free(s->ev);
		s->ev = NULL;
	}
	if (what == CURL_POLL_REMOVE) {
		free(s);
		curl_multi_assign(c->multi, fd, NULL);
		return 0;
	}
	if (!s)
		s = calloc(1, sizeof(*s));
	if (!s)
		return -1;
	s->ev = event_new(c->base, fd, events, on_socket_ready, c);
	curl_multi_assign(c->multi, fd, s);
	return s->ev && event_add(s->ev, NULL) == 0 ? 0 : -1;
}

static int set_curl_timer(CURLM *multi, long ms, void *arg)
{
	struct cloud *c = arg;
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)multi;
	if (ms < 0)
		event_del(c->timer);
	else
		event_add(c->timer, &tv);
	return 0;
}

/* ---- one call ------------------------------------------------------------------------- */

static void call_free(struct cloud_call *call)
{
	if (call->next)
		call->next->prev = call->prev;
	*call->prev = call->next;
	call->state->in_flight -= call->hooks != NULL;
	if (!call->hooks)
		call->state->probing = false;
	curl_multi_remove_handle(call->cloud->multi, call->easy);
	curl_easy_cleanup(call->easy);
	curl_slist_free_all(call->headers);
	cloud_reader_done(&call->reader);
	buf_done(&call->body);
	buf_done(&call->in);
	free(call);
}

/* Inside a hook the call is still needed by whoever called the hook. */
void cloud_call_cancel(struct cloud_call *call)
{
	call->gone = true;
	event_active(call->cloud->wake, EV_READ, 0);
}

void cloud_call_pause(struct cloud_call *call, bool paused)
{
	call->paused = paused;
	if (!paused)
		event_active(call->cloud->wake, EV_READ, 0);
}

static size_t on_bytes(char *p, size_t one, size_t n, void *arg)
{
	struct cloud_call *call = arg;

	(void)one;
	if (call->gone)
		return 0;
	if (!call->status)
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->status);
	if (call->status != 200 && call->in.n > ERROR_BYTES)
		return n;		/* enough to know what it says */
	if (call->status == 200 && call->in.n > WAITING_BYTES) {
		call->curl_paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	return buf_put(&call->in, p, n) < 0 ? 0 : n;
}

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
	struct cloud_call *call = arg;
	char text[64];

	(void)one;
	if (n > 13 && n < sizeof(text) && !strncasecmp(p, "retry-after: ", 13)) {
		memcpy(text, p, n);
		text[n] = '\0';
		if (!call->retry_after_ms)
			call->retry_after_ms =
				(uint32_t)(strtod(text + 13, NULL) * 1000) % 86400000;
	} else if (n > 16 && n < sizeof(text) && !strncasecmp(p, "retry-after-ms: ", 16)) {
		memcpy(text, p, n);
		text[n] = '\0';
		call->retry_after_ms = (uint32_t)strtoul(text + 16, NULL, 10) % 86400000;
	}
	return n;
}

static void add_header(struct cloud_call *call, const char *line)
{
	struct curl_slist *more = curl_slist_append(call->headers, line);

	if (more)
		call->headers = more;
}

/* For the first call: a router with workers alone does without the memory (2 MB, most of it
 * the TLS library's tables). */
static int start_curl(struct cloud *c)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	c->multi = curl_multi_init();
	if (!c->multi) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_curl_timer);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	return 0;
}

static int call_new(struct cloud *c, const struct upstream_conf *u, const char *path,
		    struct cloud_call **ret)
{
	struct cloud_call *call;
	char url[1200];

	if (!c->multi && start_curl(c) < 0)
		return -ENOMEM;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->cloud = c;
	call->state = cloud_state(c, u->name);
	call->easy = curl_easy_init();
	if (!call->easy || !call->state) {
		curl_easy_cleanup(call->easy);
		free(call);
		return -ENOMEM;
	}
	snprintf(url, sizeof(url), "%s%s", u->url, path);
	curl_easy_setopt(call->easy, CURLOPT_URL, url);
	curl_easy_setopt(call->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(call->easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(call->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(call->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(call->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)u->connect_ms);
	curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(call->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(call->easy, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->error);
	curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
	curl_easy_setopt(call->easy, CURLOPT_USERAGENT, "hearth-router");
	if (u->key) {
		CLEANUP(buf_donep) struct buf line = BUF_INIT;

		buf_printf(&line, "Authorization: Bearer %s", u->key);
		add_header(call, line.p ? line.p : "");
		explicit_bzero(line.p, line.n);
	}
	call->next = c->calls;
	call->prev = &c->calls;
	if (call->next)
		call->next->prev = &call->next;
	c->calls = call;
	*ret = call;
	return 0;
}

int cloud_body(const struct oa_request *r, const char *model, struct buf *out)
{
	/* ours, or nobody's business outside */
	static const char *const drop[] = {
		"chat_template_kwargs", "models", "fallbacks", "user", "safety_identifier",
		"prompt_cache_key", "metadata", "store", "service_tier", "ignore_eos",
		"stop_token_ids", "repetition_penalty", "min_p", "top_k", "stream_options",
	};
	JX_OWNED json_t *copy = json_copy(r->body);
	json_t *options = json_object();
	const char *name;
	json_t *v;
	void *next;

	for (size_t i = 0; i < sizeof(drop) / sizeof(*drop); i++)
		json_object_del(copy, drop[i]);
	json_object_foreach_safe(copy, next, name, v)
		if (json_is_null(v))
			json_object_del(copy, name);
	json_object_set_new(copy, "model", jx_str_new(model, strlen(model)));
	json_object_set_new(copy, "stream", json_true());
	json_object_set_new(options, "include_usage", json_true());
	json_object_set_new(copy, "stream_options", options);
	return copy ? jx_put(out, copy, JX_COMPACT) : -ENOMEM;
}

int cloud_generate(struct cloud *c, const struct upstream_conf *u, const char *model,
		   const struct oa_request *r, const struct attempt_hooks *hooks, void *arg,
		   struct cloud_call **ret)
{
	struct cloud_call *call;
	int rc = call_new(c, u, r->kind == OA_CHAT ? "/chat/completions" : "/completions", &call);

	if (rc < 0)
		return rc;
	call->hooks = hooks;
	call->arg = arg;
	call->state->in_flight++;
	call->state->requests++;
	call->state->used_ns = clock_ns();
	rc = cloud_reader_init(&call->reader, r->kind, r->n, hooks, arg, &call->gone);
	if (rc == 0)
		rc = cloud_body(r, model, &call->body);
	if (rc < 0) {
		call_free(call);
		return rc;
	}
	add_header(call, "Content-Type: application/json");
	add_header(call, "Accept: text/event-stream");
	add_header(call, "Expect:");
	curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
	curl_easy_setopt(call->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
	curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body.p);
	curl_multi_add_handle(c->multi, call->easy);
	*ret = call;
	return 0;
}

void cloud_probe(struct cloud *c, const struct settings *s, const struct upstream_conf *u)
{
	struct upstream_state *state = cloud_state(c, u->name);
	struct cloud_call *call;

	if (!state || state->probing || call_new(c, u, "/models", &call) < 0)
		return;
	state->probing = true;
	call->breaker_failures = s->breaker_failures;
	call->breaker_ms = s->breaker_ms;
	curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
	curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, (long)PROBE_MS);
	curl_multi_add_handle(c->multi, call->easy);
}

/* ---- what came of it ---------------------------------------------------------------------- */

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
	call_free(call);
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
	call_free(call);
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
		call_free(call);
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
		call_free(call);
	} else if (r > 0) {
		call->result = CURLE_OK;
		end_call(call);
	} else {
		reader_failure(call, &f);
		fail_call(call, &f);
	}
	return true;
}

static bool has_work(const struct cloud_call *call)
{
	if (call->gone)
		return true;
	if (!call->hooks || (call->status && call->status != 200))
		return call->finished;
	return !call->paused && (call->in.n || call->finished || call->curl_paused);
}

static void work_on(struct cloud_call *call)
{
	if (call->gone) {
		call_free(call);
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
		call_free(call);
	} else if (call->finished && (call->status != 200 || !call->in.n)) {
		end_call(call);
	} else if (call->curl_paused && !call->paused) {
		call->curl_paused = false;
		curl_easy_pause(call->easy, CURLPAUSE_CONT);	/* may call on_bytes() */
	}
}

static void note_finished(struct cloud *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left))) {
		struct cloud_call *call = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
		call->finished = true;
		call->result = m->data.result;
	}
}

static void work(struct cloud *c)
{
	bool any;

	if (c->working)
		return;
	c->working = true;
	do {
		any = false;
		note_finished(c);
		/* a hook may begin and end other calls: look from the start again */
		for (struct cloud_call *call = c->calls; call; call = call->next) {
			if (has_work(call)) {
				work_on(call);
				any = true;
				break;
			}
		}
	} while (any);
	c->working = false;
}

struct upstream_state *cloud_state(struct cloud *c, const char *name)
{
	struct upstream_state *s = c->states;

	while (s && strcmp(s->name, name) != 0)
		s = s->next;
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->name = strdup(name);
	if (!s->name) {
		free(s);
		return NULL;
	}
	s->next = c->states;
	c->states = s;
	return s;
}

static void cloud_closep(struct cloud **c)
{
	cloud_close(*c);
}

int cloud_open(struct event_base *base, struct cloud **ret, struct err *e)
{
	CLEANUP(cloud_closep) struct cloud *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->base = base;
	c->timer = event_new(base, -1, 0, on_timer, c);
	c->wake = event_new(base, -1, 0, on_wake, c);
	if (!c->timer || !c->wake)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = TAKE(c);
	return 0;
}

struct cloud *cloud_close(struct cloud *c)
{
	if (!c)
		return NULL;
	while (c->calls)
		call_free(c->calls);
	if (c->multi)
		curl_multi_cleanup(c->multi);
	if (c->timer)
		event_free(c->timer);
	if (c->wake)
		event_free(c->wake);
	while (c->states) {
		struct upstream_state *s = c->states;

		c->states = s->next;
		free(s->name);
		free(s);
	}
	if (c->multi)
		curl_global_cleanup();
	free(c);
	return NULL;
}
