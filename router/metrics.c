/* metrics.c - see metrics.h. */
#include "router/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"

enum { N_BUCKETS = 14 };

static const double edges[N_BUCKETS] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
					 0.25, 0.5, 1, 2.5, 10, 60, 300 };

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
		buf_printf(out, "%s_seconds_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", s->name, s->labels, comma,
			   edges[i], s->bucket[i]);
	buf_printf(out, "%s_seconds_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", s->name, s->labels, comma,
		   s->n);
	buf_printf(out, "%s_seconds_sum{%s} %.9g\n%s_seconds_count{%s} %" PRIu64 "\n", s->name,
		   s->labels, s->sum, s->name, s->labels, s->n);
}

int metrics_put(const struct metrics *m, struct buf *out)
{
	const char *family = "";

	for (size_t i = 0; i < m->n; i++) {
		const struct series *s = &m->series[i];

		if (strcmp(s->name, family) != 0) {
			family = s->name;
			buf_printf(out, "# TYPE %s%s %s\n", family, s->timed ? "_seconds" : "",
				   s->timed ? "histogram" : "counter");
		}
		if (s->timed)
			put_histogram(s, out);
		else
			buf_printf(out, "%s_total%s%s%s %" PRIu64 "\n", s->name, *s->labels ? "{" : "",
				   s->labels, *s->labels ? "}" : "", s->n);
	}
	buf_printf(out, "# TYPE hearth_series_dropped counter\nhearth_series_dropped_total %" PRIu64 "\n",
		   m->dropped);
	return buf_ok(out) ? 0 : -ENOMEM;
}

void metrics_put_gauge(struct buf *out, const char *name, const char *labels, double x)
{
	buf_printf(out, "%s%s%s%s %.9g\n", name, *labels ? "{" : "", labels, *labels ? "}" : "", x);
}
