/* cloud_call.c - one transfer: begun, its bytes and headers put aside, paused, ended. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "router/cloud_int.h"

enum { WAITING_BYTES = 64 << 10, ERROR_BYTES = 64 << 10, PROBE_MS = 5000, MAX_RETRY_MS = 86400000 };

void cloud_call_free(struct cloud_call *call)
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

/* The value of a header line of this name; false: another's, or too long for a number. */
static bool header_value(const char *line, size_t n, const char *name, char ret[64])
{
	const size_t k = strlen(name);

	if (n <= k || line[k] != ':' || n - k > 64 || strncasecmp(line, name, k) != 0)
		return false;
	memcpy(ret, line + k + 1, n - k - 1);
	ret[n - k - 1] = '\0';
	return true;
}

/* What another server says may be any number, or none. */
static uint32_t bounded_ms(double ms)
{
	if (!(ms > 0))
		return 0;
	return ms < MAX_RETRY_MS ? (uint32_t)ms : MAX_RETRY_MS;
}

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
	struct cloud_call *call = arg;
	char text[64];

	(void)one;
	if (header_value(p, n, "retry-after-ms", text))
		call->retry_after_ms = bounded_ms(strtod(text, NULL));
	else if (!call->retry_after_ms && header_value(p, n, "retry-after", text))
		call->retry_after_ms = bounded_ms(strtod(text, NULL) * 1000);
	return n;
}

static void add_header(struct cloud_call *call, const char *line)
{
	struct curl_slist *more = curl_slist_append(call->headers, line);

	if (more)
		call->headers = more;
}

static void add_key(struct cloud_call *call, const char *key)
{
	CLEANUP(buf_donep) struct buf line = BUF_INIT;

	buf_printf(&line, "Authorization: Bearer %s", key);
	add_header(call, line.p ? line.p : "");
	explicit_bzero(line.p, line.n);
}

static void set_options(struct cloud_call *call, const struct upstream_conf *u, const char *path)
{
	char url[1200];

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
	if (u->key)
		add_key(call, u->key);
}

static int call_new(struct cloud *c, const struct upstream_conf *u, const char *path,
		    struct cloud_call **ret)
{
	struct cloud_call *call;

	if (!c->multi && cloud_start_curl(c) < 0)
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
	set_options(call, u, path);
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
		   const char *header, const struct oa_request *r,
		   const struct attempt_hooks *hooks, void *arg, struct cloud_call **ret)
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
		cloud_call_free(call);
		return rc;
	}
	add_header(call, "Content-Type: application/json");
	add_header(call, "Accept: text/event-stream");
	add_header(call, "Expect:");
	add_header(call, header);
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
