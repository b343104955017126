/* serve.c - see serve.h.  The loop, and what it does about every message and every beat. */
#include "worker/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/svc.h"
#include "worker/serve_int.h"

enum {
	BEAT_MS = 1000, DEAD_MS = 3000,		/* until the router says otherwise */
	MIN_BEAT_MS = 20, MAX_BEAT_MS = 60000,
	IN_A_ROW = 64, IN_A_ROW_MS = 50,	/* of messages, before beats get a turn */
};

/* ---- connection ------------------------------------------------------------------------- */

static void lose_router(struct serve *s, const char *why)
{
	if (s->state != LINK_DOWN)
		log_event(LOG_WARN, EVENT_ROUTER_LOST,
			  LOG_FIELDS({ "ENDPOINT", s->o->endpoint }, { "REASON", why }),
			  "router at %s lost (%s), %zu requests dropped, connecting anew",
			  s->o->endpoint, why, s->n_jobs);
	s->state = LINK_DOWN;
	s->link_failed = false;
	jobs_drop(s);
}

static void on_connected(struct serve *s)
{
	s->state = LINK_GREETED;
	s->heard_ns = clock_ns();
	s->beat_ms = BEAT_MS;
	s->dead_ms = DEAD_MS;
	send_hello(s);
}

static uint32_t between(uint32_t x, uint32_t low, uint32_t high)
{
	return x < low ? low : x > high ? high : x;
}

static void on_welcome(struct serve *s, const Hw__Welcome *w)
{
	s->state = LINK_UP;
	s->beat_ms = between(w->beat_ms, MIN_BEAT_MS, MAX_BEAT_MS);
	s->dead_ms = between(w->dead_ms, 2 * s->beat_ms, 10 * MAX_BEAT_MS);
	s->beat_ns = 0;
	log_event(LOG_NOTE, EVENT_ROUTER_FOUND,
		  LOG_FIELDS({ "ENDPOINT", s->o->endpoint }, { "WORKER", s->o->name },
			     { "ALIAS", s->o->alias }),
		  "connected to the router at %s as %s, serving '%s'", s->o->endpoint, s->o->name,
		  s->o->alias);
}

/* ---- messages --------------------------------------------------------------------------- */

static void drain(struct serve *s, uint64_t within_ms)
{
	uint64_t until = within_ms ? clock_ns() + within_ms * NS_PER_MS : 0;

	if (!s->draining)
		log_event(LOG_NOTE, EVENT_WORKER_DRAINING, LOG_FIELDS({ "ALIAS", s->o->alias }),
			  "draining: %zu requests to finish, nothing new is taken", s->n_jobs);
	s->draining = true;
	if (until && (!s->drain_ns || until < s->drain_ns))
		s->drain_ns = until;
	svc_stopping();
}

static void on_credit(struct serve *s, const Hw__Credit *c)
{
	struct job *j = job_find(s, c->request);

	if (j)		/* saturates: a router that grants without end means "no limit" */
		j->credit = c->more > UINT32_MAX - j->credit ? UINT32_MAX : j->credit + c->more;
}

static void on_cancel(struct serve *s, const Hw__Cancel *c)
{
	struct job *j = job_find(s, c->request);

	if (j)		/* else it has ended meanwhile */
		job_end(s, j, HW__FINISH__CANCELLED, NULL);
}

static void on_message(struct serve *s, const struct wire_msg *m)
{
	switch (m->type) {
	case WIRE_WELCOME:
		on_welcome(s, m->body.welcome);
		break;
	case WIRE_GENERATE:
		on_generate(s, m->body.generate);
		break;
	case WIRE_CANCEL:
		on_cancel(s, m->body.cancel);
		break;
	case WIRE_CREDIT:
		on_credit(s, m->body.credit);
		break;
	case WIRE_DRAIN:
		drain(s, m->body.drain->has_within_ms ? m->body.drain->within_ms : 0);
		break;
	case WIRE_GOODBYE:
		lose_router(s, m->body.goodbye->reason);
		s->link_failed = true;
		break;
	default:
		break;		/* a beat: it was heard, that is all it is for */
	}
	/* after the work on it: a long prompt is our silence, not the router's */
	s->heard_ns = clock_ns();
}

/* Messages there are, a bounded number; true: there was one, so there is work to do. */
static bool read_link(struct serve *s)
{
	uint64_t end = clock_ns() + IN_A_ROW_MS * NS_PER_MS;
	struct link_in in;

	for (int i = 0; i < IN_A_ROW && (!i || clock_ns() < end); i++) {
		if (link_client_recv(s->link, &in) < 0)
			return i > 0;
		if (in.event == LINK_NEW)
			on_connected(s);
		else if (in.event == LINK_GONE)
			lose_router(s, in.why);
		else
			on_message(s, &in.msg);
		wire_msg_done(&in.msg);
		if (s->link_failed)
			break;
	}
	return true;
}

/* ---- the engine --------------------------------------------------------------------------- */

static void read_engine(struct serve *s)
{
	const struct engine_event *ev;
	size_t n = engine_take(s->engine, &ev);

	for (size_t i = 0; i < n; i++) {
		if (ev[i].kind == ENGINE_LOST)
			s->lost = ev[i].code;
		else
			job_event(s, &ev[i]);
	}
}

static const char *lost_text(const struct serve *s)
{
	return s->lost == -ETIMEDOUT ? "the device hangs" :
	       s->lost == -EDOM ? "the model produces no numbers" : "the device was lost";
}


/* ---- time --------------------------------------------------------------------------------- */

/* Rates over the time since the last beat; 0 while idle. */
static void measure(struct serve *s, uint64_t now)
{
	struct sched_stats st;
	double seconds = (double)(now - s->last_stats_ns) / (double)NS_PER_S;

	engine_stats(s->engine, &st);
	if (s->last_stats_ns && seconds > 0) {
		s->decode_s =
			(double)(st.n_output_tokens - s->last_stats.n_output_tokens) / seconds;
		s->prefill_s = (double)(st.n_prompt_tokens - s->last_stats.n_prompt_tokens) /
			       seconds;
	}
	s->last_stats = st;
	s->last_stats_ns = now;
}

/* Those that wait hear where they stand. */
static void tell_positions(struct serve *s)
{
	uint32_t position = 0;

	for (size_t i = 0; i < s->n_jobs; i++)
		if (!s->jobs[i]->prompt_done && !s->jobs[i]->choices[0].ended)
			send_progress(s, s->jobs[i], ++position);
}

/* A lease that hearthd forgot is presented again; memory that runs short stops what can wait. */
static void memory_turn(struct serve *s, uint64_t now)
{
	const char *text;

	if (!s->o->grant)
		return;
	while (grant_turn(s->o->grant, now, &text))
		log_line(grant_level(s->o->grant) > GRANT_GREEN ? LOG_WARN : LOG_NOTE, "%s", text);
	s->level = grant_level(s->o->grant);
}

static void on_time(struct serve *s)
{
	uint64_t now = clock_ns();

	jobs_deadlines(s, now);
	if (s->state != LINK_DOWN && now - s->heard_ns > s->dead_ms * NS_PER_MS) {
		lose_router(s, "silent for too long");
		s->link_failed = true;
	}
	if (s->state == LINK_UP && now >= s->beat_ns) {
		s->beat_ns = now + s->beat_ms * NS_PER_MS;
		measure(s, now);
		send_beat(s);
		if (s->last_stats.n_new)
			tell_positions(s);
	}
	if (s->draining && s->drain_ns && now >= s->drain_ns)
		for (size_t i = 0; i < s->n_jobs; i++)
			job_end(s, s->jobs[i], HW__FINISH__FAILED, "the worker is stopping");
	memory_turn(s, now);
	svc_turn(s, now);
}

static int until(uint64_t when, uint64_t now, int best)
{
	uint64_t ms;

	if (!when)
		return best;
	ms = when > now ? (when - now) / NS_PER_MS + 1 : 0;
	return ms < (uint64_t)best ? (int)ms : best;
}

static int next_timeout(const struct serve *s)
{
	uint64_t now = clock_ns();
	int ms = 1000;

	if (svc_watchdog_ms() && svc_watchdog_ms() < (uint32_t)ms)
		ms = (int)svc_watchdog_ms();
	if (s->state == LINK_UP)
		ms = until(s->beat_ns, now, ms);
	if (s->state != LINK_DOWN)
		ms = until(s->heard_ns + s->dead_ms * NS_PER_MS, now, ms);
	ms = until(s->drain_ns, now, ms);
	if (s->o->grant && grant_due(s->o->grant) != UINT64_MAX)
		ms = until(grant_due(s->o->grant), now, ms);
	for (size_t i = 0; i < s->n_jobs; i++)
		ms = until(s->jobs[i]->deadline_ns, now, ms);
	return ms;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void read_signals(struct serve *s)
{
	struct signalfd_siginfo si;

	while (read(s->signals, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (s->draining) {
			log_note("stopping at once: a second signal");
			s->quit = true;
		}
		drain(s, s->o->drain_ms);
	}
}

/* One turn: everything that came, everything that may go. */
static void turn(struct serve *s)
{
	bool busy;

	do {
		busy = read_link(s);
		read_engine(s);
		on_time(s);
		jobs_flush(s);
		/* What was computed is sent, and nothing is ended: the goodbye leaves the requests
		 * to the router as if this process had been killed.  It continues them elsewhere to
		 * the bit, or has this model loaded again for them, or ends them with an error; a
		 * Done that failed would only be the last. */
		if (s->lost)
			s->quit = true;
		if (s->link_failed) {
			lose_router(s, "a message could not be sent");
			/* failed: the next recv tries again */
			(void)link_client_renew(s->link);
		}
	} while (busy && !s->quit);
	if (s->draining && !s->n_jobs)
		s->quit = true;
}

static void loop(struct serve *s)
{
	while (!s->quit) {
		struct pollfd fds[] = {
			{ .fd = link_client_fd(s->link), .events = POLLIN },
			{ .fd = engine_fd(s->engine), .events = POLLIN },
			{ .fd = s->signals, .events = POLLIN },
			{ .fd = s->o->grant ? grant_fd(s->o->grant) : -1, .events = POLLIN },
		};

		turn(s);
		if (s->quit)
			break;
		/* sending may have used up the link's edge: look once more before sleeping */
		if (read_link(s))
			continue;
		if (poll(fds, 4, next_timeout(s)) > 0 && fds[2].revents)
			read_signals(s);
	}
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* The socket does not linger: what was sent last gets a moment to leave. */
static void say_goodbye(struct serve *s)
{
	const uint64_t end = clock_ns() + 200 * NS_PER_MS;
	struct pollfd fd = { .fd = link_client_fd(s->link), .events = POLLIN };
	struct link_in in;

	send_goodbye(s, s->lost ? lost_text(s) : "drained");
	while (s->state != LINK_DOWN && !s->link_failed && clock_ns() < end) {
		(void)poll(&fd, 1, 20);
		while (link_client_recv(s->link, &in) == 0) {
			if (in.event == LINK_GONE)
				s->state = LINK_DOWN;
			wire_msg_done(&in.msg);
		}
	}
}

int serve_run(const struct serve_options *o, const struct text_model *model,
	      struct engine *engine, struct err *e)
{
	struct serve s = { .o = o, .model = model, .engine = engine, .signals = -1,
			   .beat_ms = BEAT_MS, .dead_ms = DEAD_MS, .end_gap_ms = 1000 };
	int r;

	if (getrandom(&s.boot, sizeof(s.boot), 0) != (ssize_t)sizeof(s.boot))
		return err_set(e, -EIO, "no random numbers: %s", strerror(errno));
	r = link_client_open(o->endpoint, o->curve, &s.link, e);
	if (r < 0)
		return r;
	s.signals = open_signals();
	if (s.signals < 0) {
		r = err_set(e, -errno, "signalfd: %s", strerror(errno));
	} else {
		loop(&s);
		say_goodbye(&s);
		r = s.lost ? err_set(e, -ENODEV, "%s", lost_text(&s)) : 0;
	}
	jobs_drop(&s);
	free(s.jobs);
	if (s.signals >= 0)
		close(s.signals);
	link_client_close(s.link);
	return r;
}
