/* program.h - a program of ours is started beside hearthd, knowing nothing of who started it. */
#ifndef HEARTH_DAEMON_PROGRAM_H
#define HEARTH_DAEMON_PROGRAM_H

/* The environment without what a service manager and the journal told us about ourselves; `first`
 * (may be NULL) is put before it and borrowed.  To be freed, with free(); NULL: no memory. */
char **program_env(char *first);

/* Starts argv[0] in a process group of its own: no signal blocked or ignored, nothing to read, `out`
 * as its output and `err` as its errors (-1: to /dev/null), no other descriptor of ours.  Its pid, or
 * -errno. */
int program_run(char **argv, char **env, int out, int err);

#endif
