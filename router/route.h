/* route.h - which target a request tries next: a pure function.
 *
 * A target is one worker or one upstream.  Targets of the same step of an alias' chain
 * are equals (several workers of a model); a later step is a fallback.  The caller fills
 * the table from what it knows, asks, tries, marks the target as tried, and asks again.
 */
#ifndef HEARTH_ROUTER_ROUTE_H
#define HEARTH_ROUTER_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a request needs and a target can. */
enum route_able {
	ABLE_CHAT = 1 << 0,
	ABLE_COMPLETION = 1 << 1,
	ABLE_TOOLS = 1 << 2,
	ABLE_LOGPROBS = 1 << 3,
	ABLE_N = 1 << 4,		/* several choices */
	ABLE_TOOL_CHOICE = 1 << 5,	/* required, or a named function */
	ABLE_JSON_OBJECT = 1 << 6,
	ABLE_JSON_SCHEMA = 1 << 7,
	ABLE_VISION = 1 << 8,
	ABLE_TOKENS = 1 << 9,		/* a prompt of token ids */
	ABLE_ALL = (1 << 10) - 1,
};

/* The bit of a capability's name in Hello or in the configuration; 0: unknown. */
uint32_t route_able_bit(const char *name);
/* The name of the lowest bit set. */
const char *route_able_name(uint32_t able);

struct route_target {
	uint32_t step;
	uint32_t able;
	uint32_t max_context;		/* tokens; 0: unknown, taken as enough */
	uint32_t load;			/* running, waiting, and recent errors */
	uint32_t room;			/* load it may have; 0: no limit known */
	uint64_t last_used_ns;		/* breaks ties */
	uint64_t not_before_ns;		/* cooling down, or its breaker is open */
	bool up;
	bool tried;
};

struct route_need {
	uint32_t able;
	uint32_t tokens;		/* of context at least; 0: unknown */
};

enum route_why {
	ROUTE_OK,
	ROUTE_NONE,	/* the chain has no target that is up */
	ROUTE_UNABLE,	/* none of the targets can do what is asked */
	ROUTE_CONTEXT,	/* able, but none has room for so long a prompt */
	ROUTE_BUSY,	/* all are full or cooling down */
	ROUTE_TRIED,	/* all that could be were tried */
};

struct route_answer {
	enum route_why why;
	size_t target;			/* ROUTE_OK */
	uint32_t lacking;		/* ROUTE_UNABLE: bits that no target has */
	uint64_t wait_ns;		/* ROUTE_BUSY: until one may be asked; 0: unknown */
};

struct route_answer route_next(const struct route_need *need, const struct route_target *t,
			       size_t n, uint64_t now_ns);

/* ---- the breaker of one target ------------------------------------------------
 * Closed: used.  `limit` failures in a row open it for `first_ms`, doubling up to 60 s.
 * When the time is over, one request (or a probe) may go through: success closes it,
 * failure opens it for longer. */
struct route_breaker {
	uint32_t failures;		/* in a row */
	uint32_t open_ms;		/* the last length; 0: closed */
	uint64_t not_before_ns;
	bool trying;			/* one request is finding out */
};

void route_breaker_ok(struct route_breaker *b);
void route_breaker_fail(struct route_breaker *b, uint32_t limit, uint32_t first_ms,
			uint64_t now_ns);
/* 429 or 503 with Retry-After: not a fault, but leave it alone that long. */
void route_breaker_cool(struct route_breaker *b, uint32_t ms, uint64_t now_ns);
/* A request is given to the target. */
void route_breaker_use(struct route_breaker *b, uint64_t now_ns);
/* When it may be asked; UINT64_MAX while another request is finding out. */
uint64_t route_breaker_until(const struct route_breaker *b);

#endif
