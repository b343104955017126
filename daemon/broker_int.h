/* broker_int.h - the broker's own state; for broker*.c only. */
#ifndef HEARTH_DAEMON_BROKER_INT_H
#define HEARTH_DAEMON_BROKER_INT_H

#include "daemon/broker.h"

enum { BROKER_MAX_DEAD = 16 };

/* Memory that a process held when it ended, and what stood in the books then. */
struct broker_dead {
	uint64_t bytes;			/* 0: a free place */
	uint64_t seen;			/* MemAvailable + all that leases had taken */
	uint64_t until_ns;
};

struct broker {
	struct broker_policy policy;
	struct broker_measure now;	/* as the policy sees it: the limit is applied */
	bool measured;
	struct broker_claim claim[BROKER_MAX_CLAIMS];	/* in the order they came; n of them */
	size_t n;
	uint64_t next_id;
	struct broker_dead dead[BROKER_MAX_DEAD];

	struct broker_holder holder[BROKER_MAX_HOLDERS];	/* for the refusal at hand */
	size_t n_holders;
	uint64_t refuse_id;		/* judged, holders are known */

	enum broker_level level, told;
	uint64_t quiet_ns;		/* since when the numbers are better than the level */
	uint64_t shed_ns;		/* red: not before */
};

/* a - b, and 0 where that would be less. */
static inline uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* broker_books.c */
uint64_t broker_taken_sum(const struct broker *b);	/* of the box's memory, by all leases */
/* Bytes that are missing for this claim, of the box and in all; 0: it fits. */
uint64_t broker_lacks_host(const struct broker *b, const struct broker_claim *c);
uint64_t broker_lacks(const struct broker *b, const struct broker_claim *c);
/* What an ended process held is on its way back for back_ms.  seen: struct broker_dead. */
void broker_await(struct broker *b, uint64_t bytes, uint64_t seen, uint64_t now);

/* broker_claims.c */
struct broker_claim *broker_claim_of(struct broker *b, uint64_t id);	/* NULL: not known */
/* Takes c out of the list; pointers to those behind it are stale afterwards. */
void broker_forget(struct broker *b, struct broker_claim *c);

/* broker_level.c */
void broker_watch(struct broker *b, uint64_t now);	/* after each measurement */
/* True: a level was entered, or red needs somebody to go; a says which. */
bool broker_guard(struct broker *b, uint64_t now, struct broker_action *a);

/* broker.c: fills a, answers true. */
bool broker_say(struct broker_action *a, enum broker_what what, const struct broker_claim *c,
		uint64_t lack);

#endif
