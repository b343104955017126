/* log.c - see log.h. */
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[2048];
	int n = 0, m;
	va_list ap;

	if ((int)level > atomic_load(&max_level))
		return;
	if (atomic_load(&journal) < 0)
		atomic_store(&journal, stderr_is_journal());
	if (atomic_load(&journal))
		n = snprintf(line, sizeof(line), "<%d>", (int)level);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n += m;
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	/* what came from outside may hold line ends: a log line stays one line */
	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			line[i] = ' ';
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR)
		;
}
