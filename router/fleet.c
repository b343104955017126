/* fleet.c - see fleet.h.
 *
 * The link's descriptor is edge-triggered: after each wake, after each send and once a beat
 * it is read until it says -EAGAIN.  Finding nothing is what costs, so this happens once a
 * turn of the loop: wakes and sends activate `drain`, which runs behind the turn's other
 * events.
 */
#include "router/fleet.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"

enum { MAX_GENS = 1 << 20, FAILURE_PENALTY = 4, BURST = 4096, TICKS = 4, USE_MS = 20, MAX_CHOICES = 128 };

struct gen {
	struct fleet *fleet;
	struct worker *worker;
	struct gen *next, **prev;	/* of the worker */
	uint64_t id;
	uint32_t slot;
	uint32_t next_seq, credit, n, choices_left;
	bool choice_done[MAX_CHOICES];
	const struct attempt_hooks *hooks;
	void *arg;
};

struct model_name {
	struct model_name *next;
	char name[];
};

struct fleet {
	struct link_server *link;
	struct event *readable, *drain, *beat, *change, *use;
	struct boxes *boxes;
	void (*changed)(void *arg);
	void *arg;
	struct event_base *base;
	struct worker *workers;
	struct model_name *models;
	uint64_t next_uid, boot;
	uint32_t beat_ms, dead_ms, tick_ms;
	unsigned tick;
	bool drain_due;			/* it is active, or runs now */
	struct gen **slots;		/* a request's id holds its slot in the low 20 bits */
	uint32_t n_slots, *free_slots, n_free;
	uint64_t next_serial;
};

/* ---- tries ----------------------------------------------------------------------- */

static int grow_slots(struct fleet *f)
{
	uint32_t n = f->n_slots ? f->n_slots * 2 : 64;
	struct gen **slots;
	uint32_t *list;

	if (f->n_slots == MAX_GENS)
		return -ENOSPC;
	slots = realloc(f->slots, n * sizeof(struct gen *));
	if (slots)
		f->slots = slots;
	list = realloc(f->free_slots, n * sizeof(*list));
	if (list)
		f->free_slots = list;
	if (!slots || !list)
		return -ENOMEM;
	for (uint32_t i = n; i-- > f->n_slots;) {
		slots[i] = NULL;
		list[f->n_free++] = i;
	}
	f->n_slots = n;
	return 0;
}

static struct gen *find_gen(const struct fleet *f, const struct worker *w, uint64_t id)
{
	uint32_t slot = (uint32_t)(id % MAX_GENS);
	struct gen *g = slot < f->n_slots ? f->slots[slot] : NULL;

	return g && g->id == id && g->worker == w ? g : NULL;
}

/* A worker begins or ends to be in use: its box hears of it, at most every USE_MS. */
static void note_use(struct fleet *f)
{
	const struct timeval tv = { .tv_usec = USE_MS * 1000 };

	if (boxes_all(f->boxes) && !event_pending(f->use, EV_TIMEOUT, NULL))
		event_add(f->use, &tv);
}

static void on_use(evutil_socket_t fd, short what, void *arg)
{
	struct fleet *f = arg;

	(void)fd, (void)what;
	boxes_use(f->boxes);
}

static void gen_free(struct gen *g)
{
	struct fleet *f = g->fleet;

	f->slots[g->slot] = NULL;
	f->free_slots[f->n_free++] = g->slot;
	if (g->next)
		g->next->prev = g->prev;
	*g->prev = g->next;
	if (--g->worker->n_gens == 0)
		note_use(f);
	free(g);
}

static void gen_fail(struct gen *g, const struct attempt_failure *why)
{
	const struct attempt_hooks *hooks = g->hooks;
	void *arg = g->arg;

	gen_free(g);
	hooks->failed(arg, why);
}

static void drain_later(struct fleet *f)
{
	if (!f->drain_due)
		event_active(f->drain, EV_READ, 0);
	f->drain_due = true;
}

static int send_to(struct fleet *f, struct worker *w, enum wire_type t, const ProtobufCMessage *m)
{
	int r = link_server_send(f->link, w->peer, t, m);

	drain_later(f);
	if (r < 0 && r != -EMSGSIZE && r != -ENOMEM)
		w->doomed = true;
	return r;
}

static void send_cancel(struct gen *g)
{
	Hw__Cancel m = HW__CANCEL__INIT;

	m.request = g->id;
	(void)send_to(g->fleet, g->worker, WIRE_CANCEL, &m.base);
}

void gen_cancel(struct gen *g)
{
	send_cancel(g);
	gen_free(g);
}

void gen_credit(struct gen *g, uint32_t more)
{
	Hw__Credit m = HW__CREDIT__INIT;

	m.request = g->id;
	m.more = more;
	g->credit += more;
	(void)send_to(g->fleet, g->worker, WIRE_CREDIT, &m.base);
}

struct worker *gen_worker(struct gen *g)
{
	return g->worker;
}

int fleet_generate(struct fleet *f, struct worker *w, Hw__Generate *m,
		   const struct attempt_hooks *hooks, void *arg, struct gen **ret)
{
	struct gen *g;
	int r;

	if (f->n_free == 0 && grow_slots(f) < 0)
		return -ENOMEM;
	g = m->n <= MAX_CHOICES ? calloc(1, sizeof(*g)) : NULL;
	if (!g)
		return -ENOMEM;
	*g = (struct gen){.fleet = f,
			  .worker = w,
			  .credit = m->credit,
			  .n = m->n,
			  .choices_left = m->n,
			  .hooks = hooks,
			  .arg = arg};
	g->slot = f->free_slots[--f->n_free];
	g->id = ++f->next_serial * MAX_GENS + g->slot;
	f->slots[g->slot] = g;
	g->next = w->gens;
	g->prev = &w->gens;
	if (g->next)
		g->next->prev = &g->next;
	w->gens = g;
	if (w->n_gens++ == 0)
		note_use(f);
	m->request = g->id;
	r = send_to(f, w, WIRE_GENERATE, &m->base);
	if (r < 0) {
		gen_free(g);
		return r;
	}
	w->used_ns = clock_ns();
	*ret = g;
	return 0;
}

static void note_change(void *arg)
{
	struct fleet *f = arg;

	event_active(f->change, EV_TIMEOUT, 0);
}

static void on_change(evutil_socket_t fd, short what, void *arg)
{
	struct fleet *f = arg;

	(void)fd, (void)what;
	if (f->changed)
		f->changed(f->arg);
}

/* ---- workers ----------------------------------------------------------------------- */

static struct worker *find_peer(const struct fleet *f, link_peer peer)
{
	for (struct worker *w = f->workers; w; w = w->next)
		if (w->peer == peer)
			return w;
	return NULL;
}

static void worker_free(struct worker *w)
{
	free(w->name);
	free(w->model);
	free(w->numeric_class);
	free(w->version);
	free(w);
}

static void fail_gens(struct worker *w, const char *why)
{
	while (w->gens) {
		struct attempt_failure failure = { .fault = FAULT_LOST };

		snprintf(failure.message, sizeof(failure.message), "worker %.64s was lost: %.128s",
			 w->name, why);
		gen_fail(w->gens, &failure);
	}
}

/* Out of the list first: a request that is moved on must not find it there. */
static void lose_worker(struct fleet *f, struct worker *w, const char *why)
{
	struct worker **at = &f->workers;
	char n_gens[16];

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	snprintf(n_gens, sizeof(n_gens), "%u", w->n_gens);
	log_event(LOG_WARN, EVENT_WORKER_LOST,
		  LOG_FIELDS({ "WORKER", w->name }, { "ALIAS", w->model }, { "REASON", why },
			     { "REQUESTS", n_gens }),
		  "worker %s (%s): lost, %s; %u requests move on", w->name, w->model, why,
		  w->n_gens);
	fail_gens(w, why);
	worker_free(w);
	note_change(f);
}

static bool was_served(const struct fleet *f, const char *model)
{
	for (const struct model_name *m = f->models; m; m = m->next)
		if (!strcmp(m->name, model))
			return true;
	return false;
}

static void remember_model(struct fleet *f, const char *model)
{
	struct model_name *m;

	if (was_served(f, model))
		return;
	m = malloc(sizeof(*m) + strlen(model) + 1);
	if (!m)
		return;
	strcpy(m->name, model);
	m->next = f->models;
	f->models = m;
}

bool fleet_knows_model(const struct fleet *f, const char *model)
{
	return was_served(f, model) || boxes_outlook(f->boxes, model).will != BOX_NONE;
}

static int worker_new(const struct link_in *in, struct worker **ret)
{
	const Hw__Hello *h = in->msg.body.hello;
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->peer = in->peer;
	w->name = strdup(h->worker);
	w->model = strdup(h->model);
	w->numeric_class = strdup(h->numeric_class);
	w->version = strdup(h->version ? h->version : "?");
	if (!w->name || !w->model || !w->numeric_class || !w->version) {
		worker_free(w);
		return -ENOMEM;
	}
	w->boot = h->boot;
	w->created = h->created ? h->created : (uint64_t)clock_wall_s();
	w->max_context = h->max_context;
	w->max_running = h->max_running;
	w->max_queue = h->max_queue;
	for (size_t i = 0; i < h->n_capability; i++)
		w->able |= route_able_bit(h->capability[i]);
	w->able |= ABLE_TOKENS;
	w->pid = in->pid;
	w->uid_of = in->uid;
	w->heard_ns = w->since_ns = clock_ns();
	*ret = w;
	return 0;
}

/* Tells it, too: one that was only stopped for a while must know to greet again. */
static void send_away(struct fleet *f, struct worker *w, const char *why)
{
	Hw__Goodbye bye = HW__GOODBYE__INIT;

	bye.reason = (char *)(uintptr_t)why;
	(void)send_to(f, w, WIRE_GOODBYE, &bye.base);
	link_server_drop(f->link, w->peer);
	lose_worker(f, w, why);
}

static void replace_older(struct fleet *f, const char *name)
{
	for (struct worker *w = f->workers; w; w = w->next) {
		if (!strcmp(w->name, name)) {
			send_away(f, w, "another worker of this name has come");
			return;
		}
	}
}

static Hw__Welcome make_welcome(const struct fleet *f)
{
	Hw__Welcome m = HW__WELCOME__INIT;

	m.router_boot = f->boot;
	m.beat_ms = f->beat_ms;
	m.dead_ms = f->dead_ms;
	return m;
}

static void welcome_box(struct fleet *f, const struct link_in *in)
{
	Hw__Welcome m = make_welcome(f);

	if (boxes_greet(f->boxes, in))
		(void)link_server_send(f->link, in->peer, WIRE_WELCOME, &m.base);
	else
		link_server_drop(f->link, in->peer);
	drain_later(f);
}

static void welcome(struct fleet *f, const struct link_in *in)
{
	Hw__Welcome m = make_welcome(f);
	struct worker *w;

	replace_older(f, in->msg.body.hello->worker);
	if (worker_new(in, &w) < 0) {
		link_server_drop(f->link, in->peer);
		return;
	}
	w->uid = ++f->next_uid;
	w->next = f->workers;
	f->workers = w;
	remember_model(f, w->model);
	(void)send_to(f, w, WIRE_WELCOME, &m.base);
	note_change(f);
	log_event(LOG_NOTE, EVENT_WORKER_JOINED,
		  LOG_FIELDS({ "WORKER", w->name }, { "ALIAS", w->model },
			     { "NUMERIC_CLASS", w->numeric_class }),
		  "worker %s: serves %s, class %s, context %u, %u running and %u waiting at most",
		  w->name, w->model, w->numeric_class, w->max_context, w->max_running,
		  w->max_queue);
}

static void on_beat(struct worker *w, const Hw__WorkerBeat *b)
{
	w->running = b->running;
	w->waiting = b->waiting;
	w->free_blocks = b->free_blocks;
	w->total_blocks = b->total_blocks;
	w->prompt_tokens = b->prompt_tokens;
	w->output_tokens = b->output_tokens;
	w->decode_tokens_s = b->decode_tokens_s;
	w->prefill_tokens_s = b->prefill_tokens_s;
	w->draining = b->draining;
	w->penalty /= 2;
}

static void break_gen(struct gen *g, const char *why)
{
	struct attempt_failure failure = { .fault = FAULT_GARBAGE };

	snprintf(failure.message, sizeof(failure.message), "worker %.64s: %s", g->worker->name,
		 why);
	log_event(LOG_WARN, EVENT_REQUEST_MOVED,
		  LOG_FIELDS({ "WORKER", g->worker->name }, { "REASON", why }),
		  "request of worker %s: %s; the request moves on", g->worker->name, why);
	g->worker->penalty += FAILURE_PENALTY;
	send_cancel(g);
	gen_fail(g, &failure);
}

static void on_refused(struct gen *g, const Hw__Refused *m)
{
	static const enum attempt_fault faults[] = {
		[HW__REFUSAL__BAD_REQUEST] = FAULT_REQUEST,
		[HW__REFUSAL__CONTEXT_LENGTH] = FAULT_CONTEXT,
		[HW__REFUSAL__QUEUE_FULL] = FAULT_BUSY,
		[HW__REFUSAL__DRAINING] = FAULT_BUSY,
		[HW__REFUSAL__UNSUPPORTED] = FAULT_UNSUPPORTED,
		[HW__REFUSAL__DEADLINE] = FAULT_TIMEOUT,
	};
	struct attempt_failure failure = { .fault = faults[m->reason],
					   .retry_after_ms = m->retry_after_ms };

	snprintf(failure.message, sizeof(failure.message), "%s", m->message);
	snprintf(failure.param, sizeof(failure.param), "%s", m->param ? m->param : "");
	gen_fail(g, &failure);
}

static void on_delta(struct gen *g, const Hw__Delta *d)
{
	if (d->seq != g->next_seq)
		break_gen(g, "a delta is missing");
	else if (d->choice >= g->n || g->choice_done[d->choice])
		break_gen(g, "a delta of a choice that is over or was not asked for");
	else if (g->credit == 0)
		break_gen(g, "more deltas than it had credit for");
	else {
		g->next_seq++;
		g->credit--;
		g->hooks->delta(g->arg, d);
	}
}

static void on_done(struct gen *g, const Hw__Done *d)
{
	const struct attempt_hooks *hooks = g->hooks;
	void *arg = g->arg;

	if (d->seq != g->next_seq) {
		break_gen(g, "a delta is missing");
		return;
	}
	if (d->choice >= g->n || g->choice_done[d->choice]) {
		break_gen(g, "the end of a choice that is over or was not asked for");
		return;
	}
	g->next_seq++;
	g->choice_done[d->choice] = true;
	if (d->finish == HW__FINISH__FAILED || d->finish == HW__FINISH__CANCELLED) {
		struct attempt_failure failure = { .fault = FAULT_SERVER };

		snprintf(failure.message, sizeof(failure.message), "worker %.64s: %.160s",
			 g->worker->name, d->message ? d->message : "gave up");
		g->worker->penalty += FAILURE_PENALTY;
		if (--g->choices_left)
			send_cancel(g);
		gen_fail(g, &failure);
		return;
	}
	if (--g->choices_left == 0)
		gen_free(g);
	hooks->done(arg, d);
}

static void on_message(struct fleet *f, struct worker *w, const struct wire_msg *m)
{
	struct gen *g = NULL;

	w->heard_ns = clock_ns();
	switch (m->type) {
	case WIRE_WORKER_BEAT:
		on_beat(w, m->body.worker_beat);
		break;
	case WIRE_ACCEPTED:
		g = find_gen(f, w, m->body.accepted->request);
		if (g)
			g->hooks->accepted(g->arg, m->body.accepted);
		break;
	case WIRE_REFUSED:
		g = find_gen(f, w, m->body.refused->request);
		if (g)
			on_refused(g, m->body.refused);
		break;
	case WIRE_PROGRESS:
		g = find_gen(f, w, m->body.progress->request);
		if (g)
			g->hooks->alive(g->arg);
		break;
	case WIRE_DELTA:
		g = find_gen(f, w, m->body.delta->request);
		if (g)
			on_delta(g, m->body.delta);
		break;
	case WIRE_DONE:
		g = find_gen(f, w, m->body.done->request);
		if (g)
			on_done(g, m->body.done);
		break;
	case WIRE_GOODBYE:
		link_server_drop(f->link, w->peer);
		lose_worker(f, w, m->body.goodbye->reason);
		break;
	case WIRE_BOX_REPORT:
	case WIRE_BOX_REPLY:
		send_away(f, w, "a worker does not send what a box does");
		break;
	default:
		break;		/* a second Hello: harmless */
	}
}

/* ---- the loop ------------------------------------------------------------------------ */

static void take_one(struct fleet *f, struct link_in *in)
{
	struct worker *w = find_peer(f, in->peer);

	if (in->event == LINK_NEW && in->msg.body.hello->kind == HW__PEER_KIND__BOX)
		welcome_box(f, in);
	else if (in->event == LINK_NEW)
		welcome(f, in);
	else if (boxes_take(f->boxes, in, &in->msg))
		;
	else if (in->event == LINK_GONE && w)
		lose_worker(f, w, in->why);
	else if (in->event == LINK_MESSAGE && w)
		on_message(f, w, &in->msg);
	wire_msg_done(&in->msg);
}

/* What is sent while messages are taken comes before the -EAGAIN that ends it. */
static void on_drain(evutil_socket_t fd, short what, void *arg)
{
	struct fleet *f = arg;
	struct link_in in;

	(void)fd, (void)what;
	f->drain_due = true;
	for (int i = 0; i < BURST; i++) {
		if (link_server_recv(f->link, &in) < 0) {
			f->drain_due = false;
			return;
		}
		take_one(f, &in);
	}
	event_active(f->drain, EV_READ, 0);	/* others want the loop too */
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	drain_later(arg);
}

static void beat_worker(struct fleet *f, struct worker *w, uint64_t now)
{
	Hw__RouterBeat m = HW__ROUTER_BEAT__INIT;

	if (now - w->heard_ns + f->tick_ms * NS_PER_MS > f->dead_ms * NS_PER_MS) {
		send_away(f, w, "silent for too long");
		return;
	}
	if (w->doomed) {
		send_away(f, w, "nothing can be sent to it");
		return;
	}
	if (f->tick % TICKS)
		return;
	m.has_time_ms = 1;
	m.time_ms = now / NS_PER_MS;
	(void)send_to(f, w, WIRE_ROUTER_BEAT, &m.base);
}

static void on_beat_time(evutil_socket_t fd, short what, void *arg)
{
	struct fleet *f = arg;
	uint64_t now;

	f->tick++;
	on_drain(fd, what, f);		/* who was heard meanwhile was not silent */
	now = clock_ns();		/* after it: nobody was heard in the future */
	for (struct worker *w = f->workers, *next; w; w = next) {
		next = w->next;
		beat_worker(f, w, now);
	}
	boxes_tick(f->boxes, f->dead_ms, f->tick % TICKS == 0);
}

/* ---- for the boxes: they share the bus -------------------------------------------------- */

static int box_send(void *arg, link_peer peer, enum wire_type t, const ProtobufCMessage *m)
{
	struct fleet *f = arg;
	int r = link_server_send(f->link, peer, t, m);

	drain_later(f);
	return r;
}

static void box_drop(void *arg, link_peer peer)
{
	struct fleet *f = arg;

	link_server_drop(f->link, peer);
}

static const struct worker *box_workers(void *arg)
{
	const struct fleet *f = arg;

	return f->workers;
}

struct boxes *fleet_boxes(struct fleet *f)
{
	return f->boxes;
}

static int open_boxes(struct fleet *f)
{
	const struct boxes_hooks h = { .send = box_send, .drop = box_drop, .changed = note_change,
				       .workers = box_workers, .arg = f };

	f->boxes = boxes_new(&h);
	return f->boxes ? 0 : -ENOMEM;
}

static void fleet_closep(struct fleet **f)
{
	fleet_close(*f);
}

int fleet_open(struct event_base *base, const struct fleet_settings *s, struct fleet **ret,
	       struct err *e)
{
	CLEANUP(fleet_closep) struct fleet *f = calloc(1, sizeof(*f));
	uint32_t tick_ms =
		s->beat_ms / TICKS; /* silence is looked for more often than beats go out */
	struct timeval tv = { .tv_sec = tick_ms / 1000, .tv_usec = tick_ms % 1000 * 1000 };
	int r;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->base = base;
	f->beat_ms = s->beat_ms;
	f->dead_ms = s->dead_ms;
	f->tick_ms = tick_ms;
	if (getrandom(&f->boot, sizeof(f->boot), 0) != sizeof(f->boot))
		return err_set(e, -EIO, "no random numbers");
	r = link_server_open(s->endpoints, s->n_endpoints, s->curve, &f->link, e);
	if (r < 0)
		return r;
	f->readable =
		event_new(base, link_server_fd(f->link), EV_READ | EV_PERSIST, on_readable, f);
	f->drain = event_new(base, -1, 0, on_drain, f);
	f->beat = event_new(base, -1, EV_PERSIST, on_beat_time, f);
	f->change = event_new(base, -1, 0, on_change, f);
	f->use = event_new(base, -1, 0, on_use, f);
	f->changed = s->changed;
	f->arg = s->arg;
	if (!f->readable || !f->drain || !f->beat || !f->change || !f->use || open_boxes(f) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	event_add(f->readable, NULL);
	event_add(f->beat, &tv);
	*ret = TAKE(f);
	return 0;
}

int fleet_allow(struct fleet *f, const char *const *allowed, size_t n, struct err *e)
{
	int r = link_server_allow(f->link, allowed, n);

	if (r == 0)
		event_active(f->readable, EV_READ, 0);	/* hear of those who must go */
	return r < 0 ? err_set(e, r, "bus.curve_allow_file: %s",
			       r == -EINVAL ? "not keys of 40 characters" : "out of memory") : 0;
}

struct fleet *fleet_close(struct fleet *f)
{
	if (!f)
		return NULL;
	while (f->workers) {
		struct worker *w = f->workers;
		Hw__Goodbye bye = HW__GOODBYE__INIT;

		bye.reason = "the router stops";
		(void)link_server_send(f->link, w->peer, WIRE_GOODBYE, &bye.base);
		f->workers = w->next;
		fail_gens(w, "the router stops");
		worker_free(w);
	}
	if (f->boxes)
		boxes_goodbye(f->boxes, "the router stops");
	boxes_free(f->boxes);
	while (f->models) {
		struct model_name *m = f->models;

		f->models = m->next;
		free(m);
	}
	if (f->readable)
		event_free(f->readable);
	if (f->drain)
		event_free(f->drain);
	if (f->beat)
		event_free(f->beat);
	if (f->change)
		event_free(f->change);
	if (f->use)
		event_free(f->use);
	link_server_close(f->link);
	free(f->slots);
	free(f->free_slots);
	free(f);
	return NULL;
}

const struct worker *fleet_workers(const struct fleet *f)
{
	return f->workers;
}

struct worker *fleet_worker(struct fleet *f, uint64_t uid)
{
	for (struct worker *w = f->workers; w; w = w->next)
		if (w->uid == uid)
			return w;
	return NULL;
}
