/* memory_desk.c - what workers say at the desk, and what they are told. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/memory_int.h"
#include "daemon/nvml.h"
#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/log.h"

/* ---- what they are told --------------------------------------------------------------- */

/* As MemAvailable really is, without the limit that makes the box smaller. */
static uint64_t floor_of(const struct memory *m)
{
	const struct broker_policy *p = broker_policy_of(m->broker);
	uint64_t cut = p->limit && m->info.total > p->limit ? m->info.total - p->limit : 0;

	return p->reserve + cut;
}

static void send_granted(struct memory *m, struct visitor *v, char *text)
{
	Hb__Granted g = HB__GRANTED__INIT;
	Hb__Level l = HB__LEVEL__INIT;

	g.lease = v->id;
	g.floor = floor_of(m);
	g.text = text;
	desk_send(v, BOX_GRANTED, &g.base);
	if (broker_level(m->broker) == LEVEL_GREEN)
		return;
	l.level = broker_level(m->broker) == LEVEL_RED ? HB__LEVEL_KIND__RED :
							 HB__LEVEL_KIND__YELLOW;
	desk_send(v, BOX_LEVEL, &l.base);
}

static void send_refused(struct visitor *v, const char *text)
{
	Hb__Refused r = HB__REFUSED__INIT;

	r.text = (char *)text;
	desk_send(v, BOX_REFUSED, &r.base);
}

static void remember(struct memory *m, const char *alias, uint64_t need)
{
	size_t i = 0;

	while (i < m->n_known && strcmp(m->known[i].alias, alias) != 0)
		i++;
	if (i == MEMORY_KNOWN)
		i = 0;
	if (i == m->n_known)
		m->n_known++;
	snprintf(m->known[i].alias, sizeof(m->known[i].alias), "%s", alias);
	m->known[i].need = need;
}

void memory_tell_granted(struct memory *m, const struct broker_action *a)
{
	struct visitor *v = desk_find(m->desk, a->claim.id);

	if (!v) {		/* it went while it was judged */
		broker_gone(m->broker, a->claim.id, clock_ns());
		return;
	}
	v->leased = true;
	send_granted(m, v, (char *)a->text);
}

void memory_tell_refused(struct memory *m, const struct broker_action *a,
			 const struct broker_holder *h, size_t n)
{
	struct visitor *v = desk_find(m->desk, a->claim.id);
	const struct broker_measure *now = broker_measured(m->broker);
	Hb__Refused r = HB__REFUSED__INIT;
	Hb__Holder row[MEMORY_HOLDERS], *list[MEMORY_HOLDERS];

	if (!v)
		return;
	v->id = 0;
	r.text = (char *)a->text;
	r.has_short_by = r.has_need = r.has_free = r.has_available = r.has_reserve = 1;
	r.short_by = a->short_by;
	r.need = a->claim.host + a->claim.device;
	r.free = now->free;
	r.available = now->available;
	r.reserve = broker_policy_of(m->broker)->reserve;
	for (size_t i = 0; i < n && i < MEMORY_HOLDERS; i++) {
		hb__holder__init(&row[i]);
		row[i].name = (char *)h[i].name;
		row[i].bytes = h[i].bytes;
		list[i] = &row[i];
		r.n_holder++;
	}
	r.holder = list;
	desk_send(v, BOX_REFUSED, &r.base);
}

void memory_tell_waiting(struct memory *m, uint64_t id, const char *text)
{
	struct visitor *v = desk_find(m->desk, id);
	Hb__Waiting w = HB__WAITING__INIT;

	w.text = (char *)text;
	if (v)
		desk_send(v, BOX_WAITING, &w.base);
}

void memory_tell_level(struct memory *m, enum broker_level level, const char *text)
{
	Hb__Level l = HB__LEVEL__INIT;

	l.level = level == LEVEL_RED ? HB__LEVEL_KIND__RED :
		  level == LEVEL_YELLOW ? HB__LEVEL_KIND__YELLOW : HB__LEVEL_KIND__GREEN;
	l.text = (char *)text;
	for (struct visitor *v = desk_first(m->desk); v; v = v->next)
		if (v->leased)
			desk_send(v, BOX_LEVEL, &l.base);
}

/* ---- what they say ------------------------------------------------------------------------ */

int memory_pool(const struct memory *m, const char *device, int *ret, bool *ret_measured)
{
	char *end;
	unsigned long i;

	*ret = -1;
	*ret_measured = !strcmp(device, "cpu");
	if (*ret_measured)
		return 0;
	if (strncmp(device, "cuda:", 5) != 0)
		return -EINVAL;
	i = strtoul(device + 5, &end, 10);
	if (end == device + 5 || *end || i >= BROKER_MAX_GPUS)
		return -EINVAL;
	if (m->gpus_own[i])
		*ret = (int)i;
	return 0;
}

static int judge(struct memory *m, struct visitor *v, const Hb__Present *p, struct err *e)
{
	const struct broker_need need = { p->weights, p->kv, p->states, p->workspace, p->graphs,
					  p->pinned };
	uint64_t now = clock_ns();
	bool measured;
	int pool, r;

	if (memory_pool(m, p->device, &pool, &measured) < 0)
		return err_set(e, -EINVAL, "device '%s' is neither cpu nor cuda:N", p->device);
	if (!p->has_lease || !p->lease) {
		r = broker_claim(m->broker, p->alias, v->pid, pool, measured, &need, now, &v->id,
				 e);
		if (r == 0)
			log_debug("%s (process %d) presents %" PRIu64 " bytes", p->alias, v->pid,
				  broker_need_total(&need));
		return r;
	}
	desk_merge(v);
	r = broker_adopt(m->broker, p->lease, p->alias, v->pid, pool, measured, &need, now, e);
	if (r < 0)
		return r;
	if (!v->leased)
		log_note("%s (process %d) presents its lease of %s again: it holds", p->alias,
			 v->pid, BYTES(broker_need_total(&need)));
	v->id = p->lease;
	v->leased = true;
	send_granted(m, v, NULL);
	return 0;
}

void memory_on_present(void *arg, struct visitor *v, const Hb__Present *p)
{
	const struct broker_need need = { p->weights, p->kv, p->states, p->workspace, p->graphs,
					  p->pinned };
	struct memory *m = arg;
	struct err e = { 0 };

	if (v->id && !(v->leased && p->has_lease && p->lease == v->id)) {
		send_refused(v, "a budget was presented on this connection already");
		return;
	}
	if (judge(m, v, p, &e) < 0) {
		log_warn("%s (process %d): %s", p->alias, v->pid, e.text);
		send_refused(v, e.text);
		return;
	}
	snprintf(v->alias, sizeof(v->alias), "%s", p->alias);
	free(v->model);
	v->model = p->model && *p->model ? strdup(p->model) : NULL;
	remember(m, p->alias, broker_need_total(&need));
	memory_measure(m);
	memory_soon(m);
}

void memory_on_taken(void *arg, struct visitor *v, uint64_t bytes)
{
	struct memory *m = arg;
	const struct broker_claim *c = v->leased ? broker_find(m->broker, v->id) : NULL;
	uint64_t pinned;

	if (!c || c->measured)
		return;
	/* pinned memory is taken first: it is what may fail later */
	pinned = bytes < c->need.pinned ? bytes : c->need.pinned;
	if (c->gpu < 0)
		broker_taken(m->broker, v->id, bytes, 0);
	else
		broker_taken(m->broker, v->id, pinned, bytes - pinned);
}

void memory_on_gone(void *arg, struct visitor *v)
{
	struct memory *m = arg;
	const struct broker_claim *c = v->id ? broker_find(m->broker, v->id) : NULL;

	if (!c)
		return;
	if (v->leased)
		log_note("%s (process %d) ended: its %s are granted again when they are measured",
			 v->alias, v->pid, BYTES(c->host + c->device));
	broker_gone(m->broker, v->id, clock_ns());
	memory_measure(m);
	memory_soon(m);
}
