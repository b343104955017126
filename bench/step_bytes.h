/* step_bytes.h - what a decode step has to move, in bytes.
 *
 * Counted from the checkpoint's own formats, scales included (worker/traffic.h), without MTP: weights that
 * every step reads once; those of each distinct expert in use; and for every sequence its row of
 * the embedding, its state (worker/traffic.h, by the device) and its keys and values.
 */
#ifndef HEARTH_BENCH_STEP_BYTES_H
#define HEARTH_BENCH_STEP_BYTES_H

#include "kernels/model.h"
#include "worker/traffic.h"

struct step_bytes {
	double always;		/* matrices, vectors, head */
	double expert;		/* of one expert of one layer, in the mean over layers */
	double row;		/* of a sequence: embedding and state */
	double position;	/* of a sequence's position: keys and values of all layers */
};

struct step_bytes step_bytes_of(const struct model_shape *shape, const struct traffic *t, enum kv_format kv,
				bool cpu);
/* experts: distinct ones in use, summed over layers; length: positions of each sequence, in the mean. */
double step_bytes_sum(const struct step_bytes *b, double batch, double experts, double length);
/* What a device moves for each sequence beside them: its logits, written by the head and read by sampling. */
double step_bytes_logits(const struct model_shape *shape);

#endif
