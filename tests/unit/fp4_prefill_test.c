/* fp4_prefill_test.c - prompts that meet NVFP4 matrices in FP4 (limits.fp4), on the CPU back end:
 * what it touches, what it leaves alone, and that a row's bits stay its own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/step.h"
#include "tests/unit/quant_model.h"
#include "tests/unit/unit.h"

enum { PROMPT = 150, BLOCKS = 3, SLOTS = 3 };

static struct quant_model model;
static enum kv_format kv = KV_BF16;	/* of opened() */
static const struct sampling greedy = { .top_p = 1, .repetition = 1 };

static struct device *opened(enum fp4_prefill fp4, enum step_numerics numerics,
			     const struct weight_source *source)
{
	const struct device_limits limits = { .n_slots = SLOTS,
					      .n_blocks = SLOTS * BLOCKS,
					      .max_rows = 192,
					      .max_context = 192,
					      .n_threads = 2,
					      .numerics = numerics,
					      .kv = kv,
					      .fp4 = fp4 };
	struct err e = { .code = 0 };
	struct device *d;

	OK(device_open("cpu", &model.shape, &limits, &d, &e));
	if (device_load(d, source, NULL, NULL, &e) < 0)
		fail_msg("%s", e.text);
	for (uint32_t i = 0; i < SLOTS; i++)
		OK(slot_begin(d, i, &greedy, NULL, 0));
	return d;
}

static uint32_t token(uint32_t slot, uint32_t i)
{
	return (i * i * 7u + slot * 13u) % 199u;
}

/* Rows pos .. pos + n - 1 of a slot's text, their logits to ret. */
struct part {
	enum row_kind kind;
	uint32_t slot, pos, n;
	float *ret;
};

static void step(struct device *d, const struct part *parts, uint32_t n)
{
	static kv_block blocks[SLOTS][BLOCKS];
	static uint32_t tokens[SLOTS][192];
	struct plan_run runs[SLOTS];
	struct run_result res[SLOTS];
	const struct plan p = { .runs = runs, .n_runs = n };

	for (uint32_t i = 0; i < n; i++) {
		const struct part *x = &parts[i];

		for (uint32_t k = 0; k < BLOCKS; k++)
			blocks[i][k] = x->slot * BLOCKS + k;
		for (uint32_t k = 0; k < x->n; k++)
			tokens[i][k] = token(x->slot, x->pos + k);
		runs[i] = (struct plan_run){ .kind = x->kind,
					     .slot = x->slot,
					     .pos = x->pos,
					     .n = x->n,
					     .tokens = tokens[i],
					     .blocks = blocks[i],
					     .n_blocks = BLOCKS,
					     .logits = x->ret };
	}
	OK(device_submit(d, &p));
	EQ(device_collect(d, res, SLOTS), (int)n);
}

static float *logits_of(enum fp4_prefill fp4, enum step_numerics numerics, enum row_kind kind,
			uint32_t cut)
{
	size_t vocab = model.shape.vocab_rows;
	float *ret = calloc(PROMPT * vocab, sizeof(*ret));
	struct device *d = opened(fp4, numerics, &model.source);

	assert_non_null(ret);
	for (uint32_t at = 0; at < PROMPT; at += cut)
		step(d,
		     &(struct part){ kind, 0, at, PROMPT - at < cut ? PROMPT - at : cut,
				     ret + at * vocab },
		     1);
	device_close(d);
	return ret;
}

static size_t bytes(uint32_t rows)
{
	return (size_t)rows * model.shape.vocab_rows * sizeof(float);
}

static double distance(const float *a, const float *b)
{
	double sum = 0, error = 0;

	for (size_t i = 0; i < (size_t)PROMPT * model.shape.vocab_rows; i++) {
		sum += (double)a[i] * (double)a[i];
		error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
	}
	return sqrt(error / sum);
}

static void check_model(bool dense)
{
	/* of both, gate and up of some layer are NVFP4 */
	quant_model_init(&model, dense ? QUANT_EXACT : QUANT_MIXED, dense);
	float *off = logits_of(FP4_PREFILL_OFF, NUMERICS_BF16, ROW_PREFILL, 64);
	float *up = logits_of(FP4_PREFILL_UP, NUMERICS_BF16, ROW_PREFILL, 64);
	float *all = logits_of(FP4_PREFILL_ALL, NUMERICS_BF16, ROW_PREFILL, 64);
	float *longer = logits_of(FP4_PREFILL_ALL, NUMERICS_BF16, ROW_PREFILL, 128);
	float *plain = logits_of(FP4_PREFILL_OFF, NUMERICS_BF16, ROW_REPLAY, 7);
	float *replay = logits_of(FP4_PREFILL_ALL, NUMERICS_BF16, ROW_REPLAY, 7);
	float *f32 = logits_of(FP4_PREFILL_OFF, NUMERICS_F32, ROW_PREFILL, 64);
	float *f32_all = logits_of(FP4_PREFILL_ALL, NUMERICS_F32, ROW_PREFILL, 64);

	printf("  up %g, all %g\n", distance(off, up), distance(off, all));
	/* it does something, the more the more, and nothing wild */
	assert_true(distance(off, up) > 1e-3 && distance(off, all) > 1e-3);
	assert_true(memcmp(up, all, bytes(PROMPT)) != 0);
	assert_true(distance(off, all) < 0.9);
	/* a prompt's cut decides nothing, generated tokens do not see it, nor does what only
	 * compares */
	assert_memory_equal(all, longer, bytes(PROMPT));
	assert_memory_equal(plain, replay, bytes(PROMPT));
	assert_memory_equal(f32, f32_all, bytes(PROMPT));
	float *const list[] = { off, up, all, longer, plain, replay, f32, f32_all };
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		free(list[i]);
	quant_model_done(&model);
}

TEST(prompts_are_rounded_and_answers_are_not)
{
	check_model(true);
	check_model(false);
}

/* A prompt, an answer and another prompt in one step; each as alone. */
TEST(neighbours_in_a_step_change_no_bit)
{
	quant_model_init(&model, QUANT_MIXED, false);
	size_t vocab = model.shape.vocab_rows;
	float *alone = calloc(3 * 64 * vocab, sizeof(*alone)),
	      *together = calloc(3 * 64 * vocab, sizeof(*alone));
	const enum row_kind kind[SLOTS] = { ROW_PREFILL, ROW_REPLAY, ROW_PREFILL };
	struct part parts[SLOTS];
	struct device *d = opened(FP4_PREFILL_ALL, NUMERICS_BF16, &model.source);

	for (uint32_t i = 0; i < SLOTS; i++) {
		parts[i] = (struct part){ kind[i], i, 0, i == 1 ? 9 : 64, alone + i * 64 * vocab };
		step(d, &parts[i], 1);
	}
	device_close(d);
	d = opened(FP4_PREFILL_ALL, NUMERICS_BF16, &model.source);
	for (uint32_t i = 0; i < SLOTS; i++)
		parts[i].ret = together + i * 64 * vocab;
	step(d, parts, SLOTS);
	device_close(d);
	assert_memory_equal(alone, together, bytes(3 * 64));
	free(alone);
	free(together);
	quant_model_done(&model);
}

/* Both options: each is in the class, and a row's bits are its own still. */
TEST(with_keys_in_fp8_too)
{
	kv = KV_FP8;
	neighbours_in_a_step_change_no_bit(state_);
	quant_model_init(&model, QUANT_MIXED, false);
	struct device *d = opened(FP4_PREFILL_ALL, NUMERICS_BF16, &model.source);

	kv = KV_BF16;
	assert_string_equal(device_numeric_text(d), "cpu numerics=1 bf16 kv=fp8 prefill-fp4=all");
	device_close(d);
	quant_model_done(&model);
}

TEST(a_wish_is_granted_or_told)
{
	quant_model_init(&model, QUANT_MIXED, false);
	struct device *d = opened(FP4_PREFILL_UP, NUMERICS_BF16, &model.source);

	assert_non_null(strstr(device_numeric_text(d), " prefill-fp4=up"));
	assert_string_equal(device_load_note(d), "");
	device_close(d);
	d = opened(FP4_PREFILL_OFF, NUMERICS_BF16, &model.source);
	assert_null(strstr(device_numeric_text(d), "fp4"));
	assert_string_equal(device_load_note(d), "");
	device_close(d);
	/* nothing of it is NVFP4: the worker is the one that was not asked to */
	d = opened(FP4_PREFILL_ALL, NUMERICS_BF16, random_model_source(model.base));
	assert_null(strstr(device_numeric_text(d), "fp4"));
	assert_non_null(strstr(device_load_note(d), "NOT in use"));
	device_close(d);
	quant_model_done(&model);
}

TEST(words)
{
	enum fp4_prefill f;

	for (int i = FP4_PREFILL_OFF; i <= FP4_PREFILL_ALL; i++) {
		OK(fp4_prefill_parse(fp4_prefill_name((enum fp4_prefill)i), &f));
		EQ(f, i);
	}
	EQ(fp4_prefill_parse("on", &f), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prompts_are_rounded_and_answers_are_not),
		cmocka_unit_test(neighbours_in_a_step_change_no_bit),
		cmocka_unit_test(with_keys_in_fp8_too),
		cmocka_unit_test(a_wish_is_granted_or_told),
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
