/* hf_config.c - config.json to struct model_shape: see hf_config.h. */
#include "worker/weights/hf_config.h"

#include <math.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"

#define MAX_CONFIG (4u << 20)
#define MAX_WIDTH (1u << 20)

/* The object that is read, and the first failure. */
struct reader {
	const json_t *text;	/* text_config, or the top when there is none */
	struct err *e;
	int r;
};

static const json_t *field(const struct reader *rd, const char *key)
{
	const json_t *v = json_object_get(rd->text, key);

	return json_is_null(v) ? NULL : v;
}

static void fail(struct reader *rd, int code, const char *key, const char *what)
{
	if (rd->r == 0)
		rd->r = err_set(rd->e, code, "config.json: '%s' %s", key, what);
}

/* A whole number in [lo, hi]; `def` when absent, or a failure when def < 0. */
static uint32_t number(struct reader *rd, const char *key, int64_t def, int64_t lo, int64_t hi)
{
	const json_t *v = field(rd, key);
	int64_t x = def;

	if (v && jx_int64(v, &x) < 0) {
		fail(rd, -EINVAL, key, "is not a whole number");
		return 1;
	}
	if (!v && def < 0) {
		fail(rd, -EINVAL, key, "is missing");
		return 1;
	}
	if (x < lo || x > hi) {
		if (rd->r == 0)
			rd->r = err_set(rd->e, -EINVAL,
					"config.json: '%s' is %lld, not between %lld and %lld", key,
					(long long)x, (long long)lo, (long long)hi);
		return 1;
	}
	return (uint32_t)x;
}

static double real_of(struct reader *rd, const json_t *obj, const char *key, double def, double lo,
		      double hi)
{
	const json_t *v = json_object_get(obj, key);
	double x = def;

	if (!v || json_is_null(v))
		return def;
	if (jx_double(v, &x) < 0 || !(x >= lo && x <= hi)) {
		fail(rd, -EINVAL, key, "is not a number in its range");
		return def;
	}
	return x;
}

/* The field is absent, or one of the words. */
static void only(struct reader *rd, const char *key, const char *word, const char *or_word)
{
	const json_t *v = field(rd, key);
	const char *s = jx_str(v, NULL);

	if (v && (!s || (strcmp(s, word) != 0 && (!or_word || strcmp(s, or_word) != 0))))
		fail(rd, -ENOTSUP, key, "has a value that this program does not know");
}

static void only_bool(struct reader *rd, const char *key, bool want)
{
	const json_t *v = field(rd, key);

	if (v && !(want ? json_is_true(v) : json_is_false(v)))
		fail(rd, -ENOTSUP, key, want ? "must be true" : "must be false");
}

static void read_layers(struct reader *rd, struct model_shape *s)
{
	const json_t *types = field(rd, "layer_types");
	uint32_t interval = number(rd, "full_attention_interval", 4, 1, MODEL_MAX_LAYERS);

	s->n_layers = number(rd, "num_hidden_layers", -1, 1, MODEL_MAX_LAYERS - 1);
	if (types && (!json_is_array(types) || json_array_size(types) != s->n_layers)) {
		fail(rd, -EINVAL, "layer_types", "is not a list of num_hidden_layers entries");
		return;
	}
	for (uint32_t i = 0; i < s->n_layers; i++) {
		const char *t = types ? jx_str(json_array_get(types, i), NULL) : NULL;
		bool full = i % interval == interval - 1;

		if (types && t && strcmp(t, "full_attention") == 0)
			full = true;
		else if (types && t && strcmp(t, "linear_attention") == 0)
			full = false;
		else if (types)
			fail(rd, -ENOTSUP, "layer_types", "has an unknown kind of layer");
		s->mixer[i] = full ? MIXER_ATTENTION : MIXER_GDN;
	}
	s->n_mtp_layers = number(rd, "mtp_num_hidden_layers", 0, 0, 1);
	if (s->n_mtp_layers)
		s->mixer[s->n_layers] = MIXER_ATTENTION;
}

static void read_sections(struct reader *rd, const json_t *rope, struct model_shape *s)
{
	static const uint32_t usual[3] = { 11, 11, 10 };
	const json_t *v = json_object_get(rope, "mrope_section");
	uint32_t sum = 0, half = s->rotary_dim / 2;

	if (!v || json_is_null(v)) {
		if (half == 32)
			memcpy(s->mrope_section, usual, sizeof(usual));
		else
			s->mrope_section[0] = half;
		return;
	}
	for (size_t i = 0; i < 3; i++) {
		int64_t x = -1;

		if (json_array_size(v) != 3 || jx_int64(json_array_get(v, i), &x) < 0 || x < 0 ||
		    x > 4096) {
			fail(rd, -EINVAL, "mrope_section", "is not a list of three small numbers");
			return;
		}
		s->mrope_section[i] = (uint32_t)x;
		sum += (uint32_t)x;
	}
	if (sum != half)
		fail(rd, -EINVAL, "mrope_section", "does not add up to half of the rotary dims");
}

/* What else a YaRN may say.  None of it is read, so each must be what is computed here. */
static void check_yarn(struct reader *rd, const json_t *rope)
{
	static const struct {
		const char *key;
		double only;
	} fixed[] = { { "beta_fast", 32 }, { "beta_slow", 1 } };
	static const char *const never[] = { "mscale", "mscale_all_dim" };
	const json_t *truncate = json_object_get(rope, "truncate");

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (real_of(rd, rope, fixed[i].key, fixed[i].only, 0, 1e9) != fixed[i].only)
			fail(rd, -ENOTSUP, fixed[i].key, "has a value that this program does not know");
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (real_of(rd, rope, never[i], 0, 0, 1e9) != 0)
			fail(rd, -ENOTSUP, never[i], "has a value that this program does not know");
	if (truncate && !json_is_null(truncate) && !json_is_true(truncate))
		fail(rd, -ENOTSUP, "truncate", "must be true");
	/* without it nothing would be stretched, and nobody writes that for no reason */
	if (!json_object_get(rope, "factor") || json_is_null(json_object_get(rope, "factor")))
		fail(rd, -EINVAL, "factor", "is missing beside rope_type 'yarn'");
}

static void read_yarn(struct reader *rd, const json_t *rope, struct model_shape *s)
{
	const json_t *type = json_object_get(rope, "rope_type");
	int64_t original = s->max_positions;

	s->yarn_factor = 1;
	s->yarn_original = s->max_positions;
	s->yarn_attention_factor = 1;
	if (!type)
		type = json_object_get(rope, "type");
	if (!type || json_is_null(type) || (jx_str(type, NULL) && !strcmp(jx_str(type, NULL), "default")))
		return;
	if (!jx_str(type, NULL) || strcmp(jx_str(type, NULL), "yarn") != 0) {
		fail(rd, -ENOTSUP, "rope_type", "is neither 'default' nor 'yarn'");
		return;
	}
	check_yarn(rd, rope);
	s->yarn_factor = real_of(rd, rope, "factor", 1, 1, 1024);
	const json_t *v = json_object_get(rope, "original_max_position_embeddings");
	if (v && (jx_int64(v, &original) < 0 || original < 1 || original > 1 << 26))
		fail(rd, -EINVAL, "original_max_position_embeddings", "is out of range");
	s->yarn_original = (uint32_t)original;
	s->yarn_attention_factor = real_of(rd, rope, "attention_factor",
					   0.1 * log(s->yarn_factor) + 1, 1e-3, 1e3);
}

static void read_rope(struct reader *rd, struct model_shape *s)
{
	const json_t *rope = field(rd, "rope_parameters"), *old = field(rd, "rope_scaling");

	/* whoever adds the old spelling beside the new means it to hold; libraries differ in which does */
	if (rope && old && !json_equal(rope, old))
		fail(rd, -EINVAL, "rope_scaling",
		     "says otherwise than 'rope_parameters': one of them must go");
	if (!rope)
		rope = old;
	if (rope && !json_is_object(rope)) {
		fail(rd, -EINVAL, "rope_parameters", "is not an object");
		return;
	}
	double partial = real_of(rd, rd->text, "partial_rotary_factor", 0.25, 1e-3, 1);
	double theta = real_of(rd, rd->text, "rope_theta", 1e7, 1, 1e12);

	partial = real_of(rd, rope, "partial_rotary_factor", partial, 1e-3, 1);
	s->rope_theta = real_of(rd, rope, "rope_theta", theta, 1, 1e12);
	s->rotary_dim = (uint32_t)((double)s->head_dim * partial + 0.5);
	if (s->rotary_dim < 2 || s->rotary_dim % 2)
		fail(rd, -EINVAL, "partial_rotary_factor", "does not give an even number of dims");
	read_sections(rd, rope, s);
	read_yarn(rd, rope, s);
}

static void read_mixers(struct reader *rd, struct model_shape *s)
{
	s->n_q_heads = number(rd, "num_attention_heads", -1, 1, 1024);
	s->n_kv_heads = number(rd, "num_key_value_heads", s->n_q_heads, 1, 1024);
	s->head_dim = number(rd, "head_dim", -1, 2, 4096);
	if (s->n_q_heads % s->n_kv_heads)
		fail(rd, -EINVAL, "num_attention_heads", "is not a multiple of num_key_value_heads");
	s->gdn_k_heads = number(rd, "linear_num_key_heads", -1, 1, 1024);
	s->gdn_v_heads = number(rd, "linear_num_value_heads", -1, 1, 1024);
	s->gdn_head_dim = number(rd, "linear_key_head_dim", -1, 2, 4096);
	s->gdn_conv_width = number(rd, "linear_conv_kernel_dim", 4, 1, 16);
	if (number(rd, "linear_value_head_dim", -1, 2, 4096) != s->gdn_head_dim)
		fail(rd, -ENOTSUP, "linear_value_head_dim", "differs from linear_key_head_dim");
	if (s->gdn_v_heads % s->gdn_k_heads)
		fail(rd, -EINVAL, "linear_num_value_heads", "is not a multiple of the key heads");
	read_rope(rd, s);
}

static void read_mlp(struct reader *rd, bool moe, struct model_shape *s)
{
	if (!moe) {
		s->dense_inter = number(rd, "intermediate_size", -1, 1, MAX_WIDTH);
		return;
	}
	s->n_experts = number(rd, "num_experts", -1, 1, 4096);
	s->n_experts_used = number(rd, "num_experts_per_tok", -1, 1, 64);
	s->expert_inter = number(rd, "moe_intermediate_size", -1, 1, MAX_WIDTH);
	s->shared_inter = number(rd, "shared_expert_intermediate_size", 0, 0, MAX_WIDTH);
	if (s->n_experts_used > s->n_experts)
		fail(rd, -EINVAL, "num_experts_per_tok", "is larger than num_experts");
	only_bool(rd, "norm_topk_prob", true);
}

static void read_family(struct reader *rd, const json_t *top, bool *ret_moe)
{
	static const struct {
		const char *type;
		bool moe;
	} known[] = {
		{ "qwen3_5_moe", true }, { "qwen3_5_moe_text", true },
		{ "qwen3_5", false }, { "qwen3_5_text", false },
	};
	const char *type = jx_str(json_object_get(top, "model_type"), NULL);

	for (size_t i = 0; type && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(type, known[i].type) == 0) {
			*ret_moe = known[i].moe;
			return;
		}
	rd->r = err_set(rd->e, -ENOTSUP, "config.json: model_type '%.60s' is not one that this program "
			"runs (qwen3_5_moe, qwen3_5)", type ? type : "");
}

static int read_config(const json_t *top, struct hf_config *ret, struct err *e)
{
	struct reader rd = { .text = json_object_get(top, "text_config"), .e = e };
	struct hf_config c = { .tied = false };
	struct model_shape *s = &c.shape;
	bool moe = false;

	if (!json_is_object(top))
		return err_set(e, -EINVAL, "config.json: not a JSON object");
	if (!rd.text)
		rd.text = top;
	if (!json_is_object(rd.text))
		return err_set(e, -EINVAL, "config.json: 'text_config' is not an object");
	read_family(&rd, top, &moe);
	s->hidden = number(&rd, "hidden_size", -1, 1, MAX_WIDTH);
	s->vocab_rows = number(&rd, "vocab_size", -1, 1, 1 << 22);
	s->n_token_ids = s->vocab_rows;
	s->norm_eps = (float)real_of(&rd, rd.text, "rms_norm_eps", 1e-6, 1e-12, 1e-1);
	s->max_positions = number(&rd, "max_position_embeddings", 262144, 1, 1 << 26);
	read_layers(&rd, s);
	read_mixers(&rd, s);
	read_mlp(&rd, moe, s);
	only(&rd, "hidden_act", "silu", NULL);
	only(&rd, "output_gate_type", "swish", "silu");
	only_bool(&rd, "attn_output_gate", true);
	only_bool(&rd, "attention_bias", false);
	only_bool(&rd, "mtp_use_dedicated_embeddings", false);
	c.tied = json_is_true(json_object_get(top, "tie_word_embeddings")) ||
		 json_is_true(json_object_get(rd.text, "tie_word_embeddings"));
	if (rd.r < 0)
		return rd.r;
	*ret = c;
	return 0;
}

int hf_config_parse(const char *text, size_t n, struct hf_config *ret, struct err *e)
{
	JX_OWNED json_t *top = NULL;
	int r = jx_load(text, n, &top, e);

	if (r < 0)
		return err_prefix(e, r, "config.json");
	return read_config(top, ret, e);
}

int hf_config_open(const char *dir, struct hf_config *ret, struct err *e)
{
	JX_OWNED json_t *top = NULL;
	CLEANUP(buf_donep) struct buf path = BUF_INIT;

	if (buf_printf(&path, "%s/config.json", dir) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	int r = jx_load_file(path.p, MAX_CONFIG, &top, e);
	if (r < 0)
		return r;
	r = read_config(top, ret, e);
	return r < 0 ? err_prefix(e, r, "%s", dir) : 0;
}
