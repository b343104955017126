/* numeric_class.h - what decides the bits of an answer, in 32 hex digits.
 *
 * Two workers of one class continue each other's answers exactly (docs/numerics.md 1).  The
 * class is XXH3-128 over a text: the program's version, the device's own account of what
 * decides bits (back end, kind, numerics version, load-time options), the shape, and for each
 * weight its name, format, size and samples of its bytes.
 *
 * Samples, not all bytes: a folder of 67 GB would have to be read twice.  Of each weight the
 * first, middle and last row count, and so do those of its scales (of a row longer than 12 KiB its
 * first, middle and last 4 KiB), so a fine-tune, another quantisation or a swapped
 * shard is another class; two files that differ in a few bytes somewhere else are not told
 * apart.  A watch takes the samples as the weights pass by on their way to a device: then nothing
 * is read for them.
 */
#ifndef HEARTH_WORKER_NUMERIC_CLASS_H
#define HEARTH_WORKER_NUMERIC_CLASS_H

#include "kernels/model.h"

#define NUMERIC_CLASS_BYTES 33	/* terminated */

struct numeric_watch;

/* `w` outlives the watch.  -ENOMEM. */
int numeric_watch_new(const struct model_shape *shape, const struct weight_source *w,
		      struct numeric_watch **ret);
struct numeric_watch *numeric_watch_free(struct numeric_watch *x);	/* NULL ok */
/* `w`, watched: load from this.  Valid as long as the watch. */
const struct weight_source *numeric_watch_source(const struct numeric_watch *x);
/* The class; what did not pass by is read where find() points to.  -ENOMEM, or what the source
 * answered. */
int numeric_class(const struct numeric_watch *x, const char *device_text, const char *version,
		  char ret[NUMERIC_CLASS_BYTES]);

#endif
