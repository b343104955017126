/* weights.h - a model's weights in device memory, in the layouts that the kernels read.
 *
 * One slab: weights_bytes() says how large it is before anything is allocated.  Matrices are stacked
 * where one product serves several of them (what reads the same x; gate and up in turns of eight rows, as
 * MATMUL_OUT_SWIGLU wants them; the router over the shared expert's score) and packed by the device (pack.h).
 *
 * A matrix keeps the format of its checkpoint: BF16 (F32 and F16 are rounded once), FP8 in blocks of 128 x 128, by
 * row or by tensor, NVFP4.  Stacked matrices of several formats become several products.  What the
 * kernels have no layout for (FP8 in other blocks; gate and up, or the experts of a layer, in several formats) becomes BF16,
 * each weight rounded once; weights.expanded counts them.
 */
#ifndef HEARTH_KERNELS_CUDA_WEIGHTS_H
#define HEARTH_KERNELS_CUDA_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/cuda/pack.h"
#include "kernels/model.h"
#include "kernels/step.h"

/* Packed; of experts: one after the other. */
struct matrix {
	void *w;
	float *row_scale;		/* as decode_matmul.h wants it; NULL: 1 */
	enum matmul_format format;
	uint32_t n;			/* rows (of one expert) */
};

#define STACK_MAX 4

/* Matrices whose outputs stand side by side. */
struct stack {
	struct matrix part[STACK_MAX];
	uint32_t n_parts;
};

struct layer_weights {
	void *input_norm, *post_norm;		/* bf16 */
	struct stack mixer_in;			/* GDN: q k v, z, b, a; attention: q with gates, k, v */
	struct matrix mixer_out;
	void *conv, *gdn_norm;
	float *a_log, *dt_bias;
	void *q_norm, *k_norm;
	struct matrix router;			/* [experts + 1 if there is a shared expert]; always BF16 */
	struct matrix shared_in;		/* gate and up; in BF16 it stands right behind the router */
	struct matrix expert_gate_up;
	struct matrix expert_down;		/* with shared_beside, the shared expert's is one more */
	struct matrix gate_up;			/* of a dense layer */
	struct matrix down;			/* of the shared expert or of a dense layer */
};

struct weights {
	void *slab;
	size_t bytes;
	void *embed;				/* bf16, row-major */
	struct matrix head;
	void *final_norm;
	bool shared_beside;
	uint32_t expanded;			/* quantised tensors that were multiplied out to BF16 */
	uint64_t step_bytes, expert_bytes;	/* read in a step: always; for each expert in use, in the mean */
	struct layer_weights layer[MODEL_MAX_LAYERS];
};

/* The formats are the source's; NULL: all BF16. */
size_t weights_bytes(const struct model_shape *shape, const struct weight_source *source);

/* Allocates and fills.  -EINVAL names a tensor that has another shape or a NaN. */
int weights_load(const struct model_shape *shape, const struct weight_source *source,
		 device_progress *progress, void *ctx, struct weights *ret, struct err *e);
void weights_free(struct weights *w);

#ifdef __cplusplus
}
#endif

#endif
