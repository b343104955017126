/* step_bytes_test.c - the bytes that hearth-bench step divides by, against files and published sizes; and what the CPU
 * says of itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/step_bytes.h"
#include "bench/step_model.h"
#include "kernels/measure.h"
#include "lib/json.h"
#include "lib/own.h"
#include "tests/fake/random_model.h"
#include "tests/unit/unit.h"

#define NEAR(a, b, part) assert_true((a) > (b) * (1 - (part)) && (a) < (b) * (1 + (part)))

struct files {
	double embedding, experts, mtp, rest, all;
};

static void tiny_path(char *ret, size_t room, const char *name)
{
	const char *top = getenv("top_srcdir");

	snprintf(ret, room, "%s/models/tiny/%s", top ? top : ".", name);
}

static void count_tensor(const char *name, const json_t *v, struct files *f)
{
	const json_t *ends = json_object_get(v, "data_offsets");
	int64_t from, to;

	OK(jx_int64(json_array_get(ends, 0), &from));
	OK(jx_int64(json_array_get(ends, 1), &to));
	f->all += (double)(to - from);
	*(strstr(name, "mtp.") ? &f->mtp : strstr(name, "embed_tokens") ? &f->embedding :
	  strstr(name, ".experts.") ? &f->experts : &f->rest) += (double)(to - from);
}

/* A header as the format says: 8 bytes of length, then JSON. */
static void count_file(const char *name, struct files *f)
{
	char path[512];
	uint64_t n;

	tiny_path(path, sizeof(path), name);
	CLEANUP(fclosep) FILE *in = fopen(path, "re");
	if (!in)
		skip();
	EQ(fread(&n, 1, 8, in), 8);
	assert_true(n < 1 << 24);
	CLEANUP(freep) char *text = malloc(n);
	EQ(fread(text, 1, n, in), n);
	JX_OWNED json_t *top = NULL;
	struct err e;
	OK(jx_load(text, n, &top, &e));
	const char *key;
	json_t *v;
	json_object_foreach(top, key, v)
		if (strcmp(key, "__metadata__") != 0)
			count_tensor(key, v, f);
	OK(fseek(in, 0, SEEK_END));
	f->all -= (double)ftell(in) - 8 - (double)n;	/* 0 at the end: every byte of data is some tensor's */
}

TEST(tiny_as_its_files_say)
{
	struct files f = { 0 };
	struct step_model m;
	struct err e;
	char path[512];

	count_file("model-00001-of-00003.safetensors", &f);
	count_file("model-00002-of-00003.safetensors", &f);
	count_file("model-00003-of-00003.safetensors", &f);
	assert_true(f.all == 0);
	assert_true(f.embedding > 0 && f.experts > 0 && f.mtp > 0 && f.rest > 0);
	tiny_path(path, sizeof(path), "");
	OK(step_model_open(path, NULL, NULL, QUANTIZE_NONE, &m, &e));
	const struct step_bytes b = step_bytes_of(&m.shape, &m.traffic, KV_BF16, true);
	const struct model_shape *s = &m.shape;
	const bool tied = f.rest < (double)s->vocab_rows * s->hidden * 2;
	const double channels = (2.0 * s->gdn_k_heads + s->gdn_v_heads) * s->gdn_head_dim;
	const double state = (double)s->gdn_v_heads * s->gdn_head_dim * s->gdn_head_dim * 4 + channels * 3 * 2;

	assert_true(b.always == f.rest + (tied ? f.embedding : 0));
	assert_true(b.expert * s->n_experts * s->n_layers == f.experts);
	assert_true(b.row == s->hidden * 2.0 + 2 * 3 * state);	/* three DeltaNet layers, one of attention */
	/* on a GPU: read, an eighth of it written; of seven tokens of a kilobyte and a decay half are read, and seven
	 * are written in eight steps */
	NEAR(step_bytes_of(&m.shape, &m.traffic, KV_BF16, false).row,
	     s->hidden * 2.0 + 3 * (2 * channels * 3 * 2 + s->gdn_v_heads * (65536 * 1.125 + 1028 * (3.5 + 0.875))), 1e-12);
	assert_true(b.position == 2.0 * s->n_kv_heads * s->head_dim * 2);
	/* everything in use once: all of the files but MTP and the rows of the embedding that nobody asks for */
	NEAR(step_bytes_sum(&b, 1, (double)s->n_experts * s->n_layers, 0), f.rest + f.experts + (tied ? f.embedding : 0) + b.row,
	     1e-12);
	assert_true(step_bytes_sum(&b, 3, 10, 100) == b.always + 10 * b.expert + 3 * b.row + 300 * b.position);
	assert_true(step_bytes_logits(s) == 2.0 * 4 * s->vocab_rows);	/* float32, written and read */
	step_model_close(&m);
}

/* GB that published checkpoints in these formats read for one token (tests/box/check_model.py counts them from headers). */
TEST(made_up_weights_as_published)
{
	static const struct {
		const char *recipe, *shape;
		double mb;
	} known[] = {
		{ "bf16", "35b", 5892.9 }, { "fp8", "35b", 3481.4 }, { "nvfp4", "35b", 3873.0 },
		{ "nvfp4-fp8", "35b", 2530 }, { "bf16", "27b", 51249.2 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct step_model m;
		struct err e;

		OK(step_model_open(NULL, known[i].recipe, known[i].shape, QUANTIZE_NONE, &m, &e));
		const struct step_bytes b = step_bytes_of(&m.shape, &m.traffic, KV_BF16, true);
		const double used = (double)m.shape.n_experts_used * m.shape.n_layers;
		const double state = 2 * (double)traffic_state_bytes(&m.shape);

		NEAR((step_bytes_sum(&b, 1, used, 0) - state) / 1e6, known[i].mb, 0.002);
		/* 256 codes and a power where 256 numbers of two bytes were */
		const struct step_bytes fp8 = step_bytes_of(&m.shape, &m.traffic, KV_FP8, true);

		assert_true(fp8.position * 512 == b.position * 257 && fp8.row == b.row);
		step_model_close(&m);
	}
}

TEST(no_such_dummy)
{
	struct step_model m;
	struct err e;

	EQ(step_model_open(NULL, "bf17", "35b", QUANTIZE_NONE, &m, &e), -EINVAL);
	assert_non_null(strstr(e.text, "bf17"));
	assert_true(step_model_open(NULL, "bf16", "/nowhere", QUANTIZE_NONE, &m, &e) < 0);
}

static struct device *open_cpu(const struct model_shape *s)
{
	const struct device_limits l = { .n_slots = 2, .n_blocks = 2, .max_rows = 64, .max_context = 64, .n_threads = 2 };
	struct device *d;
	struct err e;

	OK(device_open("cpu", s, &l, &d, &e));
	return d;
}

static void decode_two(struct device *d)
{
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	const kv_block blocks[2] = { 0, 1 };
	const uint32_t token = 1;
	struct plan_run runs[2];
	struct run_result res[2];

	for (uint32_t i = 0; i < 2; i++) {
		OK(slot_begin(d, i, &greedy, NULL, 0));
		runs[i] = (struct plan_run){ .slot = i, .kind = ROW_DECODE, .n = 1, .tokens = &token,
					     .blocks = &blocks[i], .n_blocks = 1, .sample = true };
	}
	OK(device_submit(d, &(struct plan){ .runs = runs, .n_runs = 2 }));
	EQ(device_collect(d, res, 2), 2);
}

TEST(cpu_counts_distinct_experts)
{
	const struct model_shape s = random_shape(RANDOM_MOE);
	struct device_measures m = { .n_classes = 1 };
	struct random_model *model;
	struct device *d = open_cpu(&s);
	struct err e;

	EQ(device_measure(d, MEASURE_STEPS, &m), -EINVAL);	/* not loaded */
	OK(random_model_new(&s, WF_BF16, 7, &model));
	OK(device_load(d, random_model_source(model), NULL, NULL, &e));
	OK(device_measure(d, MEASURE_STEPS, &m));
	EQ(m.experts_active, 0);
	EQ(m.n_classes, 0);
	decode_two(d);		/* the same token twice: the same experts */
	OK(device_measure(d, MEASURE_STEPS, &m));
	EQ(m.experts_active, s.n_experts_used * s.n_layers);
	OK(device_measure(d, MEASURE_STEPS, &m));
	EQ(m.experts_active, 0);
	EQ(device_profile(d, true), -ENOTSUP);
	OK(device_measure(d, MEASURE_DEVICE, &m));
	assert_true(m.free > 0 && m.prompt_rows % STEP_GRID == 0 && m.device[0]);
	device_close(d);
	random_model_free(model);
}

/* What the CPU keeps of the tiny model is what the files have, but for rows padded to 16. */
TEST(cpu_reads_what_the_files_have)
{
	struct device_measures m = { .step_bytes = 0 };
	struct step_model tiny;
	struct device *d;
	struct err e;
	char path[512];

	tiny_path(path, sizeof(path), "");
	if (step_model_open(path, NULL, NULL, QUANTIZE_NONE, &tiny, &e) < 0)
		skip();
	d = open_cpu(&tiny.shape);
	OK(device_load(d, &tiny.source, NULL, NULL, &e));
	OK(device_measure(d, MEASURE_READS, &m));
	const struct step_bytes b = step_bytes_of(&tiny.shape, &tiny.traffic, KV_BF16, true);

	assert_true((double)m.expert_bytes == b.expert);
	NEAR((double)m.step_bytes, b.always, 0.02);
	device_close(d);
	step_model_close(&tiny);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tiny_as_its_files_say), cmocka_unit_test(made_up_weights_as_published),
		cmocka_unit_test(no_such_dummy),
		cmocka_unit_test(cpu_counts_distinct_experts), cmocka_unit_test(cpu_reads_what_the_files_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
