/* weights.h - a model's weights in device memory, in the layouts that the kernels read.
 *
 * One slab: weights_bytes() says how large it is before anything is allocated.  Matrices are stacked
 * where one product serves several of them (what reads the same x; gate and up in turns of eight rows, as
 * MATMUL_OUT_SWIGLU wants them; the router over the shared expert's score) and packed
 * by the device (kernels/cuda/pack.h).  Matrices must be BF16 in the source; vectors may be F32 or F16 and are rounded
 * to what their kernel takes.
 */
#ifndef HEARTH_KERNELS_CUDA_WEIGHTS_H
#define HEARTH_KERNELS_CUDA_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/model.h"
#include "kernels/step.h"

struct layer_weights {
	void *input_norm, *post_norm;		/* bf16 */
	void *mixer_in;				/* GDN: q k v, z, b, a; attention: q with gates, k, v */
	void *mixer_out;
	void *conv, *gdn_norm;
	float *a_log, *dt_bias;
	void *q_norm, *k_norm;
	void *router;				/* [experts + 1 if there is a shared expert]; behind it the shared
						 * expert's gate and up */
	void *expert_gate_up, *expert_down;	/* packed, one expert after the other; a shared expert of the same
						 * width is one more of the second */
	void *gate_up;				/* of a dense layer */
	void *down;				/* of the shared expert or of a dense layer */
};

struct weights {
	void *slab;
	size_t bytes;
	void *embed;				/* bf16, row-major */
	void *head;
	void *final_norm;
	struct layer_weights layer[MODEL_MAX_LAYERS];
};

/* The shared expert's last matrix is laid out as one more of the experts'. */
bool weights_shared_beside(const struct model_shape *shape);

size_t weights_bytes(const struct model_shape *shape);

/* Allocates and fills.  `w` NULL: weights made on the device from `seed` (the same for the same shape and
 * seed), for measurements without a checkpoint. */
int weights_load(const struct model_shape *shape, const struct weight_source *w, uint64_t seed,
		 device_progress *progress, void *ctx, struct weights *ret, struct err *e);
void weights_free(struct weights *w);

#ifdef __cplusplus
}
#endif

#endif
