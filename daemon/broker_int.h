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

uint64_t broker_lacks(const struct broker *b, const struct broker_claim *c);

#endif
