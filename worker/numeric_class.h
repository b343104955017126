/* numeric_class.h - what decides the bits of an answer, in 32 hex digits.
 *
 * Two workers of one class continue each other's answers exactly (docs/numerics.md 1).  The
 * class is XXH3-128 over a text: the program's version, the device's own account of what
 * decides bits (back end, kind, numerics version, load-time options), the shape, and for each
 * weight its name, format, size and samples of its bytes.
 *
 * Samples, not all bytes: a folder of 67 GB would have to be read twice.  Of each weight the
 * first, middle and last 4 KiB count, so a fine-tune, another quantisation or a swapped
 * shard is another class; two files that differ in a few bytes somewhere else are not told
 * apart.
 */
#ifndef HEARTH_WORKER_NUMERIC_CLASS_H
#define HEARTH_WORKER_NUMERIC_CLASS_H

#include "kernels/model.h"

#define NUMERIC_CLASS_BYTES 33	/* terminated */

/* 0, -ENOMEM, or what the source answered. */
int numeric_class(const char *device_text, const struct model_shape *shape,
		  const struct weight_source *w, const char *version,
		  char ret[NUMERIC_CLASS_BYTES]);

#endif
