/* checkpoint.c - the weights of a model folder: see checkpoint.h. */
#include "worker/weights/checkpoint.h"

#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"
#include "worker/weights/safetensors.h"

#define MAX_INDEX (64u << 20)
#define MAX_FILES 4096

/* A tensor under its canonical name: "layers.3.mlp.gate.weight", "mtp.fc.weight". */
struct entry {
	const char *canon;
	const struct st_file *file;
	const struct st_tensor *t;
};

struct checkpoint {
	char *dir;
	struct st_file **files;
	uint32_t n_files;
	struct entry *entries;		/* sorted by canonical name */
	uint32_t n_entries;
	struct model_shape shape;
	bool tied;
	struct weight_ref *refs;	/* globals, then per layer the slots and the experts */
	struct weight_source source;
};

/* ---- names ----------------------------------------------------------------- */

static bool starts(const char *s, const char *prefix, const char **ret_rest)
{
	size_t n = strlen(prefix);

	if (strncmp(s, prefix, n) != 0)
		return false;
	*ret_rest = s + n;
	return true;
}

/* The name without what exporters put before it; NULL for a vision tensor. */
static const char *canonical(const char *name)
{
	static const char *const prefixes[] = { "model.language_model.", "language_model.model.",
						"language_model.", "model." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts(name, prefixes[i], &name))
			break;
	return strncmp(name, "visual.", 7) == 0 ? NULL : name;
}

static bool is_quant_part(const char *name)
{
	static const char *const ends[] = { ".weight_scale_inv", ".weight_scale", ".weight_scale_2",
					    ".weight_packed", ".qweight", ".qzeros", ".g_idx",
					    ".input_scale" };
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t m = strlen(ends[i]);

		if (n > m && strcmp(name + n - m, ends[i]) == 0)
			return true;
	}
	return false;
}

static int by_canon(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->canon, ((const struct entry *)b)->canon);
}

static const struct entry *lookup(const struct checkpoint *c, const char *canon)
{
	struct entry key = { .canon = canon };

	return bsearch(&key, c->entries, c->n_entries, sizeof(c->entries[0]), by_canon);
}

/* ---- files ----------------------------------------------------------------- */

static int add_file(struct checkpoint *c, const char *name, struct err *e)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;

	if (c->n_files == MAX_FILES)
		return err_set(e, -EINVAL, "%s: more than %d files of weights", c->dir, MAX_FILES);
	if (buf_printf(&path, "%s/%s", c->dir, name) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < c->n_files; i++)
		if (strcmp(st_path(c->files[i]), path.p) == 0)
			return 0;
	int r = st_open(path.p, &c->files[c->n_files], e);
	if (r == 0)
		c->n_files++;
	return r;
}

static bool exists(const struct checkpoint *c, const char *name)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;

	return buf_printf(&path, "%s/%s", c->dir, name) == 0 && access(path.p, R_OK) == 0;
}

static const struct st_file *file_named(const struct checkpoint *c, const char *name)
{
	size_t n = strlen(c->dir);

	for (uint32_t i = 0; i < c->n_files; i++)
		if (strcmp(st_path(c->files[i]) + n + 1, name) == 0)
			return c->files[i];
	return NULL;
}

static int open_index(struct checkpoint *c, struct err *e)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;
	JX_OWNED json_t *top = NULL;
	const char *tensor;
	json_t *v, *map;

	if (buf_printf(&path, "%s/model.safetensors.index.json", c->dir) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	int r = jx_load_file(path.p, MAX_INDEX, &top, e);
	if (r < 0)
		return r;
	map = json_object_get(top, "weight_map");
	if (!json_is_object(map))
		return err_set(e, -EINVAL, "%s: no 'weight_map'", path.p);
	json_object_foreach(map, tensor, v) {
		const char *shard = jx_str(v, NULL);

		if (!shard || !shard[0] || strchr(shard, '/') || shard[0] == '.')
			return err_set(e, -EINVAL, "%s: tensor %s: not the name of a file in this folder",
				       path.p, tensor);
		const struct st_file *f = file_named(c, shard);
		if (!f) {
			r = add_file(c, shard, e);
			if (r < 0)
				return err_prefix(e, r == -ENOENT ? -EINVAL : r, "%s: tensor %s", path.p,
						  tensor);
			f = c->files[c->n_files - 1];
		}
		if (!st_find(f, tensor))
			return err_set(e, -EINVAL, "%s: tensor %s is not in %s, where the index puts it",
				       path.p, tensor, st_path(f));
	}
	return 0;
}

static int open_files(struct checkpoint *c, struct err *e)
{
	static const char *const extra[] = { "mtp.safetensors", "model_extra_tensors.safetensors" };
	int r;

	c->files = calloc(MAX_FILES, sizeof(c->files[0]));
	if (!c->files)
		return err_set(e, -ENOMEM, "out of memory");
	if (exists(c, "model.safetensors.index.json"))
		r = open_index(c, e);
	else if (exists(c, "model.safetensors"))
		r = add_file(c, "model.safetensors", e);
	else
		r = err_set(e, -ENOENT, "%s: neither model.safetensors.index.json nor model.safetensors",
			    c->dir);
	for (size_t i = 0; r == 0 && i < sizeof(extra) / sizeof(extra[0]); i++)
		if (exists(c, extra[i]))
			r = add_file(c, extra[i], e);
	return r;
}

static int index_tensors(struct checkpoint *c, struct err *e)
{
	size_t total = 0;

	for (uint32_t i = 0; i < c->n_files; i++)
		total += st_count(c->files[i]);
	c->entries = calloc(total + 1, sizeof(c->entries[0]));
	if (!c->entries)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < c->n_files; i++)
		for (uint32_t j = 0; j < st_count(c->files[i]); j++) {
			const struct st_tensor *t = st_at(c->files[i], j);
			const char *canon = canonical(t->name);

			if (!canon)
				continue;
			if (is_quant_part(canon))
				return err_set(e, -ENOTSUP, "%s: tensor %s belongs to a quantised format; "
					       "F32, BF16 and F16 weights can be read",
					       st_path(c->files[i]), t->name);
			c->entries[c->n_entries++] = (struct entry){ canon, c->files[i], t };
		}
	qsort(c->entries, c->n_entries, sizeof(c->entries[0]), by_canon);
	for (uint32_t i = 1; i < c->n_entries; i++)
		if (strcmp(c->entries[i - 1].canon, c->entries[i].canon) == 0)
			return err_set(e, -EINVAL, "%s: tensor %s is also in %s",
				       st_path(c->entries[i].file), c->entries[i].t->name,
				       st_path(c->entries[i - 1].file));
	return 0;
}

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

struct want {
	enum weight_slot slot;
	const char *name;	/* after the layer's prefix */
	uint32_t rows, cols;
};

static int check_type(const struct entry *x, enum weight_format *ret, struct err *e)
{
	static const char *const names[WF_N] = { "F32", "F16", "BF16" };

	for (int i = 0; i < WF_N; i++)
		if (strcmp(x->t->dtype, names[i]) == 0) {
			*ret = (enum weight_format)i;
			return 0;
		}
	return err_set(e, -EINVAL, "%s: tensor %s: expected F32, BF16 or F16, found %s",
		       st_path(x->file), x->t->name, x->t->dtype);
}

static void print_shape(const struct st_tensor *t, char *buf, size_t room)
{
	size_t n = 0;

	buf[0] = '\0';
	for (uint32_t i = 0; i < t->n_dims && n < room; i++)
		n += (size_t)snprintf(buf + n, room - n, "%s%llu", i ? ", " : "",
				      (unsigned long long)t->dim[i]);
}

/* The dims without the ones of size 1, against `dims` without its own. */
static bool same_shape(const struct st_tensor *t, const uint32_t dims[3])
{
	uint32_t i = 0;

	for (uint32_t k = 0; k < 3; k++) {
		if (dims[k] == 1)
			continue;
		while (i < t->n_dims && t->dim[i] == 1)
			i++;
		if (i == t->n_dims || t->dim[i++] != dims[k])
			return false;
	}
	while (i < t->n_dims && t->dim[i] == 1)
		i++;
	return i == t->n_dims;
}

/* The tensor of `canon` with dims [n, rows, cols] (n 1 for a plain matrix). */
static int take(struct checkpoint *c, const char *canon, const uint32_t dims[3],
		struct weight_ref *ret, struct err *e)
{
	const struct entry *x = lookup(c, canon);
	char found[200];

	if (!x)
		return err_set(e, -EINVAL, "%s: tensor %s [%u, %u] is missing", c->dir, canon,
			       dims[0] * dims[1], dims[2]);
	int r = check_type(x, &ret->format, e);
	if (r < 0)
		return r;
	if (!same_shape(x->t, dims)) {
		print_shape(x->t, found, sizeof(found));
		return err_set(e, -EINVAL, "%s: tensor %s: expected [%u, %u, %u], found [%s]",
			       st_path(x->file), x->t->name, dims[0], dims[1], dims[2], found);
	}
	ret->rows = dims[1];
	ret->cols = dims[2];
	ret->data = x->t->data;
	ret->name = x->t->name;
	c->source.total_bytes += x->t->bytes;
	return 0;
}

static int take_all(struct checkpoint *c, const char *prefix, uint32_t layer,
		    const struct want *w, size_t n, struct err *e)
{
	char name[160];

	for (size_t i = 0; i < n; i++) {
		uint32_t dims[3] = { 1, w[i].rows, w[i].cols };
		struct weight_ref *ref = &c->refs[ref_place(&c->shape, w[i].slot, layer, 0)];

		if (w[i].rows == 0)
			continue;
		snprintf(name, sizeof(name), "%s%s", prefix, w[i].name);
		int r = take(c, name, dims, ref, e);
		if (r < 0)
			return r;
	}
	return 0;
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

/* One tensor [experts, rows, cols], cut into the experts' matrices; gate over up. */
static int take_fused(struct checkpoint *c, const char *prefix, uint32_t l, struct err *e)
{
	const struct model_shape *s = &c->shape;
	const uint32_t gu[3] = { s->n_experts, 2 * s->expert_inter, s->hidden };
	const uint32_t down[3] = { s->n_experts, s->hidden, s->expert_inter };
	struct weight_ref g, d;
	char name[160];

	snprintf(name, sizeof(name), "%smlp.experts.gate_up_proj", prefix);
	int r = take(c, name, gu, &g, e);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%smlp.experts.down_proj", prefix);
	r = take(c, name, down, &d, e);
	if (r < 0)
		return r;
	size_t half = (size_t)s->expert_inter * s->hidden;
	g.rows = s->expert_inter;
	for (uint32_t x = 0; x < s->n_experts; x++) {
		struct weight_ref *ref = &c->refs[ref_place(s, W_EXPERT_GATE, l, x)];
		size_t gb = weight_row_bytes(g.format, 1), db = weight_row_bytes(d.format, 1);

		ref[0] = ref[1] = g;
		ref[2] = d;
		ref[0].data = (const char *)g.data + 2 * x * half * gb;
		ref[1].data = (const char *)ref[0].data + half * gb;
		ref[2].data = (const char *)d.data + x * half * db;
	}
	return 0;
}

static int take_experts(struct checkpoint *c, const char *prefix, uint32_t l, struct err *e)
{
	static const char *const part[3] = { "gate", "up", "down" };
	const struct model_shape *s = &c->shape;
	char name[160];

	snprintf(name, sizeof(name), "%smlp.experts.0.gate_proj.weight", prefix);
	if (!lookup(c, name))
		return take_fused(c, prefix, l, e);
	for (uint32_t x = 0; x < s->n_experts; x++)
		for (uint32_t p = 0; p < 3; p++) {
			const uint32_t up[3] = { 1, s->expert_inter, s->hidden };
			const uint32_t down[3] = { 1, s->hidden, s->expert_inter };

			snprintf(name, sizeof(name), "%smlp.experts.%u.%s_proj.weight", prefix, x,
				 part[p]);
			int r = take(c, name, p == 2 ? down : up,
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
	for (uint32_t i = 0; i < c->n_entries; i++)
		if (strncmp(c->entries[i].canon, "mtp.", 4) == 0)
			return true;
	return false;
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

static void closepp(struct checkpoint **c)
{
	checkpoint_close(*c);
}

int checkpoint_open(const char *dir, struct hf_config *config, struct checkpoint **ret,
		    struct err *e)
{
	CLEANUP(closepp) struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c || !(c->dir = strdup(dir)))
		return err_set(e, -ENOMEM, "out of memory");
	c->shape = config->shape;
	c->tied = config->tied;
	c->source.ctx = c;
	c->source.find = find_ref;
	int r = open_files(c, e);
	if (r == 0)
		r = index_tensors(c, e);
	if (r < 0)
		return r;
	if (!has_mtp(c))
		c->shape.n_mtp_layers = 0;
	r = resolve(c, e);
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
	for (uint32_t i = 0; i < c->n_files; i++)
		st_close(c->files[i]);
	free(c->files);
	free(c->entries);
	free(c->refs);
	free(c->dir);
	free(c);
	return NULL;
}

const struct weight_source *checkpoint_source(const struct checkpoint *c)
{
	return &c->source;
}
