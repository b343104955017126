/* random_model.c - a small random model without files: see random_model.h. */
#include "tests/unit/random_model.h"

#include <math.h>
#include <stdlib.h>

struct model_shape random_shape(bool dense)
{
	struct model_shape s = {
		.hidden = 64, .n_layers = 4,
		.mixer = { MIXER_GDN, MIXER_GDN, MIXER_GDN, MIXER_ATTENTION, MIXER_ATTENTION },
		.vocab_rows = 203, .n_token_ids = 199, .norm_eps = 1e-6f, .max_positions = 4096,
		.n_q_heads = dense ? 12 : 8, .n_kv_heads = dense ? 2 : 1, .head_dim = 32, .rotary_dim = 8,
		.rope_theta = 1e7, .mrope_section = { 2, 1, 1 }, .yarn_factor = 1,
		.yarn_original = 4096, .yarn_attention_factor = 1,
		.gdn_k_heads = 2, .gdn_v_heads = dense ? 6 : 4, .gdn_head_dim = 16, .gdn_conv_width = 4,
		.n_mtp_layers = 1,
	};

	if (dense) {
		s.dense_inter = 112;
	} else {
		s.n_experts = 5;
		s.n_experts_used = 2;
		s.expert_inter = 48;
		s.shared_inter = 40;
	}
	return s;
}

static uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x7feb352du;
	x = (x ^ x >> 15) * 0x846ca68bu;
	return x ^ x >> 16;
}

static void size_of(const struct model_shape *s, enum weight_slot slot, uint32_t *rows,
		    uint32_t *cols)
{
	uint32_t kd = s->gdn_k_heads * s->gdn_head_dim, vd = s->gdn_v_heads * s->gdn_head_dim;
	uint32_t qd = s->n_q_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim, h = s->hidden;
	const uint32_t size[W_N_SLOTS][2] = {
		[W_EMBED] = { s->vocab_rows, h }, [W_HEAD] = { s->vocab_rows, h },
		[W_FINAL_NORM] = { 1, h }, [W_MTP_FC] = { h, 2 * h }, [W_MTP_EMBED_NORM] = { 1, h },
		[W_MTP_HIDDEN_NORM] = { 1, h }, [W_MTP_NORM] = { 1, h }, [W_INPUT_NORM] = { 1, h },
		[W_POST_NORM] = { 1, h }, [W_GDN_QKV] = { 2 * kd + vd, h }, [W_GDN_Z] = { vd, h },
		[W_GDN_A] = { s->gdn_v_heads, h }, [W_GDN_B] = { s->gdn_v_heads, h },
		[W_GDN_CONV] = { 2 * kd + vd, s->gdn_conv_width }, [W_GDN_A_LOG] = { 1, s->gdn_v_heads },
		[W_GDN_DT_BIAS] = { 1, s->gdn_v_heads }, [W_GDN_NORM] = { 1, s->gdn_head_dim },
		[W_GDN_OUT] = { h, vd }, [W_Q] = { 2 * qd, h }, [W_K] = { kv, h }, [W_V] = { kv, h },
		[W_O] = { h, qd }, [W_Q_NORM] = { 1, s->head_dim }, [W_K_NORM] = { 1, s->head_dim },
		[W_ROUTER] = { s->n_experts, h }, [W_EXPERT_GATE] = { s->expert_inter, h },
		[W_EXPERT_UP] = { s->expert_inter, h }, [W_EXPERT_DOWN] = { h, s->expert_inter },
		[W_SHARED_GATE] = { s->shared_inter, h }, [W_SHARED_UP] = { s->shared_inter, h },
		[W_SHARED_DOWN] = { h, s->shared_inter }, [W_SHARED_SCORE] = { 1, h },
		[W_MLP_GATE] = { s->dense_inter, h }, [W_MLP_UP] = { s->dense_inter, h },
		[W_MLP_DOWN] = { h, s->dense_inter },
	};

	*rows = size[slot][0];
	*cols = size[slot][1];
}

static int find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		struct weight_ref *ret)
{
	struct random_model *m = ctx;
	uint32_t rows, cols, key = mix((uint32_t)slot * 977u + layer * 31u + expert * 7919u + 1u);
	float *w;

	size_of(&m->shape, slot, &rows, &cols);
	if (rows == 0 || cols == 0 || m->n_rooms == 4096)
		return -ENOENT;
	w = malloc(sizeof(*w) * rows * cols);
	if (!w)
		return -ENOMEM;
	m->rooms[m->n_rooms++] = w;
	float scale = rows == 1 ? 0.3f : 2.0f / sqrtf((float)cols);
	for (uint32_t i = 0; i < rows * cols; i++)
		w[i] = ((float)(mix(key + i) >> 8) / 8388608.0f - 1.0f) * scale;
	*ret = (struct weight_ref){ .format = WF_F32, .rows = rows, .cols = cols, .data = w,
				      .name = weight_slot_name(slot) };
	return 0;
}

void random_model_init(struct random_model *m, bool dense)
{
	m->shape = random_shape(dense);
	m->source = (struct weight_source){ .ctx = m, .find = find, .total_bytes = 1 };
	m->n_rooms = 0;
}

void random_model_done(struct random_model *m)
{
	for (uint32_t i = 0; i < m->n_rooms; i++)
		free(m->rooms[i]);
	m->n_rooms = 0;
}
