/* journal.c - see journal.h: the journals that this machine has. */
#include "config.h"
#include "ctl/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl/table.h"
#include "lib/own.h"

bool journal_wants(const struct journal_query *q, int64_t us, const char *request)
{
	if (*request)
		return !strcmp(request, q->id);
	return q->from_us && us >= q->from_us && us <= q->to_us;
}

#ifdef HAVE_SYSTEMD
#include <systemd/sd-journal.h>

enum { MAX_ENTRIES = 10000 };

static void closejp(sd_journal **j)
{
	sd_journal_close(*j);
}

/* A field's text; "" when it is not there. */
static void field(sd_journal *j, const char *name, char *ret, size_t n)
{
	const void *data;
	size_t len, skip = strlen(name) + 1;

	*ret = '\0';
	if (sd_journal_get_data(j, name, &data, &len) < 0 || len < skip)
		return;
	len -= skip;
	if (len >= n)
		len = n - 1;
	memcpy(ret, (const char *)data + skip, len);
	ret[len] = '\0';
}

static int open_at(const char *path, sd_journal **ret)
{
	const char *files[] = { path, NULL };
	struct stat st;

	if (!path)
		return sd_journal_open(ret, 0); /* with those that other machines sent here */
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? sd_journal_open_directory(ret, path, 0) :
				     sd_journal_open_files(ret, files, 0);
}

static int match(sd_journal *j, const char *name, const char *value)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	int r = sd_journal_add_disjunction(j);

	buf_printf(&b, "%s=%s", name, value);
	return r < 0 ? r : buf_ok(&b) ? sd_journal_add_match(j, b.p, b.n) : -ENOMEM;
}

static int add_matches(sd_journal *j, const struct journal_query *q)
{
	int r = match(j, "REQUEST_ID", q->id);

	for (size_t i = 0; q->from_us && i < q->n_workers && r >= 0; i++)
		r = match(j, "WORKER", q->workers[i]);
	if (r >= 0 && q->from_us && *q->alias)
		r = match(j, "ALIAS", q->alias);
	if (r >= 0)
		r = q->from_us ? sd_journal_seek_realtime_usec(j, (uint64_t)q->from_us) :
				 sd_journal_seek_head(j);
	return r;
}

static void take_entry(sd_journal *j, const struct journal_query *q, json_t *list)
{
	char message[4096], host[256], unit[256], request[128], priority[8], time[32];
	uint64_t us;
	json_t *o;

	field(j, "REQUEST_ID", request, sizeof(request));
	if (sd_journal_get_realtime_usec(j, &us) < 0 || !journal_wants(q, (int64_t)us, request))
		return;
	field(j, "MESSAGE", message, sizeof(message));
	field(j, "_HOSTNAME", host, sizeof(host));
	field(j, "_SYSTEMD_UNIT", unit, sizeof(unit));
	if (!*unit)
		field(j, "SYSLOG_IDENTIFIER", unit, sizeof(unit));
	field(j, "PRIORITY", priority, sizeof(priority));
	snprintf(time, sizeof(time), "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
	o = json_object();
	json_object_set_new(o, "time", jx_num_new(time));
	ctl_set_text(o, "host", host);
	ctl_set_text(o, "unit", unit);
	ctl_set_text(o, "priority", priority);
	ctl_set_text(o, "message", message);
	json_array_append_new(list, o);
}

int journal_read(const char *path, const struct journal_query *q, json_t *list, struct err *e)
{
	CLEANUP(closejp) sd_journal *j = NULL;
	int r = open_at(path, &j);

	if (r >= 0)
		r = add_matches(j, q);
	while (r >= 0 && json_array_size(list) < MAX_ENTRIES) {
		uint64_t us;

		r = sd_journal_next(j);
		if (r <= 0)
			break;
		if (q->to_us && sd_journal_get_realtime_usec(j, &us) >= 0 && (int64_t)us > q->to_us)
			break;
		take_entry(j, q, list);
	}
	return r < 0 ? err_set(e, r, "journal%s%s: %s", path ? " " : "", path ? path : "",
			       strerror(-r))
		     : 0;
}
#else
int journal_read(const char *path, const struct journal_query *q, json_t *list, struct err *e)
{
	(void)path, (void)q, (void)list;
	return err_set(e, -ENOTSUP, "built without libsystemd: give plain files with --log");
}
#endif
