/* cloud_reader.h - another server's stream of chunks, as Deltas and Dones.
 *
 * Repairs on the way what servers are known to get wrong: tool calls that all have
 * index 0, or none; ids or names that come again with each delta; usage on a
 * content chunk; a stream that ends without [DONE].  Pure: bytes in, hooks out.
 */
#ifndef HEARTH_ROUTER_CLOUD_READER_H
#define HEARTH_ROUTER_CLOUD_READER_H

#include "lib/json.h"
#include "lib/sse.h"
#include "router/attempt.h"
#include "router/openai_request.h"

struct cloud_tool {
	char *id;
	int64_t index;			/* as the server says; -1: it did not */
};

struct cloud_choice {
	struct cloud_tool *tools;
	uint32_t n_tools;
	bool finished;
	Hw__Finish finish;
};

struct cloud_reader {
	struct sse sse;
	enum oa_kind kind;
	struct cloud_choice *choice;
	uint32_t n;
	bool said_done;			/* [DONE] came */
	bool any;			/* a chunk came */
	uint32_t seq, prompt_tokens, output_tokens, cached_tokens, reasoning_tokens;
	bool has_usage;
	const struct attempt_hooks *hooks;
	void *arg;
	bool *gone;			/* set by the owner when a hook ended the try */
	struct attempt_failure failure;	/* filled when feeding fails */
};

int cloud_reader_init(struct cloud_reader *r, enum oa_kind kind, uint32_t n,
		      const struct attempt_hooks *hooks, void *arg, bool *gone);
void cloud_reader_done(struct cloud_reader *r);
/* 0; 1: [DONE], nothing more is wanted; -ECANCELED: a hook ended the try;
 * another negative errno: r->failure says why. */
int cloud_reader_feed(struct cloud_reader *r, const char *p, size_t n);
/* The stream is over.  0: the Dones were given; -EPIPE: it was cut (r->failure). */
int cloud_reader_end(struct cloud_reader *r);

#endif
