/* journal.h - entries about a request, from journals and plain files; ctl/journal.c is hearthctl's
 * one door to sd-journal.
 */
#ifndef HEARTH_CTL_JOURNAL_H
#define HEARTH_CTL_JOURNAL_H

#include <stdint.h>

#include "lib/err.h"
#include "lib/json.h"

enum { JOURNAL_MAX_WORKERS = 32 };

/* What is looked for: entries of this request, and within the span those of its workers and its
 * alias that belong to no other request. */
struct journal_query {
	const char *id;			/* "req-..." */
	const char *workers[JOURNAL_MAX_WORKERS];
	size_t n_workers;
	const char *alias;		/* "": not known */
	int64_t from_us, to_us;		/* since 1970; 0: nothing is known of when */
};

/* Appends objects {time, host, unit, priority, message} to `list`.  path NULL: this machine's
 * journal; else a folder or a file of one.  0, also when there is none; -ENOTSUP: built without
 * libsystemd; -errno. */
int journal_read(const char *path, const struct journal_query *q, json_t *list, struct err *e);
/* The words of `journalctl -o json` for another machine, NULL at the end; *out holds their text. */
int journal_argv(const char *host, const struct journal_query *q, struct buf *out,
		 const char **argv, size_t max);
/* One line of its output; others are passed over. */
void journal_add_line(const char *line, size_t n, const struct journal_query *q, json_t *list);
/* Whether an entry at this time, of this request ("": none), belongs to the answer. */
bool journal_wants(const struct journal_query *q, int64_t us, const char *request);

#endif
