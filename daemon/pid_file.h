/* pid_file.h - DIR/worker-ALIAS.pid: what a hearthd leaves behind for the next one. */
#ifndef HEARTH_DAEMON_PID_FILE_H
#define HEARTH_DAEMON_PID_FILE_H

#include <stdbool.h>

/* 0 or -errno. */
int pid_file_write(const char *dir, const char *alias, int pid, bool ready);
/* The process, if it is still the one that was written down (its start time says so): *ret_pidfd
 * is the caller's.  -ENOENT, -ESRCH: there is none. */
int pid_file_find(const char *dir, const char *alias, int *ret_pid, int *ret_pidfd,
		  bool *ret_ready);
void pid_file_remove(const char *dir, const char *alias);

#endif
