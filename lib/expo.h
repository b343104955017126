/* expo.h - the text that Prometheus reads: families of samples.
 *
 * Two forms: OpenMetrics 1.0, and the older text format 0.0.4.  They differ in what a counter's
 * family is called, in the type of an info and in the last line; expo_type() is the form's
 * Content-Type.
 *
 *	struct expo x = { .out = &b, .open = true, .labels = { "box", "gb10-1" } };
 *	expo_begin(&x, &row);
 *	expo_put(&x, 3, "state", "granted", NULL);
 *	expo_end(&x);
 *
 * Not thread-safe.
 */
#ifndef HEARTH_LIB_EXPO_H
#define HEARTH_LIB_EXPO_H

#include <stdbool.h>

#include "lib/buf.h"

enum expo_kind { EXPO_GAUGE, EXPO_COUNTER, EXPO_INFO };

struct expo_row {
	/* of the samples: a counter's ends with _total, an info's with _info */
	const char *name;
	enum expo_kind kind;
	const char *help;	/* one line */
};

struct expo {
	struct buf *out;
	bool open;			/* OpenMetrics */
	const char *labels[2];		/* name and value, on every sample; NULL: none */
	const struct expo_row *row;	/* begun last */
};

const char *expo_type(bool open);
/* Whether an Accept header asks for OpenMetrics. */
bool expo_wants_open(const char *accept);
/* A new family: its HELP and TYPE.  Its samples follow before the next one begins. */
void expo_begin(struct expo *x, const struct expo_row *row);
/* A sample of it.  Pairs of label and value, NULL at the end; any text may be a value. */
void expo_put(struct expo *x, double value, ...) __attribute__((sentinel));
/* 0, or -ENOMEM when something did not fit into memory. */
int expo_end(struct expo *x);

#endif
