/* api.c - the paths there are, and who may ask for each. */
#include <event2/http.h>
#include <inttypes.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "router/access.h"
#include "router/job.h"

static void put_retry(const struct oa_error *e, struct buf *h)
{
	if (e->no_retry)
		buf_puts(h, "x-should-retry: false\r\n");
	if (!e->retry_after_ms || e->no_retry)
		return;
	buf_printf(h, "Retry-After: %u\r\nretry-after-ms: %u\r\n", (e->retry_after_ms + 999) / 1000,
		   e->retry_after_ms);
}

void api_refuse(struct http_call *call, const struct oa_error *e, const char *headers)
{
	struct buf body = BUF_INIT, h = BUF_INIT;

	if (headers)
		buf_puts(&h, headers);
	put_retry(e, &h);
	oa_error_put(e, &body);
	http_reply(call, e->status, h.p, "application/json", body.p ? body.p : "", body.n);
	buf_done(&body);
	buf_done(&h);
}

void api_error(void *router, int status, const char *message, struct buf *out)
{
	struct router *rt = router;
	struct oa_error e;
	char labels[40];

	snprintf(labels, sizeof(labels), "alias=\"none\",code=\"%d\"", status);
	metrics_add(rt->metrics, "hearth_requests", labels, 1);
	oa_error_set(&e, status, NULL, NULL, "%s", message);
	oa_error_put(&e, out);
}

/* ---- models -------------------------------------------------------------------------- */

static void put_model(struct buf *out, const char *id, uint64_t created, uint32_t context)
{
	buf_puts(out, "{\"id\":");
	jx_put_str(out, id, strlen(id));
	buf_printf(out, ",\"object\":\"model\",\"created\":%" PRIu64 ",\"owned_by\":\"hearth\"",
		   created);
	if (context)
		buf_printf(out, ",\"max_model_len\":%" PRIu32, context);
	buf_putc(out, '}');
}

static bool seen_before(const struct router *rt, const struct worker *w)
{
	if (settings_alias(rt->settings, w->model))
		return true;
	for (const struct worker *o = fleet_workers(rt->fleet); o != w; o = o->next)
		if (!strcmp(o->model, w->model))
			return true;
	return false;
}

static uint32_t context_of(const struct router *rt, const struct alias *a)
{
	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next)
		for (size_t i = 0; i < a->n_steps; i++)
			if (!a->steps[i].upstream && !strcmp(a->steps[i].model, w->model))
				return w->max_context;
	return 0;
}

static bool seen_at_all(const struct router *rt, const struct box *box, const Hw__BoxModel *m)
{
	if (settings_alias(rt->settings, m->alias))
		return true;
	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next)
		if (!strcmp(w->model, m->alias))
			return true;
	for (const struct box *x = boxes_all(fleet_boxes(rt->fleet)); x != box; x = x->next)
		for (size_t i = 0; x->report && i < x->report->n_model; i++)
			if (!strcmp(x->report->model[i]->alias, m->alias))
				return true;
	return false;
}

/* What boxes would load when it is asked for. */
static size_t put_loadable(const struct router *rt, const char *only, size_t before,
			   uint64_t created, struct buf *out)
{
	size_t n = 0;

	for (const struct box *x = boxes_all(fleet_boxes(rt->fleet)); x; x = x->next) {
		for (size_t i = 0; x->report && i < x->report->n_model; i++) {
			const Hw__BoxModel *m = x->report->model[i];

			if ((only && strcmp(only, m->alias) != 0) || !m->on_demand || m->drained ||
			    seen_at_all(rt, x, m))
				continue;
			if (before + n++)
				buf_putc(out, ',');
			put_model(out, m->alias, created, 0);
		}
	}
	return n;
}

/* One of `only`, or all of them with commas between.  Answers how many. */
static size_t put_models(const struct router *rt, const char *only, struct buf *out)
{
	uint64_t created = (uint64_t)rt->started_s;
	size_t n = 0;

	for (size_t i = 0; i < rt->settings->n_aliases; i++) {
		const struct alias *a = &rt->settings->aliases[i];

		if (only && strcmp(only, a->name) != 0)
			continue;
		if (n++)
			buf_putc(out, ',');
		put_model(out, a->name, created, context_of(rt, a));
	}
	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next) {
		if ((only && strcmp(only, w->model) != 0) || seen_before(rt, w))
			continue;
		if (n++)
			buf_putc(out, ',');
		put_model(out, w->model, w->created, w->max_context);
	}
	return n + put_loadable(rt, only, n, created, out);
}

static void reply_json(struct http_call *call, struct buf *b)
{
	http_reply(call, 200, NULL, "application/json", b->p ? b->p : "", b->n);
	buf_done(b);
}

static void get_models(struct router *rt, struct http_call *call, const char *id)
{
	struct buf b = BUF_INIT;

	(void)id;
	buf_puts(&b, "{\"object\":\"list\",\"data\":[");
	put_models(rt, NULL, &b);
	buf_puts(&b, "]}");
	reply_json(call, &b);
}

/* Clients write the / of a hub id as %2F.  An escaped zero byte ends no name. */
static void get_model(struct router *rt, struct http_call *call, const char *rest)
{
	size_t n = 0;
	CLEANUP(freep) char *id = evhttp_uridecode(rest, 0, &n);
	struct buf b = BUF_INIT;
	struct oa_error e;

	if (!id) {
		oa_error_set(&e, 500, NULL, NULL, "out of memory");
		api_refuse(call, &e, NULL);
		return;
	}
	if (strlen(id) == n && put_models(rt, id, &b)) {
		reply_json(call, &b);
		return;
	}
	buf_done(&b);
	oa_error_no_model(&e, id);
	api_refuse(call, &e, NULL);
}

/* ---- the others -------------------------------------------------------------------------- */

static void get_health(struct router *rt, struct http_call *call, const char *rest)
{
	struct buf b = BUF_INIT;
	uint32_t n = 0;

	(void)rest;
	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next)
		n += !w->draining && !w->doomed;
	buf_printf(&b, "{\"status\":\"%s\",\"workers\":%u}", rt->draining ? "draining" : "ok", n);
	if (!rt->draining) {
		reply_json(call, &b);
		return;
	}
	http_reply(call, 503, NULL, "application/json", b.p, b.n);
	buf_done(&b);
}

static void get_metrics(struct router *rt, struct http_call *call, const char *rest)
{
	struct buf b = BUF_INIT;

	(void)rest;
	status_put_metrics(rt, &b);
	http_reply(call, 200, NULL, "application/openmetrics-text; version=1.0.0; charset=utf-8",
		   b.p ? b.p : "", b.n);
	buf_done(&b);
}

static void get_status(struct router *rt, struct http_call *call, const char *rest)
{
	struct buf b = BUF_INIT;

	(void)rest;
	status_put_json(rt, &b);
	reply_json(call, &b);
}

static void get_root(struct router *rt, struct http_call *call, const char *rest)
{
	static const char text[] = "{\"name\":\"hearth\",\"api\":\"/v1\"}";

	(void)rt, (void)rest;
	http_reply(call, 200, NULL, "application/json", text, sizeof(text) - 1);
}

/* ---- the paths ----------------------------------------------------------------------------- */

static void preflight(struct http_call *call)
{
	const char *asked = http_call_header(call, "access-control-request-headers");
	struct buf h = BUF_INIT;

	buf_printf(&h, "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
		   "Access-Control-Allow-Headers: %.500s\r\nAccess-Control-Max-Age: 86400\r\n",
		   asked ? asked : "authorization, content-type, x-api-key");
	http_reply(call, 204, h.p, NULL, "", 0);
	buf_done(&h);
}

enum { POST_ADMIN = 100 };

static const struct path {
	const char *path;	/* ends with / : the rest is an argument */
	enum access_need needs;
	void (*get)(struct router *rt, struct http_call *call, const char *rest);
	int post;		/* an oa_kind, POST_ADMIN, or -1 */
} paths[] = {
	{ "/", ACCESS_OPEN, get_root, -1 },
	{ "/health", ACCESS_OPEN, get_health, -1 },
	{ "/metrics", ACCESS_METRICS, get_metrics, -1 },
	{ "/admin/status", ACCESS_ADMIN, get_status, -1 },
	{ "/admin/config", ACCESS_ADMIN, admin_get_config, -1 },
	{ "/admin/config/diff", ACCESS_ADMIN, admin_get_diff, -1 },
	{ "/admin/requests", ACCESS_ADMIN, admin_get_requests, -1 },
	{ "/admin/requests/", ACCESS_ADMIN, admin_get_request, -1 },
	{ "/admin/", ACCESS_ADMIN, NULL, POST_ADMIN },
	{ "/models", ACCESS_KEY, get_models, -1 },
	{ "/models/", ACCESS_KEY, get_model, -1 },
	{ "/chat/completions", ACCESS_KEY, NULL, OA_CHAT },
	{ "/completions", ACCESS_KEY, NULL, OA_COMPLETION },
};

static const struct path *find_path(const char *path, const char **ret_rest)
{
	if (!strncmp(path, "/v1/", 4) || !strcmp(path, "/v1"))
		path += 3;
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		size_t n = strlen(paths[i].path);

		*ret_rest = path + n;
		if (!strcmp(path, paths[i].path) && (n == 1 || path[n - 1] != '/'))
			return &paths[i];
		if (n > 1 && paths[i].path[n - 1] == '/' && !strncmp(path, paths[i].path, n) &&
		    path[n])
			return &paths[i];
	}
	return NULL;
}

static void serve(struct router *rt, struct http_call *call, const struct path *p, const char *rest)
{
	const char *method = http_call_method(call);
	bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD");
	struct oa_error e;
	const char *name;

	if (!access_check(rt, call, p->needs, p->path, &name))
		return;
	if (get && p->get) {
		p->get(rt, call, rest);
	} else if (!strcmp(method, "POST") && p->post == POST_ADMIN) {
		admin_post(rt, call, rest);
	} else if (!strcmp(method, "POST") && p->post >= 0) {
		job_start(rt, call, (enum oa_kind)p->post, name);
	} else {
		oa_error_set(&e, 405, NULL, NULL, "%s is not for this path", method);
		api_refuse(call, &e, p->get ? "Allow: GET, HEAD\r\n" : "Allow: POST\r\n");
	}
}

void api_request(void *router, struct http_call *call)
{
	const char *rest = "";
	const struct path *p = find_path(http_call_path(call), &rest);
	struct oa_error e;

	if (!strcmp(http_call_method(call), "OPTIONS")) {
		preflight(call);
	} else if (!p) {
		oa_error_set(&e, 404, NULL, NULL, "there is no %s %.200s", http_call_method(call),
			     http_call_path(call));
		api_refuse(call, &e, NULL);
	} else {
		serve(router, call, p, rest);
	}
}
