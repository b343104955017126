/* log.c - see log.h. */
#include "config.h"
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>
#endif

enum { MAX_LINE = 2048, MAX_FIELDS = 12, MAX_FIELD = 512 };

static atomic_int max_level = LOG_NOTE;
static atomic_int journal = -1;		/* -1: not looked yet */

void log_set_level(enum log_level max)
{
	atomic_store(&max_level, (int)max);
}

int log_level_parse(const char *name, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} names[] = {
		{ "error", LOG_ERROR }, { "warning", LOG_WARN },
		{ "notice", LOG_NOTE }, { "debug", LOG_DEBUG },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(names[i].name, name)) {
			*ret = names[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

/* systemd.exec(5): JOURNAL_STREAM holds device and inode of the stream; a shell
 * that redirected stderr leaves the variable set but not the stream. */
static bool stderr_is_journal(void)
{
	const char *v = getenv("JOURNAL_STREAM");
	unsigned long dev, ino;
	struct stat st;

	return v && sscanf(v, "%lu:%lu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

static bool to_journal(void)
{
	if (atomic_load(&journal) < 0)
		atomic_store(&journal, stderr_is_journal());
	return atomic_load(&journal);
}

/* What came from outside may hold line ends: a log line stays one line. */
static void flatten(char *p)
{
	for (; *p; p++)
		if ((unsigned char)*p < ' ' && *p != '\t')
			*p = ' ';
}

static void put_line(enum log_level level, const char *text)
{
	char line[MAX_LINE + 8];
	int n;

	if (to_journal())
		n = snprintf(line, sizeof(line), "<%d>%s\n", (int)level, text);
	else
		n = snprintf(line, sizeof(line), "%s\n", text);
	while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR)
		;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char text[MAX_LINE];
	va_list ap;

	if ((int)level > atomic_load(&max_level))
		return;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) >= 0) {
		flatten(text);
		put_line(level, text);
	}
	va_end(ap);
}

#ifdef HAVE_SYSTEMD
static void add_field(struct iovec *iov, int *n, char *at, const char *name, const char *value)
{
	int len = snprintf(at, MAX_FIELD, "%s=%s", name, value);

	if (len < 0)
		return;
	flatten(at);
	iov[(*n)++] = (struct iovec){ at, len < MAX_FIELD ? (size_t)len : MAX_FIELD - 1 };
}

/* False: the journal did not take it. */
static bool send_event(enum log_level level, const char *id, const struct log_field *fields,
		       const char *text)
{
	char room[MAX_FIELDS][MAX_FIELD], message[MAX_LINE + 8], priority[2] = { 0 };
	struct iovec iov[MAX_FIELDS + 1];
	int n = 0, len = snprintf(message, sizeof(message), "MESSAGE=%s", text);

	iov[n++] = (struct iovec){ message, (size_t)len };
	priority[0] = (char)('0' + (int)level);
	add_field(iov, &n, room[n], "PRIORITY", priority);
	add_field(iov, &n, room[n], "MESSAGE_ID", id);
	add_field(iov, &n, room[n], "SYSLOG_IDENTIFIER", program_invocation_short_name);
	for (const struct log_field *f = fields; f && f->name && n < MAX_FIELDS; f++)
		if (f->value)
			add_field(iov, &n, room[n], f->name, f->value);
	return sd_journal_sendv(iov, n) == 0;
}
#else
static bool send_event(enum log_level level, const char *id, const struct log_field *fields,
		       const char *text)
{
	(void)level, (void)id, (void)fields, (void)text;
	return false;
}
#endif

void log_event(enum log_level level, const char *id, const struct log_field *fields,
	       const char *fmt, ...)
{
	char text[MAX_LINE];
	va_list ap;
	int n;

	if ((int)level > atomic_load(&max_level))
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	flatten(text);
	if (!to_journal() || !send_event(level, id, fields, text))
		put_line(level, text);
}
