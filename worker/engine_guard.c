/* engine_guard.c - see engine.h, "the guard". */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "worker/engine_int.h"

void engine_set_why(struct engine *e, int code, const char *what)
{
	char flying[FLIGHT_TEXT];

	flights_text(e->flights, e->n_flights, flying);
	e->lost = code;
	err_set(&e->why_lost, code, "%s; in flight: %s", what, flying);
}

static void look(void *ctx, struct watch_look *ret)
{
	struct engine *e = ctx;

	pthread_mutex_lock(&e->lock);
	ret->busy = !e->asleep && !e->ended;
	ret->mark = e->n_turns + e->n_moves;
	ret->bound_ms = flights_bound_ms(e->flights, e->n_flights, e->guard.step_ms);
	pthread_mutex_unlock(&e->lock);
}

/* Into `out` itself: `made` belongs to the thread that hangs. */
static void post_lost(struct engine *e, int code)
{
	const struct engine_event ev = { .kind = ENGINE_LOST, .code = code };
	const uint64_t one = 1;

	pthread_mutex_lock(&e->lock);
	if (events_reserve(&e->out, 1) == 0) {
		e->out.p[e->out.n++] = ev;
		(void)!write(e->fd, &one, sizeof(one));
	}
	pthread_mutex_unlock(&e->lock);
}

static void bite(void *ctx, uint64_t stood_ms)
{
	struct engine *e = ctx;
	const struct timespec grace = { e->guard.grace_ms / 1000,
					e->guard.grace_ms % 1000 * 1000000L };
	bool told;
	char what[96];

	snprintf(what, sizeof(what), "the device hangs: nothing was finished for %" PRIu64 " ms",
		 stood_ms);
	pthread_mutex_lock(&e->lock);
	told = e->lost;		/* then it was closing the lost device that hangs */
	if (!told)
		engine_set_why(e, -ETIMEDOUT, what);
	pthread_mutex_unlock(&e->lock);
	e->guard.say(e->guard.ctx,
		     told ? "the lost device hangs while it is closed" : e->why_lost.text);
	if (!told)
		post_lost(e, -ETIMEDOUT);
	nanosleep(&grace, NULL);
	e->guard.leave(e->guard.ctx);
}

int engine_guard(struct engine *e, const struct engine_guard *g)
{
	const struct watch_hooks hooks = { e, look, bite };
	uint32_t tick_ms = g->step_ms / 16;

	pthread_mutex_lock(&e->lock);
	e->numbers.limit = g->no_numbers;
	pthread_mutex_unlock(&e->lock);
	e->guard = *g;
	return watchdog_start(&hooks,
			      tick_ms < 10   ? 10 :
			      tick_ms > 1000 ? 1000 :
					       tick_ms,
			      &e->watchdog);
}

int engine_why_lost(struct engine *e, struct err *ret)
{
	int r;

	pthread_mutex_lock(&e->lock);
	r = e->lost;
	if (r && ret)
		*ret = e->why_lost;
	pthread_mutex_unlock(&e->lock);
	return r;
}
