/* weights_test.c - what a model folder may be, and each way in which it is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/own.h"
#include "tests/unit/unit.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/hf_dir.h"
#include "worker/weights/safetensors.h"

#define CONFIG_HEAD                                                                        \
	"{\"model_type\":\"qwen3_5\",\"hidden_size\":8,\"num_hidden_layers\":1,"            \
	"\"layer_types\":[\"full_attention\"],\"vocab_size\":10,\"num_attention_heads\":2," \
	"\"num_key_value_heads\":1,\"head_dim\":8,\"linear_num_key_heads\":1,"             \
	"\"linear_num_value_heads\":1,\"linear_key_head_dim\":8,\"linear_value_head_dim\":8," \
	"\"intermediate_size\":6,\"mtp_num_hidden_layers\":1"

static char dir[] = "/tmp/hearth-weights-XXXXXX";

static void write_file(const char *name, const void *p, size_t n)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	EQ(fwrite(p, 1, n, f), n);
	fclose(f);
}

static void remove_file(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

struct tensor {
	const char *name, *shape;
	size_t elements;
};

static const struct tensor tensors[] = {
	{ "embed_tokens.weight", "[10,8]", 80 },
	{ "norm.weight", "[8]", 8 },
	{ "layers.0.input_layernorm.weight", "[8]", 8 },
	{ "layers.0.post_attention_layernorm.weight", "[8]", 8 },
	{ "layers.0.self_attn.q_proj.weight", "[32,8]", 256 },
	{ "layers.0.self_attn.k_proj.weight", "[8,8]", 64 },
	{ "layers.0.self_attn.v_proj.weight", "[8,8]", 64 },
	{ "layers.0.self_attn.o_proj.weight", "[8,16]", 128 },
	{ "layers.0.self_attn.q_norm.weight", "[8]", 8 },
	{ "layers.0.self_attn.k_norm.weight", "[8]", 8 },
	{ "layers.0.mlp.gate_proj.weight", "[6,8]", 48 },
	{ "layers.0.mlp.up_proj.weight", "[6,8]", 48 },
	{ "layers.0.mlp.down_proj.weight", "[8,6]", 48 },
};

#define N_TENSORS (sizeof(tensors) / sizeof(tensors[0]))

/* How the file differs from a good one. */
struct twist {
	const char *prefix;	/* of the names; NULL: model.language_model. */
	const char *tensor;	/* the one that is twisted */
	const char *dtype, *shape, *rename;
	bool overlap, hole;
	const char *again;	/* a name that comes twice, the second time with bytes of its own */
	size_t behind;		/* bytes at the end that are nobody's */
};

static void put_tensor(struct buf *b, const char *name, const char *dtype, const char *shape,
		       size_t at, size_t bytes)
{
	OK(buf_printf(b, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
		      b->n > 1 ? "," : "{", name, dtype, shape, at, at + bytes));
}

static size_t write_model(const char *file, const struct twist *w, size_t cut)
{
	CLEANUP(buf_donep) struct buf head = BUF_INIT, all = BUF_INIT;
	size_t at = 0;

	for (size_t i = 0; i < N_TENSORS; i++) {
		bool it = w->tensor && strcmp(w->tensor, tensors[i].name) == 0;
		CLEANUP(buf_donep) struct buf name = BUF_INIT;

		OK(buf_printf(&name, "%s%s", w->prefix ? w->prefix : "model.language_model.",
			      it && w->rename ? w->rename : tensors[i].name));
		if (it && w->overlap)
			at -= 2;
		if (it && w->hole)
			at += 2;
		put_tensor(&head, name.p, it && w->dtype ? w->dtype : "BF16",
			   it && w->shape ? w->shape : tensors[i].shape, at,
			   2 * tensors[i].elements);
		at += 2 * tensors[i].elements;
	}
	put_tensor(&head, "lm_head.weight", "BF16", "[10,8]", at, 160);
	put_tensor(&head, "model.visual.pos_embed.weight", "F16", "[2]", at + 160, 4);
	if (w->again)
		put_tensor(&head, w->again, "BF16", "[10,8]", at + 164, 160);
	at += w->again ? 160 : 0;
	OK(buf_putc(&head, '}'));
	uint64_t n = head.n;
	OK(buf_put(&all, &n, 8));
	OK(buf_put(&all, head.p, head.n));
	for (size_t i = 0; i < at + 164 + w->behind; i++)
		OK(buf_putc(&all, (char)i));
	write_file(file, all.p, all.n - cut);
	return all.n;
}

/* Opens the folder; the text of a refusal must name every word given. */
static void refuses(int code, const char *word, const char *word2)
{
	struct hf_config config;
	struct checkpoint *c = NULL;
	struct err e = { .code = 0 };
	int r;

	OK(hf_config_open(dir, &config, &e));
	r = checkpoint_open(dir, &config, &c, &e);
	if (r != code || !strstr(e.text, word) || !strstr(e.text, word2))
		fail_msg("answered %d: %s", r, e.text);
	assert_null(c);
}

static void accepts(void)
{
	struct hf_config config;
	struct checkpoint *c = NULL;
	struct err e = { .code = 0 };
	struct weight_ref w;

	OK(hf_config_open(dir, &config, &e));
	if (checkpoint_open(dir, &config, &c, &e) < 0)
		fail_msg("%s", e.text);
	EQ(config.shape.n_mtp_layers, 0);	/* no mtp.* in it */
	const struct weight_source *s = checkpoint_source(c);
	OK(s->find(s->ctx, W_MLP_DOWN, 0, 0, &w));
	EQ(w.rows, 8);
	EQ(w.cols, 6);
	EQ(w.format, WF_BF16);
	EQ(s->find(s->ctx, W_ROUTER, 0, 0, &w), -ENOENT);
	checkpoint_close(c);
}

static int setup(void **state)
{
	(void)state;
	remove_file("model.safetensors.index.json");
	remove_file("a.safetensors");
	write_file("config.json", CONFIG_HEAD "}", strlen(CONFIG_HEAD "}"));
	write_model("model.safetensors", &(struct twist){ 0 }, 0);
	return 0;
}

TEST(every_prefix_of_the_names_is_taken)
{
	static const char *const prefix[] = { "model.language_model.", "model.",
					      "language_model.model." };

	for (size_t i = 0; i < 3; i++) {
		write_model("model.safetensors", &(struct twist){ .prefix = prefix[i] }, 0);
		accepts();
	}
}

TEST(a_truncated_file_is_refused)
{
	write_model("model.safetensors", &(struct twist){ 0 }, 1);
	refuses(-EINVAL, "model.safetensors", "truncated");
}

TEST(a_header_longer_than_the_file_is_refused)
{
	size_t n = write_model("model.safetensors", &(struct twist){ 0 }, 0);

	write_model("model.safetensors", &(struct twist){ 0 }, n - 30);
	refuses(-EINVAL, "model.safetensors", "header of");
	write_file("model.safetensors", "\377\377\377\377\377\377\377\377{}", 10);
	refuses(-EINVAL, "model.safetensors", "header of");
	write_file("model.safetensors", "abc", 3);
	refuses(-EINVAL, "model.safetensors", "too few");
}

TEST(a_wrong_dtype_is_refused)
{
	write_model("model.safetensors", &(struct twist){ .tensor = "norm.weight", .dtype = "I16" },
		    0);
	refuses(-EINVAL, "norm.weight", "found I16");
}

TEST(a_wrong_shape_is_refused)
{
	write_model("model.safetensors",
		    &(struct twist){ .tensor = "layers.0.mlp.up_proj.weight", .shape = "[8,6]" },
		    0);
	refuses(-EINVAL, "up_proj", "expected [1, 6, 8], found [8, 6]");
	write_model(
		"model.safetensors",
		&(struct twist){ .tensor = "norm.weight", .shape = "[4294967296,4294967296,2]" },
		0);
	refuses(-EINVAL, "norm.weight", "64 bits");
	write_model("model.safetensors",
		    &(struct twist){ .tensor = "norm.weight", .shape = "[7]" }, 0);
	refuses(-EINVAL, "norm.weight", "do not make its 16 bytes");
}

TEST(a_missing_tensor_is_named)
{
	write_model(
		"model.safetensors",
		&(struct twist){ .tensor = "layers.0.self_attn.k_norm.weight", .rename = "other" },
		0);
	refuses(-EINVAL, "layers.0.self_attn.k_norm.weight", "missing");
}

TEST(overlapping_tensors_are_refused)
{
	write_model("model.safetensors",
		    &(struct twist){ .tensor = "norm.weight", .overlap = true }, 0);
	refuses(-EINVAL, "norm.weight", "overlap");
}

TEST(bytes_that_are_no_tensors_are_refused)
{
	write_model("model.safetensors",
		    &(struct twist){ .tensor = "norm.weight", .hole = true }, 0);
	refuses(-EINVAL, "norm.weight", "2 bytes before");
	write_model("model.safetensors", &(struct twist){ .behind = 7 }, 0);
	refuses(-EINVAL, "model.safetensors", "the last 7 bytes");
	/* JSON's last one holds, so the bytes of the first are nobody's */
	write_model("model.safetensors", &(struct twist){ .again = "lm_head.weight" }, 0);
	refuses(-EINVAL, "model.safetensors", "160 bytes before");
}

static void write_index(const char *tensor, const char *file)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"weight_map\":{\"%s\":\"%s\"}}", tensor, file);
	write_file("model.safetensors.index.json", text, strlen(text));
}

TEST(an_index_that_points_nowhere_is_refused)
{
	write_index("lm_head.weight", "a.safetensors");
	refuses(-EINVAL, "a.safetensors", "lm_head.weight");
	write_model("a.safetensors", &(struct twist){ 0 }, 0);
	accepts();
	write_index("nobody.weight", "a.safetensors");
	refuses(-EINVAL, "nobody.weight", "not in");
	write_index("lm_head.weight", "../a.safetensors");
	refuses(-EINVAL, "lm_head.weight", "not the name of a file");
}

/* Taken for absent, the MTP head would be missed in silence. */
TEST(a_link_to_nothing_is_not_an_absent_file)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/mtp.safetensors", dir);
	OK(symlink("../blobs/gone", path));
	refuses(-ENOENT, "mtp.safetensors", "No such file");
	remove_file("mtp.safetensors");
}

TEST(a_pointer_of_git_lfs_is_called_by_its_name)
{
	static const char text[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";

	write_file("model.safetensors", text, strlen(text));
	refuses(-EINVAL, "model.safetensors", "Git LFS");

	struct err e = { .code = 0 };
	struct hf_config config;

	write_file("config.json", text, strlen(text));
	EQ(hf_config_open(dir, &config, &e), -EINVAL);
	assert_non_null(strstr(e.text, "Git LFS"));
}

TEST(a_folder_without_weights_is_refused)
{
	remove_file("model.safetensors");
	refuses(-ENOENT, dir, "neither");
}

/* The config with `extra` put at its end (duplicate keys: the last holds). */
static int config_with(const char *extra, struct hf_config *ret, struct err *e)
{
	char text[2048];

	snprintf(text, sizeof(text), "%s%s}", CONFIG_HEAD, extra);
	return hf_config_parse(text, strlen(text), ret, e);
}

TEST(a_config_is_read_with_the_defaults_of_the_family)
{
	struct hf_config c;

	OK(config_with("", &c, NULL));
	EQ(c.shape.rotary_dim, 2);
	assert_true(c.shape.rope_theta == 1e7);
	EQ(c.shape.gdn_conv_width, 4);
	OK(config_with(",\"rope_theta\":5e6,\"partial_rotary_factor\":0.5", &c, NULL));
	EQ(c.shape.rotary_dim, 4);
	assert_true(c.shape.rope_theta == 5e6);
	OK(config_with(",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,"
		       "\"original_max_position_embeddings\":1024}", &c, NULL));
	assert_true(c.shape.yarn_factor == 4);
	EQ(c.shape.yarn_original, 1024);
	assert_true(c.shape.yarn_attention_factor > 1.1386 &&
		    c.shape.yarn_attention_factor < 1.1387);
}

TEST(a_config_that_cannot_be_believed_is_refused_by_its_field)
{
	static const struct {
		const char *extra, *word;
	} bad[] = {
		{ ",\"hidden_size\":0", "hidden_size" },
		{ ",\"hidden_size\":1e3", "hidden_size" },
		{ ",\"hidden_size\":123456789012345678901234567890", "hidden_size" },
		{ ",\"num_key_value_heads\":3", "num_attention_heads" },
		{ ",\"layer_types\":[]", "layer_types" },
		{ ",\"layer_types\":[\"mamba\"]", "layer_types" },
		{ ",\"hidden_act\":\"gelu\"", "hidden_act" },
		{ ",\"output_gate_type\":\"sigmoid\"", "output_gate_type" },
		{ ",\"linear_value_head_dim\":16", "linear_value_head_dim" },
		{ ",\"rope_parameters\":{\"rope_type\":\"linear\"}", "rope_type" },
		{ ",\"rope_parameters\":{\"mrope_section\":[1,1,1]}", "mrope_section" },
		{ ",\"rope_scaling\":{\"rope_type\":\"yarn\"}", "factor" },
		{ ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"beta_fast\":64}", "beta_fast" },
		{ ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1}", "mscale" },
		{ ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"truncate\":false}", "truncate" },
		{ ",\"rope_parameters\":{\"rope_type\":\"default\"},"
		  "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}", "rope_scaling" },
		{ ",\"model_type\":\"qwen3_next\"", "qwen3_next" },
		{ ",\"num_hidden_layers\":100000", "num_hidden_layers" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { .code = 0 };
		struct hf_config c;

		assert_true(config_with(bad[i].extra, &c, &e) < 0);
		if (!strstr(e.text, bad[i].word))
			fail_msg("'%s' does not name %s", e.text, bad[i].word);
	}
}

TEST(a_model_is_found_by_folder_and_in_the_hub_cache)
{
	char cache[256], path[512];
	char *found;
	struct err e;

	OK(hf_dir_find(dir, &found, &e));
	assert_string_equal(found, dir);
	free(found);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	EQ(hf_dir_find(path, &found, &e), -ENOTDIR);
	snprintf(cache, sizeof(cache), "%s/hub", dir);
	mkdir(cache, 0700);
	snprintf(path, sizeof(path), "%s/models--Org--Name-1", cache);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/models--Org--Name-1/refs", cache);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/models--Org--Name-1/snapshots", cache);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/models--Org--Name-1/snapshots/abc123", cache);
	mkdir(path, 0700);
	write_file("hub/models--Org--Name-1/refs/main", "abc123\n", 7);
	setenv("HF_HUB_CACHE", cache, 1);
	OK(hf_dir_find("Org/Name-1", &found, &e));
	assert_string_equal(found, path);
	free(found);
	EQ(hf_dir_find("Org/Other", &found, &e), -ENOENT);
	assert_non_null(strstr(e.text, cache));
	write_file("hub/models--Org--Name-1/refs/main", "../../..\n", 9);
	EQ(hf_dir_find("Org/Name-1", &found, &e), -ENOENT);
	remove_file("hub/models--Org--Name-1/refs/main");
	snprintf(path, sizeof(path), "%s/models--Org--Name-1/refs/main", cache);
	OK(mkfifo(path, 0600));
	EQ(hf_dir_find("Org/Name-1", &found, &e), -EINVAL);
	assert_non_null(strstr(e.text, "refs/main: not a regular file"));
	unsetenv("HF_HUB_CACHE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_prefix_of_the_names_is_taken, setup),
		cmocka_unit_test_setup(a_truncated_file_is_refused, setup),
		cmocka_unit_test_setup(a_header_longer_than_the_file_is_refused, setup),
		cmocka_unit_test_setup(a_wrong_dtype_is_refused, setup),
		cmocka_unit_test_setup(a_wrong_shape_is_refused, setup),
		cmocka_unit_test_setup(a_missing_tensor_is_named, setup),
		cmocka_unit_test_setup(overlapping_tensors_are_refused, setup),
		cmocka_unit_test_setup(bytes_that_are_no_tensors_are_refused, setup),
		cmocka_unit_test_setup(an_index_that_points_nowhere_is_refused, setup),
		cmocka_unit_test_setup(a_link_to_nothing_is_not_an_absent_file, setup),
		cmocka_unit_test_setup(a_pointer_of_git_lfs_is_called_by_its_name, setup),
		cmocka_unit_test_setup(a_folder_without_weights_is_refused, setup),
		cmocka_unit_test(a_config_is_read_with_the_defaults_of_the_family),
		cmocka_unit_test(a_config_that_cannot_be_believed_is_refused_by_its_field),
		cmocka_unit_test_setup(a_model_is_found_by_folder_and_in_the_hub_cache, setup),
	};
	char command[64];

	if (!mkdtemp(dir))
		return 99;
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? r : 99;
}
