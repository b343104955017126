/* openai_out.h - what a model says, as OpenAI chunks or as one object.
 *
 * Fed with the wire's own Delta and Done, whoever made them (a worker, or router/cloud_*.c
 * out of another server's stream).  Streaming writes text only, no JSON tree: the part
 * of a chunk that never changes is made once a request.  Not streaming collects, so
 * that an attempt that fails can be forgotten (oa_out_restart()).
 *
 * Always true of a stream: every chunk has id, object, created, model and choices, and
 * they do not change; the role comes first; a tool call's id and name come once, on its
 * first delta, with an index that counts from 0; finish_reason is tool_calls when a
 * call was made; usage comes only when asked, in a last chunk of its own without choices.
 */
#ifndef HEARTH_ROUTER_OPENAI_OUT_H
#define HEARTH_ROUTER_OPENAI_OUT_H

#include "lib/buf.h"
#include "proto/wire.h"
#include "router/openai_request.h"

enum oa_reasoning { OA_REASONING_BOTH, OA_REASONING_CONTENT, OA_REASONING_SHORT };

struct oa_call {
	struct buf id, name, args;
};

struct oa_choice {
	bool started, done;
	struct buf content, reasoning, logprobs;
	struct oa_call *calls;		/* collected; a stream only counts them */
	uint32_t n_calls;
	uint32_t text_offset;		/* completions with logprobs */
	Hw__Finish finish;
};

struct oa_usage {
	uint32_t prompt, completion, cached, reasoning;
};

struct oa_out {
	enum oa_kind kind;
	enum oa_reasoning reasoning;
	bool stream, include_usage, logprobs;
	char id[64];
	int64_t created;
	char *model, *fingerprint;	/* fingerprint: NULL, or the numeric class */
	struct buf head;		/* data: {"id":..,"choices":[{"index": */
	struct oa_choice *choice;
	uint32_t n;
	struct oa_usage usage;
};

/* id: "chatcmpl-..."; copied, as is model.  0 or -ENOMEM. */
int oa_out_init(struct oa_out *o, const struct oa_request *r, const char *id,
		enum oa_reasoning reasoning);
void oa_out_done(struct oa_out *o);
/* Forgets what an attempt said; only while nothing was sent. */
void oa_out_restart(struct oa_out *o);
/* Who answers (NULL: not one of ours); before the first delta. */
int oa_out_fingerprint(struct oa_out *o, const char *numeric_class);

/* Streaming: appends frames to out.  Collecting: out is not touched.
 * -EPROTO: a choice out of range, or one that was done; -ENOMEM. */
int oa_out_delta(struct oa_out *o, const Hw__Delta *d, struct buf *out);
/* `extra`: more members for the last choice's final chunk, `"hearth":{...}`, or NULL. */
int oa_out_finish(struct oa_out *o, const Hw__Done *d, const char *extra, struct buf *out);
bool oa_out_all_done(const struct oa_out *o);
/* The end of a good stream: usage when asked, [DONE].  Or the whole object. */
int oa_out_end(struct oa_out *o, const char *extra, struct buf *out);

/* The error as a stream's last event. */
void oa_out_error(const struct oa_error *e, struct buf *out);

#endif
