/* estimate.c - see estimate.h. */
#include "daemon/estimate.h"

#include <event2/event.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/program.h"
#include "lib/log.h"
#include "lib/own.h"

enum { SECONDS = 60, MAX_TEXT = 1024 };

struct estimate {
	struct event_base *base;
	estimate_said *said;
	void *arg;
	const struct box_conf *conf;
	size_t next;			/* model to ask about */
	struct event *turn, *ended;
	int pid, pidfd, out;		/* pid 0: none runs */
	bool stale;			/* what runs was asked for an older configuration */
	char alias[LAUNCH_NAME];
};

int estimate_parse(const char *text, uint64_t *ret)
{
	static const char name[] = "total\t";
	const char *p = strstr(text, name);
	unsigned long long x;
	char *end;

	if (!p || (p != text && p[-1] != '\n'))
		return -EINVAL;
	p += sizeof(name) - 1;
	errno = 0;
	x = strtoull(p, &end, 10);
	if (*p < '0' || *p > '9' || *end != '\n' || errno || !x)
		return -EINVAL;
	*ret = x;
	return 0;
}

/* ---- the process --------------------------------------------------------------------- */

static int run_worker(const struct box_conf *b, const struct model_conf *m, int out)
{
	static char print[] = "--print-budget";
	CLEANUP(freep) char **words = model_conf_argv(b, m);
	CLEANUP(freep) char **env = program_env(NULL);
	char *argv[MODEL_MAX_ARGS + 3] = { b->worker };
	size_t n = 0;

	if (!words || !env)
		return -ENOMEM;
	for (; words[n]; n++)
		argv[n + 1] = words[n];
	argv[n + 1] = print;
	return program_run(argv, env, out, -1);
}

static void forget(struct estimate *s)
{
	if (s->ended)
		event_free(s->ended);
	if (s->pidfd >= 0)
		close(s->pidfd);
	if (s->out >= 0)
		close(s->out);
	s->ended = NULL;
	s->stale = false;
	s->pid = 0;
	s->pidfd = s->out = -1;
}

/* ---- its answer -------------------------------------------------------------------- */

static void soon(struct estimate *s)
{
	event_active(s->turn, EV_TIMEOUT, 0);
}

/* What it printed fits a pipe, so all of it is there; a program that is no worker may print more. */
static void read_answer(struct estimate *s)
{
	char text[MAX_TEXT], alias[LAUNCH_NAME];
	siginfo_t si = { 0 };
	uint64_t bytes = 0;
	ssize_t n = read(s->out, text, sizeof(text) - 1);
	bool good, stale = s->stale;

	text[n > 0 ? n : 0] = '\0';
	good = waitid(P_PIDFD, (id_t)s->pidfd, &si, WEXITED) == 0 && si.si_code == CLD_EXITED &&
	       si.si_status == 0 && estimate_parse(text, &bytes) == 0;
	memcpy(alias, s->alias, sizeof(alias));
	forget(s);
	soon(s);
	if (stale)
		return;
	if (good)
		s->said(s->arg, alias, bytes);
	else
		log_note("%s: its worker does not say what it would take (%s %d); until it has "
			 "been loaded its files stand for that", alias,
			 si.si_code == CLD_EXITED ? "exit status" : "signal", si.si_status);
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct estimate *s = arg;

	(void)fd;
	if (what & EV_READ) {
		read_answer(s);
		return;
	}
	log_warn("%s: what it would take was not said in %d s", s->alias, SECONDS);
	kill(s->pid, SIGKILL);		/* a disk may hold it still: its end is another event */
	event_add(s->ended, NULL);
}

static int start(struct estimate *s, const struct model_conf *m)
{
	const struct timeval limit = { .tv_sec = SECONDS };
	int p[2], pid;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pid = run_worker(s->conf, m, p[1]);
	close(p[1]);
	s->out = p[0];
	if (pid < 0) {
		forget(s);
		return pid;
	}
	s->pid = pid;
	s->pidfd = pidfd_open(pid, 0);
	s->ended = s->pidfd < 0 ? NULL : event_new(s->base, s->pidfd, EV_READ, on_ended, s);
	if (!s->ended) {
		kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);	/* it has only just begun */
		forget(s);
		return -ENOMEM;
	}
	snprintf(s->alias, sizeof(s->alias), "%s", m->alias);
	event_add(s->ended, &limit);
	return 0;
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct estimate *s = arg;
	int r;

	(void)fd, (void)what;
	while (s->conf && !s->pid && s->next < s->conf->n_models) {
		const struct model_conf *m = &s->conf->models[s->next++];

		r = m->memory ? 0 : start(s, m);
		if (r < 0)
			log_note("%s: %s cannot be asked what it would take: %s", m->alias,
				 s->conf->worker, strerror(-r));
	}
}

/* ---- from outside ------------------------------------------------------------------ */

int estimate_new(struct event_base *base, estimate_said *said, void *arg, struct estimate **ret)
{
	struct estimate *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*s = (struct estimate){ .base = base, .said = said, .arg = arg, .pidfd = -1, .out = -1 };
	s->turn = event_new(base, -1, 0, on_turn, s);
	if (!s->turn) {
		free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void estimate_ask(struct estimate *s, const struct box_conf *conf)
{
	if (s->pid) {
		s->stale = true;
		kill(s->pid, SIGKILL);
	}
	s->conf = conf;
	s->next = 0;
	soon(s);
}

struct estimate *estimate_free(struct estimate *s)
{
	if (!s)
		return NULL;
	if (s->pid)
		kill(s->pid, SIGKILL);
	forget(s);
	event_free(s->turn);
	free(s);
	return NULL;
}
