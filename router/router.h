/* router.h - what the parts of one router process share. */
#ifndef HEARTH_ROUTER_ROUTER_H
#define HEARTH_ROUTER_ROUTER_H

#include <event2/event.h>
#include <sys/queue.h>

#include "router/cloud.h"
#include "router/fleet.h"
#include "router/http_server.h"
#include "router/metrics.h"
#include "router/openai_out.h"
#include "router/record.h"
#include "router/settings.h"

struct job;
TAILQ_HEAD(job_row, job);

struct router {
	struct event_base *base;
	struct settings *settings;
	struct http_server *http;
	struct fleet *fleet;
	struct cloud *cloud;
	struct metrics *metrics;
	struct records *records;	/* of requests that are over */
	struct job *jobs;		/* requests under way */
	uint32_t n_jobs;
	struct job_row waiters;		/* those that wait for a model to be loaded */
	uint32_t generation;		/* of the settings */
	uint64_t started_ns;
	int64_t started_s;		/* the same by the calendar */
	char name[17];			/* random, of this process: for x-hearth-via */
	bool draining;
};

/* router/api.c: what http_hooks wants. */
void api_request(void *router, struct http_call *call);
void api_error(void *router, int status, const char *message, struct buf *out);
/* An error as a whole reply, with Retry-After where it belongs. */
void api_refuse(struct http_call *call, const struct oa_error *e, const char *headers);

/* router/admin.c: POST /admin/VERB. */
void admin_post(struct router *rt, struct http_call *call, const char *verb);

/* router/admin_config.c: GET /admin/config and /admin/config/diff, POST /admin/reload. */
void admin_get_config(struct router *rt, struct http_call *call, const char *rest);
void admin_get_diff(struct router *rt, struct http_call *call, const char *rest);
void admin_reload(struct router *rt, struct http_call *call);

/* router/admin_request.c: GET /admin/requests and /admin/requests/ID. */
void admin_get_requests(struct router *rt, struct http_call *call, const char *rest);
void admin_get_request(struct router *rt, struct http_call *call, const char *id);

/* router/status.c */
void status_put_json(struct router *rt, struct buf *out);
void status_put_metrics(struct router *rt, struct buf *out);

#endif
