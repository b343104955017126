/* engine.c - see engine.h. */
#include "worker/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "worker/engine_int.h"

/* ---- queues ------------------------------------------------------------------------ */

static int words_add(struct words *w, const struct word *word)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		struct word *p = realloc(w->p, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		w->p = p;
		w->cap = cap;
	}
	w->p[w->n++] = *word;
	return 0;
}

int events_reserve(struct events *l, size_t more)
{
	size_t cap = l->cap ? l->cap : 64;
	struct engine_event *p;

	if (l->cap - l->n >= more)
		return 0;
	while (cap < l->n + more)
		cap *= 2;
	p = realloc(l->p, cap * sizeof(*p));
	if (!p)
		return -ENOMEM;
	l->p = p;
	l->cap = cap;
	return 0;
}

static void events_add(struct engine *e, const struct engine_event *ev)
{
	if (events_reserve(&e->made, 1) < 0)
		e->failed = -ENOMEM;	/* a lost token cannot be made good: the engine ends */
	else
		e->made.p[e->made.n++] = *ev;
}

/* ---- what the scheduler says --------------------------------------------------------- */

static void on_ran(void *ctx, const struct seq *q, const struct sched_run *run)
{
	const struct run_result *r = run->result;
	struct engine_event ev = { .id = q->id, .time_ns = clock_ns() };

	if (r->sampled) {
		ev.kind = ENGINE_TOKEN;
		ev.token = r->token;
		ev.logprob = r->logprob;
		ev.n_top = r->n_top;
		for (uint32_t i = 0; i < r->n_top; i++) {
			ev.top[i].id = r->top[i].id;
			ev.top[i].logprob = r->top[i].logprob;
		}
	} else if (run->kind == ROW_PREFILL) {
		ev.kind = ENGINE_PROGRESS;
		ev.prompt_done = run->pos + run->n;
	} else {
		return;
	}
	events_add(ctx, &ev);
}

static void on_done(void *ctx, const struct seq *q, enum seq_end how)
{
	struct engine_event ev = { .kind = ENGINE_DONE, .id = q->id, .time_ns = clock_ns(),
				   .end = how };

	if (how == SEQ_END_NO_NUMBER) {
		ev.slot = q->slot_was;
		ev.pos = q->n_tokens;
	}
	events_add(ctx, &ev);
}

static void on_flying(void *ctx, const struct step_flight *f, uint32_t n)
{
	struct engine *e = ctx;

	pthread_mutex_lock(&e->lock);
	memcpy(e->flights, f, n * sizeof(*f));
	e->n_flights = n;
	e->n_moves++;
	pthread_mutex_unlock(&e->lock);
}

static void on_collected(void *ctx, uint32_t n_sampled, uint32_t n_bad)
{
	struct engine *e = ctx;

	pthread_mutex_lock(&e->lock);
	if (number_watch_step(&e->numbers, n_sampled, n_bad, clock_ns()))
		e->failed = -EDOM;
	pthread_mutex_unlock(&e->lock);
}

/* ---- the thread ---------------------------------------------------------------------- */

/* Under the lock. */
static void publish(struct engine *e)
{
	const uint64_t one = 1;

	if (!e->made.n)
		return;
	if (events_reserve(&e->out, e->made.n) < 0) {
		e->failed = -ENOMEM;
		return;
	}
	memcpy(e->out.p + e->out.n, e->made.p, e->made.n * sizeof(*e->made.p));
	e->out.n += e->made.n;
	e->made.n = 0;
	(void)!write(e->fd, &one, sizeof(one));
}

/* Waits until there is something to do; takes the words there are.  False: stop. */
static bool next_words(struct engine *e)
{
	struct words empty;
	bool go;

	pthread_mutex_lock(&e->lock);
	sched_stats(e->sched, &e->stats);
	publish(e);
	e->n_turns++;
	e->asleep = true;
	while (!e->stop && !e->in.n && !e->failed && sched_idle(e->sched))
		pthread_cond_wait(&e->wake, &e->lock);
	e->asleep = false;
	empty = e->doing;
	e->doing = e->in;
	e->in = empty;
	e->in.n = 0;
	/* what was just taken waits in the scheduler from now on */
	e->stats.n_new += e->n_in_adds;
	e->n_in_adds = 0;
	go = !e->stop;
	pthread_mutex_unlock(&e->lock);
	return go;
}

static void do_word(struct engine *e, struct word *w)
{
	switch (w->kind) {
	case WORD_ADD:
		/* engine_add() has checked what sched_add() checks; memory may still lack */
		if (sched_add(e->sched, w->seq) < 0) {
			on_done(e, w->seq, SEQ_END_FAILED);
			seq_free(w->seq);
		}
		w->seq = NULL;
		break;
	case WORD_CANCEL:
		(void)sched_cancel(e->sched, w->id);
		break;
	case WORD_PAUSE:
		(void)sched_pause(e->sched, w->id, true);
		break;
	case WORD_RESUME:
		(void)sched_pause(e->sched, w->id, false);
		break;
	}
}

static int run(struct engine *e)
{
	int r = 0;

	while (r == 0 && next_words(e)) {
		for (size_t i = 0; i < e->doing.n; i++)
			do_word(e, &e->doing.p[i]);
		e->doing.n = 0;
		r = sched_turn(e->sched);
		if (r == 0)
			r = e->failed;
	}
	return r;
}

static void tell_lost(struct engine *e, int code)
{
	struct engine_event ev = { .kind = ENGINE_LOST, .code = code };
	const char *said = e->device && code != -EDOM ? device_lost_text(e->device) : "";
	char what[256];

	if (code == -EDOM)
		snprintf(what, sizeof(what),
			 "the model gives no numbers any more (NaN or infinite logits)");
	else if (code == -ENOMEM)
		snprintf(what, sizeof(what), "the engine has no memory to go on");
	else
		snprintf(what, sizeof(what), "the device was lost: %s",
			 *said ? said : strerror(-code));
	events_add(e, &ev);
	pthread_mutex_lock(&e->lock);
	if (!e->lost) {		/* else the guard has told already */
		engine_set_why(e, code, what);
		publish(e);
	}
	pthread_mutex_unlock(&e->lock);
}

static int open_device(struct engine *e)
{
	const struct sched_sink sink = { e, on_ran, on_done, on_flying, on_collected };
	int r = e->open(e->open_ctx, &e->device, &e->config, &e->open_err);

	if (r < 0)
		return r;
	r = sched_new(e->device, &e->config, &sink, &e->sched);
	return r < 0 ? err_set(&e->open_err, r, "the scheduler cannot be made: %s", strerror(-r)) :
		       0;
}

static void *engine_main(void *arg)
{
	struct engine *e = arg;
	int r = open_device(e);

	pthread_mutex_lock(&e->lock);
	e->open_code = r;
	e->open_done = true;
	pthread_cond_broadcast(&e->wake);
	pthread_mutex_unlock(&e->lock);
	if (r == 0)
		r = run(e);
	if (r < 0)
		tell_lost(e, r);
	sched_free(e->sched);
	device_close(e->device);
	pthread_mutex_lock(&e->lock);
	e->ended = true;
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- the owner's side ------------------------------------------------------------------ */

static void words_done(struct words *w)
{
	for (size_t i = 0; i < w->n; i++)
		seq_free(w->p[i].seq);
	free(w->p);
}

struct engine *engine_stop(struct engine *e)
{
	if (!e)
		return NULL;
	if (e->started) {
		pthread_mutex_lock(&e->lock);
		e->stop = true;
		pthread_cond_broadcast(&e->wake);
		pthread_mutex_unlock(&e->lock);
		pthread_join(e->thread, NULL);
	}
	watchdog_stop(e->watchdog);	/* only now: joining may hang as well */
	words_done(&e->in);
	words_done(&e->doing);
	free(e->out.p);
	free(e->made.p);
	free(e->taken.p);
	if (e->fd >= 0)
		close(e->fd);
	pthread_cond_destroy(&e->wake);
	pthread_mutex_destroy(&e->lock);
	free(e);
	return NULL;
}

static int wait_open(struct engine *e, struct err *err)
{
	int r;

	pthread_mutex_lock(&e->lock);
	while (!e->open_done)
		pthread_cond_wait(&e->wake, &e->lock);
	r = e->open_code;
	pthread_mutex_unlock(&e->lock);
	if (r < 0 && err)
		*err = e->open_err;
	return r;
}

int engine_start(engine_open_fn *open, void *ctx, struct engine **ret, struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, NULL);
	e->open = open;
	e->numbers.limit = 3;
	e->open_ctx = ctx;
	e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->fd < 0) {
		r = err_set(err, -errno, "eventfd: %s", strerror(errno));
	} else if ((r = -pthread_create(&e->thread, NULL, engine_main, e)) < 0) {
		r = err_set(err, r, "no thread for the engine: %s", strerror(-r));
	} else {
		e->started = true;
		r = wait_open(e, err);
	}
	if (r < 0) {
		engine_stop(e);
		return r;
	}
	*ret = e;
	return 0;
}

/* Under the lock. */
static int add_all(struct engine *e, struct seq **seqs, uint32_t n)
{
	size_t before = e->in.n;

	if (e->lost)
		return -ENODEV;
	if (e->stats.n_new + e->n_in_adds + n > e->config.max_queue)
		return -ENOBUFS;
	for (uint32_t i = 0; i < n; i++) {
		struct word w = { WORD_ADD, seqs[i]->id, seqs[i] };

		if (words_add(&e->in, &w) < 0) {
			e->in.n = before;
			return -ENOMEM;
		}
	}
	e->n_in_adds += n;
	pthread_cond_signal(&e->wake);
	return 0;
}

int engine_add(struct engine *e, struct seq **seqs, uint32_t n)
{
	int r;

	for (uint32_t i = 0; i < n; i++)
		if ((uint64_t)seqs[i]->n_prompt + seqs[i]->max_output >
		    sched_max_tokens(&e->config))
			return -E2BIG;
	pthread_mutex_lock(&e->lock);
	r = add_all(e, seqs, n);
	pthread_mutex_unlock(&e->lock);
	return r;
}

static int say(struct engine *e, enum word_kind kind, uint64_t id)
{
	struct word w = { kind, id, NULL };
	int r;

	pthread_mutex_lock(&e->lock);
	r = words_add(&e->in, &w);
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int engine_cancel(struct engine *e, uint64_t id)
{
	return say(e, WORD_CANCEL, id);
}

int engine_pause(struct engine *e, uint64_t id, bool paused)
{
	return say(e, paused ? WORD_PAUSE : WORD_RESUME, id);
}

int engine_fd(const struct engine *e)
{
	return e->fd;
}

size_t engine_take(struct engine *e, const struct engine_event **ret)
{
	struct events empty = e->taken;
	uint64_t count;

	empty.n = 0;
	(void)!read(e->fd, &count, sizeof(count));
	pthread_mutex_lock(&e->lock);
	e->taken = e->out;
	e->out = empty;
	pthread_mutex_unlock(&e->lock);
	*ret = e->taken.p;
	return e->taken.n;
}

bool engine_pulse(struct engine *e, uint64_t *ret_turns)
{
	bool asleep;

	pthread_mutex_lock(&e->lock);
	asleep = e->asleep;
	*ret_turns = e->n_turns;
	pthread_mutex_unlock(&e->lock);
	return asleep;
}

void engine_stats(struct engine *e, struct sched_stats *ret)
{
	pthread_mutex_lock(&e->lock);
	*ret = e->stats;
	pthread_mutex_unlock(&e->lock);
}

const struct sched_config *engine_config(const struct engine *e)
{
	return &e->config;
}
