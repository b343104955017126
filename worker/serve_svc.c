/* serve_svc.c - what a worker that serves tells the service manager.
 *
 * The watchdog is fed by this loop, and only as long as the engine's loop moves too: a
 * device that hangs in a step would otherwise look healthy for ever.  A step may be long
 * (a chunk of a prompt on a slow CPU), so the unit's WatchdogSec= is well above one.
 */
#include <inttypes.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/svc.h"
#include "worker/serve_int.h"

enum { EXTEND_US = 5000000 };

static bool engine_moves(struct serve *s, uint64_t now, uint64_t limit_ns)
{
	uint64_t turns;
	bool asleep = engine_pulse(s->engine, &turns);

	if (asleep || turns != s->dog_turns || !s->dog_ns) {
		s->dog_turns = turns;
		s->dog_ns = now;
		s->stuck = false;
	}
	return now - s->dog_ns < limit_ns;
}

static uint64_t seconds_since(uint64_t then, uint64_t now)
{
	return (now - then) / NS_PER_S;
}

static void feed(struct serve *s, uint64_t now)
{
	const uint64_t half_ns = svc_watchdog_ms() * NS_PER_MS;

	if (!half_ns || now - s->fed_ns < half_ns / 2)
		return;
	/* from here it takes the manager half of WatchdogSec= to give up, so say it first */
	if (engine_moves(s, now, half_ns)) {
		s->fed_ns = now;
		svc_watchdog();
	} else if (!s->stuck) {
		s->stuck = true;
		log_event(LOG_ERROR, EVENT_STEP_LOOP_STUCK, LOG_FIELDS({ "ALIAS", s->o->alias }),
			  "the device made no step for %" PRIu64 " s; the watchdog is not fed "
			  "any more, and the service manager will restart this worker",
			  seconds_since(s->dog_ns, now));
		svc_status("stuck: no step for %" PRIu64 " s", seconds_since(s->dog_ns, now));
	}
}

static void tell(struct serve *s, uint64_t now)
{
	struct sched_stats st;

	engine_stats(s->engine, &st);
	if (s->draining)
		svc_status("stopping: %zu requests to finish", s->n_jobs);
	else if (s->state != LINK_UP)
		svc_status("%s is loaded; no router at %s for %" PRIu64 " s, trying again",
			   s->o->alias, s->o->endpoint,
			   s->down_ns ? seconds_since(s->down_ns, now) : 0);
	else
		svc_status("serving %s at %s: %" PRIu32 " running, %" PRIu32 " waiting, %.0f "
			   "tokens/s, %" PRIu32 " of %" PRIu32 " blocks free%s%s", s->o->alias,
			   s->o->endpoint, st.n_running, st.n_waiting, s->decode_s,
			   st.n_free_blocks, st.n_blocks, s->o->quantize ? "; FP8: " : "",
			   s->o->quantize ? s->o->quantize : "");
}

void svc_turn(struct serve *s, uint64_t now)
{
	feed(s, now);
	if (s->state == LINK_UP)
		s->down_ns = 0;
	else if (!s->down_ns)
		s->down_ns = now;
	if (now - s->told_ns < NS_PER_S)
		return;
	s->told_ns = now;
	if (!s->stuck)
		tell(s, now);
	if (s->draining && s->n_jobs)
		svc_extend(EXTEND_US);
}
