/* numeric_class.c - see numeric_class.h. */
#include "worker/numeric_class.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "lib/buf.h"
#include "lib/own.h"

#define SAMPLE_BYTES ((size_t)4096)

static void hash_text(XXH3_state_t *x, const char *s, size_t n)
{
	XXH3_128bits_update(x, s, n);
	XXH3_128bits_update(x, "", 1);	/* so that two texts never run together */
}

static int put_shape(struct buf *b, const struct model_shape *s)
{
	buf_printf(b, "hidden %u layers %u vocab %u ids %u eps %a positions %u ", s->hidden,
		   s->n_layers, s->vocab_rows, s->n_token_ids, (double)s->norm_eps,
		   s->max_positions);
	for (uint32_t i = 0; i < s->n_layers && i < MODEL_MAX_LAYERS; i++)
		buf_putc(b, s->mixer[i] == MIXER_GDN ? 'g' : 'a');
	buf_printf(b, " attention %u %u %u rope %u %a %u %u %u yarn %a %u %a", s->n_q_heads,
		   s->n_kv_heads, s->head_dim, s->rotary_dim, s->rope_theta, s->mrope_section[0],
		   s->mrope_section[1], s->mrope_section[2], s->yarn_factor, s->yarn_original,
		   s->yarn_attention_factor);
	buf_printf(b, " gdn %u %u %u %u", s->gdn_k_heads, s->gdn_v_heads, s->gdn_head_dim,
		   s->gdn_conv_width);
	buf_printf(b, " mlp %u %u %u %u %u mtp %u", s->n_experts, s->n_experts_used,
		   s->expert_inter, s->shared_inter, s->dense_inter, s->n_mtp_layers);
	return buf_ok(b) ? 0 : -ENOMEM;
}

static void hash_samples(XXH3_state_t *x, const char *p, size_t n)
{
	if (n <= 3 * SAMPLE_BYTES) {
		XXH3_128bits_update(x, p, n);
		return;
	}
	XXH3_128bits_update(x, p, SAMPLE_BYTES);
	XXH3_128bits_update(x, p + n / 2, SAMPLE_BYTES);
	XXH3_128bits_update(x, p + n - SAMPLE_BYTES, SAMPLE_BYTES);
}

static int hash_weight(XXH3_state_t *x, const struct weight_source *src, enum weight_slot slot,
		       uint32_t layer, uint32_t expert)
{
	struct weight_ref w;
	char text[160];
	int n, r = src->find(src->ctx, slot, layer, expert, &w);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	n = snprintf(text, sizeof(text), "%d %" PRIu32 " %" PRIu32 " %d %" PRIu32 " %" PRIu32,
		     (int)slot, layer, expert, (int)w.format, w.rows, w.cols);
	if (!weight_is_plain(w.format))
		n += snprintf(text + n, sizeof(text) - (size_t)n, " scale %d %" PRIu32 " %" PRIu32 " %a",
			      (int)w.scale_format, w.span_rows, w.span_cols, (double)w.global);
	hash_text(x, text, (size_t)n);
	hash_samples(x, w.data, weight_data_bytes(&w));
	if (!weight_is_plain(w.format))
		hash_samples(x, w.scale, weight_scale_bytes(&w));
	return 0;
}

static bool of_expert(enum weight_slot s)
{
	return s == W_EXPERT_GATE || s == W_EXPERT_UP || s == W_EXPERT_DOWN;
}

static int hash_weights(XXH3_state_t *x, const struct model_shape *shape,
			const struct weight_source *src)
{
	int r = 0;

	for (int slot = 0; slot < W_N_SLOTS && r == 0; slot++) {
		uint32_t n_layers = slot < W_PER_LAYER ? 1 : shape->n_layers + shape->n_mtp_layers;
		uint32_t n_experts = of_expert((enum weight_slot)slot) ? shape->n_experts : 1;

		for (uint32_t l = 0; l < n_layers && r == 0; l++)
			for (uint32_t k = 0; k < n_experts && r == 0; k++)
				r = hash_weight(x, src, (enum weight_slot)slot, l, k);
	}
	return r;
}

int numeric_class(const char *device_text, const struct model_shape *shape,
		  const struct weight_source *w, const char *version,
		  char ret[NUMERIC_CLASS_BYTES])
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	XXH3_state_t *x = XXH3_createState();
	XXH128_hash_t h;
	int r;

	if (!x)
		return -ENOMEM;
	XXH3_128bits_reset(x);
	buf_printf(&b, "hearth %s device %s ", version, device_text);
	r = put_shape(&b, shape);
	if (r == 0) {
		hash_text(x, b.p, b.n);
		r = hash_weights(x, shape, w);
	}
	h = XXH3_128bits_digest(x);
	XXH3_freeState(x);
	if (r == 0)
		snprintf(ret, NUMERIC_CLASS_BYTES, "%016" PRIx64 "%016" PRIx64, h.high64, h.low64);
	return r;
}
