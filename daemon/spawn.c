/* spawn.c - workers as our own children, where there is no systemd.
 *
 * A child is watched by its pidfd, told about itself through NOTIFY_SOCKET as systemd would
 * (READY=1, STATUS=), and its output goes to our log line by line.  RUN_DIR/worker-ALIAS.pid
 * holds "PID STARTTIME ready|loading", so that the next hearthd finds what this one left behind:
 * such a process is watched as well, only its exit status is nobody's to know.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "daemon/notify.h"
#include "daemon/pid_file.h"
#include "daemon/program.h"
#include "daemon/runner.h"
#include "daemon/worker_log.h"
#include "lib/log.h"
#include "lib/own.h"

struct child {
	struct child *next;
	struct spawn *spawn;
	char alias[LAUNCH_NAME];
	uint32_t instance;
	int pid, pidfd;
	bool ours;		/* else found alive: waitid() is not for us */
	struct event *ended, *kill;
	struct worker_log *log;
};

struct spawn {
	struct runner runner;
	struct event_base *base;
	struct runner_hooks hooks;
	char *run_dir;
	struct notify *notify;
	struct child *children;
};

static struct spawn *spawn_of(struct runner *r)
{
	return (struct spawn *)(void *)r;
}

static struct child *find(const struct spawn *s, const char *alias)
{
	for (struct child *c = s->children; c; c = c->next)
		if (!strcmp(c->alias, alias))
			return c;
	return NULL;
}

static void child_free(struct child *c)
{
	if (c->ended)
		event_free(c->ended);
	if (c->kill)
		event_free(c->kill);
	worker_log_close(c->log);
	if (c->pidfd >= 0)
		close(c->pidfd);
	free(c);
}

static void unlink_child(struct child *c)
{
	struct child **at = &c->spawn->children;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
}

/* ---- the end of a child ---------------------------------------------------------------- */

static enum launch_end read_status(const struct child *c, char *why, size_t n)
{
	const char *last = c->log ? worker_log_last(c->log) : "";
	siginfo_t si = { 0 };

	if (!c->ours || waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG) < 0 || !si.si_pid) {
		snprintf(why, n, "ended; it was started before this hearthd, so nobody knows how");
		return LAUNCH_FAILED;
	}
	if (si.si_code != CLD_EXITED) {
		snprintf(why, n, "killed by signal %d (%s)", si.si_status, strsignal(si.si_status));
		return LAUNCH_FAILED;
	}
	if (si.si_status == 0)
		snprintf(why, n, "ended by itself");
	else
		snprintf(why, n, "exit status %d%s%s", si.si_status, *last ? ": " : "", last);
	return runner_end_of(si.si_status);
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;
	struct spawn *s = c->spawn;
	char alias[LAUNCH_NAME], why[LAUNCH_REASON];
	uint32_t instance = c->instance;
	enum launch_end end;

	(void)fd, (void)what;
	if (c->log)
		worker_log_drain(c->log);	/* its last words explain its end */
	end = read_status(c, why, sizeof(why));
	memcpy(alias, c->alias, sizeof(alias));
	log_line(end == LAUNCH_ENDED ? LOG_NOTE : LOG_WARN, "worker %s (pid %d): %s", alias, c->pid,
		 why);
	pid_file_remove(s->run_dir, alias);
	unlink_child(c);
	child_free(c);
	s->hooks.exited(s->hooks.arg, alias, instance, end, why);
}

static void kill_child(const struct child *c, int sig)
{
	if (pidfd_send_signal(c->pidfd, sig, NULL, 0) < 0 && errno != ESRCH)
		log_warn("worker %s (pid %d): signal %d: %s", c->alias, c->pid, sig,
			 strerror(errno));
}

static void on_kill_time(evutil_socket_t fd, short what, void *arg)
{
	const struct child *c = arg;

	(void)fd, (void)what;
	log_warn("worker %s (pid %d): did not end in time, killed", c->alias, c->pid);
	kill_child(c, SIGKILL);
}

static void spawn_stop(struct runner *r, const char *alias, uint32_t stop_ms, bool force)
{
	struct child *c = find(spawn_of(r), alias);
	struct timeval tv = { .tv_sec = stop_ms / 1000, .tv_usec = stop_ms % 1000 * 1000 };

	if (!c)
		return;
	kill_child(c, force ? SIGKILL : SIGTERM);
	if (!force)
		event_add(c->kill, &tv);
}

/* ---- its beginning ----------------------------------------------------------------------- */

static struct child *child_new(struct spawn *s, const char *alias, uint32_t instance, int pid,
			       int pidfd)
{
	struct child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct child){ .spawn = s, .instance = instance, .pid = pid, .pidfd = pidfd };
	snprintf(c->alias, sizeof(c->alias), "%s", alias);
	c->ended = event_new(s->base, pidfd, EV_READ, on_ended, c);
	c->kill = event_new(s->base, -1, 0, on_kill_time, c);
	if (!c->ended || !c->kill) {
		c->pidfd = -1;
		child_free(c);
		return NULL;
	}
	event_add(c->ended, NULL);
	c->next = s->children;
	s->children = c;
	return c;
}

/* argv without a program's name before it. */
static int run_worker(struct spawn *s, const struct box_conf *b, const struct model_conf *m,
		      int out)
{
	CLEANUP(freep) char **words = model_conf_argv(b, m);
	CLEANUP(freep) char *socket = NULL;
	CLEANUP(freep) char **env = NULL;
	char *argv[MODEL_MAX_ARGS + 1] = { b->worker };

	if (asprintf(&socket, "NOTIFY_SOCKET=%s", notify_path(s->notify)) < 0)
		socket = NULL;
	env = socket ? program_env(socket) : NULL;
	if (!words || !env)
		return -ENOMEM;
	for (size_t i = 0; words[i]; i++)
		argv[i + 1] = words[i];
	return program_run(argv, env, out, out);
}

/* A child that cannot be watched is not kept. */
static int lose(int pid, int pidfd)
{
	kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	if (pidfd >= 0)
		close(pidfd);
	return -ENOMEM;
}

static int spawn_start(struct runner *r, const struct box_conf *b, const struct model_conf *m,
		       uint32_t instance, struct err *e)
{
	struct spawn *s = spawn_of(r);
	struct child *c;
	int pipe_[2], pid, pidfd;

	if (find(s, m->alias))
		return err_set(e, -EBUSY, "its last process has not ended");
	if (pipe2(pipe_, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	pid = run_worker(s, b, m, pipe_[1]);
	close(pipe_[1]);
	if (pid < 0) {
		close(pipe_[0]);
		return err_set(e, pid, "%s cannot be started: %s", b->worker, strerror(-pid));
	}
	pidfd = pidfd_open(pid, 0);	/* not reaped by anyone else: still the same process */
	c = pidfd < 0 ? NULL : child_new(s, m->alias, instance, pid, pidfd);
	if (!c) {
		close(pipe_[0]);
		return err_set(e, lose(pid, pidfd), "%s cannot be watched", b->worker);
	}
	c->ours = true;
	c->log = worker_log_open(s->base, pipe_[0], m->alias);
	if (!c->log)
		close(pipe_[0]);
	if (pid_file_write(s->run_dir, m->alias, pid, false) < 0)
		log_warn("worker %s: %s/worker-%s.pid: %s; a restarted hearthd will not find it",
			 m->alias, s->run_dir, m->alias, strerror(errno));
	log_note("worker %s: started as pid %d", m->alias, pid);
	return 0;
}

/* ---- what it says about itself ------------------------------------------------------------- */

static void on_notify(void *arg, int pid, const char *key, const char *value)
{
	struct spawn *s = arg;
	struct child *c = s->children;
	int permille;

	while (c && c->pid != pid)
		c = c->next;
	if (!c)
		return;
	if (!strcmp(key, "READY") && !strcmp(value, "1")) {
		(void)pid_file_write(s->run_dir, c->alias, c->pid, true);
		s->hooks.ready(s->hooks.arg, c->alias, c->instance);
	} else if (!strcmp(key, "STATUS")) {
		permille = runner_permille(value);
		if (permille >= 0)
			s->hooks.progress(s->hooks.arg, c->alias, c->instance, (uint32_t)permille);
	}
}

static int spawn_pid(const struct runner *r, const char *alias)
{
	const struct child *c = find((const struct spawn *)(const void *)r, alias);

	return c ? c->pid : 0;
}

static int spawn_adopt(struct runner *r, const struct box_conf *b, struct err *e)
{
	struct spawn *s = spawn_of(r);

	(void)e;
	for (size_t i = 0; i < b->n_models; i++) {
		const char *alias = b->models[i].alias;
		int pid, pidfd;
		struct child *c;
		bool ready;

		if (find(s, alias) || pid_file_find(s->run_dir, alias, &pid, &pidfd, &ready) < 0)
			continue;
		c = child_new(s, alias, 0, pid, pidfd);
		if (!c) {
			close(pidfd);
			continue;
		}
		c->instance = s->hooks.found(s->hooks.arg, alias, ready);
		log_note("worker %s: found alive as pid %d", alias, pid);
	}
	return 0;
}

static void spawn_close(struct runner *r)
{
	struct spawn *s = spawn_of(r);

	while (s->children) {
		struct child *c = s->children;

		s->children = c->next;
		child_free(c);
	}
	notify_close(s->notify);
	free(s->run_dir);
	free(s);
}

static const struct runner_ops ops = { .start = spawn_start,
				       .stop = spawn_stop,
				       .pid = spawn_pid,
				       .adopt = spawn_adopt,
				       .close = spawn_close,
				       .name = "spawn" };

int spawn_open(struct event_base *base, const struct box_conf *b, const struct runner_hooks *h,
	       struct runner **ret, struct err *e)
{
	struct spawn *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	*s = (struct spawn){ .runner = { &ops }, .base = base, .hooks = *h };
	s->run_dir = strdup(b->run_dir);
	if (mkdir(b->run_dir, 0750) < 0 && errno != EEXIST)
		r = err_set(e, -errno, "%s: %s", b->run_dir, strerror(errno));
	else
		r = s->run_dir ? notify_open(base, b->run_dir, on_notify, s, &s->notify, e) :
				 err_set(e, -ENOMEM, "out of memory");
	if (r < 0) {
		free(s->run_dir);
		free(s);
		return r;
	}
	*ret = &s->runner;
	return 0;
}
