/* broker_text.c - why memory was refused, in one line with every number that decided it. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/broker_int.h"
#include "lib/bytes.h"

struct line {
	char *out;
	size_t n, used;
};

static void put(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->used >= l->n)
		return;
	va_start(ap, fmt);
	n = vsnprintf(l->out + l->used, l->n - l->used, fmt, ap);
	va_end(ap);
	l->used += n > 0 ? (size_t)n : 0;
}

static void put_need(struct line *l, const struct broker_need *n)
{
	const struct {
		const char *name;
		uint64_t bytes;
	} part[] = { { "weights", n->weights }, { "kv", n->kv }, { "states", n->states },
		     { "workspace", n->workspace }, { "graphs", n->graphs },
		     { "pinned", n->pinned } };
	const char *sep = "";

	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++) {
		if (!part[i].bytes)
			continue;
		put(l, "%s%s %s", sep, part[i].name, BYTES(part[i].bytes));
		sep = " + ";
	}
}

static void put_box(struct line *l, const struct broker *b, const struct broker_claim *c)
{
	put(l, "; MemFree %s, MemAvailable %s of %s, droppable cache %s; reserve %s, granted and "
	    "not yet taken %s, so %s can be granted", BYTES(b->now.free), BYTES(b->now.available),
	    BYTES(b->now.total), BYTES(b->now.droppable), BYTES(b->policy.reserve),
	    BYTES(broker_owed(b, -1)), BYTES(broker_usable(b, -1)));
	if (b->policy.judge == JUDGE_FREE && c->gpu < 0)
		put(l, ", and its device sees MemFree only");
	if (c->gpu >= 0)
		put(l, "; GPU %d has %s free of %s", c->gpu, BYTES(b->now.gpu_free[c->gpu]),
		    BYTES(b->now.gpu_total[c->gpu]));
}

static void put_done(struct line *l, const struct broker *b, const struct broker_claim *c)
{
	if (c->hopeless)
		put(l, "; the box is too small for it beside its other leases, so nothing was "
		       "dropped or stopped");
	else if (c->undroppable)
		put(l, "; caches could not be dropped (see hearthd's log)");
	else if (c->dropped)
		put(l, "; caches were dropped");
	else if (b->policy.drop == DROP_NEVER && b->now.droppable)
		put(l, "; drop_caches = never, so the cache stays");
	if (c->stops)
		put(l, "; %u foreign workload%s stopped for it", c->stops, c->stops > 1 ? "s" : "");
}

static void put_holders(struct line *l, const struct broker *b, const struct broker_holder *h,
			size_t n)
{
	const char *sep = "; held by ";

	for (size_t i = 0; i < b->n; i++) {
		const struct broker_claim *c = &b->claim[i];

		if (c->state != CLAIM_LEASED)
			continue;
		put(l, "%sworker %s (process %d) %s", sep, c->alias, c->pid,
		    BYTES(c->host + c->device));
		sep = ", ";
	}
	for (size_t i = 0; i < n; i++) {
		put(l, "%s%s %s", sep, h[i].name, BYTES(h[i].bytes));
		sep = ", ";
	}
}

void broker_say_refusal(const struct broker *b, const struct broker_claim *c,
			const struct broker_holder *h, size_t n_holders, char *out, size_t n)
{
	struct line l = { out, n, 0 };

	put(&l, "%s needs %s (", c->alias, BYTES(c->host + c->device));
	put_need(&l, &c->need);
	put(&l, "), %s too much", BYTES(broker_lacks(b, c)));
	put_box(&l, b, c);
	put_done(&l, b, c);
	put_holders(&l, b, h, n_holders);
}
