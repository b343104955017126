/* gen_config.h - generation_config.json: how a model wants to be sampled, and what ends it.
 *
 * Read once, when the model is opened; what a request does not say is taken from here.
 */
#ifndef HEARTH_WORKER_GEN_CONFIG_H
#define HEARTH_WORKER_GEN_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/step.h"
#include "lib/err.h"

#define GEN_MAX_EOS 32

struct gen_config {
	uint32_t eos[GEN_MAX_EOS];
	uint32_t n_eos;
	struct sampling sampling;	/* the defaults; no seed, no lists */
};

/* From MODEL_DIR/generation_config.json; no such file: greedy off, everything neutral, no
 * eos.  -EINVAL: not JSON, or a value of the wrong type or out of range (the text says
 * which); other codes of open() and read(). */
int gen_config_open(const char *model_dir, struct gen_config *ret, struct err *e);
int gen_config_parse(const char *json, size_t n, struct gen_config *ret, struct err *e);

/* Whether the parameters can be sampled with; *ret_param names the one that cannot, and
 * *ret_range what it must be. */
bool sampling_ok(const struct sampling *s, const char **ret_param, const char **ret_range);

#endif
