/* broker.c - see broker.h. */
#include "daemon/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker_int.h"
#include "lib/bytes.h"
#include "lib/clock.h"

/* A need is a sum of six; each below this, no sum of theirs can overflow. */
#define MAX_PART (UINT64_C(1) << 50)
/* Less than this is noise: files come and go all the time. */
#define WORTH_DROPPING (64 * BYTES_MIB)
/* Workers get this long to give memory back by themselves before one of them is stopped. */
#define SHED_AFTER_NS (NS_PER_S / 2)

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

uint64_t broker_need_total(const struct broker_need *n)
{
	return n->weights + n->kv + n->states + n->workspace + n->graphs + n->pinned;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* ---- books ---------------------------------------------------------------------------- */

uint64_t broker_owed(const struct broker *b, int gpu)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < b->n; i++) {
		const struct broker_claim *c = &b->claim[i];

		if (c->state != CLAIM_LEASED)
			continue;
		if (gpu < 0)
			sum += minus(c->host, c->taken_host);
		else if (c->gpu == gpu)
			sum += minus(c->device, c->taken_device);
	}
	return sum;
}

static uint64_t taken_sum(const struct broker *b)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].state == CLAIM_LEASED)
			sum += b->claim[i].taken_host;
	return sum;
}

uint64_t broker_usable(const struct broker *b, int gpu)
{
	if (gpu >= 0)
		return minus(b->now.gpu_free[gpu], broker_owed(b, gpu) + b->policy.gpu_reserve);
	return minus(b->now.available, broker_owed(b, -1) + b->policy.reserve);
}

uint64_t broker_awaited(const struct broker *b)
{
	uint64_t seen = b->now.available + taken_sum(b), sum = 0;

	for (size_t i = 0; i < BROKER_MAX_DEAD; i++)
		sum += minus(b->dead[i].bytes, minus(seen, b->dead[i].seen));
	return sum;
}

static uint64_t lacks_host(const struct broker *b, const struct broker_claim *c)
{
	uint64_t lack = minus(c->host, broker_usable(b, -1));

	if (b->policy.judge == JUDGE_FREE && c->gpu < 0 && !(c->measured && c->undroppable)) {
		uint64_t free = minus(b->now.free, broker_owed(b, -1));

		if (minus(c->host, free) > lack)
			lack = minus(c->host, free);
	}
	return lack;
}

/* Bytes that are missing for this claim; 0: it fits. */
uint64_t broker_lacks(const struct broker *b, const struct broker_claim *c)
{
	uint64_t device = c->gpu >= 0 ? minus(c->device, broker_usable(b, c->gpu)) : 0;

	return lacks_host(b, c) + device;
}

bool broker_would_fit(const struct broker *b, uint64_t need, uint64_t stoppable,
		      uint64_t *ret_short)
{
	uint64_t have = broker_usable(b, -1) + broker_awaited(b) + stoppable;

	if (b->policy.drop == DROP_NEVER && b->policy.judge == JUDGE_FREE) {
		uint64_t free = minus(b->now.free, broker_owed(b, -1)) + broker_awaited(b) +
				stoppable;

		have = free < have ? free : have;
	}
	*ret_short = minus(need, have);
	return need <= have;
}

/* ---- claims and leases -------------------------------------------------------------------- */

const struct broker_claim *broker_at(const struct broker *b, size_t i)
{
	return i < b->n ? &b->claim[i] : NULL;
}

static struct broker_claim *find(struct broker *b, uint64_t id)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].id == id)
			return &b->claim[i];
	return NULL;
}

const struct broker_claim *broker_find(const struct broker *b, uint64_t id)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].id == id)
			return &b->claim[i];
	return NULL;
}

const struct broker_claim *broker_of_pid(const struct broker *b, int pid)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].pid == pid)
			return &b->claim[i];
	return NULL;
}

static void forget(struct broker *b, struct broker_claim *c)
{
	size_t i = (size_t)(c - b->claim);

	if (b->refuse_id == c->id)
		b->refuse_id = 0;
	memmove(c, c + 1, (b->n - i - 1) * sizeof(*c));
	b->n--;
}

static int check_need(const struct broker_need *n, int gpu, struct err *e)
{
	const uint64_t part[] = { n->weights, n->kv, n->states, n->workspace, n->graphs, n->pinned };

	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++)
		if (part[i] > MAX_PART)
			return err_set(e, -EINVAL, "a budget of %" PRIu64 " bytes: no box has that",
				       part[i]);
	if (!broker_need_total(n))
		return err_set(e, -EINVAL, "a budget of 0 bytes");
	if (gpu < -1 || gpu >= BROKER_MAX_GPUS)
		return err_set(e, -EINVAL, "GPU %d: 0 to %d are known", gpu, BROKER_MAX_GPUS - 1);
	return 0;
}

static int add(struct broker *b, const struct broker_claim *from, struct err *e)
{
	struct broker_claim *c = &b->claim[b->n];

	if (b->n == BROKER_MAX_CLAIMS)
		return err_set(e, -ENOSPC, "%d claims and leases, no more are kept",
			       BROKER_MAX_CLAIMS);
	if (broker_of_pid(b, from->pid))
		return err_set(e, -EBUSY, "process %d has presented a budget already", from->pid);
	*c = *from;
	c->host = c->gpu < 0 ? broker_need_total(&c->need) : c->need.pinned;
	c->device = c->gpu < 0 ? 0 : broker_need_total(&c->need) - c->need.pinned;
	b->n++;
	return 0;
}

static void name_it(struct broker_claim *c, const char *alias)
{
	snprintf(c->alias, sizeof(c->alias), "%s", alias);
}

int broker_claim(struct broker *b, const char *alias, int pid, int gpu, bool measured,
		 const struct broker_need *need, uint64_t now, uint64_t *ret_id, struct err *e)
{
	struct broker_claim c = { .state = CLAIM_QUEUED, .id = b->next_id, .pid = pid, .gpu = gpu,
				  .measured = measured, .need = *need, .since_ns = now };
	int r = check_need(need, gpu, e);

	if (r < 0)
		return r;
	if (gpu >= 0 && b->measured && !b->now.gpu_total[gpu])
		return err_set(e, -EINVAL, "GPU %d has no memory of its own that can be measured "
			       "here", gpu);
	name_it(&c, alias);
	r = add(b, &c, e);
	if (r == 0)
		*ret_id = b->next_id++;
	return r;
}

int broker_adopt(struct broker *b, uint64_t id, const char *alias, int pid, int gpu,
		 bool measured, const struct broker_need *need, uint64_t now, struct err *e)
{
	struct broker_claim c = { .state = CLAIM_LEASED, .id = id, .pid = pid, .gpu = gpu,
				  .measured = measured, .need = *need, .since_ns = now };
	const struct broker_claim *has = broker_find(b, id);
	int r = check_need(need, gpu, e);

	if (r < 0 || !id)
		return r < 0 ? r : err_set(e, -EINVAL, "lease 0 was never granted");
	if (has && has->pid == pid && has->state == CLAIM_LEASED)
		return 0;	/* its connection broke, we did not */
	if (has)
		return err_set(e, -EEXIST, "lease %" PRIu64 " belongs to process %d", id, has->pid);
	name_it(&c, alias);
	r = add(b, &c, e);
	if (r == 0 && id >= b->next_id)
		b->next_id = id + 1;
	return r;
}

void broker_taken(struct broker *b, uint64_t id, uint64_t host, uint64_t device)
{
	struct broker_claim *c = find(b, id);

	if (!c || c->state != CLAIM_LEASED)
		return;
	/* freed and taken again is within the lease: what was taken once stays spoken for */
	c->taken_host = host < c->host ? host : c->host;
	c->taken_device = device < c->device ? device : c->device;
}

static void await(struct broker *b, uint64_t bytes, uint64_t seen, uint64_t now)
{
	struct broker_dead *place = &b->dead[0];

	if (!bytes)
		return;
	for (size_t i = 0; i < BROKER_MAX_DEAD; i++)
		if (b->dead[i].until_ns < place->until_ns)
			place = &b->dead[i];
	*place = (struct broker_dead){ bytes, seen, now + b->policy.back_ms * NS_PER_MS };
}

void broker_gone(struct broker *b, uint64_t id, uint64_t now)
{
	struct broker_claim *c = find(b, id);
	uint64_t bytes, seen;

	if (!c)
		return;
	bytes = c->state == CLAIM_LEASED ? c->taken_host : 0;
	/* what it had is no longer "taken" but not "available" either: both sides of the
	 * sum without it, so that the difference is what came back */
	seen = b->now.available + taken_sum(b) - bytes;
	forget(b, c);
	await(b, bytes, seen, now);
}

/* ---- what the owner did ------------------------------------------------------------------------ */

static enum broker_level level_of(const struct broker *b)
{
	const struct broker_policy *p = &b->policy;
	uint64_t have = b->now.available;
	/* waiting in a container with a limit of its own is not this box's distress */
	uint32_t psi = have < p->reserve ? b->now.psi : 0;

	if (have < p->red || (p->red_psi && psi >= p->red_psi))
		return LEVEL_RED;
	if (have < p->yellow || (p->yellow_psi && psi >= p->yellow_psi))
		return LEVEL_YELLOW;
	return LEVEL_GREEN;
}

/* Up at once, down after a while of quiet: a level that flickers preempts everybody twice. */
static void watch(struct broker *b, uint64_t now)
{
	enum broker_level seen = level_of(b);

	if (seen >= b->level) {
		if (seen > b->level && seen == LEVEL_RED)
			b->shed_ns = now + SHED_AFTER_NS;
		b->level = seen;
		b->quiet_ns = 0;
		return;
	}
	if (!b->quiet_ns)
		b->quiet_ns = now;
	else if (now - b->quiet_ns >= b->policy.calm_ms * NS_PER_MS) {
		b->level = seen;
		b->quiet_ns = 0;
	}
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
	watch(b, now);
}

static struct broker_claim *pending(struct broker *b, uint64_t id, enum broker_pending what)
{
	struct broker_claim *c = find(b, id);

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

void broker_stopping(struct broker *b, uint64_t id, uint64_t now)
{
	struct broker_claim *c = pending(b, id, PENDING_STOP);

	(void)now;
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

/* ---- what is to be done ---------------------------------------------------------------------------- */

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

static bool say(struct broker_action *a, enum broker_what what, const struct broker_claim *c,
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
	return say(a, BROKER_GRANT, c, 0);
}

static bool wants_drop(const struct broker *b, const struct broker_claim *c)
{
	if (c->dropped || !c->host || b->policy.drop == DROP_NEVER)
		return false;
	return b->policy.drop == DROP_ALWAYS || 
	       (lacks_host(b, c) && b->now.droppable >= WORTH_DROPPING);
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
	say(a, BROKER_REFUSE, c, lack);
	forget(b, c);
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
		return say(a, BROKER_DROP, c, lack);
	}
	if (!lack)
		return grant(b, c, now, a);
	if (may_come(b, c, lack, now)) {
		if (c->waited)
			return false;
		c->waited = true;
		snprintf(a->text, sizeof(a->text), "%s lacks %s; %s of an ended process are on "
			 "their way back", c->alias, BYTES(lack), BYTES(broker_awaited(b)));
		return say(a, BROKER_WAIT, c, lack);
	}
	if (!c->no_room) {
		c->pending = PENDING_STOP;
		return say(a, BROKER_MAKE_ROOM, c, lack);
	}
	if (b->refuse_id == c->id)
		return refuse(b, c, lack, a);
	c->pending = PENDING_LOOK;
	return say(a, BROKER_LOOK, c, lack);
}

static const struct broker_claim *youngest(const struct broker *b)
{
	const struct broker_claim *y = NULL;	/* ids count up, over restarts of ours too */

	for (size_t i = 0; i < b->n; i++)
		if (b->claim[i].state == CLAIM_LEASED && (!y || b->claim[i].id > y->id))
			y = &b->claim[i];
	return y;
}

static bool guard(struct broker *b, uint64_t now, struct broker_action *a)
{
	static const char *const names[] = { "green", "yellow", "red" };
	const struct broker_claim *y;

	if (b->level != b->told) {
		b->told = b->level;
		a->what = BROKER_LEVEL;
		a->level = b->level;
		snprintf(a->text, sizeof(a->text), "%s: MemAvailable %s (yellow below %s, red below "
			 "%s), all tasks waited for memory %u %% of the time", names[b->level],
			 BYTES(b->now.available), BYTES(b->policy.yellow), BYTES(b->policy.red),
			 b->now.psi);
		return true;
	}
	/* the level may linger; only numbers that are red now cost somebody his worker */
	if (b->level != LEVEL_RED || level_of(b) != LEVEL_RED || now < b->shed_ns)
		return false;
	y = youngest(b);
	if (!y)
		return false;
	b->shed_ns = now + b->policy.back_ms * NS_PER_MS;
	snprintf(a->text, sizeof(a->text), "MemAvailable is %s, below %s: worker %s (process %d, "
		 "the youngest) is stopped", BYTES(b->now.available), BYTES(b->policy.red), y->alias,
		 y->pid);
	return say(a, BROKER_STOP_YOUNGEST, y, 0);
}

bool broker_next(struct broker *b, uint64_t now, struct broker_action *ret)
{
	struct broker_claim *c;

	*ret = (struct broker_action){ .level = b->level };
	if (!b->measured)
		return false;
	if (guard(b, now, ret))
		return true;
	c = head(b);
	return c && c->pending == PENDING_NONE && judge(b, c, now, ret);
}

/* ---- to be asked --------------------------------------------------------------------------------------- */

enum broker_level broker_level(const struct broker *b)
{
	return b->level;
}

const struct broker_policy *broker_policy_of(const struct broker *b)
{
	return &b->policy;
}

const struct broker_measure *broker_measured(const struct broker *b)
{
	return &b->now;
}
