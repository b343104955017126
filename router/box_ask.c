/* box_ask.c - see box.h: what a box could serve, and asking it to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "router/box_int.h"

/* ---- outlook ------------------------------------------------------------------------- */

static enum box_will will_of(const Hw__BoxModel *m)
{
	switch (m->state) {
	case HW__MODEL_STATE__READY:
		return m->drained ? BOX_NOT : BOX_HERE;
	case HW__MODEL_STATE__QUARANTINED:
		return BOX_NOT;
	case HW__MODEL_STATE__WAITING:
	case HW__MODEL_STATE__STARTING:
	case HW__MODEL_STATE__LOADING:
	case HW__MODEL_STATE__BACKOFF:
		return m->drained ? BOX_NOT : BOX_COMING;
	default:
		return m->drained || !m->on_demand ? BOX_NOT : BOX_COMING;
	}
}

/* What the box said, and the time that has passed since. */
static uint32_t ready_ms(const struct box *x, const Hw__BoxModel *m, uint64_t now)
{
	uint64_t since = (now - x->reported_ns) / NS_PER_MS;

	if (!m->has_ready_ms)
		return UINT32_MAX;
	if (m->state != HW__MODEL_STATE__STARTING && m->state != HW__MODEL_STATE__LOADING)
		return m->ready_ms;
	return m->ready_ms > since ? m->ready_ms - (uint32_t)since : 0;
}

static bool better(const struct box_outlook *a, const struct box_outlook *b)
{
	return a->will != b->will ? a->will > b->will : a->ready_ms < b->ready_ms;
}

struct box_outlook boxes_outlook(const struct boxes *b, const char *alias)
{
	struct box_outlook best = { .will = BOX_NONE, .ready_ms = UINT32_MAX };
	uint64_t now = clock_ns();

	for (const struct box *x = b->list; x; x = x->next) {
		for (size_t i = 0; x->report && i < x->report->n_model; i++) {
			const Hw__BoxModel *m = x->report->model[i];
			const struct box_outlook o = { will_of(m), x, m, ready_ms(x, m, now) };

			if (!strcmp(m->alias, alias) && better(&o, &best))
				best = o;
		}
	}
	return best;
}

void box_outlook_text(const struct box_outlook *o, char *ret, size_t n)
{
	const Hw__BoxModel *m = o->model;
	size_t at;

	snprintf(ret, n, "%s", m ? box_state_name(m->state) : "unknown");
	at = strlen(ret);
	if (m && m->state == HW__MODEL_STATE__LOADING && at < n)
		snprintf(ret + at, n - at, " %u %%", m->permille / 10);
	at = strlen(ret);
	if (o->ready_ms != UINT32_MAX && o->ready_ms && at < n)
		snprintf(ret + at, n - at, ", about %u s", (o->ready_ms + 999) / 1000);
}

/* ---- asking for a model ----------------------------------------------------------------- */

static void command(struct boxes *b, struct box *x, Hw__BoxVerb verb, const char *alias,
		    uint64_t request)
{
	Hw__BoxCommand m = HW__BOX_COMMAND__INIT;

	m.request = request;
	m.verb = verb;
	m.alias = (char *)(uintptr_t)alias;
	boxes_send(b, x, WIRE_BOX_COMMAND, &m.base);
}

void boxes_demand(struct boxes *b, const struct box_outlook *o)
{
	bool idle = o->will == BOX_COMING && (o->model->state == HW__MODEL_STATE__UNLOADED ||
					      o->model->state == HW__MODEL_STATE__RETIRING ||
					      o->model->state == HW__MODEL_STATE__STOPPING);

	for (struct box *x = b->list; x && idle; x = x->next)
		if (x == o->box)
			command(b, x, HW__BOX_VERB__DEMAND, o->model->alias, 0);
}

uint32_t boxes_waiting(const struct boxes *b, const char *alias)
{
	for (const struct box_wait *w = b->waits; w; w = w->next)
		if (!strcmp(w->alias, alias))
			return w->n;
	return 0;
}

void boxes_wait(struct boxes *b, const char *alias, int change)
{
	struct box_wait **at = &b->waits, *w;

	while (*at && strcmp((*at)->alias, alias) != 0)
		at = &(*at)->next;
	w = *at;
	if (!w && change > 0) {
		w = calloc(1, sizeof(*w) + strlen(alias) + 1);
		if (!w)
			return;		/* a count that is too low unloads nothing that is used */
		strcpy(w->alias, alias);
		*at = w;
	}
	if (w)
		w->n = change < 0 && w->n == 0 ? 0 : w->n + (uint32_t)change;
	if (w && !w->n) {
		*at = w->next;
		free(w);
	}
}

bool boxes_retires(const struct boxes *b, const char *worker)
{
	for (const struct box *x = b->list; x; x = x->next)
		for (size_t i = 0; x->report && i < x->report->n_model; i++)
			if (!strcmp(x->report->model[i]->worker, worker))
				return x->report->model[i]->state == HW__MODEL_STATE__RETIRING ||
				       x->report->model[i]->state == HW__MODEL_STATE__STOPPING;
	return false;
}

const char *boxes_of_worker(const struct boxes *b, const char *worker)
{
	for (const struct box *x = b->list; x; x = x->next)
		for (size_t i = 0; x->report && i < x->report->n_model; i++)
			if (!strcmp(x->report->model[i]->worker, worker))
				return x->name;
	return NULL;
}

/* ---- commands of people -------------------------------------------------------------------- */

static bool has_alias(const struct box *x, const char *alias)
{
	if (!strcmp(alias, "*"))
		return true;
	for (size_t i = 0; x->report && i < x->report->n_model; i++)
		if (!strcmp(x->report->model[i]->alias, alias))
			return true;
	return false;
}

int boxes_command(struct boxes *b, const char *box, const char *alias, Hw__BoxVerb verb,
		  void (*done)(void *arg, bool ok, const char *message), void *arg)
{
	struct box *to = NULL;
	struct box_ask *a;

	for (struct box *x = b->list; x; x = x->next) {
		if ((box && strcmp(x->name, box) != 0) || !has_alias(x, alias))
			continue;
		if (to)
			return -ENOTUNIQ;
		to = x;
	}
	if (!to)
		return -ENOENT;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct box_ask){ b->asked, ++b->next_request, to->peer, done, arg };
	b->asked = a;
	command(b, to, verb, alias, a->request);
	return 0;
}

void boxes_forget(struct boxes *b, void *arg)
{
	for (struct box_ask **at = &b->asked; *at;) {
		struct box_ask *a = *at;

		if (a->arg != arg) {
			at = &a->next;
			continue;
		}
		*at = a->next;
		free(a);
	}
}

/* Taken out before it is called: it may ask again. */
static void answer(struct box_ask **at, bool ok, const char *message)
{
	struct box_ask *a = *at, was = *a;

	*at = a->next;
	free(a);
	was.done(was.arg, ok, message);
}

void boxes_replied(struct boxes *b, link_peer peer, const Hw__BoxReply *r)
{
	for (struct box_ask **at = &b->asked; *at; at = &(*at)->next) {
		if ((*at)->request == r->request && (*at)->peer == peer) {
			answer(at, r->ok, r->message ? r->message : "");
			return;
		}
	}
}

void boxes_fail_asked(struct boxes *b, link_peer peer, const char *why)
{
	struct box_ask **at = &b->asked;

	while (*at) {
		if ((*at)->peer != peer) {
			at = &(*at)->next;
			continue;
		}
		answer(at, false, why);
		at = &b->asked;
	}
}
