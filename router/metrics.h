/* metrics.h - counters and histograms, written as OpenMetrics text.
 *
 * Labels are bounded: a series is made on first use, METRICS_MAX_SERIES at most; what
 * would be one more is counted under hearth_series_dropped_total.  Not thread-safe.
 */
#ifndef HEARTH_ROUTER_METRICS_H
#define HEARTH_ROUTER_METRICS_H

#include <stdint.h>

#include "lib/buf.h"

enum { METRICS_MAX_SERIES = 2000 };

struct metrics;

int metrics_new(struct metrics **ret);
struct metrics *metrics_free(struct metrics *m);

/* name: one of the table in metrics.c.  labels: `alias="tiny",outcome="ok"`, or "".  Values in them
 * must be clean: names of the configuration, of workers, or constants. */
void metrics_add(struct metrics *m, const char *name, const char *labels, uint64_t n);
/* A time, into the histogram name_seconds. */
void metrics_time(struct metrics *m, const char *name, const char *labels, uint64_t ns);
int metrics_put(const struct metrics *m, struct buf *out);	/* without # EOF */

/* The head of a gauge's family, before its lines. */
void metrics_put_head(struct buf *out, const char *name, const char *help);
/* One gauge line, made by the caller at the time of asking. */
void metrics_put_gauge(struct buf *out, const char *name, const char *labels, double x);

#endif
