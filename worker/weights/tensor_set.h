/* tensor_set.h - all tensors of a model folder, under names without what exporters put before them.
 *
 * Opens what model.safetensors.index.json names, or model.safetensors alone, and the files that
 * some exporters leave out of the index (mtp.safetensors, model_extra_tensors.safetensors).  A
 * canonical name has no model., language_model. prefix: "layers.3.mlp.gate.weight", "mtp.fc.weight".
 * Vision tensors are counted and passed over.
 *
 * Thread: read-only once open, but for the marks `used`, which belong to whoever opened it.
 */
#ifndef HEARTH_WORKER_WEIGHTS_TENSOR_SET_H
#define HEARTH_WORKER_WEIGHTS_TENSOR_SET_H

#include <stdbool.h>

#include "worker/weights/safetensors.h"

struct tensor {
	const char *canon;
	const struct st_file *file;
	const struct st_tensor *t;
	bool used;
};

struct tensor_set {
	char *dir;
	struct st_file **files;
	uint32_t n_files;
	struct tensor *tensors;		/* by canonical name */
	uint32_t n_tensors;
	uint32_t n_vision, n_vision_quantised;
	uint64_t vision_bytes;
};

/* -ENOENT: no weights there; -EINVAL: broken, one line with file, tensor and what is wrong;
 * -ENOMEM. */
int tensor_set_open(const char *dir, struct tensor_set **ret, struct err *e);
struct tensor_set *tensor_set_close(struct tensor_set *s);	/* NULL ok */

/* NULL for the name of a vision tensor. */
const char *tensor_canonical(const char *name);

struct tensor *tensor_set_find(const struct tensor_set *s, const char *canon);	/* or NULL */
/* The tensors whose names begin with `prefix`, one after the other; *ret_n may be 0. */
struct tensor *tensor_set_below(const struct tensor_set *s, const char *prefix, uint32_t *ret_n);

/* "[2, 3]" */
void tensor_print_shape(const struct st_tensor *t, char *buf, size_t room);

#endif
