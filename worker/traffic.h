/* traffic.h - what a decode step reads, in bytes, by class of weights.
 *
 * From the shape and a source alone: no device, no GPU, nothing of the weights is read.  Counts the
 * bytes of the checkpoint's own formats, scales included, which is what a back end that keeps those
 * formats moves.  MTP weights are counted as memory, not as traffic: a draft is extra.
 */
#ifndef HEARTH_WORKER_TRAFFIC_H
#define HEARTH_WORKER_TRAFFIC_H

#include "kernels/step.h"

enum traffic_class {
	TRAFFIC_EMBEDDING,
	TRAFFIC_GDN,
	TRAFFIC_ATTENTION,
	TRAFFIC_ROUTER,		/* and the shared expert's score */
	TRAFFIC_EXPERTS,
	TRAFFIC_SHARED,
	TRAFFIC_DENSE,
	TRAFFIC_HEAD,
	TRAFFIC_NORMS,
	TRAFFIC_MTP,
	TRAFFIC_N
};

enum traffic_kind {
	KIND_F32, KIND_F16, KIND_BF16, KIND_FP8_BLOCK, KIND_FP8_ROW, KIND_FP8_TENSOR, KIND_NVFP4, KIND_N
};

struct traffic_row {
	uint32_t matrices[KIND_N];	/* matrices; vectors and the convolution are not among them */
	uint64_t elements, bytes;
	uint64_t token_elements, token_bytes;	/* read for one token alone */
};

struct traffic {
	struct traffic_row row[TRAFFIC_N];
	uint64_t bytes, token_bytes, token_elements;
};

/* 0, or what w->find() answered beside -ENOENT. */
int traffic_count(const struct model_shape *shape, const struct weight_source *w,
		  struct traffic *ret);

const char *traffic_class_name(enum traffic_class c);
const char *traffic_kind_name(enum traffic_kind k);

/* Different experts of a layer that `rows` independent tokens meet, on average. */
double traffic_experts(const struct model_shape *shape, uint32_t rows);

/* Of a sequence: its keys and values a token, and its state, both as the back ends keep them
 * (bfloat16 or FP8, float32).  MTP's keys are memory, and not read by a step without drafts. */
uint64_t traffic_kv_bytes(const struct model_shape *shape, enum kv_format kv, bool mtp);
uint64_t traffic_state_bytes(const struct model_shape *shape);
/* Beside a sequence's state, on a GPU: the tokens that it lacks (kernels/cuda/gdn_step.h). */
uint64_t traffic_kept_bytes(const struct model_shape *shape);
/* What a step reads and writes of both: the CPU reads and writes the state, a GPU reads it, writes it once in
 * GDN_PERIOD steps, and reads half of what can be kept, all in the mean. */
double traffic_state_moved(const struct model_shape *shape, bool cpu);

/* All bytes of a decode step of `rows` sequences with `context` tokens each: weights, keys and values,
 * and the recurrent state.  `bytes_each` not 0: as if every weight took that many bytes (the CPU back end:
 * 2). */
double traffic_step(const struct traffic *t, const struct model_shape *shape, enum kv_format kv,
		    uint32_t rows, uint32_t context, uint32_t bytes_each);

#endif
