/* checks.h - what is read of the box at start: a line for each thing that costs memory or is
 * known to end badly, with what to do about it. */
#ifndef HEARTH_DAEMON_CHECKS_H
#define HEARTH_DAEMON_CHECKS_H

#include <stddef.h>

struct nvml;

enum { CHECKS_MAX = 24, CHECKS_TEXT = 320 };

struct checks {
	char text[CHECKS_MAX][CHECKS_TEXT];
	size_t n;
};

/* Reads the box.  root: before /proc and /sys, NULL: none; nvml may be NULL. */
void checks_read(const char *root, struct nvml *nvml, struct checks *ret);
/* One more line. */
void checks_add(struct checks *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What is known against this driver; NULL: nothing. */
const char *checks_driver(const char *version);

#endif
