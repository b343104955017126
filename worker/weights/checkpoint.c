/* checkpoint.c - the weights of a model folder: see checkpoint.h. */
#include "worker/weights/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "worker/weights/module.h"
#include "worker/weights/tensor_set.h"

struct checkpoint {
	struct tensor_set *tensors;
	struct quant_config *quant;
	struct model_shape shape;
	bool tied;
	struct weight_ref *refs;	/* globals, then per layer the slots and the experts */
	struct weight_source source;
	struct checkpoint_facts facts;
	enum read_how how;
	struct read_stats stats;
};

/* ---- what the shape asks for ------------------------------------------------- */

static uint32_t all_layers(const struct model_shape *s)
{
	return s->n_layers + s->n_mtp_layers;
}

/* Places in refs: W_PER_LAYER globals; per layer W_N_SLOTS, then 3 per expert. */
static size_t ref_place(const struct model_shape *s, enum weight_slot slot, uint32_t layer,
			uint32_t expert)
{
	size_t per_layer = W_N_SLOTS + 3 * (size_t)s->n_experts;

	if (slot < W_PER_LAYER)
		return slot;
	if (slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN)
		return W_PER_LAYER + layer * per_layer + W_N_SLOTS + expert * 3 +
		       (size_t)(slot - W_EXPERT_GATE);
	return W_PER_LAYER + layer * per_layer + slot;
}

/* The tensors decided; what the configuration says otherwise is remembered, once in words. */
static void compare(struct checkpoint *c, const char *module, const struct weight_ref *w)
{
	const char *says = "";

	if (quant_config_agrees(c->quant, module, w->format, &says))
		return;
	if (c->facts.n_disagree++ == 0)
		snprintf(c->facts.first_disagree, sizeof(c->facts.first_disagree),
			 "%s is %s, and the configuration says %s", module,
			 weight_format_name(w->format), says);
}

struct want {
	enum weight_slot slot;
	const char *name;	/* after the layer's prefix */
	uint32_t rows, cols;
};

/* What a quantiser may turn into something else than F32, BF16 or F16. */
static bool is_matrix(enum weight_slot slot)
{
	switch (slot) {
	case W_EMBED:		/* one row is read, not multiplied */
	case W_FINAL_NORM:
	case W_MTP_EMBED_NORM:
	case W_MTP_HIDDEN_NORM:
	case W_MTP_NORM:
	case W_INPUT_NORM:
	case W_POST_NORM:
	case W_GDN_CONV:
	case W_GDN_A_LOG:
	case W_GDN_DT_BIAS:
	case W_GDN_NORM:
	case W_Q_NORM:
	case W_K_NORM:
		return false;
	default:
		return true;
	}
}

/* A matrix goes by the name of its module; compared with what the configuration says of it. */
static int take_matrix(struct checkpoint *c, const char *tensor, uint32_t rows, uint32_t cols,
		       struct weight_ref *ret, struct err *e)
{
	uint64_t bytes = 0;
	char name[200];

	/* without ".weight" */
	snprintf(name, sizeof(name), "%.*s", (int)(strlen(tensor) - 7), tensor);
	int r = module_matrix(c->tensors, name, rows, cols, ret, &bytes, e);
	c->source.total_bytes += bytes;
	if (r == 0)
		compare(c, name, ret);
	return r;
}

static int take_plain(struct checkpoint *c, const char *tensor, uint32_t rows, uint32_t cols,
		      struct weight_ref *ret, struct err *e)
{
	const uint32_t dims[3] = { 1, rows, cols };
	uint64_t bytes = 0;
	int r = module_plain(c->tensors, tensor, dims, ret, &bytes, e);

	c->source.total_bytes += bytes;
	return r;
}

static int take_all(struct checkpoint *c, const char *prefix, uint32_t layer,
		    const struct want *w, size_t n, struct err *e)
{
	char name[160];
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct weight_ref *ref = &c->refs[ref_place(&c->shape, w[i].slot, layer, 0)];

		if (w[i].rows == 0)
			continue;
		snprintf(name, sizeof(name), "%s%s", prefix, w[i].name);
		r = is_matrix(w[i].slot) ? take_matrix(c, name, w[i].rows, w[i].cols, ref, e) :
					   take_plain(c, name, w[i].rows, w[i].cols, ref, e);
	}
	return r;
}

#define TAKE_ALL(c, prefix, layer, list, e) \
	take_all(c, prefix, layer, list, sizeof(list) / sizeof((list)[0]), e)

static int take_globals(struct checkpoint *c, struct err *e)
{
	const struct model_shape *s = &c->shape;
	const struct want always[] = {
		{ W_EMBED, "embed_tokens.weight", s->vocab_rows, s->hidden },
		{ W_FINAL_NORM, "norm.weight", 1, s->hidden },
		{ W_HEAD, "lm_head.weight", c->tied ? 0 : s->vocab_rows, s->hidden },
	};
	const struct want mtp[] = {
		{ W_MTP_FC, "mtp.fc.weight", s->hidden, 2 * s->hidden },
		{ W_MTP_EMBED_NORM, "mtp.pre_fc_norm_embedding.weight", 1, s->hidden },
		{ W_MTP_HIDDEN_NORM, "mtp.pre_fc_norm_hidden.weight", 1, s->hidden },
		{ W_MTP_NORM, "mtp.norm.weight", 1, s->hidden },
	};
	int r = TAKE_ALL(c, "", 0, always, e);

	if (r == 0 && c->tied)
		c->refs[W_HEAD] = c->refs[W_EMBED];
	if (r == 0 && s->n_mtp_layers)
		r = TAKE_ALL(c, "", 0, mtp, e);
	return r;
}

static int take_mixer(struct checkpoint *c, const char *prefix, uint32_t l, struct err *e)
{
	const struct model_shape *s = &c->shape;
	uint32_t kd = s->gdn_k_heads * s->gdn_head_dim, vd = s->gdn_v_heads * s->gdn_head_dim;
	uint32_t qd = s->n_q_heads * s->head_dim, kvd = s->n_kv_heads * s->head_dim;
	const struct want gdn[] = {
		{ W_GDN_QKV, "linear_attn.in_proj_qkv.weight", 2 * kd + vd, s->hidden },
		{ W_GDN_Z, "linear_attn.in_proj_z.weight", vd, s->hidden },
		{ W_GDN_A, "linear_attn.in_proj_a.weight", s->gdn_v_heads, s->hidden },
		{ W_GDN_B, "linear_attn.in_proj_b.weight", s->gdn_v_heads, s->hidden },
		{ W_GDN_CONV, "linear_attn.conv1d.weight", 2 * kd + vd, s->gdn_conv_width },
		{ W_GDN_A_LOG, "linear_attn.A_log", 1, s->gdn_v_heads },
		{ W_GDN_DT_BIAS, "linear_attn.dt_bias", 1, s->gdn_v_heads },
		{ W_GDN_NORM, "linear_attn.norm.weight", 1, s->gdn_head_dim },
		{ W_GDN_OUT, "linear_attn.out_proj.weight", s->hidden, vd },
	};
	const struct want attention[] = {
		{ W_Q, "self_attn.q_proj.weight", 2 * qd, s->hidden },
		{ W_K, "self_attn.k_proj.weight", kvd, s->hidden },
		{ W_V, "self_attn.v_proj.weight", kvd, s->hidden },
		{ W_O, "self_attn.o_proj.weight", s->hidden, qd },
		{ W_Q_NORM, "self_attn.q_norm.weight", 1, s->head_dim },
		{ W_K_NORM, "self_attn.k_norm.weight", 1, s->head_dim },
	};

	return s->mixer[l] == MIXER_GDN ? TAKE_ALL(c, prefix, l, gdn, e) :
					  TAKE_ALL(c, prefix, l, attention, e);
}

/* One tensor of all experts. */
static int take_fused_one(struct checkpoint *c, const char *prefix, const char *name,
			  const uint32_t dims[3], struct weight_ref *ret, struct err *e)
{
	uint64_t bytes = 0;
	char full[160];

	snprintf(full, sizeof(full), "%smlp.experts.%s", prefix, name);
	int r = module_fused(c->tensors, full, dims, ret, &bytes, e);
	c->source.total_bytes += bytes;
	if (r == 0)
		compare(c, full, ret);
	return r;
}

/* [experts, rows, cols], cut into the experts' matrices; gate over up. */
static int take_fused(struct checkpoint *c, const char *prefix, uint32_t l, struct err *e)
{
	const struct model_shape *s = &c->shape;
	uint32_t inter = s->expert_inter;
	const uint32_t gu[3] = { s->n_experts, 2 * inter, s->hidden };
	const uint32_t down[3] = { s->n_experts, s->hidden, inter };
	struct weight_ref g, d;
	int r = take_fused_one(c, prefix, "gate_up_proj", gu, &g, e);

	if (r == 0)
		r = take_fused_one(c, prefix, "down_proj", down, &d, e);
	if (r < 0)
		return r;
	for (uint32_t x = 0; x < s->n_experts; x++) {
		struct weight_ref *ref = &c->refs[ref_place(s, W_EXPERT_GATE, l, x)];

		if (module_part(&g, 2 * (uint64_t)x * inter, inter, &ref[0]) < 0 ||
		    module_part(&g, (2 * (uint64_t)x + 1) * inter, inter, &ref[1]) < 0 ||
		    module_part(&d, (uint64_t)x * s->hidden, s->hidden, &ref[2]) < 0)
			return err_set(e, -ENOTSUP, "%s: %s: the experts' rows are not whole blocks of %u",
				       c->tensors->dir, g.name, g.span_rows);
	}
	return 0;
}

/* Some expert has a name of its own; with expert 0 gone it is expert 0 that is missing. */
static bool has_single_experts(const struct checkpoint *c, const char *prefix)
{
	char name[160];
	uint32_t n;

	snprintf(name, sizeof(name), "%smlp.experts.", prefix);
	const struct tensor *first = tensor_set_below(c->tensors, name, &n);
	char number = n ? first->canon[strlen(name)] : '\0';	/* digits sort before letters */
	return number >= '0' && number <= '9';
}

static int take_experts(struct checkpoint *c, const char *prefix, uint32_t l, struct err *e)
{
	static const char *const part[3] = { "gate", "up", "down" };
	const struct model_shape *s = &c->shape;
	char name[160];

	if (!has_single_experts(c, prefix))
		return take_fused(c, prefix, l, e);
	for (uint32_t x = 0; x < s->n_experts; x++)
		for (uint32_t p = 0; p < 3; p++) {
			uint32_t rows = p == 2 ? s->hidden : s->expert_inter;
			uint32_t cols = p == 2 ? s->expert_inter : s->hidden;

			snprintf(name, sizeof(name), "%smlp.experts.%u.%s_proj.weight", prefix, x,
				 part[p]);
			int r = take_matrix(c, name, rows, cols,
					    &c->refs[ref_place(s, W_EXPERT_GATE, l, x) + p], e);
			if (r < 0)
				return r;
		}
	return 0;
}

static int take_layer(struct checkpoint *c, uint32_t l, struct err *e)
{
	const struct model_shape *s = &c->shape;
	const struct want norms[] = {
		{ W_INPUT_NORM, "input_layernorm.weight", 1, s->hidden },
		{ W_POST_NORM, "post_attention_layernorm.weight", 1, s->hidden },
	};
	const struct want mlp[] = {
		{ W_ROUTER, "mlp.gate.weight", s->n_experts, s->hidden },
		{ W_SHARED_GATE, "mlp.shared_expert.gate_proj.weight", s->shared_inter, s->hidden },
		{ W_SHARED_UP, "mlp.shared_expert.up_proj.weight", s->shared_inter, s->hidden },
		{ W_SHARED_DOWN, "mlp.shared_expert.down_proj.weight", s->shared_inter ? s->hidden : 0,
		  s->shared_inter },
		{ W_SHARED_SCORE, "mlp.shared_expert_gate.weight", s->shared_inter ? 1 : 0, s->hidden },
		{ W_MLP_GATE, "mlp.gate_proj.weight", s->dense_inter, s->hidden },
		{ W_MLP_UP, "mlp.up_proj.weight", s->dense_inter, s->hidden },
		{ W_MLP_DOWN, "mlp.down_proj.weight", s->dense_inter ? s->hidden : 0, s->dense_inter },
	};
	char prefix[64];

	if (l < s->n_layers)
		snprintf(prefix, sizeof(prefix), "layers.%u.", l);
	else
		snprintf(prefix, sizeof(prefix), "mtp.layers.%u.", l - s->n_layers);
	int r = TAKE_ALL(c, prefix, l, norms, e);
	if (r == 0)
		r = take_mixer(c, prefix, l, e);
	if (r == 0)
		r = TAKE_ALL(c, prefix, l, mlp, e);
	if (r == 0 && s->n_experts)
		r = take_experts(c, prefix, l, e);
	return r;
}

static int find_ref(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		    struct weight_ref *ret)
{
	const struct checkpoint *c = ctx;

	if ((unsigned)slot >= W_N_SLOTS || layer >= all_layers(&c->shape) ||
	    (expert && expert >= c->shape.n_experts))
		return -ENOENT;
	if (slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN && !c->shape.n_experts)
		return -ENOENT;
	const struct weight_ref *ref = &c->refs[ref_place(&c->shape, slot, layer, expert)];
	if (!ref->data)
		return -ENOENT;
	*ret = *ref;
	return 0;
}

static bool has_mtp(const struct checkpoint *c)
{
	uint32_t n;

	tensor_set_below(c->tensors, "mtp.", &n);
	return n > 0;
}

static int resolve(struct checkpoint *c, struct err *e)
{
	size_t n = ref_place(&c->shape, W_PER_LAYER, all_layers(&c->shape), 0);

	c->refs = calloc(n + W_N_SLOTS, sizeof(c->refs[0]));
	if (!c->refs)
		return err_set(e, -ENOMEM, "out of memory");
	int r = take_globals(c, e);
	for (uint32_t l = 0; r == 0 && l < all_layers(&c->shape); l++)
		r = take_layer(c, l, e);
	return r;
}

/* ---- reading ---------------------------------------------------------------------- */

static int open_stream(void *ctx, const struct weight_piece *pieces, size_t n,
		       const struct weight_room *room, struct weight_stream **ret, struct err *e)
{
	struct checkpoint *c = ctx;
	const struct piece_files files = { c->tensors->files, c->tensors->n_files };

	return piece_stream_open(&c->source, &files, c->how, &c->stats, pieces, n, room, ret, e);
}

int checkpoint_read_by(struct checkpoint *c, enum read_how how, struct err *e)
{
	struct reader *r = NULL;
	int rc = how == READ_MAPPED ? 0 : reader_open(how, &r, e);

	if (rc < 0)
		return err_prefix(e, rc, "--read %s", read_how_name(how));
	reader_close(r);
	c->how = how;
	c->source.stream = how == READ_MAPPED ? NULL : open_stream;
	return 0;
}

void checkpoint_read_text(const struct checkpoint *c, char *line, size_t room)
{
	const struct read_stats *s = &c->stats;
	double seconds = (double)s->ns / 1e9, gb = (double)s->bytes / 1e9;

	if (s->n_streams == 0) {
		snprintf(line, room, "weights: read through the page cache%s",
			 c->how == READ_MAPPED ? "" : ", and dropped from it");
		return;
	}
	int n = snprintf(line, room, "weights: %.2f GB in %.2f s, %.2f GB/s, by %s%s%s%s", gb, seconds,
			 seconds > 0 ? gb / seconds : 0, read_how_name(s->how), s->note[0] ? " (" : "",
			 s->note, s->note[0] ? ")" : "");
	if (n < 0 || (size_t)n >= room)
		return;
	if (s->n_buffered)
		snprintf(line + n, room - (size_t)n, "; %u of %u files without O_DIRECT, which their file "
			 "system does not have: read buffered and dropped from the page cache", s->n_buffered,
			 c->tensors->n_files);
	else
		snprintf(line + n, room - (size_t)n, " with O_DIRECT");
}

const struct read_stats *checkpoint_read_stats(const struct checkpoint *c)
{
	return &c->stats;
}

void checkpoint_drop(const struct checkpoint *c)
{
	for (uint32_t i = 0; c->how != READ_MAPPED && i < c->tensors->n_files; i++)
		st_drop(c->tensors->files[i]);
}

const char *checkpoint_file(const struct checkpoint *c, uint32_t i, uint64_t *ret_bytes)
{
	if (i >= c->tensors->n_files)
		return NULL;
	*ret_bytes = st_file(c->tensors->files[i])->bytes;
	return st_path(c->tensors->files[i]);
}

/* ---- facts ------------------------------------------------------------------------- */

/* Scales for keys and values in FP8, which stand beside the projections. */
static bool is_kv_scale(const char *canon)
{
	size_t n = strlen(canon);

	return n > 8 && (strcmp(canon + n - 8, ".k_scale") == 0 || strcmp(canon + n - 8, ".v_scale") == 0);
}

static bool is_below(const char *canon, const char *prefix)
{
	return strncmp(canon, prefix, strlen(prefix)) == 0;
}

/* Nobody asked for it, and the answers should have: a layer or an expert behind the configuration's
 * last, experts both in one tensor and by name, a bias of a norm.  Leaving it out with a line would
 * serve another model under this one's name.  Drafts never change an answer, so the MTP layer's may lie. */
static int check_left_over(const struct checkpoint *c, const struct tensor *t, struct err *e)
{
	static const char *const text[] = { "layers.", "norm.", "embed_tokens." };
	bool matters = false;

	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		matters |= is_below(t->canon, text[i]);
	if (!matters || module_ignores(t->canon))
		return 0;
	return err_set(e, -EINVAL, "%s: tensor %s has no place in the model of config.json (%u layers, "
		       "%u experts, shared expert %u) beside the other tensors", st_path(t->file), t->t->name,
		       c->shape.n_layers, c->shape.n_experts, c->shape.shared_inter);
}

static int count_facts(struct checkpoint *c, struct err *e)
{
	const struct tensor_set *s = c->tensors;

	for (uint32_t i = 0; i < s->n_tensors; i++) {
		bool kv = is_kv_scale(s->tensors[i].canon);

		c->facts.n_kv_scales += kv;
		if (s->tensors[i].used || kv)
			continue;
		int r = check_left_over(c, &s->tensors[i], e);
		if (r < 0)
			return r;
		if (c->facts.n_unused++ == 0)
			c->facts.first_unused = s->tensors[i].t->name;
	}
	c->facts.n_files = s->n_files;
	c->facts.n_tensors = s->n_tensors + s->n_vision;
	c->facts.n_vision = s->n_vision;
	c->facts.n_vision_quantised = s->n_vision_quantised;
	c->facts.vision_bytes = s->vision_bytes;
	c->facts.quant = c->quant;
	c->facts.has_mtp = c->shape.n_mtp_layers > 0;
	return 0;
}

static void closepp(struct checkpoint **c)
{
	checkpoint_close(*c);
}

int checkpoint_open(const char *dir, struct hf_config *config, struct checkpoint **ret,
		    struct err *e)
{
	CLEANUP(closepp) struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->shape = config->shape;
	c->tied = config->tied;
	c->source.ctx = c;
	c->source.find = find_ref;
	c->source.stream = open_stream;
	c->stats.how = READ_MAPPED;
	int r = quant_config_open(dir, &c->quant, e);
	if (r == 0)
		r = tensor_set_open(dir, &c->tensors, e);
	if (r < 0)
		return r;
	c->facts.mtp_declared = c->shape.n_mtp_layers > 0;
	if (!has_mtp(c))
		c->shape.n_mtp_layers = 0;
	r = resolve(c, e);
	if (r == 0)
		r = count_facts(c, e);
	if (r < 0)
		return r;
	config->shape.n_mtp_layers = c->shape.n_mtp_layers;
	*ret = TAKE(c);
	return 0;
}

struct checkpoint *checkpoint_close(struct checkpoint *c)
{
	if (!c)
		return NULL;
	tensor_set_close(c->tensors);
	quant_config_close(c->quant);
	free(c->refs);
	free(c);
	return NULL;
}

const struct weight_source *checkpoint_source(const struct checkpoint *c)
{
	return &c->source;
}

const struct checkpoint_facts *checkpoint_facts(const struct checkpoint *c)
{
	return &c->facts;
}
