/* admin.c - what a person asks: POST /admin/reload, and of the boxes /admin/load, unload, drain, undrain.
 *
 * The body is {"alias": "...", "box": "..."}; box may be left out when only one has the alias,
 * and an alias of "*" with a box means all of its models.  A page in a browser cannot do this
 * behind a person's back: a request with an Origin header is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "lib/own.h"
#include "router/router.h"

enum { MAX_BODY = 4096, WAIT_S = 5 };

struct admin {
	struct router *rt;
	struct http_call *call;		/* NULL: the client left */
	struct event *timer;
	char alias[132], verb[16];
};

static void admin_free(struct admin *a)
{
	boxes_forget(fleet_boxes(a->rt->fleet), a);
	if (a->timer)
		event_free(a->timer);
	free(a);
}

static void refuse(struct http_call *call, int status, const char *code, const char *text)
{
	struct oa_error e;

	oa_error_set(&e, status, code, NULL, "%s", text);
	api_refuse(call, &e, NULL);
}

/* The state after the command: the box reports it before it answers. */
static void put_state(const struct admin *a, const char *message, struct buf *out)
{
	struct box_outlook o = boxes_outlook(fleet_boxes(a->rt->fleet), a->alias);
	char text[96];

	box_outlook_text(&o, text, sizeof(text));
	buf_puts(out, "{\"ok\":true,\"alias\":");
	jx_put_str(out, a->alias, strlen(a->alias));
	if (o.model) {
		buf_printf(out, ",\"state\":\"%s\",\"text\":\"%s\"",
			   box_state_name(o.model->state), text);
		if (o.ready_ms != UINT32_MAX)
			buf_printf(out, ",\"ready_ms\":%u", o.ready_ms);
	}
	buf_puts(out, ",\"message\":");
	jx_put_str(out, message, strlen(message));
	buf_putc(out, '}');
}

static void on_done(void *arg, bool ok, const char *message)
{
	struct admin *a = arg;
	struct http_call *call = a->call;
	struct buf b = BUF_INIT;

	log_note("admin: %s %s%s%s", a->verb, a->alias, *message ? ": " : "", message);
	if (ok) {
		put_state(a, message, &b);
		http_reply(call, 200, NULL, "application/json", b.p ? b.p : "", b.n);
		buf_done(&b);
	} else {
		refuse(call, 409, NULL, message);
	}
	admin_free(a);
}

static void on_gone(void *arg)
{
	admin_free(arg);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct admin *a = arg;

	(void)fd, (void)what;
	refuse(a->call, 504, "timeout", "the box did not answer");
	admin_free(a);
}

static int read_body(struct http_call *call, char alias[132], char box[132])
{
	JX_OWNED json_t *v = NULL;
	const char *body, *s;
	size_t n;

	body = http_call_body(call, &n);
	if (n > MAX_BODY || jx_load(body ? body : "", n, &v, NULL) < 0)
		return -EINVAL;
	s = jx_str(json_object_get(v, "alias"), &n);
	if (!s || !n || n > 128 || strlen(s) != n)
		return -EINVAL;
	memcpy(alias, s, n + 1);
	*box = '\0';
	s = jx_str(json_object_get(v, "box"), &n);
	if (s && (n > 128 || strlen(s) != n))
		return -EINVAL;
	if (s)
		memcpy(box, s, n + 1);
	return strcmp(alias, "*") || *box ? 0 : -EINVAL;
}

static void say_why_not(struct http_call *call, int r, const char *alias, const char *box)
{
	struct oa_error e;

	if (r == -ENOTUNIQ)
		oa_error_set(&e, 409, NULL, "box", "several boxes have '%s': name one", alias);
	else if (r == -ENOENT)
		oa_error_set(&e, 404, NULL, NULL, "no box%s%s with '%s' is connected", *box ? " " : "",
			     box, alias);
	else
		oa_error_set(&e, 503, "server_overloaded", NULL, "out of memory");
	api_refuse(call, &e, NULL);
}

static void ask(struct router *rt, struct http_call *call, Hw__BoxVerb verb, const char *name)
{
	struct timeval tv = { .tv_sec = WAIT_S };
	struct admin *a = calloc(1, sizeof(*a));
	char box[132];
	int r = -ENOMEM;

	if (a)
		a->timer = event_new(rt->base, -1, 0, on_time, a);
	if (!a || !a->timer) {
		free(a);
		say_why_not(call, r, "", "");
		return;
	}
	a->rt = rt;
	a->call = call;
	snprintf(a->verb, sizeof(a->verb), "%s", name);
	if (read_body(call, a->alias, box) < 0) {
		refuse(call, 400, "invalid_value", "write {\"alias\": NAME, \"box\": NAME}; box may be "
						   "left out unless alias is *");
		admin_free(a);
		return;
	}
	r = boxes_command(fleet_boxes(rt->fleet), *box ? box : NULL, a->alias, verb, on_done, a);
	if (r < 0) {
		say_why_not(call, r, a->alias, box);
		admin_free(a);
		return;
	}
	http_call_watch(call, on_gone, NULL, a);
	event_add(a->timer, &tv);
}

void admin_post(struct router *rt, struct http_call *call, const char *verb)
{
	static const struct {
		const char *name;
		Hw__BoxVerb verb;
	} verbs[] = {
		{ "load", HW__BOX_VERB__LOAD }, { "unload", HW__BOX_VERB__UNLOAD },
		{ "drain", HW__BOX_VERB__DRAIN }, { "undrain", HW__BOX_VERB__UNDRAIN },
	};

	if (!strcmp(verb, "reload")) {
		admin_reload(rt, call);
		return;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		if (!strcmp(verb, verbs[i].name)) {
			ask(rt, call, verbs[i].verb, verb);
			return;
		}
	}
	refuse(call, 404, NULL, "there is no such command");
}
