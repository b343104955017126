/* log.h - lines for journalctl.
 *
 * Each line goes to stderr with systemd's priority prefix (<3> .. <7>) when stderr is
 * the journal, without it on a terminal.  A line is understandable without the source:
 * what failed, the value, the limit, what happens next ("..., retrying").
 *
 *	LOG_ERROR   someone must act		LOG_NOTE   start, stop, reload, one per request
 *	LOG_WARN    survived			LOG_DEBUG  free of charge when off
 *
 * lib/ (but this file), proto/, kernels/ and the engine return errors and never log;
 * main.c, serve and on_*.c log, once.  Never a prompt, never a key.
 * Thread-safe: a line is one write(), an event one message to the journal.
 */
#ifndef HEARTH_LIB_LOG_H
#define HEARTH_LIB_LOG_H

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTE = 5, LOG_DEBUG = 7 };

/* Lines above `max` are dropped; the default is LOG_NOTE. */
void log_set_level(enum log_level max);
/* "error", "warning", "notice", "debug"; -EINVAL otherwise. */
int log_level_parse(const char *name, enum log_level *ret);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What happens once in a while and is worth finding again: the line, and in the journal
 * beside it MESSAGE_ID (lib/events.h; etc/catalog/hearth.catalog says what it means and what to do:
 * `journalctl -x`) and fields to search by (`journalctl WORKER=w1`).
 * names: upper case; a NULL value is left out. */
struct log_field {
	const char *name, *value;
};

#define LOG_FIELDS(...) ((const struct log_field[]){ __VA_ARGS__, { NULL, NULL } })

void log_event(enum log_level level, const char *id, const struct log_field *fields,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_note(...)  log_line(LOG_NOTE, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
