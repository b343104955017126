/* box.c - see box.h: who is there, and the messages. */
#include "router/box.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "router/box_int.h"
#include "router/fleet.h"

const char *box_state_name(Hw__ModelState s)
{
	static const char *const names[] = { "?",	"unloaded", "waiting",	"starting",
					     "loading", "ready",    "retiring", "stopping",
					     "backoff", "quarantined" };

	return s <= HW__MODEL_STATE__QUARANTINED ? names[s] : names[0];
}

struct boxes *boxes_new(const struct boxes_hooks *h)
{
	struct boxes *b = calloc(1, sizeof(*b));

	if (b)
		b->hooks = *h;
	return b;
}

static void box_free(struct box *x)
{
	if (x->report)
		hw__box_report__free_unpacked(x->report, NULL);
	free(x->name);
	free(x->version);
	free(x);
}

struct boxes *boxes_free(struct boxes *b)
{
	if (!b)
		return NULL;
	while (b->list) {
		struct box *x = b->list;

		b->list = x->next;
		box_free(x);
	}
	while (b->asked) {
		struct box_ask *a = b->asked;

		b->asked = a->next;
		free(a);
	}
	while (b->waits) {
		struct box_wait *w = b->waits;

		b->waits = w->next;
		free(w);
	}
	free(b);
	return NULL;
}

const struct box *boxes_all(const struct boxes *b)
{
	return b->list;
}

void boxes_send(struct boxes *b, struct box *x, enum wire_type t, const ProtobufCMessage *m)
{
	int r = b->hooks.send(b->hooks.arg, x->peer, t, m);

	if (r < 0 && r != -EMSGSIZE && r != -ENOMEM)
		x->doomed = true;
}

static struct box *find_peer(const struct boxes *b, link_peer peer)
{
	for (struct box *x = b->list; x; x = x->next)
		if (x->peer == peer)
			return x;
	return NULL;
}

/* ---- coming and going ----------------------------------------------------------------- */

static void lose(struct boxes *b, struct box *x, const char *why)
{
	struct box **at = &b->list;

	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	log_event(LOG_WARN, EVENT_BOX_LOST, LOG_FIELDS({ "BOX", x->name }, { "REASON", why }),
		  "box %s: lost, %s; its loaded models go on", x->name, why);
	boxes_fail_asked(b, x->peer, "the box was lost");
	box_free(x);
	b->hooks.changed(b->hooks.arg);
}

static void send_away(struct boxes *b, struct box *x, const char *why)
{
	Hw__Goodbye bye = HW__GOODBYE__INIT;

	bye.reason = (char *)(uintptr_t)why;
	boxes_send(b, x, WIRE_GOODBYE, &bye.base);
	b->hooks.drop(b->hooks.arg, x->peer);
	lose(b, x, why);
}

bool boxes_greet(struct boxes *b, const struct link_in *in)
{
	const Hw__Hello *h = in->msg.body.hello;
	struct box *x;

	for (x = b->list; x && strcmp(x->name, h->worker) != 0; x = x->next)
		;
	if (x)
		send_away(b, x, "another box of this name has come");
	x = calloc(1, sizeof(*x));
	if (!x)
		return false;
	x->peer = in->peer;
	x->name = strdup(h->worker);
	x->version = strdup(h->version ? h->version : "?");
	if (!x->name || !x->version) {
		box_free(x);
		return false;
	}
	x->heard_ns = x->since_ns = clock_ns();
	x->next = b->list;
	b->list = x;
	log_event(LOG_NOTE, EVENT_BOX_JOINED, LOG_FIELDS({ "BOX", x->name }),
		  "box %s: connected, hearthd %s", x->name, x->version);
	return true;
}

void boxes_goodbye(struct boxes *b, const char *why)
{
	Hw__Goodbye bye = HW__GOODBYE__INIT;

	bye.reason = (char *)(uintptr_t)why;
	for (struct box *x = b->list; x; x = x->next)
		boxes_send(b, x, WIRE_GOODBYE, &bye.base);
}

/* ---- what is in use ------------------------------------------------------------------------ */

static uint32_t in_flight(const struct boxes *b, const char *worker)
{
	for (const struct worker *w = b->hooks.workers(b->hooks.arg); w; w = w->next)
		if (!strcmp(w->name, worker))
			return w->n_gens;
	return 0;
}

/* All of its models, used or not: what was in use a moment ago must be heard to be idle. */
static void send_use(struct boxes *b, struct box *x)
{
	size_t n = x->report ? x->report->n_model : 0;
	Hw__AliasUse use[WIRE_MAX_BOX_MODELS], *list[WIRE_MAX_BOX_MODELS];
	Hw__BoxUse m = HW__BOX_USE__INIT;

	for (size_t i = 0; i < n; i++) {
		const Hw__BoxModel *bm = x->report->model[i];

		hw__alias_use__init(&use[i]);
		use[i].alias = bm->alias;
		use[i].in_flight = in_flight(b, bm->worker);
		use[i].waiting = boxes_waiting(b, bm->alias);
		list[i] = &use[i];
	}
	m.n_use = n;
	m.use = list;
	boxes_send(b, x, WIRE_BOX_USE, &m.base);
}

void boxes_use(struct boxes *b)
{
	for (struct box *x = b->list; x; x = x->next)
		send_use(b, x);
}

static bool any_retiring(const struct box *x)
{
	for (size_t i = 0; x->report && i < x->report->n_model; i++)
		if (x->report->model[i]->state == HW__MODEL_STATE__RETIRING)
			return true;
	return false;
}

void boxes_tick(struct boxes *b, uint64_t dead_ms, bool beat)
{
	Hw__RouterBeat m = HW__ROUTER_BEAT__INIT;
	uint64_t now = clock_ns();

	for (struct box *x = b->list, *next; x; x = next) {
		next = x->next;
		if (x->doomed) {
			send_away(b, x, "nothing can be sent to it");
			continue;
		}
		if (now > x->heard_ns + dead_ms * NS_PER_MS) {
			send_away(b, x, "silent for too long");
			continue;
		}
		if (beat)
			boxes_send(b, x, WIRE_ROUTER_BEAT, &m.base);
		if (beat || any_retiring(x))
			send_use(b, x);
	}
}

/* ---- messages ------------------------------------------------------------------------------ */

static void log_changes(const struct box *x, const Hw__BoxReport *now)
{
	for (size_t i = 0; i < now->n_model; i++) {
		const Hw__BoxModel *m = now->model[i], *was = NULL;

		for (size_t k = 0; x->report && k < x->report->n_model && !was; k++)
			if (!strcmp(x->report->model[k]->alias, m->alias))
				was = x->report->model[k];
		if (was && was->state == m->state)
			continue;
		log_line(m->state == HW__MODEL_STATE__QUARANTINED ? LOG_WARN : LOG_DEBUG,
			 "box %s: %s is %s%s%s", x->name, m->alias, box_state_name(m->state),
			 m->reason ? ", " : "", m->reason ? m->reason : "");
	}
}

static void on_report(struct boxes *b, struct box *x, struct wire_msg *m)
{
	log_changes(x, m->body.box_report);
	if (x->report)
		hw__box_report__free_unpacked(x->report, NULL);
	x->report = m->body.box_report;
	m->body.any = NULL;		/* ours now */
	x->reported_ns = clock_ns();
	if (any_retiring(x))
		send_use(b, x);
	b->hooks.changed(b->hooks.arg);
}

bool boxes_take(struct boxes *b, const struct link_in *in, struct wire_msg *m)
{
	struct box *x = find_peer(b, in->peer);

	if (!x)
		return false;
	x->heard_ns = clock_ns();
	if (in->event == LINK_GONE) {
		lose(b, x, in->why);
		return true;
	}
	switch (m->type) {
	case WIRE_BOX_REPORT:
		on_report(b, x, m);
		break;
	case WIRE_BOX_REPLY:
		boxes_replied(b, x->peer, m->body.box_reply);
		break;
	case WIRE_GOODBYE:
		b->hooks.drop(b->hooks.arg, x->peer);
		lose(b, x, m->body.goodbye->reason);
		break;
	case WIRE_HELLO:
		break;		/* a second one: harmless */
	default:
		send_away(b, x, "a box does not send what a worker does");
	}
	return true;
}
