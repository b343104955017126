/* metrics.c - see metrics.h. */
#include "router/metrics.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"

enum { N_BUCKETS = 14 };

static const double edges[N_BUCKETS] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
					 0.25, 0.5, 1, 2.5, 10, 60, 300 };

/* Every counter and histogram there is, in the order of names; _seconds: a histogram. */
static const struct family {
	const char *name, *help;
	bool timed;
} families[] = {
	{ "hearth_attempt_timeouts", "attempts that were given up for their time", false },
	{ "hearth_attempts", "attempts of requests on a target, by how they ended", false },
	{ "hearth_client_gone", "clients that left before their answer's end", false },
	{ "hearth_fallback", "attempts that were followed by another target", false },
	{ "hearth_keepalive", "comments sent into silent streams", false },
	{ "hearth_load_refused", "requests told that loading their model takes too long", false },
	{ "hearth_load_waits", "requests that waited for their model to be loaded", false },
	{ "hearth_request", "time of a request, to the end of its answer", true },
	{ "hearth_requests", "requests answered, by alias and status", false },
	{ "hearth_stream_cut", "streams that could not be ended in order", false },
	{ "hearth_tokens", "tokens of prompts and of answers", false },
	{ "hearth_ttft", "time of a request to its first token", true },
};

struct series {
	char *name, *labels;
	bool timed;
	uint64_t n;			/* the count */
	double sum;
	uint64_t bucket[N_BUCKETS];
};

struct metrics {
	struct series *series;		/* sorted by name, so that a family stays together */
	size_t n;
	uint64_t dropped;
};

int metrics_new(struct metrics **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct metrics *metrics_free(struct metrics *m)
{
	if (!m)
		return NULL;
	for (size_t i = 0; i < m->n; i++) {
		free(m->series[i].name);
		free(m->series[i].labels);
	}
	free(m->series);
	free(m);
	return NULL;
}

static int compare(const struct series *s, const char *name, const char *labels)
{
	int d = strcmp(s->name, name);

	return d ? d : strcmp(s->labels, labels);
}

/* A name that is in no table would be counted and never shown. */
static bool is_family(const char *name)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
		if (!strcmp(families[i].name, name))
			return true;
	return false;
}

static struct series *insert(struct metrics *m, size_t at, const char *name, const char *labels)
{
	struct series *s = realloc(m->series, (m->n + 1) * sizeof(*s));
	CLEANUP(freep) char *a = strdup(name);
	CLEANUP(freep) char *b = strdup(labels);

	if (s)
		m->series = s;
	if (!s || !a || !b)
		return NULL;
	memmove(s + at + 1, s + at, (m->n - at) * sizeof(*s));
	m->n++;
	s[at] = (struct series){ .name = TAKE(a), .labels = TAKE(b) };
	return &s[at];
}

static struct series *find(struct metrics *m, const char *name, const char *labels)
{
	size_t lo = 0, hi = m->n;
	struct series *s;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int d = compare(&m->series[mid], name, labels);

		if (d == 0)
			return &m->series[mid];
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	assert(is_family(name));
	s = m->n < METRICS_MAX_SERIES ? insert(m, lo, name, labels) : NULL;
	if (!s)
		m->dropped++;
	return s;
}

void metrics_add(struct metrics *m, const char *name, const char *labels, uint64_t n)
{
	struct series *s = find(m, name, labels);

	if (s)
		s->n += n;
}

void metrics_time(struct metrics *m, const char *name, const char *labels, uint64_t ns)
{
	struct series *s = find(m, name, labels);
	double x = (double)ns / (double)NS_PER_S;

	if (!s)
		return;
	s->timed = true;
	s->n++;
	s->sum += x;
	for (int i = 0; i < N_BUCKETS; i++)
		s->bucket[i] += x <= edges[i];
}

static void put_histogram(const struct series *s, struct buf *out)
{
	const char *comma = *s->labels ? "," : "";

	for (int i = 0; i < N_BUCKETS; i++)
		buf_printf(out, "%s_seconds_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", s->name,
			   s->labels, comma, edges[i], s->bucket[i]);
	buf_printf(out, "%s_seconds_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", s->name, s->labels,
		   comma, s->n);
	buf_printf(out, "%s_seconds_sum{%s} %.9g\n%s_seconds_count{%s} %" PRIu64 "\n", s->name,
		   s->labels, s->sum, s->name, s->labels, s->n);
}

static void put_head(const char *name, bool timed, const char *help, struct buf *out)
{
	buf_printf(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, timed ? "_seconds" : "", help,
		   name, timed ? "_seconds" : "", timed ? "histogram" : "counter");
}

static void put_series(const struct series *s, struct buf *out)
{
	if (s->timed)
		put_histogram(s, out);
	else
		buf_printf(out, "%s_total%s%s%s %" PRIu64 "\n", s->name, *s->labels ? "{" : "",
			   s->labels, *s->labels ? "}" : "", s->n);
}

/* Families that nothing has been counted in yet are named too: who looks sees what there is. */
int metrics_put(const struct metrics *m, struct buf *out)
{
	for (size_t k = 0; k < sizeof(families) / sizeof(*families); k++) {
		put_head(families[k].name, families[k].timed, families[k].help, out);
		for (size_t i = 0; i < m->n; i++)
			if (!strcmp(m->series[i].name, families[k].name))
				put_series(&m->series[i], out);
	}
	put_head("hearth_series_dropped", false, "samples lost because there were too many series",
		 out);
	buf_printf(out, "hearth_series_dropped_total %" PRIu64 "\n", m->dropped);
	return buf_ok(out) ? 0 : -ENOMEM;
}

void metrics_put_head(struct buf *out, const char *name, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

void metrics_put_gauge(struct buf *out, const char *name, const char *labels, double x)
{
	buf_printf(out, "%s%s%s%s %.9g\n", name, *labels ? "{" : "", labels, *labels ? "}" : "", x);
}
