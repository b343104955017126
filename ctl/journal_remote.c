/* journal_remote.c - see journal.h: the journal of another machine, by its own journalctl. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/journal.h"
#include "ctl/table.h"
#include "lib/own.h"

/* For the shell at the other end of ssh: only what it cannot read otherwise. */
static bool plain(const char *s)
{
	return *s &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@-") ==
		       strlen(s);
}

int journal_argv(const char *host, const struct journal_query *q, struct buf *out,
		 const char **argv, size_t max)
{
	size_t n = 0, at = 0;

	if (*host == '-' || !plain(host) || !plain(q->id))
		return -EINVAL;
	buf_printf(out, "ssh%c-oBatchMode=yes%c%s%cjournalctl%c-q%c-o%cjson%c", 0, 0, host, 0, 0, 0,
		   0, 0);
	if (q->from_us)
		buf_printf(out, "--since=@%" PRId64 "%c--until=@%" PRId64 "%c",
			   q->from_us / 1000000, 0, q->to_us / 1000000 + 1, 0);
	buf_printf(out, "REQUEST_ID=%s%c", q->id, 0);
	for (size_t i = 0; q->from_us && i < q->n_workers; i++)
		if (plain(q->workers[i]))
			buf_printf(out, "+%cWORKER=%s%c", 0, q->workers[i], 0);
	if (q->from_us && plain(q->alias))
		buf_printf(out, "+%cALIAS=%s%c", 0, q->alias, 0);
	if (!buf_ok(out))
		return -ENOMEM;
	while (at < out->n && n + 1 < max) {
		argv[n++] = out->p + at;
		at += strlen(out->p + at) + 1;
	}
	argv[n] = NULL;
	return at < out->n ? -E2BIG : 0;
}

void journal_add_line(const char *line, size_t n, const struct journal_query *q, json_t *list)
{
	JX_OWNED json_t *v = NULL;
	const char *unit;
	long long us = 0;
	char time[32];
	json_t *o;

	if (jx_load(line, n, &v, NULL) < 0 ||
	    sscanf(ctl_text(v, "__REALTIME_TIMESTAMP"), "%lld", &us) != 1 ||
	    !journal_wants(q, us, ctl_text(v, "REQUEST_ID")))
		return;
	unit = ctl_text(v, "_SYSTEMD_UNIT");
	snprintf(time, sizeof(time), "%lld.%06lld", us / 1000000, us % 1000000);
	o = json_object();
	json_object_set_new(o, "time", jx_num_new(time));
	ctl_set_text(o, "host", ctl_text(v, "_HOSTNAME"));
	ctl_set_text(o, "unit", *unit ? unit : ctl_text(v, "SYSLOG_IDENTIFIER"));
	ctl_set_text(o, "priority", ctl_text(v, "PRIORITY"));
	ctl_set_text(o, "message", ctl_text(v, "MESSAGE"));
	json_array_append_new(list, o);
}
