/* config_fuzz.c - any bytes as config.json: a shape that can be believed, or a refusal. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "worker/weights/hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct hf_config c;
	struct err e;

	if (hf_config_parse((const char *)p, n, &c, &e) < 0)
		return 0;
	const struct model_shape *s = &c.shape;
	if (s->n_layers + s->n_mtp_layers > MODEL_MAX_LAYERS || s->n_q_heads % s->n_kv_heads ||
	    s->gdn_v_heads % s->gdn_k_heads || s->rotary_dim > s->head_dim || !s->hidden ||
	    (s->n_experts ? s->n_experts_used > s->n_experts : !s->dense_inter))
		abort();
	return 0;
}
