/* serve_memory.c - see serve_memory.h. */
#include "worker/serve_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "lib/bytes.h"
#include "lib/log.h"
#include "lib/svc.h"
#include "proto/box_wire.h"

/* Between two looks at MemAvailable: much less than any reserve. */
#define SLAB (128 * BYTES_MIB)

struct asking {
	int (*alive)(void *ctx);
	void *ctx;
};

static int on_wait(void *ctx, const char *text)
{
	const struct asking *a = ctx;

	if (text) {
		log_note("hearthd: %s", text);
		svc_status("memory: %s", text);
	}
	return a->alive(a->ctx);
}

/* The socket to ask at; NULL: nobody. */
static const char *find_socket(const struct serve_args *a)
{
	if (a->hearthd)
		return strcmp(a->hearthd, "none") ? a->hearthd : NULL;
	return access(BOX_SOCKET, F_OK) == 0 || errno != ENOENT ? BOX_SOCKET : NULL;
}

int serve_memory_ask(const struct serve_args *a, const struct load_budget *b,
		     int (*alive)(void *ctx), void *ctx, struct grant **ret, struct err *e)
{
	struct asking asking = { alive, ctx };
	const struct grant_request q = {
		.socket = find_socket(a), .alias = a->alias, .device = a->load.device,
		.model = a->load.model_dir, .wait = on_wait, .ctx = &asking,
		.budget = { .weights = b->bytes.weights, .kv = b->bytes.kv,
			    .states = b->bytes.states, .workspace = b->bytes.workspace },
	};
	int r;

	*ret = NULL;
	if (!q.socket) {
		log_note("memory is taken without asking: no hearthd %s",
			 a->hearthd ? "is wanted" : "at " BOX_SOCKET);
		return 0;
	}
	svc_status("asking hearthd for %s", BYTES(b->total));
	r = grant_ask(&q, ret, e);
	if (r == -EACCES)
		return err_set(e, r, "hearthd at %s may not be asked by this user: join the group "
			       "hearth, or --hearthd none", q.socket);
	return r;
}

int serve_memory_slab(struct grant *g, const struct load_budget *b, bool cpu, uint64_t done,
		      uint64_t total, uint64_t *checked, struct err *e)
{
	uint64_t left = total > done ? total - done : 0;

	if (!g || (*checked && done - *checked < SLAB))
		return 0;
	/* a GPU's weights are allocated in one piece before the first of them is there */
	if (!cpu && !*checked)
		grant_taken(g, b->bytes.weights);
	*checked = done ? done : 1;
	return cpu ? grant_room(g, left < SLAB ? left : SLAB, e) : grant_room(g, 0, e);
}

void serve_memory_loaded(struct grant *g, const struct load_budget *b)
{
	if (g)
		grant_taken(g, b->total);
}
