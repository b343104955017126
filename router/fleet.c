/* fleet.c - see fleet.h: the bus in the loop.
 *
 * The link's descriptor is edge-triggered: after each wake, after each send and once a beat
 * it is read until it says -EAGAIN.  Finding nothing is what costs, so this happens once a
 * turn of the loop: wakes and sends activate `drain`, which runs behind the turn's other
 * events.
 */
#include "router/fleet.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "router/fleet_int.h"

enum { BURST = 4096, USE_MS = 20 };

/* A worker begins or ends to be in use: its box hears of it, at most every USE_MS. */
void fleet_note_use(struct fleet *f)
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

void fleet_drain_later(struct fleet *f)
{
	if (!f->drain_due)
		event_active(f->drain, EV_READ, 0);
	f->drain_due = true;
}

int fleet_send(struct fleet *f, struct worker *w, enum wire_type t, const ProtobufCMessage *m)
{
	int r = link_server_send(f->link, w->peer, t, m);

	fleet_drain_later(f);
	if (r < 0 && r != -EMSGSIZE && r != -ENOMEM)
		w->doomed = true;
	return r;
}

void fleet_note_change(void *arg)
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

Hw__Welcome fleet_welcome(const struct fleet *f)
{
	Hw__Welcome m = HW__WELCOME__INIT;

	m.router_boot = f->boot;
	m.beat_ms = f->beat_ms;
	m.dead_ms = f->dead_ms;
	return m;
}

static void welcome_box(struct fleet *f, const struct link_in *in)
{
	Hw__Welcome m = fleet_welcome(f);

	if (boxes_greet(f->boxes, in))
		(void)link_server_send(f->link, in->peer, WIRE_WELCOME, &m.base);
	else
		link_server_drop(f->link, in->peer);
	fleet_drain_later(f);
}

static void take_one(struct fleet *f, struct link_in *in)
{
	struct worker *w = worker_of_peer(f, in->peer);

	if (in->event == LINK_NEW && in->msg.body.hello->kind == HW__PEER_KIND__BOX)
		welcome_box(f, in);
	else if (in->event == LINK_NEW)
		worker_welcome(f, in);
	else if (boxes_take(f->boxes, in, &in->msg))
		;
	else if (in->event == LINK_GONE && w)
		worker_lose(f, w, in->why);
	else if (in->event == LINK_MESSAGE && w)
		worker_take(f, w, &in->msg);
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
	fleet_drain_later(arg);
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
		worker_beat(f, w, now);
	}
	boxes_tick(f->boxes, f->dead_ms, f->tick % FLEET_TICKS == 0);
}

static int box_send(void *arg, link_peer peer, enum wire_type t, const ProtobufCMessage *m)
{
	struct fleet *f = arg;
	int r = link_server_send(f->link, peer, t, m);

	fleet_drain_later(f);
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
	const struct boxes_hooks h = { .send = box_send, .drop = box_drop,
				       .changed = fleet_note_change, .workers = box_workers,
				       .arg = f };

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
		s->beat_ms / FLEET_TICKS; /* silence is looked for more often than beats go out */
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
		worker_fail_gens(w, "the router stops");
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
