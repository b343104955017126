/* quant_config.h - what a model folder says about how its weights are quantised.
 *
 * config.json's quantization_config (quant_method fp8, compressed-tensors, modelopt) and ModelOpt's
 * hf_quant_config.json, which wins when it is there.  Only a second opinion: the format of a matrix is
 * decided by its tensors (module.h), because published lists forget modules and name them in several
 * ways.  An unknown method is refused, so that nobody loads weights that merely look familiar.
 *
 * Thread: read-only once open.
 */
#ifndef HEARTH_WORKER_WEIGHTS_QUANT_CONFIG_H
#define HEARTH_WORKER_WEIGHTS_QUANT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/model.h"
#include "lib/err.h"

struct quant_config;

/* A folder that says nothing gives a configuration that agrees with everything.  -EINVAL: not
 * readable; -ENOTSUP: a method or block size that this program does not know; -ENOMEM. */
int quant_config_open(const char *dir, struct quant_config **ret, struct err *e);
struct quant_config *quant_config_close(struct quant_config *q);	/* NULL ok */
/* The same from texts; either may be NULL. */
int quant_config_parse(const char *config_json, const char *hf_quant_config_json,
		       struct quant_config **ret, struct err *e);

/* Whether the matrix of `module` (canonical name, tensor_set.h) may be in `found`.  When not, *ret_says
 * is what was said of it, in a word. */
bool quant_config_agrees(const struct quant_config *q, const char *module,
			 enum weight_format found, const char **ret_says);

/* "fp8", "compressed-tensors", "modelopt"; NULL when the folder says nothing. */
const char *quant_config_method(const struct quant_config *q);
bool quant_config_activations(const struct quant_config *q);	/* meant to be quantised too */
bool quant_config_kv(const struct quant_config *q);		/* keys and values, too */

#endif
