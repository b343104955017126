/* quant_folder.c - see quant_folder.h. */
#include "tests/unit/quant_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/own.h"
#include "tests/unit/unit.h"

static const char *const names[W_N_SLOTS] = {
	[W_EMBED] = "model.language_model.embed_tokens",
	[W_HEAD] = "lm_head",
	[W_FINAL_NORM] = "model.language_model.norm",
	[W_MTP_FC] = "mtp.fc",
	[W_MTP_EMBED_NORM] = "mtp.pre_fc_norm_embedding",
	[W_MTP_HIDDEN_NORM] = "mtp.pre_fc_norm_hidden",
	[W_MTP_NORM] = "mtp.norm",
	[W_INPUT_NORM] = "input_layernorm",
	[W_POST_NORM] = "post_attention_layernorm",
	[W_GDN_QKV] = "linear_attn.in_proj_qkv",
	[W_GDN_Z] = "linear_attn.in_proj_z",
	[W_GDN_A] = "linear_attn.in_proj_a",
	[W_GDN_B] = "linear_attn.in_proj_b",
	[W_GDN_CONV] = "linear_attn.conv1d",
	[W_GDN_A_LOG] = "linear_attn.A_log",
	[W_GDN_DT_BIAS] = "linear_attn.dt_bias",
	[W_GDN_NORM] = "linear_attn.norm",
	[W_GDN_OUT] = "linear_attn.out_proj",
	[W_Q] = "self_attn.q_proj",
	[W_K] = "self_attn.k_proj",
	[W_V] = "self_attn.v_proj",
	[W_O] = "self_attn.o_proj",
	[W_Q_NORM] = "self_attn.q_norm",
	[W_K_NORM] = "self_attn.k_norm",
	[W_ROUTER] = "mlp.gate",
	[W_EXPERT_GATE] = "gate_proj",
	[W_EXPERT_UP] = "up_proj",
	[W_EXPERT_DOWN] = "down_proj",
	[W_SHARED_GATE] = "mlp.shared_expert.gate_proj",
	[W_SHARED_UP] = "mlp.shared_expert.up_proj",
	[W_SHARED_DOWN] = "mlp.shared_expert.down_proj",
	[W_SHARED_SCORE] = "mlp.shared_expert_gate",
	[W_MLP_GATE] = "mlp.gate_proj",
	[W_MLP_UP] = "mlp.up_proj",
	[W_MLP_DOWN] = "mlp.down_proj",
};

void folder_add(struct folder *f, const char *name, const char *dtype, uint32_t rows, uint32_t cols,
		const void *data, size_t bytes)
{
	struct file_tensor *t = &f->t[f->n++];

	assert_true(f->n <= sizeof(f->t) / sizeof(f->t[0]));
	*t = (struct file_tensor){ .n_dims = cols ? 2 : rows ? 1 : 0, .dim = { rows, cols },
				   .data = data, .bytes = bytes };
	snprintf(t->name, sizeof(t->name), "%s", name);
	snprintf(t->dtype, sizeof(t->dtype), "%s", dtype);
}

static void add_part(struct folder *f, const char *module, const char *part, const char *dtype,
		     uint32_t rows, uint32_t cols, const void *data, size_t bytes)
{
	char name[160];

	snprintf(name, sizeof(name), "%s.%s", module, part);
	folder_add(f, name, dtype, rows, cols, data, bytes);
}

static void add_scalar(struct folder *f, const char *module, const char *part, uint32_t n, float x)
{
	float *at = &f->scalars[f->n_scalars++];

	assert_true(f->n_scalars <= sizeof(f->scalars) / sizeof(f->scalars[0]));
	*at = x;
	add_part(f, module, part, "F32", n, 0, at, sizeof(*at));
}

static void add_nvfp4(struct folder *f, const char *module, const struct weight_ref *w,
		      bool modelopt)
{
	add_part(f, module, modelopt ? "weight" : "weight_packed", "U8", w->rows, w->cols / 2,
		 w->data, weight_data_bytes(w));
	add_part(f, module, "weight_scale", "F8_E4M3", w->rows, w->cols / 16, w->scale,
		 weight_scale_bytes(w));
	if (modelopt) {
		add_scalar(f, module, "weight_scale_2", 0, w->global);
		add_scalar(f, module, "input_scale", 0, 0.01f);
	} else {
		add_scalar(f, module, "weight_global_scale", 1, 1.0f / w->global);
		add_scalar(f, module, "input_global_scale", 1, 100);
	}
}

static void add_fp8(struct folder *f, const char *module, const struct weight_ref *w)
{
	uint32_t rows = weight_scale_rows(w), cols = weight_scale_cols(w);
	const char *type = weight_format_name(w->scale_format);

	add_part(f, module, "weight", "F8_E4M3", w->rows, w->cols, w->data, weight_data_bytes(w));
	if (w->span_rows == 128)
		add_part(f, module, "weight_scale_inv", type, rows, cols, w->scale,
			 weight_scale_bytes(w));
	else if (w->span_rows == 1)
		add_part(f, module, "weight_scale", type, rows, 1, w->scale, weight_scale_bytes(w));
	else
		add_part(f, module, "weight_scale", type, 0, 0, w->scale, weight_scale_bytes(w));
}

static void add_weight(struct folder *f, struct quant_model *m, enum weight_slot slot,
		       uint32_t layer, uint32_t expert)
{
	bool bare = slot == W_GDN_A_LOG || slot == W_GDN_DT_BIAS, mtp = layer == m->shape.n_layers;
	char prefix[64] = "", module[120];
	struct weight_ref w;

	if (m->source.find(m->source.ctx, slot, layer, expert, &w) < 0)
		return;
	if (slot >= W_PER_LAYER && mtp)
		snprintf(prefix, sizeof(prefix), "mtp.layers.0.");
	else if (slot >= W_PER_LAYER)
		snprintf(prefix, sizeof(prefix), "model.language_model.layers.%u.", layer);
	if (slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN)
		snprintf(module, sizeof(module), "%smlp.experts.%u.%s", prefix, expert,
			 names[slot]);
	else
		snprintf(module, sizeof(module), "%s%s", prefix, names[slot]);
	if (w.format == WF_NVFP4)
		add_nvfp4(f, module, &w, layer % 2);
	else if (w.format == WF_FP8)
		add_fp8(f, module, &w);
	else if (bare)
		folder_add(f, module, "F32", w.cols, 0, w.data, weight_data_bytes(&w));
	else
		add_part(f, module, "weight", "F32", w.rows == 1 ? w.cols : w.rows,
			 w.rows == 1 ? 0 : w.cols, w.data, weight_data_bytes(&w));
}

static bool of_mixer(enum weight_slot slot, enum mixer_kind mixer)
{
	if (slot >= W_GDN_QKV && slot <= W_GDN_OUT)
		return mixer == MIXER_GDN;
	return slot < W_Q || slot > W_K_NORM || mixer == MIXER_ATTENTION;
}

void folder_fill(struct folder *f, struct quant_model *m)
{
	const struct model_shape *s = &m->shape;

	f->n = f->n_scalars = 0;
	for (int slot = 0; slot < W_PER_LAYER; slot++)
		add_weight(f, m, (enum weight_slot)slot, 0, 0);
	for (uint32_t l = 0; l <= s->n_layers; l++)
		for (int slot = W_PER_LAYER; slot < W_N_SLOTS; slot++) {
			bool expert = slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN;

			if (!of_mixer((enum weight_slot)slot, (enum mixer_kind)s->mixer[l]))
				continue;
			for (uint32_t x = 0; x < (expert ? s->n_experts : 1); x++)
				add_weight(f, m, (enum weight_slot)slot, l, x);
		}
}

/* ---- files ------------------------------------------------------------------------------ */

static void write_file(const char *dir, const char *name, const struct buf *b)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	EQ(fwrite(b->p, 1, b->n, f), b->n);
	fclose(f);
}

static void write_tensors(const struct folder *f, const char *dir, const char *name, bool mtp)
{
	CLEANUP(buf_donep) struct buf all = BUF_INIT, head = BUF_INIT, data = BUF_INIT;

	for (uint32_t i = 0; i < f->n; i++) {
		const struct file_tensor *t = &f->t[i];

		if ((strncmp(t->name, "mtp.", 4) == 0) != mtp)
			continue;
		buf_printf(&head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", head.n ? "," : "{",
			   t->name, t->dtype);
		for (uint32_t k = 0; k < t->n_dims; k++)
			buf_printf(&head, "%s%u", k ? "," : "", t->dim[k]);
		buf_printf(&head, "],\"data_offsets\":[%zu,%zu]}", data.n, data.n + t->bytes);
		buf_put(&data, t->data, t->bytes);
	}
	if (head.n == 0) {
		char path[256];

		snprintf(path, sizeof(path), "%s/%s", dir, name);
		unlink(path);
		return;
	}
	buf_putc(&head, '}');
	uint64_t n = head.n;
	buf_put(&all, &n, 8);
	buf_put(&all, head.p, head.n);
	OK(buf_put(&all, data.p, data.n));
	write_file(dir, name, &all);
}

void folder_write(const struct folder *f, const struct quant_model *m, const char *dir,
		  const char *extra)
{
	const struct model_shape *s = &m->shape;
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	buf_printf(&b,
		   "{\"model_type\":\"%s\",\"hidden_size\":%u,\"num_hidden_layers\":%u,"
		   "\"vocab_size\":%u,\"num_attention_heads\":%u,\"num_key_value_heads\":%u,"
		   "\"head_dim\":%u,\"max_position_embeddings\":%u,",
		   s->n_experts ? "qwen3_5_moe" : "qwen3_5", s->hidden, s->n_layers, s->vocab_rows,
		   s->n_q_heads, s->n_kv_heads, s->head_dim, s->max_positions);
	buf_printf(&b, "\"linear_num_key_heads\":%u,\"linear_num_value_heads\":%u,"
		   "\"linear_key_head_dim\":%u,\"linear_value_head_dim\":%u,"
		   "\"rope_parameters\":{\"mrope_section\":[2,1,1]},\"mtp_num_hidden_layers\":1,",
		   s->gdn_k_heads, s->gdn_v_heads, s->gdn_head_dim, s->gdn_head_dim);
	if (s->n_experts)
		buf_printf(
			&b,
			"\"num_experts\":%u,\"num_experts_per_tok\":%u,"
			"\"moe_intermediate_size\":%u,"
			"\"shared_expert_intermediate_size\":%u",
			s->n_experts, s->n_experts_used, s->expert_inter, s->shared_inter);
	else
		buf_printf(&b, "\"intermediate_size\":%u", s->dense_inter);
	OK(buf_printf(&b, "%s}", extra));
	write_file(dir, "config.json", &b);
	write_tensors(f, dir, "model.safetensors", false);
	write_tensors(f, dir, "mtp.safetensors", true);
}
