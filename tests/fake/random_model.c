/* random_model.c - see random_model.h. */
#include "tests/fake/random_model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WEIGHTS 1024

struct made {
	enum weight_slot slot;
	uint32_t layer, expert;
	struct weight_ref ref;
};

struct random_model {
	struct model_shape shape;
	enum weight_format format;
	uint64_t seed;
	struct weight_source source;
	struct made made[MAX_WEIGHTS];
	uint32_t n_made;
};

/* The sizes of RANDOM_MOE and RANDOM_DENSE. */
static struct model_shape odd_shape(bool dense)
{
	struct model_shape s = {
		.hidden = 64, .n_layers = 4, .vocab_rows = 203, .n_token_ids = 199,
		.norm_eps = 1e-6f, .max_positions = 4096,
		.n_q_heads = dense ? 12 : 8, .n_kv_heads = dense ? 2 : 1, .head_dim = 32,
		.rotary_dim = 8, .rope_theta = 1e7, .mrope_section = { 2, 1, 1 },
		.yarn_factor = 1, .yarn_original = 4096, .yarn_attention_factor = 1,
		.gdn_k_heads = 2, .gdn_v_heads = dense ? 6 : 4, .gdn_head_dim = 16,
		.gdn_conv_width = 4, .n_mtp_layers = 1,
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

static struct model_shape whole_shape(void)
{
	return (struct model_shape){
		.hidden = 128, .n_layers = 4, .vocab_rows = 256, .n_token_ids = 250,
		.norm_eps = 1e-6f, .max_positions = 4096,
		.n_q_heads = 8, .n_kv_heads = 1, .head_dim = 256, .rotary_dim = 64,
		.rope_theta = 1e7, .mrope_section = { 11, 11, 10 },
		.yarn_factor = 1, .yarn_attention_factor = 1,
		.gdn_k_heads = 1, .gdn_v_heads = 2, .gdn_head_dim = 128, .gdn_conv_width = 4,
		.n_experts = 4, .n_experts_used = 2, .expert_inter = 128, .shared_inter = 128,
		.n_mtp_layers = 1,
	};
}

struct model_shape random_shape(enum random_shape which)
{
	struct model_shape s = which == RANDOM_WHOLE ? whole_shape() :
						       odd_shape(which == RANDOM_DENSE);

	/* the last one is the MTP layer's */
	for (uint32_t i = 0; i <= s.n_layers; i++)
		s.mixer[i] = i % 4 == 3 || i == s.n_layers ? MIXER_ATTENTION : MIXER_GDN;
	return s;
}

static uint64_t mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53u;
	return h ^ h >> 33;
}

static uint16_t bf16(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* {0, 0}: this shape has none. */
static void size_of(const struct model_shape *s, enum weight_slot slot, uint32_t *rows,
		    uint32_t *cols)
{
	uint32_t kd = s->gdn_k_heads * s->gdn_head_dim, vd = s->gdn_v_heads * s->gdn_head_dim;
	uint32_t qd = s->n_q_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim, h = s->hidden;
	uint32_t v = s->gdn_v_heads, shared = s->n_experts ? s->shared_inter : 0;
	const uint32_t size[W_N_SLOTS][2] = {
		[W_EMBED] = { s->vocab_rows, h }, [W_HEAD] = { s->vocab_rows, h },
		[W_FINAL_NORM] = { 1, h }, [W_MTP_FC] = { h, 2 * h }, [W_MTP_NORM] = { 1, h },
		[W_MTP_EMBED_NORM] = { 1, h }, [W_MTP_HIDDEN_NORM] = { 1, h },
		[W_INPUT_NORM] = { 1, h }, [W_POST_NORM] = { 1, h },
		[W_GDN_QKV] = { 2 * kd + vd, h }, [W_GDN_Z] = { vd, h }, [W_GDN_A] = { v, h },
		[W_GDN_B] = { v, h }, [W_GDN_CONV] = { 2 * kd + vd, s->gdn_conv_width },
		[W_GDN_A_LOG] = { 1, v }, [W_GDN_DT_BIAS] = { 1, v },
		[W_GDN_NORM] = { 1, s->gdn_head_dim }, [W_GDN_OUT] = { h, vd },
		[W_Q] = { 2 * qd, h }, [W_K] = { kv, h }, [W_V] = { kv, h }, [W_O] = { h, qd },
		[W_Q_NORM] = { 1, s->head_dim }, [W_K_NORM] = { 1, s->head_dim },
		[W_ROUTER] = { s->n_experts, h }, [W_EXPERT_GATE] = { s->expert_inter, h },
		[W_EXPERT_UP] = { s->expert_inter, h }, [W_EXPERT_DOWN] = { h, s->expert_inter },
		[W_SHARED_GATE] = { shared, h }, [W_SHARED_UP] = { shared, h },
		[W_SHARED_DOWN] = { h, shared }, [W_SHARED_SCORE] = { shared ? 1 : 0, h },
		[W_MLP_GATE] = { s->dense_inter, h }, [W_MLP_UP] = { s->dense_inter, h },
		[W_MLP_DOWN] = { h, s->dense_inter },
	};

	*rows = size[slot][0];
	*cols = size[slot][1];
}

/* Attention layers have no GDN weights, nor the other way round. */
static bool layer_has(const struct model_shape *s, enum weight_slot slot, uint32_t layer)
{
	bool gdn = layer < s->n_layers && s->mixer[layer] == MIXER_GDN;

	return slot < W_GDN_QKV || slot > W_K_NORM || (slot < W_Q) == gdn;
}

/* Norms (1 + w) near 0 and the plain one near 1, decays of all speeds, the rest like noise. */
static float value_of(enum weight_slot slot, uint32_t cols, uint64_t h)
{
	float u = (float)(h >> 40) / (float)(1 << 23) - 1.0f;	/* -1 .. 1 */

	switch (slot) {
	case W_GDN_NORM:
		return 1.0f + 0.1f * u;
	case W_GDN_A_LOG:
		return u;
	case W_GDN_DT_BIAS:
		return 2.0f * u;
	case W_GDN_CONV:
		return 0.5f * u;
	case W_EMBED:
		return u;
	case W_HEAD:
		return 3.0f * u / sqrtf((float)cols);
	default:
		return cols > 1 ? 1.7f * u / sqrtf((float)cols) : u;
	}
}

/* Writes weight i of a run, in the model's format. */
static void put(const struct random_model *m, void *data, size_t i, float x)
{
	if (m->format == WF_F32)
		((float *)data)[i] = x;
	else
		((uint16_t *)data)[i] = bf16(x);
}

static int make(struct random_model *m, enum weight_slot slot, uint32_t layer, uint32_t expert,
		uint32_t rows, uint32_t cols, struct weight_ref *ret)
{
	size_t n = (size_t)rows * cols;
	void *p = malloc(n * (m->format == WF_F32 ? sizeof(float) : sizeof(uint16_t)));
	uint64_t key = mix(m->seed * 1000003 + slot * 10007 + layer * 101 + expert);

	if (!p || m->n_made == MAX_WEIGHTS) {
		free(p);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		put(m, p, i, value_of(slot, rows == 1 ? 100 : cols, mix(key + i)));
	*ret = (struct weight_ref){ .format = m->format, .rows = rows, .cols = cols, .data = p,
				    .name = weight_slot_name(slot) };
	m->made[m->n_made++] = (struct made){ slot, layer, expert, *ret };
	return 0;
}

static int find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		struct weight_ref *ret)
{
	struct random_model *m = ctx;
	uint32_t rows, cols;

	for (uint32_t i = 0; i < m->n_made; i++) {
		const struct made *k = &m->made[i];

		if (k->slot == slot && k->layer == layer && k->expert == expert) {
			*ret = k->ref;
			return 0;
		}
	}
	size_of(&m->shape, slot, &rows, &cols);
	if (!rows || !cols || (slot >= W_PER_LAYER && !layer_has(&m->shape, slot, layer)))
		return -ENOENT;
	return make(m, slot, layer, expert, rows, cols, ret);
}

int random_model_new(const struct model_shape *shape, enum weight_format format, uint64_t seed,
		     struct random_model **ret)
{
	struct random_model *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->shape = *shape;
	m->format = format;
	m->seed = seed;
	m->source = (struct weight_source){ .ctx = m, .find = find, .total_bytes = 1 };
	*ret = m;
	return 0;
}

struct random_model *random_model_free(struct random_model *m)
{
	if (!m)
		return NULL;
	for (uint32_t i = 0; i < m->n_made; i++)
		free((void *)(uintptr_t)m->made[i].ref.data);
	free(m);
	return NULL;
}

const struct weight_source *random_model_source(struct random_model *m)
{
	return &m->source;
}
