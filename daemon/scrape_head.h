/* scrape_head.h - what the head of a request for metrics asks: a pure function of its bytes.
 *
 * Bytes that come later never change an answer other than SCRAPE_MORE.
 */
#ifndef HEARTH_DAEMON_SCRAPE_HEAD_H
#define HEARTH_DAEMON_SCRAPE_HEAD_H

#include <stdbool.h>
#include <stddef.h>

enum { SCRAPE_MAX_HEAD = 8 << 10 };

enum scrape_asks {
	SCRAPE_MORE,		/* the head is not whole yet */
	SCRAPE_METRICS,		/* by GET or HEAD */
	SCRAPE_TOO_LARGE,	/* no end within SCRAPE_MAX_HEAD bytes */
	SCRAPE_ZERO_BYTE,
	SCRAPE_NOT_GET,
	SCRAPE_NO_KEY,		/* none, or a wrong one */
	SCRAPE_NOT_FOUND,
};

/* p: n bytes, what has come so far; key: at least one character, NULL: none is needed.
 * *ret_open: whether OpenMetrics is wanted; set with SCRAPE_METRICS only. */
enum scrape_asks scrape_read_head(const char *p, size_t n, const char *key, bool *ret_open);

#endif
