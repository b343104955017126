/* scan.h - every byte of a model's weights, looked at once.
 *
 * Opening a checkpoint checks shapes and types, and reads next to nothing.  This reads all of it by the
 * source's stream, past the page cache, and finds what would turn a whole answer into nothing: NaN and infinity.
 */
#ifndef HEARTH_WORKER_WEIGHTS_SCAN_H
#define HEARTH_WORKER_WEIGHTS_SCAN_H

#include "kernels/model.h"
#include "lib/err.h"

/* 0; errors of the stream; -EINVAL: a weight or scale is not finite (the text names file, tensor and
 * place). */
int scan_weights(const struct model_shape *shape, const struct weight_source *w, uint64_t *ret_bytes,
		 struct err *e);

#endif
