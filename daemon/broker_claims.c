/* broker_claims.c - the list of claims and leases: who asked, who has what, who is gone. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/broker_int.h"

/* A need is a sum of six; each below this, no sum of theirs can overflow. */
#define MAX_PART (UINT64_C(1) << 50)

uint64_t broker_need_total(const struct broker_need *n)
{
	return n->weights + n->kv + n->states + n->workspace + n->graphs + n->pinned;
}

const struct broker_claim *broker_at(const struct broker *b, size_t i)
{
	return i < b->n ? &b->claim[i] : NULL;
}

struct broker_claim *broker_claim_of(struct broker *b, uint64_t id)
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

void broker_forget(struct broker *b, struct broker_claim *c)
{
	size_t i = (size_t)(c - b->claim);

	if (b->refuse_id == c->id)
		b->refuse_id = 0;
	memmove(c, c + 1, (b->n - i - 1) * sizeof(*c));
	b->n--;
}

static int check_need(const struct broker_need *n, int gpu, struct err *e)
{
	const uint64_t part[] = {
		n->weights, n->kv, n->states, n->workspace, n->graphs, n->pinned
	};

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
	struct broker_claim *c = broker_claim_of(b, id);

	if (!c || c->state != CLAIM_LEASED)
		return;
	/* freed and taken again is within the lease: what was taken once stays spoken for */
	c->taken_host = host < c->host ? host : c->host;
	c->taken_device = device < c->device ? device : c->device;
}

void broker_gone(struct broker *b, uint64_t id, uint64_t now)
{
	struct broker_claim *c = broker_claim_of(b, id);
	uint64_t bytes, seen;

	if (!c)
		return;
	bytes = c->state == CLAIM_LEASED ? c->taken_host : 0;
	/* what it had is no longer "taken" but not "available" either: both sides of the
	 * sum without it, so that the difference is what came back */
	seen = b->now.available + broker_taken_sum(b) - bytes;
	broker_forget(b, c);
	broker_await(b, bytes, seen, now);
}
