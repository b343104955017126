/* top.c - hearthctl top: what goes on, a frame at a time. */
#include "ctl/top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/table.h"
#include "lib/bytes.h"
#include "lib/own.h"

enum { BAR = 20, MAX_REQUESTS = 12 };

static double number(const json_t *o, const char *key)
{
	double x = 0;

	(void)jx_double(json_object_get(o, key), &x);
	return x;
}

/* ---- lines -------------------------------------------------------------------------------- */

static void add(struct top_frame *f, enum top_style style, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void add(struct top_frame *f, enum top_style style, const char *fmt, ...)
{
	struct top_line *more = realloc(f->lines, (f->n_lines + 1) * sizeof(*more));
	size_t at = f->text.n;
	va_list ap;

	if (!more)
		return;
	f->lines = more;
	va_start(ap, fmt);
	buf_vprintf(&f->text, fmt, ap);
	va_end(ap);
	/* names come from outside */
	for (size_t i = at; i < f->text.n; i++)
		if ((unsigned char)f->text.p[i] < ' ' || f->text.p[i] == 127)
			f->text.p[i] = '?';
	f->lines[f->n_lines++] = (struct top_line){ style, at, f->text.n - at };
	buf_putc(&f->text, '\n');
}

/* "[########            ]" */
static void put_bar(char ret[BAR + 3], double part, double whole)
{
	int n = whole > 0 && part > 0 ? (int)(part / whole * BAR + 0.5) : 0;

	if (n > BAR)
		n = BAR;
	ret[0] = '[';
	memset(ret + 1, '#', (size_t)n);
	memset(ret + 1 + n, ' ', (size_t)(BAR - n));
	ret[BAR + 1] = ']';
	ret[BAR + 2] = '\0';
}

void top_frame_done(struct top_frame *f)
{
	buf_done(&f->text);
	free(f->lines);
	*f = (struct top_frame){ 0 };
}

/* ---- the parts ------------------------------------------------------------------------------- */

static void add_head(struct top_frame *f, const struct ctl *c, const json_t *v)
{
	const json_t *workers = json_object_get(v, "workers");
	double decode = 0, prefill = 0;
	long long running = 0, waiting = 0, out = 0;

	for (size_t i = 0; i < json_array_size(workers); i++) {
		const json_t *w = json_array_get(workers, i);

		decode += number(w, "decode_tokens_s");
		prefill += number(w, "prefill_tokens_s");
		running += ctl_int(w, "running");
		waiting += ctl_int(w, "waiting");
		out += ctl_int(w, "output_tokens");
	}
	add(f, TOP_HEAD, "router %s at %s%s, up %lld s", ctl_text(v, "version"), c->url,
	    json_is_true(json_object_get(v, "draining")) ? " STOPPING" : "",
	    (long long)ctl_int(v, "up_s"));
	add(f, TOP_PLAIN,
	    "%lld requests, %lld connections; %zu workers: %lld running, %lld waiting; "
	    "%.0f tok/s out, %.0f tok/s in, %lld tokens so far",
	    (long long)ctl_int(v, "requests"), (long long)ctl_int(v, "connections"),
	    json_array_size(workers), running, waiting, decode, prefill, out);
}

static enum top_style box_style(const json_t *b)
{
	double available = number(b, "memory_available"), total = number(b, "memory_total");

	if (ctl_int(b, "heard_ms") > 3000 || number(b, "pressure_full") > 10)
		return TOP_BAD;
	return total > 0 && available < total / 16 ? TOP_WARN : TOP_PLAIN;
}

static void add_boxes(struct top_frame *f, const json_t *list)
{
	if (!json_array_size(list))
		return;
	add(f, TOP_PLAIN, "%s", "");
	add(f, TOP_COLUMNS, "%-16s %-22s %12s %12s %12s %6s %6s", "BOX", "MEMORY TAKEN", "TAKEN",
	    "OF", "CACHE", "PSI", "LOAD");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *b = json_array_get(list, i);
		double total = number(b, "memory_total"),
		       taken = total - number(b, "memory_available");
		char bar[BAR + 3];

		put_bar(bar, taken, total);
		add(f, box_style(b), "%-16.16s %s %12s %12s %12s %6.1f %6.2f", ctl_text(b, "name"),
		    bar, BYTES((uint64_t)(taken > 0 ? taken : 0)), BYTES((uint64_t)total),
		    BYTES((uint64_t)number(b, "memory_cached")), number(b, "pressure_full"),
		    number(b, "load_1"));
	}
}

static enum top_style state_style(const char *state)
{
	if (!strcmp(state, "up") || !strcmp(state, "ready"))
		return TOP_GOOD;
	if (!strcmp(state, "lost") || !strcmp(state, "quarantined") || !strcmp(state, "backoff"))
		return TOP_BAD;
	return !strcmp(state, "unloaded") ? TOP_PLAIN : TOP_WARN;
}

static void add_workers(struct top_frame *f, const json_t *list)
{
	add(f, TOP_PLAIN, "%s", "");
	if (!json_array_size(list)) {
		add(f, TOP_WARN, "no worker is connected");
		return;
	}
	add(f, TOP_COLUMNS, "%-20s %-16s %-9s %9s %7s %-22s %8s %8s", "WORKER", "MODEL", "STATE",
	    "RUNNING", "WAITING", "KV BLOCKS TAKEN", "TOK/S", "IN/S");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *w = json_array_get(list, i);
		double all = number(w, "total_blocks");
		char bar[BAR + 3], running[32];

		put_bar(bar, all - number(w, "free_blocks"), all);
		snprintf(running, sizeof(running), "%lld/%lld", (long long)ctl_int(w, "running"),
			 (long long)ctl_int(w, "max_running"));
		add(f, state_style(ctl_text(w, "state")),
		    "%-20.20s %-16.16s %-9s %9s %7lld %s %8.0f %8.0f", ctl_text(w, "name"),
		    ctl_text(w, "model"), ctl_text(w, "state"), running,
		    (long long)ctl_int(w, "waiting"), bar, number(w, "decode_tokens_s"),
		    number(w, "prefill_tokens_s"));
	}
}

static void add_models(struct top_frame *f, const json_t *boxes)
{
	bool any = false;

	for (size_t i = 0; i < json_array_size(boxes); i++) {
		const json_t *list = json_object_get(json_array_get(boxes, i), "models");

		for (size_t k = 0; k < json_array_size(list); k++) {
			const json_t *m = json_array_get(list, k);
			char bar[BAR + 3] = "";

			if (!any)
				add(f, TOP_PLAIN, "%s", "");
			if (!any)
				add(f, TOP_COLUMNS, "%-16s %-16s %-12s %s", "BOX", "MODEL", "STATE",
				    "");
			any = true;
			if (json_object_get(m, "progress"))
				put_bar(bar, number(m, "progress"), 100);
			add(f, state_style(ctl_text(m, "state")), "%-16.16s %-16.16s %-12s %s %s",
			    ctl_text(m, "box"), ctl_text(m, "alias"), ctl_text(m, "state"), bar,
			    ctl_text(m, "reason"));
		}
	}
}

static void add_upstreams(struct top_frame *f, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *u = json_array_get(list, i);

		if (i == 0) {
			add(f, TOP_PLAIN, "%s", "");
			add(f, TOP_COLUMNS, "%-20s %-9s %9s %9s %9s", "UPSTREAM", "STATE",
			    "IN FLIGHT", "REQUESTS", "FAILURES");
		}
		add(f, state_style(ctl_text(u, "state")), "%-20.20s %-9s %9lld %9lld %9lld",
		    ctl_text(u, "name"), ctl_text(u, "state"), (long long)ctl_int(u, "in_flight"),
		    (long long)ctl_int(u, "requests"), (long long)ctl_int(u, "failures"));
	}
}

/* Those under way; the router lists them first. */
static void add_requests(struct top_frame *f, const json_t *list)
{
	size_t n = 0;

	for (size_t i = 0; i < json_array_size(list) && n < MAX_REQUESTS; i++) {
		const json_t *q = json_array_get(list, i);

		if (json_is_true(json_object_get(q, "over")))
			continue;
		if (n++ == 0) {
			add(f, TOP_PLAIN, "%s", "");
			add(f, TOP_COLUMNS, "%-32s %-16s %-12s %9s %9s", "REQUEST", "ALIAS", "KEY",
			    "FIRST MS", "SO FAR MS");
		}
		add(f, TOP_PLAIN, "%-32.32s %-16.16s %-12.12s %9lld %9lld", ctl_text(q, "id"),
		    ctl_text(q, "alias"), ctl_text(q, "key"), (long long)ctl_int(q, "first_ms"),
		    (long long)ctl_int(q, "total_ms"));
	}
}

int top_frame_fill(const struct ctl *c, struct top_frame *ret, struct err *e)
{
	JX_OWNED json_t *status = NULL, *requests = NULL;
	const json_t *boxes;
	int r = ctl_ask(c, "/admin/status", NULL, NULL, &status, e);

	if (r == 0)
		r = ctl_ask(c, "/admin/requests", NULL, NULL, &requests, e);
	buf_clear(&ret->text);
	ret->n_lines = 0;
	if (r < 0) {
		add(ret, TOP_BAD, "%s", e->text);
		return r;
	}
	boxes = json_object_get(status, "boxes");
	add_head(ret, c, status);
	add_boxes(ret, boxes);
	add_workers(ret, json_object_get(status, "workers"));
	add_models(ret, boxes);
	add_upstreams(ret, json_object_get(status, "upstreams"));
	add_requests(ret, json_object_get(requests, "requests"));
	return buf_ok(&ret->text) ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* ---- the command -------------------------------------------------------------------- */

static int print_both(const struct ctl *c, struct err *e)
{
	JX_OWNED json_t *o = json_object();
	json_t *status = NULL, *requests = NULL;
	int r = ctl_ask(c, "/admin/status", NULL, NULL, &status, e);

	if (r == 0)
		json_object_set_new(o, "status", status);
	if (r == 0)
		r = ctl_ask(c, "/admin/requests", NULL, NULL, &requests, e);
	if (r < 0)
		return r;
	json_object_set(o, "requests", json_object_get(requests, "requests"));
	json_decref(requests);
	return ctl_print_json(o) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int ctl_top(const struct ctl *c, char **argv, struct err *e)
{
	struct top_frame f = { 0 };
	int r;

	(void)argv;
	if (c->json)
		return print_both(c, e);
	if (!c->once && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO))
		return top_screen(c, e);
	r = top_frame_fill(c, &f, e);
	for (size_t i = 0; r == 0 && i < f.n_lines; i++)
		printf("%.*s\n", (int)f.lines[i].n, f.text.p + f.lines[i].at);
	top_frame_done(&f);
	return r;
}
