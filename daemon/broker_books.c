/* broker_books.c - the sums: what is owed, what is usable, what a claim lacks (broker.h says how).
 */
#include "daemon/broker_int.h"
#include "lib/clock.h"

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

uint64_t broker_taken_sum(const struct broker *b)
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
	uint64_t seen = b->now.available + broker_taken_sum(b), sum = 0;

	for (size_t i = 0; i < BROKER_MAX_DEAD; i++)
		sum += minus(b->dead[i].bytes, minus(seen, b->dead[i].seen));
	return sum;
}

void broker_await(struct broker *b, uint64_t bytes, uint64_t seen, uint64_t now)
{
	struct broker_dead *place = &b->dead[0];

	if (!bytes)
		return;
	for (size_t i = 0; i < BROKER_MAX_DEAD; i++)
		if (b->dead[i].until_ns < place->until_ns)
			place = &b->dead[i];
	*place = (struct broker_dead){ bytes, seen, now + b->policy.back_ms * NS_PER_MS };
}

uint64_t broker_lacks_host(const struct broker *b, const struct broker_claim *c)
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

	return broker_lacks_host(b, c) + device;
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
