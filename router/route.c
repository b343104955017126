/* route.c - see route.h.  No clock, no sockets, no memory. */
#include "router/route.h"

#include <string.h>

#include "lib/clock.h"

enum { OPEN_MAX_MS = 60000 };

static const char *const names[] = { "chat", "completion", "tools", "logprobs", "n",
				     "tool_choice", "json_object", "json_schema", "vision",
				     "tokens" };

uint32_t route_able_bit(const char *name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(names[i], name))
			return 1u << i;
	return 0;
}

const char *route_able_name(uint32_t able)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (able & 1u << i)
			return names[i];
	return "?";
}

static bool fits(const struct route_need *need, const struct route_target *t)
{
	return !t->max_context || need->tokens <= t->max_context;
}

static bool better(const struct route_target *a, const struct route_target *b)
{
	if (a->step != b->step)
		return a->step < b->step;
	if (a->load != b->load)
		return a->load < b->load;
	return a->last_used_ns < b->last_used_ns;
}

/* Why nothing was found, from the reason that got furthest. */
struct gate {
	bool up, able, context, untried;
	uint32_t lacking;
	uint64_t wait_ns;
};

static struct route_answer no_target(const struct gate *g)
{
	struct route_answer a = { .why = ROUTE_TRIED };

	if (!g->up)
		a.why = ROUTE_NONE;
	else if (!g->able)
		a = (struct route_answer){ .why = ROUTE_UNABLE, .lacking = g->lacking };
	else if (!g->context)
		a.why = ROUTE_CONTEXT;
	else if (g->untried)
		a = (struct route_answer){ .why = ROUTE_BUSY,
					   .wait_ns = g->wait_ns == UINT64_MAX ? 0 : g->wait_ns };
	return a;
}

struct route_answer route_next(const struct route_need *need, const struct route_target *t,
			       size_t n, uint64_t now)
{
	struct gate g = { .lacking = need->able, .wait_ns = UINT64_MAX };
	size_t best = n;

	for (size_t i = 0; i < n; i++) {
		if (!t[i].up)
			continue;
		g.up = true;
		g.lacking &= need->able & ~t[i].able;
		if (need->able & ~t[i].able)
			continue;
		g.able = true;
		if (!fits(need, &t[i]))
			continue;
		g.context = true;
		if (t[i].tried)
			continue;
		g.untried = true;
		if (t[i].not_before_ns > now) {
			uint64_t wait = t[i].not_before_ns - now;

			if (t[i].not_before_ns != UINT64_MAX && wait < g.wait_ns)
				g.wait_ns = wait;
			continue;
		}
		if (t[i].room && t[i].load >= t[i].room)
			continue;
		if (best == n || better(&t[i], &t[best]))
			best = i;
	}
	if (best == n)
		return no_target(&g);
	return (struct route_answer){ .why = ROUTE_OK, .target = best };
}

void route_breaker_ok(struct route_breaker *b)
{
	*b = (struct route_breaker){ 0 };
}

void route_breaker_fail(struct route_breaker *b, uint32_t limit, uint32_t first_ms, uint64_t now)
{
	b->trying = false;
	if (++b->failures < limit)
		return;
	b->open_ms = b->open_ms ? b->open_ms * 2 : first_ms;
	if (b->open_ms > OPEN_MAX_MS)
		b->open_ms = OPEN_MAX_MS;
	b->not_before_ns = now + b->open_ms * NS_PER_MS;
}

void route_breaker_cool(struct route_breaker *b, uint32_t ms, uint64_t now)
{
	uint64_t until = now + ms * NS_PER_MS;

	b->trying = false;
	if (until > b->not_before_ns)
		b->not_before_ns = until;
}

void route_breaker_use(struct route_breaker *b, uint64_t now)
{
	(void)now;
	if (b->open_ms)
		b->trying = true;
}

uint64_t route_breaker_until(const struct route_breaker *b)
{
	return b->trying ? UINT64_MAX : b->not_before_ns;
}
