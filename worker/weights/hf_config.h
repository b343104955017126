/* hf_config.h - config.json to struct model_shape.
 *
 * Reads the nested form (text_config) and the flat one, rope_parameters and the older
 * rope_theta / rope_scaling, and fills in what the family leaves out on purpose.  Every
 * number is checked against a range, and numbers against each other, so that a shape that
 * comes out of here can be believed.  What would change the arithmetic and is not known
 * (an activation, a gate) is refused by name, never ignored.  How the weights are
 * quantised is quant_config.h's.
 */
#ifndef HEARTH_WORKER_WEIGHTS_HF_CONFIG_H
#define HEARTH_WORKER_WEIGHTS_HF_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/model.h"
#include "lib/err.h"

struct hf_config {
	struct model_shape shape;	/* n_token_ids is vocab_rows: the tokenizer knows better */
	bool tied;			/* the head is the embedding */
};

/* DIR/config.json.  -ENOENT and other errors of open; -EINVAL; -ENOTSUP: a model or an
 * option that this program does not have. */
int hf_config_open(const char *dir, struct hf_config *ret, struct err *e);
int hf_config_parse(const char *text, size_t n, struct hf_config *ret, struct err *e);

#endif
