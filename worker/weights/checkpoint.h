/* checkpoint.h - the weights of a model folder as a struct weight_source.
 *
 * Opens what model.safetensors.index.json names, or model.safetensors alone, and resolves
 * every weight that the shape asks for before anything is allocated for it: all spellings
 * of the names (with and without the language_model prefix, experts fused or one by one,
 * the MTP layer under mtp. or model.mtp., in a file of its own or not), all shapes, and the
 * types F32, BF16 and F16.  Vision tensors are passed over.
 *
 * Thread: once open it is read-only.
 */
#ifndef HEARTH_WORKER_WEIGHTS_CHECKPOINT_H
#define HEARTH_WORKER_WEIGHTS_CHECKPOINT_H

#include "kernels/model.h"
#include "lib/err.h"
#include "worker/weights/hf_config.h"

struct checkpoint;

/* A checkpoint without any mtp.* tensor (Hugging Face drops them when it saves) opens with
 * config->shape.n_mtp_layers set to 0.  -ENOENT: no weights there; -EINVAL: broken, one
 * line with file, tensor, expected and found; -ENOTSUP: a quantised format; -ENOMEM. */
int checkpoint_open(const char *dir, struct hf_config *config, struct checkpoint **ret,
		    struct err *e);
struct checkpoint *checkpoint_close(struct checkpoint *c);	/* NULL ok */

/* Valid while c is open. */
const struct weight_source *checkpoint_source(const struct checkpoint *c);

#endif
