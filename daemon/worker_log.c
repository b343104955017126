/* worker_log.c - see worker_log.h. */
#include "daemon/worker_log.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"

enum { MAX_LINE = 1024, IN_A_ROW = 64 };

struct worker_log {
	int fd;
	struct event *readable;
	char alias[128];
	char line[MAX_LINE], last[MAX_LINE];
	size_t n;
};

static void end_line(struct worker_log *w)
{
	const char *text = w->line;
	enum log_level level = LOG_NOTE;

	w->line[w->n] = '\0';
	w->n = 0;
	if (text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		level = (enum log_level)(text[1] - '0');
		text += 3;
	}
	if (!*text)
		return;
	memmove(w->last, text, strlen(text) + 1);
	log_line(level, "worker %s: %s", w->alias, text);
}

/* false: the other end is closed. */
static bool take(struct worker_log *w)
{
	char chunk[4096];
	ssize_t n = read(w->fd, chunk, sizeof(chunk));

	for (ssize_t i = 0; i < n; i++) {
		if (chunk[i] != '\n' && chunk[i] != '\0')
			w->line[w->n++] = chunk[i];
		if (chunk[i] == '\n' || w->n == MAX_LINE - 1)
			end_line(w);
	}
	return n > 0;
}

void worker_log_drain(struct worker_log *w)
{
	for (int i = 0; i < IN_A_ROW && take(w); i++)
		;
	if (w->n)
		end_line(w);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct worker_log *w = arg;

	(void)fd, (void)what;
	if (!take(w))
		event_del(w->readable);
}

struct worker_log *worker_log_open(struct event_base *base, int fd, const char *alias)
{
	struct worker_log *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, w);
	if (!w->readable || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		if (w->readable)
			event_free(w->readable);
		free(w);
		return NULL;
	}
	w->fd = fd;
	snprintf(w->alias, sizeof(w->alias), "%s", alias);
	event_add(w->readable, NULL);
	return w;
}

const char *worker_log_last(const struct worker_log *w)
{
	return w->last;
}

struct worker_log *worker_log_close(struct worker_log *w)
{
	if (!w)
		return NULL;
	event_free(w->readable);
	close(w->fd);
	free(w);
	return NULL;
}
