/* watchdog.c - see watchdog.h. */
#include "worker/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "lib/clock.h"

struct watchdog {
	struct watch_hooks hooks;
	uint32_t tick_ms;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;			/* under the lock */
};

/* True: a tick has passed.  CLOCK_MONOTONIC, which stands still while the machine sleeps. */
static bool tick(struct watchdog *w)
{
	const uint64_t end = clock_ns() + w->tick_ms * NS_PER_MS;
	const struct timespec t = { .tv_sec = (time_t)(end / NS_PER_S),
				    .tv_nsec = (long)(end % NS_PER_S) };
	bool go;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && pthread_cond_timedwait(&w->wake, &w->lock, &t) != ETIMEDOUT)
		;
	go = !w->stop;
	pthread_mutex_unlock(&w->lock);
	return go;
}

/* What a tick counts for: no more than it is long, so that a process that was stopped (or a machine
 * that was frozen) wakes without guilt; and no more than has passed, should a wait end early. */
static uint64_t passed(const struct watchdog *w, uint64_t *last)
{
	const uint64_t now = clock_ns(), since = now - *last, most = w->tick_ms * NS_PER_MS;

	*last = now;
	return since < most ? since : most;
}

static void *watchdog_main(void *arg)
{
	struct watchdog *w = arg;
	struct watch_look l = { 0 };
	uint64_t mark = 0, stood = 0, last = clock_ns();

	while (tick(w)) {
		const uint64_t one = passed(w, &last);

		w->hooks.look(w->hooks.ctx, &l);
		stood = l.busy && l.mark == mark ? stood + one : 0;
		mark = l.mark;
		if (stood && stood >= l.bound_ms * NS_PER_MS) {
			w->hooks.bite(w->hooks.ctx, stood / NS_PER_MS);
			break;
		}
	}
	return NULL;
}

struct watchdog *watchdog_stop(struct watchdog *w)
{
	if (!w)
		return NULL;
	if (w->started) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_cond_signal(&w->wake);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}

static int start_thread(struct watchdog *w)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&w->thread, NULL, watchdog_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->started = r == 0;
	return r;
}

int watchdog_start(const struct watch_hooks *h, uint32_t tick_ms, struct watchdog **ret)
{
	struct watchdog *w = calloc(1, sizeof(*w));
	pthread_condattr_t a;
	int r;

	if (!w)
		return -ENOMEM;
	w->hooks = *h;
	w->tick_ms = tick_ms;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &a);
	pthread_condattr_destroy(&a);
	r = start_thread(w);
	if (r < 0) {
		watchdog_stop(w);
		return r;
	}
	*ret = w;
	return 0;
}
