/* fleet_worker.c - a worker: it greets, beats, says what it has to say, and is lost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "router/fleet_int.h"

struct worker *worker_of_peer(const struct fleet *f, link_peer peer)
{
	for (struct worker *w = f->workers; w; w = w->next)
		if (w->peer == peer)
			return w;
	return NULL;
}

void worker_free(struct worker *w)
{
	free(w->name);
	free(w->model);
	free(w->numeric_class);
	free(w->version);
	free(w);
}

void worker_fail_gens(struct worker *w, const char *why)
{
	while (w->gens) {
		struct attempt_failure failure = { .fault = FAULT_LOST };

		snprintf(failure.message, sizeof(failure.message), "worker %.64s was lost: %.128s",
			 w->name, why);
		gen_fail(w->gens, &failure);
	}
}

/* Out of the list first: a request that is moved on must not find it there. */
void worker_lose(struct fleet *f, struct worker *w, const char *why)
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
	worker_fail_gens(w, why);
	worker_free(w);
	fleet_note_change(f);
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
static void worker_send_away(struct fleet *f, struct worker *w, const char *why)
{
	Hw__Goodbye bye = HW__GOODBYE__INIT;

	bye.reason = (char *)(uintptr_t)why;
	(void)fleet_send(f, w, WIRE_GOODBYE, &bye.base);
	link_server_drop(f->link, w->peer);
	worker_lose(f, w, why);
}

static void replace_older(struct fleet *f, const char *name)
{
	for (struct worker *w = f->workers; w; w = w->next) {
		if (!strcmp(w->name, name)) {
			worker_send_away(f, w, "another worker of this name has come");
			return;
		}
	}
}

void worker_welcome(struct fleet *f, const struct link_in *in)
{
	Hw__Welcome m = fleet_welcome(f);
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
	(void)fleet_send(f, w, WIRE_WELCOME, &m.base);
	fleet_note_change(f);
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

void worker_take(struct fleet *f, struct worker *w, const struct wire_msg *m)
{
	struct gen *g = NULL;

	w->heard_ns = clock_ns();
	switch (m->type) {
	case WIRE_WORKER_BEAT:
		on_beat(w, m->body.worker_beat);
		break;
	case WIRE_ACCEPTED:
		g = gen_find(f, w, m->body.accepted->request);
		if (g)
			g->hooks->accepted(g->arg, m->body.accepted);
		break;
	case WIRE_REFUSED:
		g = gen_find(f, w, m->body.refused->request);
		if (g)
			gen_refused(g, m->body.refused);
		break;
	case WIRE_PROGRESS:
		g = gen_find(f, w, m->body.progress->request);
		if (g)
			g->hooks->alive(g->arg);
		break;
	case WIRE_DELTA:
		g = gen_find(f, w, m->body.delta->request);
		if (g)
			gen_delta(g, m->body.delta);
		break;
	case WIRE_DONE:
		g = gen_find(f, w, m->body.done->request);
		if (g)
			gen_done(g, m->body.done);
		break;
	case WIRE_GOODBYE:
		link_server_drop(f->link, w->peer);
		worker_lose(f, w, m->body.goodbye->reason);
		break;
	case WIRE_BOX_REPORT:
	case WIRE_BOX_REPLY:
		worker_send_away(f, w, "a worker does not send what a box does");
		break;
	default:
		break;		/* a second Hello: harmless */
	}
}

void worker_beat(struct fleet *f, struct worker *w, uint64_t now)
{
	Hw__RouterBeat m = HW__ROUTER_BEAT__INIT;

	if (now - w->heard_ns + f->tick_ms * NS_PER_MS > f->dead_ms * NS_PER_MS) {
		worker_send_away(f, w, "silent for too long");
		return;
	}
	if (w->doomed) {
		worker_send_away(f, w, "nothing can be sent to it");
		return;
	}
	if (f->tick % FLEET_TICKS)
		return;
	m.has_time_ms = 1;
	m.time_ms = now / NS_PER_MS;
	(void)fleet_send(f, w, WIRE_ROUTER_BEAT, &m.base);
}
