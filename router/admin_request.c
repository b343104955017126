/* admin_request.c - what became of a request: GET /admin/requests (the latest) and
 * /admin/requests/ID. */
#include <string.h>

#include "router/job_int.h"

enum { MAX_LISTED = 200 };

static void reply(struct http_call *call, struct buf *b)
{
	http_reply(call, 200, NULL, "application/json", b->p ? b->p : "", b->n);
	buf_done(b);
}

void admin_get_requests(struct router *rt, struct http_call *call, const char *rest)
{
	struct buf b = BUF_INIT;
	const struct record *r;
	size_t n = 0;

	(void)rest;
	buf_puts(&b, "{\"requests\":[");
	for (const struct job *j = rt->jobs; j && n < MAX_LISTED; j = j->next) {
		if (!j->record)
			continue;
		buf_puts(&b, n++ ? "," : "");
		record_put_json(j->record, false, &b);
	}
	for (size_t i = 0; n < MAX_LISTED && (r = records_at(rt->records, i)); i++) {
		buf_puts(&b, n++ ? "," : "");
		record_put_json(r, false, &b);
	}
	buf_puts(&b, "]}");
	reply(call, &b);
}

/* "chatcmpl-X" and "cmpl-X" are what a client sees of "req-X". */
static const char *bare_id(const char *id)
{
	static const char *const prefixes[] = { "req-", "chatcmpl-", "cmpl-" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
		if (!strncmp(id, prefixes[i], strlen(prefixes[i])))
			return id + strlen(prefixes[i]);
	return id;
}

void admin_get_request(struct router *rt, struct http_call *call, const char *id)
{
	const char *bare = bare_id(id);
	const struct record *r = records_find(rt->records, bare);
	struct buf b = BUF_INIT;
	struct oa_error e;

	for (const struct job *j = rt->jobs; j && !r; j = j->next)
		if (j->record && (!strcmp(j->id, id) || (!strncmp(j->id, "req-", 4) &&
							 !strcmp(j->id + 4, bare))))
			r = j->record;
	if (r) {
		record_put_json(r, true, &b);
		reply(call, &b);
		return;
	}
	oa_error_set(&e, 404, NULL, NULL,
		     "nothing is known of '%.100s': the last %lld requests are "
		     "kept (log.keep_requests), and none through a restart",
		     id, (long long)conf_int(rt->settings->conf, "log", NULL, "keep_requests"));
	api_refuse(call, &e, NULL);
}
