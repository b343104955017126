/* broker.c - see broker.h: what the owner measured and did, and the judgement of the claim at the
 * head of the queue. */
#include "daemon/broker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/broker_int.h"
#include "lib/bytes.h"
#include "lib/clock.h"

/* Less than this is noise: files come and go all the time. */
#define WORTH_DROPPING (64 * BYTES_MIB)

int broker_new(const struct broker_policy *p, uint64_t first_id, struct broker **ret)
{
	struct broker *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->policy = *p;
	b->next_id = first_id ? first_id : 1;
	*ret = b;
	return 0;
}

struct broker *broker_free(struct broker *b)
{
	free(b);
	return NULL;
}

void broker_policy(struct broker *b, const struct broker_policy *p)
{
	b->policy = *p;
}

const struct broker_policy *broker_policy_of(const struct broker *b)
{
	return &b->policy;
}

void broker_measure(struct broker *b, const struct broker_measure *m, uint64_t now)
{
	uint64_t cut = b->policy.limit ? minus(m->total, b->policy.limit) : 0;

	b->now = *m;
	b->now.total -= cut;
	b->now.free = minus(m->free, cut);
	b->now.available = minus(m->available, cut);
	b->measured = true;
	for (size_t i = 0; i < BROKER_MAX_DEAD; i++)
		if (b->dead[i].bytes && now >= b->dead[i].until_ns)
			b->dead[i] = (struct broker_dead){ 0 };
	broker_watch(b, now);
}

const struct broker_measure *broker_measured(const struct broker *b)
{
	return &b->now;
}

static struct broker_claim *pending(struct broker *b, uint64_t id, enum broker_pending what)
{
	struct broker_claim *c = broker_claim_of(b, id);

	return c && c->state == CLAIM_JUDGED && c->pending == what ? c : NULL;
}

void broker_dropped(struct broker *b, uint64_t id, bool helped)
{
	struct broker_claim *c = pending(b, id, PENDING_DROP);

	if (!c)
		return;
	c->pending = PENDING_NONE;
	c->undroppable = !helped;
}

void broker_stopping(struct broker *b, uint64_t id)
{
	struct broker_claim *c = pending(b, id, PENDING_STOP);

	if (c)
		c->stops++;
}

void broker_stopped(struct broker *b, uint64_t id, uint64_t now)
{
	struct broker_claim *c = pending(b, id, PENDING_STOP);

	if (!c)
		return;
	c->pending = PENDING_NONE;
	c->dropped = false;	/* its files are in the cache still */
	c->back_until_ns = now + b->policy.back_ms * NS_PER_MS;
}

void broker_no_room(struct broker *b, uint64_t id)
{
	struct broker_claim *c = pending(b, id, PENDING_STOP);

	if (!c)
		return;
	c->pending = PENDING_NONE;
	c->no_room = true;
}

void broker_holders(struct broker *b, uint64_t id, const struct broker_holder *h, size_t n)
{
	struct broker_claim *c = pending(b, id, PENDING_LOOK);

	if (!c)
		return;
	c->pending = PENDING_NONE;
	b->n_holders = n < BROKER_MAX_HOLDERS ? n : BROKER_MAX_HOLDERS;
	for (size_t i = 0; i < b->n_holders; i++)
		b->holder[i] = h[i];
	b->refuse_id = c->id;
}

static struct broker_claim *head(struct broker *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].state == CLAIM_JUDGED)
			return &b->claim[i];
	for (size_t i = 0; i < b->n; i++) {
		if (b->claim[i].state != CLAIM_QUEUED)
			continue;
		b->claim[i].state = CLAIM_JUDGED;
		return &b->claim[i];
	}
	return NULL;
}

bool broker_say(struct broker_action *a, enum broker_what what, const struct broker_claim *c,
		uint64_t lack)
{
	a->what = what;
	a->claim = *c;
	a->short_by = lack;
	return true;
}

static bool grant(struct broker *b, struct broker_claim *c, uint64_t now, struct broker_action *a)
{
	uint64_t usable = broker_usable(b, -1);

	c->state = CLAIM_LEASED;
	c->since_ns = now;
	snprintf(a->text, sizeof(a->text), "%s granted %s (%" PRIu64 " bytes); MemFree %s, "
		 "MemAvailable %s, owed %s, reserve %s, usable before %s", c->alias,
		 BYTES(c->host + c->device), c->host + c->device, BYTES(b->now.free),
		 BYTES(b->now.available), BYTES(broker_owed(b, -1) - c->host),
		 BYTES(b->policy.reserve), BYTES(usable));
	return broker_say(a, BROKER_GRANT, c, 0);
}

static bool wants_drop(const struct broker *b, const struct broker_claim *c)
{
	if (c->dropped || !c->host || b->policy.drop == DROP_NEVER)
		return false;
	return b->policy.drop == DROP_ALWAYS ||
	       (broker_lacks_host(b, c) && b->now.droppable >= WORTH_DROPPING);
}

/* Whether it is worth waiting for memory that is on its way. */
static bool may_come(const struct broker *b, struct broker_claim *c, uint64_t lack, uint64_t now)
{
	uint64_t awaited = broker_awaited(b);

	if (c->hopeless)
		return false;
	if (!c->back_until_ns && awaited >= lack)
		c->back_until_ns = now + b->policy.back_ms * NS_PER_MS;
	if (now >= c->back_until_ns)
		return false;
	/* of a dead worker the amount is known, of a stopped unit it is not */
	return awaited >= lack || c->stops > 0;
}

static bool refuse(struct broker *b, struct broker_claim *c, uint64_t lack, struct broker_action *a)
{
	broker_say_refusal(b, c, b->holder, b->n_holders, a->text, sizeof(a->text));
	broker_say(a, BROKER_REFUSE, c, lack);
	broker_forget(b, c);
	return true;
}

/* More than this box could give if everything that is not a lease were gone: nothing is
 * dropped or stopped for it. */
static bool hopeless(const struct broker *b, const struct broker_claim *c)
{
	uint64_t leased = 0, on_gpu = 0;

	for (size_t i = 0; i < b->n; i++) {
		if (b->claim[i].state != CLAIM_LEASED)
			continue;
		leased += b->claim[i].host;
		on_gpu += c->gpu >= 0 && b->claim[i].gpu == c->gpu ? b->claim[i].device : 0;
	}
	return c->host > minus(b->now.total, leased + b->policy.reserve) ||
	       (c->gpu >= 0 && c->device > minus(b->now.gpu_total[c->gpu],
						 on_gpu + b->policy.gpu_reserve));
}

static bool judge(struct broker *b, struct broker_claim *c, uint64_t now, struct broker_action *a)
{
	uint64_t lack = broker_lacks(b, c);

	if (lack && hopeless(b, c)) {
		c->dropped = c->no_room = true;
		c->hopeless = true;
	}
	if (wants_drop(b, c) && !(lack && may_come(b, c, lack, now) && !c->stops)) {
		c->dropped = true;
		c->pending = PENDING_DROP;
		return broker_say(a, BROKER_DROP, c, lack);
	}
	if (!lack)
		return grant(b, c, now, a);
	if (may_come(b, c, lack, now)) {
		if (c->waited)
			return false;
		c->waited = true;
		snprintf(a->text, sizeof(a->text), "%s lacks %s; %s of an ended process are on "
			 "their way back", c->alias, BYTES(lack), BYTES(broker_awaited(b)));
		return broker_say(a, BROKER_WAIT, c, lack);
	}
	if (!c->no_room) {
		c->pending = PENDING_STOP;
		return broker_say(a, BROKER_MAKE_ROOM, c, lack);
	}
	if (b->refuse_id == c->id)
		return refuse(b, c, lack, a);
	c->pending = PENDING_LOOK;
	return broker_say(a, BROKER_LOOK, c, lack);
}

bool broker_next(struct broker *b, uint64_t now, struct broker_action *ret)
{
	struct broker_claim *c;

	*ret = (struct broker_action){ .level = b->level };
	if (!b->measured)
		return false;
	if (broker_guard(b, now, ret))
		return true;
	c = head(b);
	return c && c->pending == PENDING_NONE && judge(b, c, now, ret);
}
