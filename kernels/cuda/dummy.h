/* dummy.h - a source of weights without data: shapes and formats only, for speed without a checkpoint.
 *
 * What loads it makes the weights up (kernels/cuda/weights.h).  Plain C.
 */
#ifndef HEARTH_KERNELS_CUDA_DUMMY_H
#define HEARTH_KERNELS_CUDA_DUMMY_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/model.h"

/* Which published checkpoint's formats (docs/formats.md); conv, norms, router, b and a of GDN are BF16 in all. */
enum dummy_recipe {
	DUMMY_BF16,
	DUMMY_FP8,		/* official: blocks of 128 x 128; embedding and head BF16 */
	DUMMY_NVFP4,		/* RedHatAI: experts, shared expert and attention NVFP4; GDN and head BF16 */
	DUMMY_NVFP4_FP8,	/* unsloth: routed experts NVFP4; the other matrices and the head FP8 by channel */
	DUMMY_N
};
const char *dummy_recipe_name(enum dummy_recipe r);	/* "bf16", "fp8", "nvfp4", "nvfp4-fp8" */

struct dummy {
	struct model_shape shape;
	enum dummy_recipe recipe;
};

/* `d` is borrowed while the source is used. */
struct weight_source dummy_source(struct dummy *d);

#ifdef __cplusplus
}
#endif

#endif
