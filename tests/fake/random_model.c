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
	uint64_t seed;
	struct weight_source source;
	struct made made[MAX_WEIGHTS];
	uint32_t n_made;
};

struct model_shape random_shape(void)
{
	struct model_shape s = {
		.hidden = 128, .n_layers = 4, .vocab_rows = 256, .n_token_ids = 250,
		.norm_eps = 1e-6f, .max_positions = 4096,
		.n_q_heads = 8, .n_kv_heads = 1, .head_dim = 256, .rotary_dim = 64,
		.rope_theta = 1e7, .mrope_section = { 11, 11, 10 },
		.yarn_factor = 1, .yarn_attention_factor = 1,
		.gdn_k_heads = 1, .gdn_v_heads = 2, .gdn_head_dim = 128, .gdn_conv_width = 4,
		.n_experts = 4, .n_experts_used = 2, .expert_inter = 128, .shared_inter = 128,
		.n_mtp_layers = 1,
	};

	for (uint32_t i = 0; i < s.n_layers; i++)
		s.mixer[i] = i % 4 == 3 ? MIXER_ATTENTION : MIXER_GDN;
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

/* Whether this layer has that weight, and its shape. */
static bool layer_shape(const struct model_shape *s, enum weight_slot slot, uint32_t layer,
			uint32_t *rows, uint32_t *cols)
{
	const uint32_t h = s->hidden, dim = s->gdn_head_dim, v = s->gdn_v_heads;
	bool gdn = layer < s->n_layers && s->mixer[layer] == MIXER_GDN;
	uint32_t r = 1, c = h;

	switch (slot) {
	case W_INPUT_NORM: case W_POST_NORM: break;
	case W_GDN_QKV: r = (2 * s->gdn_k_heads + v) * dim; break;
	case W_GDN_Z: r = v * dim; break;
	case W_GDN_A: case W_GDN_B: r = v; break;
	case W_GDN_CONV: r = (2 * s->gdn_k_heads + v) * dim; c = s->gdn_conv_width; break;
	case W_GDN_A_LOG: case W_GDN_DT_BIAS: c = v; break;
	case W_GDN_NORM: c = dim; break;
	case W_GDN_OUT: r = h; c = v * dim; break;
	case W_Q: r = s->n_q_heads * 2 * s->head_dim; break;
	case W_K: case W_V: r = s->n_kv_heads * s->head_dim; break;
	case W_O: r = h; c = s->n_q_heads * s->head_dim; break;
	case W_Q_NORM: case W_K_NORM: c = s->head_dim; break;
	case W_ROUTER: r = s->n_experts; break;
	case W_EXPERT_GATE: case W_EXPERT_UP: r = s->expert_inter; break;
	case W_EXPERT_DOWN: r = h; c = s->expert_inter; break;
	case W_SHARED_GATE: case W_SHARED_UP: r = s->shared_inter; break;
	case W_SHARED_DOWN: r = h; c = s->shared_inter; break;
	case W_SHARED_SCORE: break;
	default: return false;
	}
	*rows = r;
	*cols = c;
	return slot < W_GDN_QKV || slot > W_K_NORM || (slot < W_Q) == gdn;
}

static bool shape_of(const struct model_shape *s, enum weight_slot slot, uint32_t layer,
		     uint32_t *rows, uint32_t *cols)
{
	if (slot >= W_PER_LAYER)
		return layer_shape(s, slot, layer, rows, cols);
	*rows = slot == W_EMBED || slot == W_HEAD ? s->vocab_rows : slot == W_MTP_FC ? s->hidden : 1;
	*cols = slot == W_MTP_FC ? 2 * s->hidden : s->hidden;
	return true;
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

static int make(struct random_model *m, enum weight_slot slot, uint32_t layer, uint32_t expert,
		uint32_t rows, uint32_t cols, struct weight_ref *ret)
{
	size_t n = (size_t)rows * cols;
	uint16_t *p = malloc(n * sizeof(*p));
	uint64_t key = mix(m->seed * 1000003 + slot * 10007 + layer * 101 + expert);

	if (!p || m->n_made == MAX_WEIGHTS) {
		free(p);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = bf16(value_of(slot, rows == 1 ? 100 : cols, mix(key + i)));
	*ret = (struct weight_ref){ .format = WF_BF16, .rows = rows, .cols = cols, .data = p,
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
	if (!shape_of(&m->shape, slot, layer, &rows, &cols))
		return -ENOENT;
	return make(m, slot, layer, expert, rows, cols, ret);
}

int random_model_new(const struct model_shape *shape, uint64_t seed, struct random_model **ret)
{
	struct random_model *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->shape = *shape;
	m->seed = seed;
	m->source = (struct weight_source){ m, find, 1 };
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
