/* cloud_int.h - shared by cloud.c (libcurl in the loop), cloud_call.c (a transfer) and cloud_work.c
 * (what came of it). */
#ifndef HEARTH_ROUTER_CLOUD_INT_H
#define HEARTH_ROUTER_CLOUD_INT_H

#include <curl/curl.h>

#include "router/cloud.h"
#include "router/cloud_reader.h"

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

struct cloud {
	struct event_base *base;
	CURLM *multi;
	struct event *timer, *wake;
	struct cloud_call *calls;
	struct upstream_state *states;
	bool working;
};

/* cloud.c.  For the first call: a router with workers alone does without the memory (2 MB, most of
 * it the TLS library's tables).  0 or -ENOMEM. */
int cloud_start_curl(struct cloud *c);

/* cloud_call.c */
void cloud_call_free(struct cloud_call *call);	/* not from inside libcurl's callbacks */

/* cloud_work.c: looks at what was put aside; hooks are called, and the call may be gone. */
bool cloud_call_has_work(const struct cloud_call *call);
void cloud_call_work(struct cloud_call *call);

#endif
