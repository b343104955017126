/* explain.c - hearthctl explain [ID]: what became of a request, by the router's own record of it.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "lib/own.h"

static void put_time(const json_t *o, struct buf *out)
{
	double t = 0;
	time_t s;
	struct tm tm;
	char text[40];

	(void)jx_double(json_object_get(o, "began"), &t);
	s = (time_t)t;
	localtime_r(&s, &tm);
	strftime(text, sizeof(text), "%F %T", &tm);
	buf_printf(out, "%s.%03d", text, (int)((t - (double)s) * 1000));
}

/* The router's two letters: who ended it, and in which phase. */
static const char *who_ended(const char *term)
{
	switch (*term) {
	case 'C': return "the client: it left, or its request was wrong";
	case 'S': return "a target's failure, and no other was left";
	case 'R': return "the router";
	default: return "";
	}
}

static const char *phase(const char *term)
{
	switch (*term ? term[1] : '-') {
	case 'Q': return " before a target had accepted it";
	case 'P': return " while its prompt was read";
	case 'D': return " in the middle of the answer";
	default: return "";
	}
}

static const json_t *last_try(const json_t *v)
{
	const json_t *list = json_object_get(v, "tries");
	size_t n = json_array_size(list);

	return n ? json_array_get(list, n - 1) : NULL;
}

static void print_asked(const json_t *v)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	const char *key = ctl_text(v, "key"), *chain = ctl_text(v, "chain");

	put_time(v, &b);
	printf("request   %s\nbegan     %s, from %s%s%s\n", ctl_text(v, "id"), b.n ? b.p : "",
	       ctl_text(v, "peer"), *key ? ", key " : "", key);
	printf("asked     %s%s%s%s\n", *ctl_text(v, "alias") ? ctl_text(v, "alias") : "(not known)",
	       *chain ? ", which means " : "", chain,
	       json_is_true(json_object_get(v, "stream")) ? "; streamed" : "");
}

static void print_outcome(const json_t *v)
{
	const json_t *t = last_try(v);
	const char *term = ctl_text(v, "term"), *box = ctl_text(t, "box");

	if (!json_is_true(json_object_get(v, "over"))) {
		printf("answered  not yet, after %lld ms\n", (long long)ctl_int(v, "total_ms"));
		return;
	}
	if (*term == '-') {
		printf("answered  by %s%s%s: %lld tokens of prompt, %lld of answer\n",
		       ctl_text(t, "target"), *box ? " on box " : "", box,
		       (long long)ctl_int(v, "prompt_tokens"),
		       (long long)ctl_int(v, "output_tokens"));
	} else {
		printf("ended     %lld, by %s%s\n", (long long)ctl_int(v, "status"),
		       who_ended(term), phase(term));
		if (*ctl_text(v, "error"))
			printf("told      %s\n", ctl_text(v, "error"));
	}
	printf("took      %lld ms", (long long)ctl_int(v, "total_ms"));
	if (json_object_get(v, "first_ms"))
		printf(", the first token after %lld ms", (long long)ctl_int(v, "first_ms"));
	putchar('\n');
}

/* A sentence for each target that did not answer. */
static void print_reasons(const json_t *v)
{
	const json_t *list = json_object_get(v, "tries");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *t = json_array_get(list, i), *next = json_array_get(list, i + 1);
		const char *result = ctl_text(t, "result"), *why = ctl_text(t, "why");

		if (!*result || !strcmp(result, "ok"))
			continue;
		if (!strncmp(ctl_text(t, "target"), "box:", 4))
			printf("why       waited for box %s to load the model: %s\n",
			       ctl_text(t, "box"),
			       strcmp(result, "loaded") ? "it was not, in time" : "it did");
		else
			printf("why       %s: %s%s%s%s%s\n", ctl_text(t, "target"), result,
			       *why ? " (" : "", why, *why ? ")" : "",
			       next ? "; so the next one was asked"
				    : "; there was no other to ask");
	}
}

static int print_one(const json_t *v)
{
	static const struct ctl_column columns[] = {
		{ "TARGET", "target", false }, { "BOX", "box", false },
		{ "ASKED MS", "began_ms", true }, { "ACCEPTED", "accepted_ms", true },
		{ "FIRST TOKEN", "first_ms", true }, { "ENDED", "ended_ms", true },
		{ "RESULT", "result", false }, { NULL, NULL, false },
	};

	print_asked(v);
	print_outcome(v);
	print_reasons(v);
	if (json_array_size(json_object_get(v, "tries")))
		putchar('\n');
	return ctl_print_table(columns, json_object_get(v, "tries"));
}

static int print_list(json_t *list)
{
	static const struct ctl_column columns[] = {
		{ "BEGAN", "when", false }, { "REQUEST", "id", false }, { "ALIAS", "alias", false },
		{ "KEY", "key", false }, { "STATUS", "status", true },
		{ "PROMPT", "prompt_tokens", true }, { "OUTPUT", "output_tokens", true },
		{ "FIRST MS", "first_ms", true }, { "MS", "total_ms", true },
		{ "OVER", "over", false }, { NULL, NULL, false },
	};

	for (size_t i = 0; i < json_array_size(list); i++) {
		CLEANUP(buf_donep) struct buf b = BUF_INIT;

		put_time(json_array_get(list, i), &b);
		ctl_set_text(json_array_get(list, i), "when", b.n ? b.p : "");
	}
	return ctl_print_table(columns, list);
}

/* In a path: an id comes from a person. */
static int put_path(const char *id, struct buf *out)
{
	buf_puts(out, "/admin/requests/");
	for (const char *p = id; *p; p++) {
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.",
			    *p))
			return -EINVAL;
		buf_putc(out, *p);
	}
	return *id && buf_ok(out) ? 0 : -EINVAL;
}

int ctl_explain(const struct ctl *c, char **argv, struct err *e)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	int r;

	if (!argv[0])
		buf_puts(&path, "/admin/requests");
	else if (put_path(argv[0], &path) < 0)
		return err_set(e, -EINVAL, "'%s' is not the id of a request", argv[0]);
	r = ctl_ask(c, path.p, NULL, &text, &v, e);
	if (r < 0)
		return r == -ENXIO ? -ESRCH : r;
	if (c->json)
		return puts(text.p) < 0 ? -EIO : 0;
	r = argv[0] ? print_one(v) : print_list(json_object_get(v, "requests"));
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}
