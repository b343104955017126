/* quant_test.c - quantised checkpoints: what is accepted, what is refused, what is said. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/quant_folder.h"
#include "tests/unit/unit.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/module.h"

static char dir[] = "/tmp/hearth-quant-XXXXXX";
static struct quant_model model;
static struct folder folder;

static int begin(void **state)
{
	(void)state;
	quant_model_init(&model, QUANT_MIXED, false);
	folder_fill(&folder, &model);
	return 0;
}

static int end(void **state)
{
	(void)state;
	quant_model_done(&model);
	return 0;
}

static struct checkpoint *open_folder(struct hf_config *config)
{
	struct checkpoint *c = NULL;
	struct err e = { .code = 0 };

	if (hf_config_open(dir, config, &e) < 0 || checkpoint_open(dir, config, &c, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

/* The folder as it is now; the refusal must have the code and name both words. */
static void refuses(int code, const char *word, const char *word2)
{
	struct hf_config config;
	struct checkpoint *c = NULL;
	struct err e = { .code = 0 };

	folder_write(&folder, &model, dir, "");
	OK(hf_config_open(dir, &config, &e));
	int r = checkpoint_open(dir, &config, &c, &e);
	if (r != code || !strstr(e.text, word) || !strstr(e.text, word2))
		fail_msg("answered %d: %s; wanted %d with '%s' and '%s'", r, e.text, code, word, word2);
}

/* ---- accepted ------------------------------------------------------------------------------ */

static void same_ref(const struct weight_ref *got, const struct weight_ref *want)
{
	EQ(got->format, want->format);
	EQ(got->rows, want->rows);
	EQ(got->cols, want->cols);
	assert_memory_equal(got->data, want->data, weight_data_bytes(want));
	if (weight_is_plain(want->format))
		return;
	EQ(got->scale_format, want->scale_format);
	/* a single block is one scale for the tensor: spans may differ, their number not */
	EQ(weight_scale_rows(got), weight_scale_rows(want));
	EQ(weight_scale_cols(got), weight_scale_cols(want));
	assert_memory_equal(got->scale, want->scale, weight_scale_bytes(want));
	assert_true(got->global == want->global);
}

TEST(every_mixture_comes_back_as_it_was_written)
{
	struct hf_config config;
	uint32_t seen[WF_N] = { 0 };

	folder_add(&folder, "model.visual.blocks.0.attn.qkv.weight", "F8_E4M3", 4, 4, folder.scalars, 16);
	folder_add(&folder, "model.visual.blocks.0.attn.qkv.weight_scale", "F32", 4, 1, folder.scalars, 16);
	folder_add(&folder, "model.language_model.layers.3.self_attn.k_scale", "BF16", 1, 0,
		   folder.scalars, 2);
	folder_write(&folder, &model, dir, "");
	struct checkpoint *c = open_folder(&config);
	const struct weight_source *s = checkpoint_source(c);
	EQ(config.shape.n_mtp_layers, 1);
	for (int slot = 0; slot < W_N_SLOTS; slot++)
		for (uint32_t l = 0; l < (slot < W_PER_LAYER ? 1 : config.shape.n_layers + 1); l++)
			for (uint32_t x = 0; x < config.shape.n_experts; x++) {
				struct weight_ref got, want;

				if (s->find(s->ctx, (enum weight_slot)slot, l, x, &got) < 0)
					continue;
				OK(model.source.find(&model, (enum weight_slot)slot, l,
						     slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN ? x : 0,
						     &want));
				same_ref(&got, &want);
				seen[got.format]++;
			}
	assert_true(seen[WF_F32] > 30 && seen[WF_FP8] > 30 && seen[WF_NVFP4] > 10);
	const struct checkpoint_facts *f = checkpoint_facts(c);
	EQ(f->n_unused, 0);
	EQ(f->n_vision, 2);
	EQ(f->n_vision_quantised, 1);
	EQ(f->n_kv_scales, 1);
	EQ(f->n_disagree, 0);	/* nothing is said, so nothing is contradicted */
	EQ(f->n_files, 2);
	checkpoint_close(c);
}

TEST(a_folder_without_its_mtp_head_opens)
{
	struct hf_config config;
	uint32_t n = 0;

	for (uint32_t i = 0; i < folder.n; i++)
		if (strncmp(folder.t[i].name, "mtp.", 4) != 0)
			folder.t[n++] = folder.t[i];
	folder.n = n;
	folder_write(&folder, &model, dir, "");
	struct checkpoint *c = open_folder(&config);
	EQ(config.shape.n_mtp_layers, 0);
	assert_true(checkpoint_facts(c)->mtp_declared);
	checkpoint_close(c);
}

TEST(what_the_configuration_says_otherwise_is_counted_not_believed)
{
	struct hf_config config;

	folder_write(&folder, &model, dir, ",\"quantization_config\":{\"quant_method\":\"fp8\","
		     "\"weight_block_size\":[128,128],\"modules_to_not_convert\":[\"lm_head\"]}");
	struct checkpoint *c = open_folder(&config);
	const struct checkpoint_facts *f = checkpoint_facts(c);
	assert_true(f->n_disagree > 0 && strstr(f->first_disagree, "the configuration says"));
	assert_string_equal(quant_config_method(f->quant), "fp8");
	checkpoint_close(c);
}

/* ---- refused --------------------------------------------------------------------------------- */

/* The first tensor of the text part whose name ends so. */
static struct file_tensor *ending(const char *suffix)
{
	for (uint32_t i = 0; i < folder.n; i++) {
		size_t n = strlen(folder.t[i].name), m = strlen(suffix);

		if (n > m && strcmp(folder.t[i].name + n - m, suffix) == 0)
			return &folder.t[i];
	}
	fail_msg("no tensor ends with %s", suffix);
	return NULL;
}

TEST(a_part_that_is_missing_is_named)
{
	static const char *const parts[] = { ".weight_scale_2", ".weight_global_scale",
					     ".weight_scale_inv" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct file_tensor *t = ending(parts[i]);
		char name[160];

		snprintf(name, sizeof(name), "%.*s", (int)(strlen(t->name) - strlen(parts[i])), t->name);
		*t = folder.t[--folder.n];
		refuses(-EINVAL, strrchr(name, '.') ? strrchr(name, '.') + 1 : name, "missing");
		folder_fill(&folder, &model);
	}
}

TEST(a_missing_first_expert_is_an_expert)
{
	static const char prefix[] = "model.language_model.layers.0.mlp.experts.0.";
	uint32_t n = 0;

	for (uint32_t i = 0; i < folder.n; i++)
		if (strncmp(folder.t[i].name, prefix, strlen(prefix)) != 0)
			folder.t[n++] = folder.t[i];
	assert_true(n < folder.n);
	folder.n = n;
	refuses(-EINVAL, "layers.0.mlp.experts.0.gate_proj", "missing");
}

TEST(wrong_types_and_shapes_are_named)
{
	static const struct {
		const char *ending, *dtype;
		uint32_t cols;		/* 0: left as it is */
		int code;
		const char *word, *word2;
	} twists[] = {
		{ ".weight_packed", "I32", 1, -ENOTSUP, "weight_packed", "format that is not known" },
		{ ".weight_packed", "I8", 0, -EINVAL, "weight_packed", "expected U8, found I8" },
		{ "q_proj.weight", "F8_E5M2", 0, -EINVAL, "q_proj.weight", "found F8_E5M2" },
		{ ".weight_scale_2", "BF16", 0, -EINVAL, "weight_scale_2", "expected F32" },
		{ ".weight_scale_inv", "U8", 0, -EINVAL, "weight_scale_inv", "found U8" },
		{ "embed_tokens.weight", "F8_E4M3", 0, -EINVAL, "embed_tokens", "found F8_E4M3" },
		{ "input_layernorm.weight", "U8", 0, -EINVAL, "input_layernorm", "found U8" },
	};

	for (size_t i = 0; i < sizeof(twists) / sizeof(twists[0]); i++) {
		struct file_tensor *t = ending(twists[i].ending);
		uint32_t old = t->dtype[0] == 'F' && t->dtype[1] == '3' ? 4 : t->dtype[0] == 'B' ? 2 : 1;
		uint32_t size = twists[i].dtype[0] == 'I' && twists[i].dtype[1] == '3' ? 4 :
				twists[i].dtype[0] == 'B' ? 2 : 1;

		snprintf(t->dtype, sizeof(t->dtype), "%s", twists[i].dtype);
		if (twists[i].cols)
			t->dim[1] /= 4;
		else
			t->bytes = t->bytes / old * size;
		refuses(twists[i].code, twists[i].word, twists[i].word2);
		folder_fill(&folder, &model);
	}
}

TEST(a_scale_of_another_shape_is_refused)
{
	static const uint8_t room[4096];
	struct file_tensor *t = ending(".weight_scale_inv");

	t->data = room;
	t->dim[0] = t->dim[0] * t->dim[1] + 1;	/* neither one, nor a row each, nor blocks */
	t->dim[1] = 1;
	t->bytes += t->dtype[0] == 'B' ? 2 : 4;
	refuses(-EINVAL, "weight_scale_inv", "scales for a matrix");
}

TEST(parts_that_would_change_the_arithmetic_are_refused)
{
	static const char *const parts[] = { "bias", "pre_quant_scale", "weight_zero_point", "g_idx",
					     "qweight", "something_new" };
	char name[160];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(name, sizeof(name), "model.language_model.layers.0.linear_attn.out_proj.%s", parts[i]);
		folder_add(&folder, name, "F32", 1, 0, folder.scalars, 4);
		refuses(-ENOTSUP, parts[i], "not known");
		folder_fill(&folder, &model);
	}
}

/* Each would be left out, and the rest would still make an answer: another model's. */
TEST(tensors_of_the_text_part_that_nobody_asks_for_are_refused)
{
	static const char *const names[] = {
		"model.language_model.layers.99.input_layernorm.weight",
		"model.language_model.layers.0.input_layernorm.bias",
		"model.language_model.layers.0.mlp.experts.99.up_proj.weight",
		"model.language_model.layers.0.mlp.experts.gate_up_proj",
		"model.language_model.layers.0.linear_attn.conv1d.bias",
		"model.language_model.norm.bias",
		"model.language_model.embed_tokens.weight_scale",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		folder_add(&folder, names[i], "F32", 1, 0, folder.scalars, 4);
		refuses(-EINVAL, names[i], "has no place");
		folder_fill(&folder, &model);
	}
}

TEST(what_says_nothing_of_the_weights_may_lie_anywhere)
{
	struct hf_config config;

	folder_add(&folder, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, 0, folder.scalars, 4);
	folder_add(&folder, "model.layers.0.mlp.experts.gate_up_proj_input_scale", "F32", 1, 0,
		   folder.scalars, 4);
	folder_add(&folder, "mtp.something_new", "F32", 1, 0, folder.scalars, 4);
	folder_write(&folder, &model, dir, "");
	struct checkpoint *c = open_folder(&config);
	EQ(checkpoint_facts(c)->n_unused, 3);
	checkpoint_close(c);
}

TEST(contradicting_parts_are_refused)
{
	struct file_tensor *t = ending(".weight_scale_2");
	char name[160];

	snprintf(name, sizeof(name), "%.*s_inv", (int)(strlen(t->name) - 2), t->name);
	folder_add(&folder, name, "F32", 1, 1, folder.scalars, 4);
	refuses(-EINVAL, "weight_scale_inv", "contradicts");
}

TEST(a_global_factor_that_is_no_number_is_refused)
{
	static const float bad[] = { 0, -1, INFINITY, NAN };

	for (size_t i = 0; i < 4; i++) {
		ending(".weight_global_scale")->data = &bad[i];
		refuses(-EINVAL, "weight_global_scale", "cannot be a scale");
		folder_fill(&folder, &model);
	}
	ending(".weight_scale_2")->data = &bad[3];
	refuses(-EINVAL, "weight_scale_2", "cannot be a scale");
}

/* ---- fused experts in FP8 ------------------------------------------------------------------------ */

TEST(fp8_experts_in_one_tensor_are_cut)
{
	static uint8_t bytes[2 * 256 * 130];
	static const float scale[2 * 2 * 2] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	static const char name[] = "layers.0.mlp.experts.gate_up_proj";
	struct tensor_set *s = NULL;
	struct weight_ref whole, up;
	struct err e = { .code = 0 };
	uint64_t n;

	folder.n = 0;
	folder_add(&folder, name, "F8_E4M3", 2 * 256, 130, bytes, sizeof(bytes));
	folder.t[0].n_dims = 3;
	memcpy(folder.t[0].dim, (uint32_t[]){ 2, 256, 130 }, 12);
	folder_add(&folder, "layers.0.mlp.experts.gate_up_proj_scale_inv", "F32", 4, 2, scale, sizeof(scale));
	folder.t[1].n_dims = 3;
	memcpy(folder.t[1].dim, (uint32_t[]){ 2, 2, 2 }, 12);
	folder_write(&folder, &model, dir, "");
	OK(tensor_set_open(dir, &s, &e));
	if (module_fused(s, name, (uint32_t[]){ 2, 256, 130 }, &whole, &n, &e) < 0)
		fail_msg("%s", e.text);
	EQ(n, sizeof(bytes) + sizeof(scale));
	OK(module_part(&whole, 384, 128, &up));	/* the up half of expert 1 */
	EQ((const char *)up.data - (const char *)whole.data, 384 * 130);
	assert_memory_equal(up.scale, &scale[6], 8);
	EQ(module_part(&whole, 64, 128, &up), -EINVAL);
	tensor_set_close(s);
}

/* ---- what configurations say ------------------------------------------------------------------------ */

#define CT(groups, ignore) \
	"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{" groups "}," \
	"\"ignore\":[" ignore "]}}"
#define FP8_GROUP(targets) \
	"\"group_0\":{\"format\":\"float-quantized\",\"targets\":[" targets "],\"weights\":{\"num_bits\":8," \
	"\"type\":\"float\",\"strategy\":\"channel\"},\"input_activations\":{\"num_bits\":8}}"
#define FP4_GROUP(targets) \
	"\"group_1\":{\"targets\":[" targets "],\"weights\":{\"num_bits\":4,\"type\":\"float\"," \
	"\"group_size\":16,\"strategy\":\"tensor_group\"}}"
#define MIXED CT(FP8_GROUP("\"re:.*self_attn.*\",\"re:.*linear_attn\\\\.in_proj_(?:qkv|z)$\"") "," \
		 FP4_GROUP("\"re:.*mlp\\\\.experts\\\\.\\\\d+\\\\..*\""), "\"lm_head\",\"re:.*layers.3.*v_proj\"")
#define MODELOPT \
	"{\"quantization\":{\"quant_algo\":\"MIXED_PRECISION\",\"kv_cache_quant_algo\":\"FP8\"," \
	"\"exclude_modules\":[\"model.visual*\",\"*shared_expert_gate\"],\"quantized_layers\":{" \
	"\"lm_head\":{\"quant_algo\":\"W4A16_NVFP4\"},\"model.language_model.layers.0.mlp.experts\":" \
	"{\"quant_algo\":\"W4A16_NVFP4\"},\"model.language_model.layers.3.self_attn.q_proj\":" \
	"{\"quant_algo\":\"FP8\"}}}}"
#define OFFICIAL \
	"{\"quantization_config\":{\"quant_method\":\"fp8\",\"activation_scheme\":\"dynamic\"," \
	"\"modules_to_not_convert\":[\"lm_head\",\"model.language_model.layers.0.mlp.gate\"]}}"

TEST(configurations_agree_with_what_they_list)
{
	static const struct {
		const char *config, *modelopt, *module;
		enum weight_format found;
		bool agrees;
	} cases[] = {
		{ "{}", NULL, "lm_head", WF_NVFP4, true },
		{ MIXED, NULL, "layers.3.self_attn.q_proj", WF_FP8, true },
		{ MIXED, NULL, "layers.3.self_attn.q_proj", WF_NVFP4, false },
		{ MIXED, NULL, "layers.3.self_attn.q_proj", WF_BF16, false },
		{ MIXED, NULL, "layers.3.self_attn.v_proj", WF_BF16, true },	/* ignored wins */
		{ MIXED, NULL, "layers.3.self_attn.v_proj", WF_FP8, false },
		{ MIXED, NULL, "layers.0.linear_attn.in_proj_z", WF_FP8, true },
		{ MIXED, NULL, "layers.0.linear_attn.in_proj_a", WF_FP8, false },
		{ MIXED, NULL, "layers.0.mlp.experts.17.up_proj", WF_NVFP4, true },
		{ MIXED, NULL, "lm_head", WF_FP8, false },
		{ MIXED, NULL, "mtp.fc", WF_BF16, true },
		{ CT(FP4_GROUP("\"Linear\""), "\"lm_head\""), NULL, "layers.0.mlp.gate", WF_BF16, true },
		{ CT(FP4_GROUP("\"Linear\""), "\"lm_head\""), NULL, "layers.0.mlp.up_proj", WF_NVFP4, true },
		{ CT(FP4_GROUP("\"Linear\""), "\"lm_head\""), NULL, "layers.0.mlp.up_proj", WF_FP8, false },
		/* a pattern that POSIX does not have: nothing can be said against */
		{ CT(FP4_GROUP("\"re:^(?!.*attn).*proj\""), ""), NULL, "layers.0.mlp.up_proj", WF_NVFP4, true },
		{ "{}", MODELOPT, "lm_head", WF_NVFP4, true },
		{ "{}", MODELOPT, "lm_head", WF_FP8, false },
		{ OFFICIAL, MODELOPT, "layers.0.mlp.experts.200.down_proj", WF_NVFP4, true },
		{ "{}", MODELOPT, "layers.0.mlp.shared_expert_gate", WF_FP8, false },
		{ "{}", MODELOPT, "layers.1.mlp.up_proj", WF_FP8, false },
		{ "{}", MODELOPT, "mtp.layers.0.self_attn.q_proj", WF_BF16, true },
		{ OFFICIAL, NULL, "layers.0.mlp.gate", WF_BF16, true },
		{ OFFICIAL, NULL, "layers.0.mlp.gate", WF_FP8, false },
		{ OFFICIAL, NULL, "layers.0.mlp.gate_proj", WF_FP8, true },	/* no prefix of a word */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct quant_config *q = NULL;
		struct err e = { .code = 0 };
		const char *says = NULL;

		if (quant_config_parse(cases[i].config, cases[i].modelopt, &q, &e) < 0)
			fail_msg("case %zu: %s", i, e.text);
		if (quant_config_agrees(q, cases[i].module, cases[i].found, &says) != cases[i].agrees)
			fail_msg("case %zu: %s in %s", i, cases[i].module, weight_format_name(cases[i].found));
		assert_true(cases[i].agrees || says);
		quant_config_close(q);
	}
}

TEST(configurations_that_cannot_be_served_are_refused)
{
	static const struct {
		const char *config, *modelopt;
		int code;
		const char *word;
	} bad[] = {
		{ "{\"quantization_config\":{\"quant_method\":\"gptq\"}}", NULL, -ENOTSUP, "gptq" },
		{ "{\"quantization_config\":{}}", NULL, -EINVAL, "quant_method" },
		{ "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[64,128]}}", NULL,
		  -ENOTSUP, "weight_block_size" },
		{ "{}", "{}", -EINVAL, "hf_quant_config.json" },
		{ "{\"quantization_config\":{\"quant_method\":\"fp8\",\"modules_to_not_convert\":[1]}}", NULL,
		  -EINVAL, "no name" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct quant_config *q = NULL;
		struct err e = { .code = 0 };

		EQ(quant_config_parse(bad[i].config, bad[i].modelopt, &q, &e), bad[i].code);
		assert_non_null(strstr(e.text, bad[i].word));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_mixture_comes_back_as_it_was_written, begin, end),
		cmocka_unit_test_setup_teardown(a_folder_without_its_mtp_head_opens, begin, end),
		cmocka_unit_test_setup_teardown(what_the_configuration_says_otherwise_is_counted_not_believed,
						begin, end),
		cmocka_unit_test_setup_teardown(a_part_that_is_missing_is_named, begin, end),
		cmocka_unit_test_setup_teardown(a_missing_first_expert_is_an_expert, begin, end),
		cmocka_unit_test_setup_teardown(wrong_types_and_shapes_are_named, begin, end),
		cmocka_unit_test_setup_teardown(a_scale_of_another_shape_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(parts_that_would_change_the_arithmetic_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(tensors_of_the_text_part_that_nobody_asks_for_are_refused,
						begin, end),
		cmocka_unit_test_setup_teardown(what_says_nothing_of_the_weights_may_lie_anywhere, begin,
						end),
		cmocka_unit_test_setup_teardown(contradicting_parts_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(a_global_factor_that_is_no_number_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(fp8_experts_in_one_tensor_are_cut, begin, end),
		cmocka_unit_test(configurations_agree_with_what_they_list),
		cmocka_unit_test(configurations_that_cannot_be_served_are_refused),
	};
	char command[64];

	if (!mkdtemp(dir))
		return 99;
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? r : 99;
}
