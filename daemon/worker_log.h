/* worker_log.h - a child's output, line by line into our log; its last line explains its end. */
#ifndef HEARTH_DAEMON_WORKER_LOG_H
#define HEARTH_DAEMON_WORKER_LOG_H

struct event_base;
struct worker_log;

/* fd is the log's from now on; NULL: out of memory, fd stays the caller's. */
struct worker_log *worker_log_open(struct event_base *base, int fd, const char *alias);
/* Reads what there is now. */
void worker_log_drain(struct worker_log *w);
const char *worker_log_last(const struct worker_log *w);	/* "": none yet */
struct worker_log *worker_log_close(struct worker_log *w);

#endif
