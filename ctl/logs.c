/* logs.c - hearthctl logs ID: what programs wrote about a request, here and on other boxes, by
 * time.
 *
 * The router names the request in its entries.  What its workers and the boxes wrote meanwhile does
 * not; the router's record of the request (explain) says whose entries those are, and when.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "ctl/ctl.h"
#include "ctl/file.h"
#include "ctl/journal.h"
#include "ctl/program.h"
#include "ctl/table.h"
#include "lib/own.h"

enum { MARGIN_US = 2000000, MAX_WORDS = 128, MAX_LINE_OF_LOG = 8192 };

/* ---- what to look for ---------------------------------------------------------------------- */

static void fill_query(const json_t *v, const char *id, struct journal_query *q)
{
	const json_t *tries = json_object_get(v, "tries");
	double began = 0;

	*q = (struct journal_query){ .id = *ctl_text(v, "id") ? ctl_text(v, "id") : id,
				     .alias = ctl_text(v, "alias") };
	if (jx_double(json_object_get(v, "began"), &began) == 0) {
		q->from_us = (int64_t)(began * 1e6) - MARGIN_US;
		q->to_us = (int64_t)(began * 1e6) + ctl_int(v, "total_ms") * 1000 + MARGIN_US;
	}
	for (size_t i = 0; i < json_array_size(tries) && q->n_workers < JOURNAL_MAX_WORKERS; i++) {
		const char *t = ctl_text(json_array_get(tries, i), "target");

		if (!strncmp(t, "worker:", 7))
			q->workers[q->n_workers++] = t + 7;
	}
}

/* Only what an id is made of: it goes into a path, a match and a shell. */
static bool id_ok(const char *id)
{
	return *id && strlen(id) < 100 &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
		       strlen(id);
}

/* A client knows "req-X" as "chatcmpl-X" or "cmpl-X". */
static void full_id(const char *given, char *ret, size_t n)
{
	if (!strncmp(given, "chatcmpl-", 9))
		snprintf(ret, n, "req-%s", given + 9);
	else if (!strncmp(given, "cmpl-", 5))
		snprintf(ret, n, "req-%s", given + 5);
	else
		snprintf(ret, n, "%s", given);
}

/* ---- where to look ------------------------------------------------------------------ */

static bool is_journal(const char *path)
{
	size_t n = strlen(path);
	struct stat st;

	return (n > 8 && !strcmp(path + n - 8, ".journal")) ||
	       (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static int read_plain(const char *path, const struct journal_query *q, json_t *list, struct err *e)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	CLEANUP(freep) char *line = NULL;
	/* answers are called chatcmpl-X after req-X; a short X would be found anywhere */
	const char *bare = !strncmp(q->id, "req-", 4) && strlen(q->id) > 20 ? q->id + 4 : q->id;
	size_t cap = 0;
	ssize_t n;

	if (!f)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	while ((n = getline(&line, &cap, f)) >= 0) {
		json_t *o;

		line[strcspn(line, "\n")] = '\0';
		if (n > MAX_LINE_OF_LOG || !strstr(line, bare))
			continue;
		o = json_object();
		json_object_set_new(o, "time", json_null());
		ctl_set_text(o, "host", "");
		ctl_set_text(o, "unit", path);
		ctl_set_text(o, "message", line);
		json_array_append_new(list, o);
	}
	return 0;
}

static int read_host(const char *host, const struct journal_query *q, json_t *list, struct err *e)
{
	CLEANUP(buf_donep) struct buf words = BUF_INIT;
	CLEANUP(buf_donep) struct buf said = BUF_INIT;
	const char *argv[MAX_WORDS];
	size_t before = json_array_size(list);
	int r = journal_argv(host, q, &words, argv, MAX_WORDS);

	if (r < 0)
		return err_set(e, r, "'%s' is not the name of a machine", host);
	r = program_run((char *const *)argv, &said, e);
	if (r < 0)
		return r;
	for (const char *p = said.n ? said.p : ""; *p;) {
		size_t n = strcspn(p, "\n");

		journal_add_line(p, n, q, list);
		p += n + (p[n] == '\n');
	}
	/* journalctl ends with 1 when it has nothing to show */
	if (r > 1 && json_array_size(list) == before)
		return err_set(e, -EREMOTEIO, "%s: ssh ended with %d: %.300s", host, r,
			       said.n ? said.p : "");
	return 0;
}

static int read_all(const struct ctl *c, const struct journal_query *q, json_t *list, struct err *e)
{
	int r = 0;

	if (!c->n_files)
		r = journal_read(NULL, q, list, e);
	for (size_t i = 0; i < c->n_files && r == 0; i++)
		r = is_journal(c->files[i]) ? journal_read(c->files[i], q, list, e) :
					      read_plain(c->files[i], q, list, e);
	for (size_t i = 0; i < c->n_hosts && r == 0; i++)
		r = read_host(c->hosts[i], q, list, e);
	return r;
}

/* ---- by time ------------------------------------------------------------------------ */

struct entry {
	double time;		/* of a plain line, which has none: as the line before */
	size_t at;
	json_t *o;		/* borrowed */
};

static int by_time(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->time < y->time || x->time > y->time)
		return x->time < y->time ? -1 : 1;
	return x->at < y->at ? -1 : 1;
}

static json_t *sorted(const json_t *list)
{
	size_t n = json_array_size(list);
	CLEANUP(freep) struct entry *entries = calloc(n ? n : 1, sizeof(*entries));
	json_t *out = json_array();

	for (size_t i = 0; entries && i < n; i++) {
		entries[i] = (struct entry){ .at = i, .o = json_array_get(list, i) };
		if (jx_double(json_object_get(entries[i].o, "time"), &entries[i].time) < 0 && i)
			entries[i].time = entries[i - 1].time;
	}
	if (entries)
		qsort(entries, n, sizeof(*entries), by_time);
	for (size_t i = 0; entries && i < n; i++)
		json_array_append(out, entries[i].o);
	return out;
}

/* Control characters of a line from anywhere do not reach the terminal. */
static void print_line(const struct ctl *c, const json_t *o)
{
	const char *priority = ctl_text(o, "priority"), *host = ctl_text(o, "host");
	bool bad = *priority && *priority < '5';
	char when[40] = "";
	double t;

	if (jx_double(json_object_get(o, "time"), &t) == 0) {
		time_t s = (time_t)t;
		struct tm tm;

		localtime_r(&s, &tm);
		strftime(when, sizeof(when), "%F %T", &tm);
		printf("%s.%06d ", when, (int)((t - (double)s) * 1e6));
	}
	printf("%s%s%s: %s", host, *host ? " " : "", ctl_text(o, "unit"),
	       bad && c->color ? "\033[1m" : "");
	ctl_print_safe(ctl_text(o, "message"));
	puts(bad && c->color ? "\033[0m" : "");
}

int ctl_logs(const struct ctl *c, char **argv, struct err *e)
{
	JX_OWNED json_t *list = json_array(), *v = NULL, *ordered = NULL;
	CLEANUP(buf_donep) struct buf path = BUF_INIT;
	struct journal_query q;
	struct err unknown;
	char id[128];
	int r;

	if (!id_ok(argv[0]))
		return err_set(e, -EINVAL, "'%s' is not the id of a request", argv[0]);
	full_id(argv[0], id, sizeof(id));
	buf_printf(&path, "/admin/requests/%s", id);
	r = ctl_ask(c, path.p, NULL, NULL, &v, &unknown);
	if (r < 0)		/* the router forgot it, or is away: its entries may be there */
		fprintf(stderr, "hearthctl: %s; so only entries that name the request\n",
			unknown.text);
	fill_query(v, id, &q);
	r = read_all(c, &q, list, e);
	if (r < 0)
		return r;
	ordered = sorted(list);
	if (!json_array_size(ordered))
		return err_set(e, -ESRCH, "nothing was written about %s", q.id);
	if (c->json)
		r = ctl_print_json(ordered);
	for (size_t i = 0; !c->json && i < json_array_size(ordered); i++)
		print_line(c, json_array_get(ordered, i));
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}
