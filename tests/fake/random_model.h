/* random_model.h - a small model of random weights, in memory: enough for bits to differ.
 *
 * Every weight is a function of (seed, slot, layer, expert, index), scaled so that
 * activations keep their size.  BF16.
 */
#ifndef HEARTH_TESTS_FAKE_RANDOM_MODEL_H
#define HEARTH_TESTS_FAKE_RANDOM_MODEL_H

#include "kernels/model.h"

struct random_model;

/* A shape with every part: GDN and attention layers, experts with a shared one, MTP. */
struct model_shape random_shape(void);
int random_model_new(const struct model_shape *shape, uint64_t seed, struct random_model **ret);
struct random_model *random_model_free(struct random_model *m);	/* NULL ok */
/* Borrowed from m. */
const struct weight_source *random_model_source(struct random_model *m);

#endif
