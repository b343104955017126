/* cloud.c - see cloud.h: libcurl in the loop.
 *
 * libcurl may not be called from inside its own callbacks, and hooks end and begin tries as
 * they like.  So a callback only puts bytes aside; what they mean is looked at after
 * curl_multi_socket_action() has returned (work()).
 */
#include "router/cloud.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "router/cloud_int.h"

struct sock {
	struct event *ev;
};

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
			if (cloud_call_has_work(call)) {
				cloud_call_work(call);
				any = true;
				break;
			}
		}
	} while (any);
	c->working = false;
}

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

int cloud_start_curl(struct cloud *c)
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
		cloud_call_free(c->calls);
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
