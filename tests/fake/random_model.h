/* random_model.h - a small model of random weights, in memory: enough for bits to differ.
 *
 * Every weight is a function of (seed, slot, layer, expert, index), scaled so that
 * activations keep their size.
 */
#ifndef HEARTH_TESTS_FAKE_RANDOM_MODEL_H
#define HEARTH_TESTS_FAKE_RANDOM_MODEL_H

#include "kernels/model.h"

enum random_shape {
	RANDOM_WHOLE,	/* head sizes of the real models, experts; multiples of 128 throughout */
	RANDOM_MOE,	/* ratios of the 35B in small, sizes that are no multiple of anything */
	RANDOM_DENSE,	/* ratios of the 27B: 6 query heads a KV head, 3 value heads a key head */
};

struct random_model;

/* Each has every part: GDN and attention layers, experts with a shared one or a dense MLP, MTP. */
struct model_shape random_shape(enum random_shape which);
/* format: WF_BF16 or WF_F32, of all weights. */
int random_model_new(const struct model_shape *shape, enum weight_format format, uint64_t seed,
		     struct random_model **ret);
struct random_model *random_model_free(struct random_model *m);	/* NULL ok */
/* Borrowed from m. */
const struct weight_source *random_model_source(struct random_model *m);

#endif
