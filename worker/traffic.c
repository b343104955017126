/* traffic.c - see traffic.h. */
#include "worker/traffic.h"

#include <errno.h>
#include <math.h>

#include "kernels/cuda/gdn_step.h"

static const char *const class_names[TRAFFIC_N] = {
	"embedding", "DeltaNet", "attention", "router", "experts", "shared expert", "MLP", "head", "norms",
	"MTP",
};

static const char *const kind_names[KIND_N] = {
	"F32", "F16", "BF16", "FP8 128x128", "FP8 per row", "FP8 per tensor", "NVFP4",
};

const char *traffic_class_name(enum traffic_class c)
{
	return class_names[c];
}

const char *traffic_kind_name(enum traffic_kind k)
{
	return kind_names[k];
}

static enum traffic_kind kind_of(const struct weight_ref *w)
{
	switch (w->format) {
	case WF_F32:
		return KIND_F32;
	case WF_F16:
		return KIND_F16;
	case WF_NVFP4:
		return KIND_NVFP4;
	case WF_FP8:
		return w->span_cols < w->cols ? KIND_FP8_BLOCK :
		       w->span_rows == 1 ? KIND_FP8_ROW : KIND_FP8_TENSOR;
	case WF_BF16:
	case WF_N:
		break;
	}
	return KIND_BF16;
}

static enum traffic_class class_of(const struct model_shape *s, enum weight_slot slot, uint32_t layer)
{
	if (slot == W_EMBED)
		return TRAFFIC_EMBEDDING;
	if (slot == W_HEAD)
		return TRAFFIC_HEAD;
	if (slot > W_FINAL_NORM && slot < W_PER_LAYER)
		return TRAFFIC_MTP;
	if (slot >= W_PER_LAYER && layer >= s->n_layers)
		return TRAFFIC_MTP;
	if (slot == W_FINAL_NORM || slot == W_INPUT_NORM || slot == W_POST_NORM)
		return TRAFFIC_NORMS;
	if (slot <= W_GDN_OUT)
		return TRAFFIC_GDN;
	if (slot <= W_K_NORM)
		return TRAFFIC_ATTENTION;
	if (slot == W_ROUTER || slot == W_SHARED_SCORE)
		return TRAFFIC_ROUTER;
	if (slot <= W_EXPERT_DOWN)
		return TRAFFIC_EXPERTS;
	return slot <= W_SHARED_DOWN ? TRAFFIC_SHARED : TRAFFIC_DENSE;
}

static bool is_expert(enum weight_slot slot)
{
	return slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN;
}

/* `again`: the bytes were counted as another weight's (a tied head). */
static void count(const struct model_shape *s, enum weight_slot slot, uint32_t layer,
		  const struct weight_ref *w, bool again, struct traffic *t)
{
	enum traffic_class c = class_of(s, slot, layer);
	struct traffic_row *row = &t->row[c];
	uint64_t elements = (uint64_t)w->rows * w->cols;
	uint64_t bytes = weight_data_bytes(w) + weight_scale_bytes(w) +
			 (w->format == WF_NVFP4 ? sizeof(w->global) : 0);

	if ((w->rows > 1 || slot == W_SHARED_SCORE) && slot != W_GDN_CONV)
		row->matrices[kind_of(w)]++;
	if (!again) {
		row->elements += elements;
		row->bytes += bytes;
	}
	if (c == TRAFFIC_MTP)
		return;
	if (slot == W_EMBED) {		/* one row */
		row->token_elements += w->cols;
		row->token_bytes += weight_row_bytes(w->format, w->cols);
	} else if (!is_expert(slot)) {
		row->token_elements += elements;
		row->token_bytes += bytes;
	}
}

static void add_up(const struct model_shape *s, struct traffic *t)
{
	struct traffic_row *x = &t->row[TRAFFIC_EXPERTS];

	if (s->n_experts) {
		x->token_elements = x->elements / s->n_experts * s->n_experts_used;
		x->token_bytes = (uint64_t)((double)x->bytes / s->n_experts * s->n_experts_used);
	}
	for (int i = 0; i < TRAFFIC_N; i++) {
		t->bytes += t->row[i].bytes;
		t->token_bytes += t->row[i].token_bytes;
		t->token_elements += t->row[i].token_elements;
	}
}

int traffic_count(const struct model_shape *s, const struct weight_source *w, struct traffic *ret)
{
	const void *embedding = NULL;
	struct traffic t = { 0 };

	for (int slot = 0; slot < W_N_SLOTS; slot++) {
		uint32_t layers = slot < W_PER_LAYER ? 1 : s->n_layers + s->n_mtp_layers;
		uint32_t each = is_expert((enum weight_slot)slot) ? s->n_experts : 1;

		for (uint32_t l = 0; l < layers; l++)
			for (uint32_t x = 0; x < each; x++) {
				struct weight_ref ref;
				int r = w->find(w->ctx, (enum weight_slot)slot, l, x, &ref);

				if (r < 0 && r != -ENOENT)
					return r;
				if (r < 0)
					continue;
				if (slot == W_EMBED)
					embedding = ref.data;
				count(s, (enum weight_slot)slot, l, &ref,
				      slot == W_HEAD && ref.data && ref.data == embedding, &t);
			}
	}
	add_up(s, &t);
	*ret = t;
	return 0;
}

double traffic_experts(const struct model_shape *s, uint32_t rows)
{
	double n = s->n_experts, used = s->n_experts_used;

	return n > 0 ? n * (1 - pow(1 - used / n, rows)) : 0;
}

static uint32_t layers_of(const struct model_shape *s, enum mixer_kind kind)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_layers; i++)
		n += s->mixer[i] == kind;
	return n;
}

uint64_t traffic_kv_bytes(const struct model_shape *s, enum kv_format kv, bool mtp)
{
	uint64_t layers = layers_of(s, MIXER_ATTENTION) + (mtp ? s->n_mtp_layers : 0);

	/* a code an element, and a power of two for the head's key and for its value */
	return layers * 2 * s->n_kv_heads * (kv == KV_FP8 ? s->head_dim + 1 : 2 * s->head_dim);
}

uint64_t traffic_state_bytes(const struct model_shape *s)
{
	uint64_t channels = (2 * (uint64_t)s->gdn_k_heads + s->gdn_v_heads) * s->gdn_head_dim;
	uint64_t state = (uint64_t)s->gdn_v_heads * s->gdn_head_dim * s->gdn_head_dim * 4;

	return layers_of(s, MIXER_GDN) * (state + channels * (s->gdn_conv_width - 1) * 2);
}

uint64_t traffic_kept_bytes(const struct model_shape *s)
{
	return (uint64_t)layers_of(s, MIXER_GDN) * s->gdn_v_heads * sizeof(struct gdn_kept);
}

double traffic_state_moved(const struct model_shape *s, bool cpu)
{
	const double heads = (double)layers_of(s, MIXER_GDN) * s->gdn_v_heads;
	const double state = heads * s->gdn_head_dim * s->gdn_head_dim * 4, window = (double)traffic_state_bytes(s) - state;
	const double token = heads * (2 * GDN_DIM + 1) * 4, once = 1.0 / GDN_PERIOD;

	if (cpu)
		return 2 * (state + window);
	return state * (1 + once) + 2 * window + token * GDN_KEPT * (0.5 + once);
}

double traffic_step(const struct traffic *t, const struct model_shape *s, enum kv_format kv,
		    uint32_t rows, uint32_t context, uint32_t bytes_each)
{
	const struct traffic_row *x = &t->row[TRAFFIC_EXPERTS], *embed = &t->row[TRAFFIC_EMBEDDING];
	uint64_t all = bytes_each ? t->token_elements * bytes_each : t->token_bytes;
	uint64_t mine = bytes_each ? x->token_elements * bytes_each : x->token_bytes;
	uint64_t row = bytes_each ? embed->token_elements * bytes_each : embed->token_bytes;
	double experts = s->n_experts_used ? traffic_experts(s, rows) / s->n_experts_used : 0;
	double own = (double)row + (double)traffic_kv_bytes(s, kv, false) * context +
		     traffic_state_moved(s, bytes_each != 0);

	return (double)(all - mine - row) + (double)mine * experts + own * rows;
}
