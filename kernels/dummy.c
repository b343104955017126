/* dummy.c - which weights a made-up model has, and in which formats: see dummy.h. */
#include "kernels/dummy.h"

#include <errno.h>
#include <math.h>
#include <string.h>

const char *dummy_recipe_name(enum dummy_recipe r)
{
	static const char *const names[DUMMY_N] = { "bf16", "fp8", "nvfp4", "nvfp4-fp8" };

	return (unsigned)r < DUMMY_N ? names[r] : "?";
}

int dummy_recipe_of(const char *name, enum dummy_recipe *ret)
{
	for (int r = 0; r < DUMMY_N; r++)
		if (strcmp(name, dummy_recipe_name((enum dummy_recipe)r)) == 0) {
			*ret = (enum dummy_recipe)r;
			return 0;
		}
	return -EINVAL;
}

static void size_of(const struct model_shape *m, enum weight_slot slot, uint32_t *rows,
		    uint32_t *cols)
{
	const uint32_t value = m->gdn_v_heads * m->gdn_head_dim, head = m->head_dim;
	const uint32_t channels = 2 * m->gdn_k_heads * m->gdn_head_dim + value;

	*cols = m->hidden;
	switch (slot) {
	case W_EMBED: case W_HEAD: *rows = m->vocab_rows; break;
	case W_MTP_FC: *rows = m->hidden; *cols = 2 * m->hidden; break;
	case W_GDN_QKV: *rows = channels; break;
	case W_GDN_Z: *rows = value; break;
	case W_GDN_A: case W_GDN_B: *rows = m->gdn_v_heads; break;
	case W_GDN_CONV: *rows = channels; *cols = m->gdn_conv_width; break;
	case W_GDN_A_LOG: case W_GDN_DT_BIAS: *rows = 1; *cols = m->gdn_v_heads; break;
	case W_GDN_NORM: *rows = 1; *cols = m->gdn_head_dim; break;
	case W_GDN_OUT: *rows = m->hidden; *cols = value; break;
	case W_Q: *rows = 2 * m->n_q_heads * head; break;
	case W_K: case W_V: *rows = m->n_kv_heads * head; break;
	case W_O: *rows = m->hidden; *cols = m->n_q_heads * head; break;
	case W_Q_NORM: case W_K_NORM: *rows = 1; *cols = head; break;
	case W_ROUTER: *rows = m->n_experts; break;
	case W_EXPERT_GATE: case W_EXPERT_UP: *rows = m->expert_inter; break;
	case W_EXPERT_DOWN: *rows = m->hidden; *cols = m->expert_inter; break;
	case W_SHARED_GATE: case W_SHARED_UP: *rows = m->shared_inter; break;
	case W_SHARED_DOWN: *rows = m->hidden; *cols = m->shared_inter; break;
	case W_MLP_GATE: case W_MLP_UP: *rows = m->dense_inter; break;
	case W_MLP_DOWN: *rows = m->hidden; *cols = m->dense_inter; break;
	case W_FINAL_NORM:
	case W_MTP_EMBED_NORM:
	case W_MTP_HIDDEN_NORM:
	case W_MTP_NORM:
	case W_PER_LAYER:
	case W_POST_NORM: case W_SHARED_SCORE: case W_N_SLOTS: *rows = 1; break;
	}
}

enum group {
	GROUP_PLAIN,
	GROUP_HEAD,
	GROUP_GDN,
	GROUP_ATTENTION,
	GROUP_EXPERT,
	GROUP_SHARED,
	GROUP_DENSE
};

static enum group group_of(enum weight_slot slot)
{
	switch (slot) {
	case W_HEAD: return GROUP_HEAD;
	case W_GDN_QKV: case W_GDN_Z: case W_GDN_OUT: return GROUP_GDN;
	case W_Q: case W_K: case W_V: case W_O: return GROUP_ATTENTION;
	case W_EXPERT_GATE: case W_EXPERT_UP: case W_EXPERT_DOWN: return GROUP_EXPERT;
	case W_SHARED_GATE: case W_SHARED_UP: case W_SHARED_DOWN: return GROUP_SHARED;
	case W_MLP_GATE: case W_MLP_UP: case W_MLP_DOWN: return GROUP_DENSE;
	default: return GROUP_PLAIN;
	}
}

static enum weight_format format_of(enum dummy_recipe r, enum group g)
{
	if (g == GROUP_PLAIN)
		return WF_BF16;
	switch (r) {
	case DUMMY_FP8:
		return g == GROUP_HEAD ? WF_BF16 : WF_FP8;
	case DUMMY_NVFP4:
		return g == GROUP_HEAD || g == GROUP_GDN ? WF_BF16 : WF_NVFP4;
	case DUMMY_NVFP4_FP8:
		return g == GROUP_EXPERT || g == GROUP_DENSE ? WF_NVFP4 : WF_FP8;
	case DUMMY_BF16: case DUMMY_N: break;
	}
	return WF_BF16;
}

/* Whether a model of this shape has the weight. */
static bool has(const struct model_shape *m, enum weight_slot slot, uint32_t layer)
{
	const bool attention = layer >= m->n_layers || m->mixer[layer] == MIXER_ATTENTION;

	if (slot < W_PER_LAYER)
		return slot < W_MTP_FC || m->n_mtp_layers;
	if (layer >= m->n_layers + m->n_mtp_layers)
		return false;
	if (slot >= W_GDN_QKV && slot <= W_GDN_OUT)
		return !attention;
	if (slot >= W_Q && slot <= W_K_NORM)
		return attention;
	if (slot >= W_ROUTER && slot <= W_EXPERT_DOWN)
		return m->n_experts;
	if (slot >= W_SHARED_GATE && slot <= W_SHARED_SCORE)
		return m->n_experts && m->shared_inter;
	return slot < W_MLP_GATE || !m->n_experts;
}

static int find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		struct weight_ref *ret)
{
	const struct dummy *d = ctx;

	(void)expert;
	if ((unsigned)slot >= W_N_SLOTS || !has(&d->shape, slot, layer))
		return -ENOENT;
	*ret = (struct weight_ref){ .name = weight_slot_name(slot),
				    .format = format_of(d->recipe, group_of(slot)),
				    .scale_format = WF_BF16,
				    .global = 1,
				    .streamed = true };
	size_of(&d->shape, slot, &ret->rows, &ret->cols);
	if (ret->format == WF_FP8) {
		ret->span_rows = d->recipe == DUMMY_FP8 ? 128 : 1;
		ret->span_cols = d->recipe == DUMMY_FP8 ? 128 : ret->cols;
	} else if (ret->format == WF_NVFP4) {
		ret->scale_format = WF_FP8;
		ret->span_rows = 1;
		ret->span_cols = 16;
		/* mean squares: of the sixteen e2m1 numbers, and of the scales 1 to 1.875 */
		ret->global =
			(float)(dummy_gain(slot) / sqrt(ret->cols * 8.5625 * 2.1484375));
	}
	return 0;
}

struct weight_source dummy_source(struct dummy *d)
{
	return (struct weight_source){ .ctx = d, .find = find, .stream = dummy_stream };
}
