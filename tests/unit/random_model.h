/* random_model.h - a small random model without files: a weight_source from a hash. */
#ifndef HEARTH_TESTS_UNIT_RANDOM_MODEL_H
#define HEARTH_TESTS_UNIT_RANDOM_MODEL_H

#include "kernels/model.h"

/* The ratios of the 35B (experts) or of the 27B (dense, 6 query heads a KV head, 3 value
 * heads a key head), in small. */
struct model_shape random_shape(bool dense);

struct random_model {
	struct model_shape shape;
	struct weight_source source;
	void *rooms[4096];	/* what find() made; freed by random_model_done() */
	uint32_t n_rooms;
};

void random_model_init(struct random_model *m, bool dense);
void random_model_done(struct random_model *m);

#endif
