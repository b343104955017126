/* step_bytes.c - see step_bytes.h. */
#include "bench/step_bytes.h"

struct step_bytes step_bytes_of(const struct model_shape *s, const struct traffic *t, enum kv_format kv,
				bool cpu)
{
	const struct traffic_row *x = &t->row[TRAFFIC_EXPERTS];
	const double embed = (double)t->row[TRAFFIC_EMBEDDING].token_bytes;
	const double experts = (double)s->n_experts * s->n_layers;

	return (struct step_bytes){
		.always = (double)t->token_bytes - (double)x->token_bytes - embed,
		.expert = experts > 0 ? (double)x->bytes / experts : 0,
		.row = embed + traffic_state_moved(s, cpu),
		.position = (double)traffic_kv_bytes(s, kv, false),
	};
}

double step_bytes_logits(const struct model_shape *s)
{
	return 2.0 * s->vocab_rows * sizeof(float);
}

double step_bytes_sum(const struct step_bytes *b, double batch, double experts, double length)
{
	return b->always + experts * b->expert + batch * (b->row + length * b->position);
}
