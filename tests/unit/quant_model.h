/* quant_model.h - the small random model once more, each matrix in some quantised format.
 *
 * Bytes and scales are random numbers of a harmless size, not quantised weights: nothing here
 * knows how a quantiser rounds.  The twin hands out what dequant_row() makes of the same matrices.
 */
#ifndef HEARTH_TESTS_QUANT_MODEL_H
#define HEARTH_TESTS_QUANT_MODEL_H

#include "kernels/model.h"
#include "tests/fake/random_model.h"

enum quant_recipe {
	QUANT_MIXED,	/* all formats, one after the other, any scales */
	/* scales along a row are powers of two: the twin's sums have the same bits */
	QUANT_EXACT,
};

struct quant_model {
	struct model_shape shape;
	struct random_model *base;	/* what is no matrix comes from here */
	enum quant_recipe recipe;
	struct weight_source source, twin;
	void *rooms[16384];
	uint32_t n_rooms;
};

void quant_model_init(struct quant_model *m, enum quant_recipe recipe, bool dense);
void quant_model_done(struct quant_model *m);

#endif
