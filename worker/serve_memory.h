/* serve_memory.h - a worker's lease of memory: asked for before loading, looked at while loading
 * and while serving. */
#ifndef HEARTH_WORKER_SERVE_MEMORY_H
#define HEARTH_WORKER_SERVE_MEMORY_H

#include "proto/grant.h"
#include "worker/serve_args.h"

/* Presents the budget to the hearthd of this box.  *ret NULL: there is none, and none was asked
 * for by name.  alive(ctx) is called while it waits; not 0 stops that and is answered.  -EDQUOT:
 * refused (the reason is logged, and in e); codes of grant_ask(). */
int serve_memory_ask(const struct serve_args *a, const struct load_budget *b,
		     int (*alive)(void *ctx), void *ctx, struct grant **ret, struct err *e);

/* While it loads: `done` of `total` bytes are there.  Between slabs it is checked that the next one
 * leaves the reserve alone: -EDQUOT.  *checked: begins as 0, the caller's to keep. */
int serve_memory_slab(struct grant *g, const struct load_budget *b, bool cpu, uint64_t done,
		      uint64_t total, uint64_t *checked, struct err *e);
/* All of it is taken. */
void serve_memory_loaded(struct grant *g, const struct load_budget *b);

#endif
