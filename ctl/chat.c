/* chat.c - `hearthctl chat`: a conversation, streamed; reasoning dimmed on a terminal.
 *
 * What a model says may hold escape sequences: control characters are shown as they are
 * only when they are a newline or a tab.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/sse.h"

struct answer {
	const struct ctl *c;
	struct buf content;		/* goes back as history */
	struct buf thought;		/* --json only */
	json_t *calls;
	char id[100];
	struct err why;			/* an error event, in the server's words */
	bool reasoning, failed, done;
	char served_by[100];
	uint64_t first_ns;
	int64_t tokens;
};

static void print_safe(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)s[i];

		if ((ch < ' ' && ch != '\n' && ch != '\t') || ch == 127)
			putchar('?');
		else if (ch == 0xc2 && i + 1 < n && (unsigned char)s[i + 1] < 0xa0)
			putchar('?'), i++;	/* U+0080..9F: control characters too */
		else
			putchar(ch);
	}
	fflush(stdout);
}

static void set_reasoning(struct answer *a, bool on)
{
	if (a->reasoning == on || a->c->json)
		return;
	a->reasoning = on;
	if (a->c->color)
		fputs(on ? "\033[2m" : "\033[0m", stdout);
	if (!on)
		fputs("\n\n", stdout);
}

/* A call comes in pieces, each with its index. */
static void keep_call(struct answer *a, const json_t *call)
{
	const json_t *fn = json_object_get(call, "function");
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	size_t at = (size_t)ctl_int(call, "index");
	json_t *o = json_array_get(a->calls, at);

	if (!o && at == json_array_size(a->calls)) {
		o = json_object();
		ctl_set_text(o, "name", ctl_text(fn, "name"));
		json_array_append_new(a->calls, o);
	}
	if (!o)
		return;
	buf_printf(&text, "%s%s", ctl_text(o, "arguments"), ctl_text(fn, "arguments"));
	ctl_set_text(o, "arguments", text.n ? text.p : "");
}

/* For --json: nothing is shown before the end. */
static void keep_delta(struct answer *a, const json_t *d)
{
	const json_t *calls = json_object_get(d, "tool_calls");
	size_t n;
	const char *s = jx_str(json_object_get(d, "reasoning_content"), &n);

	if (!s)
		s = jx_str(json_object_get(d, "reasoning"), &n);
	if (s)
		buf_put(&a->thought, s, n);
	s = jx_str(json_object_get(d, "content"), &n);
	if (s)
		buf_put(&a->content, s, n);
	for (size_t i = 0; i < json_array_size(calls); i++)
		keep_call(a, json_array_get(calls, i));
}

static void show_delta(struct answer *a, const json_t *d)
{
	const json_t *calls = json_object_get(d, "tool_calls");
	size_t n;
	const char *s = jx_str(json_object_get(d, "reasoning_content"), &n);

	if (!s)
		s = jx_str(json_object_get(d, "reasoning"), &n);
	if (s && n) {
		set_reasoning(a, true);
		print_safe(s, n);
	}
	s = jx_str(json_object_get(d, "content"), &n);
	if (s && n) {
		set_reasoning(a, false);
		print_safe(s, n);
		buf_put(&a->content, s, n);
	}
	for (size_t i = 0; i < json_array_size(calls); i++) {
		const json_t *fn = json_object_get(json_array_get(calls, i), "function");

		set_reasoning(a, false);
		s = jx_str(json_object_get(fn, "name"), &n);
		if (s) {
			fputs("\n[call] ", stdout);
			print_safe(s, n);
			putchar(' ');
		}
		s = jx_str(json_object_get(fn, "arguments"), &n);
		if (s)
			print_safe(s, n);
	}
}

static int on_event(void *arg, const char *name, const char *data, size_t n)
{
	struct answer *a = arg;
	JX_OWNED json_t *v = NULL;
	const json_t *choice, *error;
	const char *s;

	(void)name;
	if (!strcmp(data, "[DONE]")) {
		a->done = true;
		return 0;
	}
	if (jx_load(data, n, &v, NULL) < 0)
		return 0;
	error = json_object_get(v, "error");
	if (error) {
		s = jx_str(json_object_get(error, "message"), NULL);
		a->failed = true;
		return err_set(&a->why, -EREMOTEIO, "%s", s ? s : "the answer broke off");
	}
	if (!a->first_ns)
		a->first_ns = clock_ns();
	choice = json_array_get(json_object_get(v, "choices"), 0);
	if (a->c->json)
		keep_delta(a, json_object_get(choice, "delta"));
	else
		show_delta(a, json_object_get(choice, "delta"));
	(void)jx_int64(json_object_get(json_object_get(v, "usage"), "completion_tokens"),
		       &a->tokens);
	s = jx_str(json_object_get(json_object_get(v, "hearth"), "served_by"), NULL);
	if (s)
		snprintf(a->served_by, sizeof(a->served_by), "%s", s);
	s = jx_str(json_object_get(json_object_get(v, "hearth"), "request_id"), NULL);
	if (s)
		snprintf(a->id, sizeof(a->id), "%s", s);
	return 0;
}

static int on_bytes(void *arg, const char *p, size_t n)
{
	return sse_feed(arg, p, n);
}

static void put_message(struct buf *b, const char *role, const char *text, size_t n)
{
	buf_printf(b, "%s{\"role\":\"%s\",\"content\":", b->n ? "," : "", role);
	jx_put_str(b, text, n);
	buf_putc(b, '}');
}

static void print_speed(const struct answer *a)
{
	double s = (double)(clock_ns() - a->first_ns) / (double)NS_PER_S;

	if (!a->c->color || a->tokens < 2 || s <= 0)
		return;
	printf("\033[2m[%s, %lld tokens, %.0f tok/s]\033[0m\n", a->served_by, (long long)a->tokens,
	       (double)(a->tokens - 1) / s);
}

static int print_answer(const struct answer *a)
{
	JX_OWNED json_t *o = json_object();

	json_object_set_new(o, "content",
			    jx_str_new(a->content.n ? a->content.p : "", a->content.n));
	json_object_set_new(o, "reasoning",
			    jx_str_new(a->thought.n ? a->thought.p : "", a->thought.n));
	json_object_set(o, "tool_calls", a->calls);
	ctl_set_text(o, "served_by", a->served_by);
	ctl_set_text(o, "request_id", a->id);
	ctl_set_int(o, "output_tokens", a->tokens);
	return ctl_print_json(o);
}

/* Asks with `history` (messages with commas between) and adds the answer to it. */
static int ask(const struct ctl *c, struct buf *history, struct err *e)
{
	struct answer a = { .c = c, .calls = json_array() };
	struct sse sse = { .event = on_event, .arg = &a };
	CLEANUP(buf_donep) struct buf body = BUF_INIT;
	int r;

	buf_puts(&body, "{\"model\":");
	jx_put_str(&body, c->model, strlen(c->model));
	buf_printf(
		&body,
		",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":[%s]}",
		history->p);
	r = buf_ok(&body) ? ctl_request(c, "/v1/chat/completions", &body, NULL, on_bytes, &sse, e) :
			    err_set(e, -ENOMEM, "out of memory");
	if (a.reasoning)
		set_reasoning(&a, false);
	if (a.failed)
		r = err_set(e, -EREMOTEIO, "%s", a.why.text);
	else if (r == 0 && !a.done)
		r = err_set(e, -EREMOTEIO, "the answer broke off");
	if (r == 0 && c->json) {
		r = print_answer(&a) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	} else if (r == 0) {
		putchar('\n');
		print_speed(&a);
	}
	if (r == 0) {
		put_message(history, "assistant", a.content.n ? a.content.p : "", a.content.n);
	}
	buf_done(&a.content);
	buf_done(&a.thought);
	json_decref(a.calls);
	sse_done(&sse);
	return r;
}

static int first_model(const struct ctl *c, char **ret, struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	const char *s = NULL;
	int r = ctl_request(c, "/v1/models", NULL, &text, NULL, NULL, e);

	if (r < 0)
		return r;
	if (jx_load(text.n ? text.p : "", text.n, &v, NULL) == 0)
		s = jx_str(json_object_get(json_array_get(json_object_get(v, "data"), 0), "id"),
			   NULL);
	if (!s)
		return err_set(e, -ENOENT, "the router has no model");
	*ret = strdup(s);
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int converse(const struct ctl *c, struct err *e)
{
	CLEANUP(buf_donep) struct buf history = BUF_INIT;
	CLEANUP(freep) char *line = NULL;
	bool tty = isatty(STDIN_FILENO);
	size_t cap = 0;
	ssize_t n;
	int r = 0;

	for (;;) {
		if (tty)
			fputs("> ", stdout), fflush(stdout);
		n = getline(&line, &cap, stdin);
		if (n <= 0)
			break;
		if (line[n - 1] == '\n')
			n--;
		if (n == 0)
			continue;
		put_message(&history, "user", line, (size_t)n);
		r = ask(c, &history, e);
		if (r < 0 && !tty)
			return r;
		if (r < 0)
			(void)ctl_fail(c, NULL, r, e);
	}
	if (tty)
		putchar('\n');
	return 0;
}

int ctl_chat(const struct ctl *given, char **argv, struct err *e)
{
	const char *question = argv[0];
	CLEANUP(buf_donep) struct buf history = BUF_INIT;
	CLEANUP(freep) char *model = NULL;
	struct ctl c = *given;
	int r;

	if (!c.model) {
		r = first_model(&c, &model, e);
		if (r < 0)
			return r;
		c.model = model;
	}
	if (!question)
		return converse(&c, e);
	put_message(&history, "user", question, strlen(question));
	return ask(&c, &history, e);
}
