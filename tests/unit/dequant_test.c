/* dequant_test.c - the number formats, and quantised matrices served by the CPU back end. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/cpu/path.h"
#include "kernels/cpu/ref_matmul.h"
#include "kernels/step.h"
#include "tests/unit/quant_model.h"
#include "tests/unit/unit.h"

#define TOKENS 150	/* two chunks of prefill and a tail */

static void is_float(float got, float want)
{
	if (memcmp(&got, &want, 4) != 0)
		fail_msg("got %a, want %a", (double)got, (double)want);
}

/* ---- numbers ------------------------------------------------------------------------- */

TEST(e2m1_has_sixteen_values)
{
	static const float value[8] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };

	for (uint8_t i = 0; i < 8; i++) {
		is_float(dequant_e2m1(i), value[i]);
		is_float(dequant_e2m1(i | 8), -value[i]);
	}
}

TEST(e4m3_agrees_with_the_reference_for_every_byte)
{
	static const struct {
		uint8_t byte;
		float value;
	} known[] = {
		{ 0x38, 1 }, { 0x3c, 1.5f }, { 0x40, 2 }, { 0xb8, -1 }, { 0xc4, -3 },
		{ 0x01, 0.001953125f }, { 0x58, 16 }, { 0x5e, 28 }, { 0x7e, 448 }, { 0x80, -0.0f },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		is_float(dequant_e4m3(known[i].byte), known[i].value);
	for (unsigned i = 0; i < 256; i++) {
		float got = dequant_e4m3((uint8_t)i), want = ref_e4m3((uint8_t)i);

		if ((i & 127) == 127)
			assert_true(isnan(got) && isnan(want));
		else
			is_float(got, want);
	}
}

TEST(f16_and_bf16_are_read)
{
	is_float(dequant_f16(0xa250), -0.01232910156f);
	is_float(dequant_f16(0x0001), ldexpf(1, -24));
	is_float(dequant_f16(0x7bff), 65504);
	assert_true(isinf(dequant_f16(0xfc00)) && isnan(dequant_f16(0x7e00)));
	is_float(dequant_bf16(0x3a83), 0.0009994506836f);
}

TEST(an_nvfp4_operand_is_exact_in_bfloat16)
{
	for (unsigned code = 0; code < 16; code++)
		for (unsigned scale = 0; scale < 256; scale++) {
			float x = dequant_e2m1((uint8_t)code) * dequant_e4m3((uint8_t)scale);

			if ((scale & 127) != 127)
				is_float(round_bf16(x), x);
		}
}

/* ---- the worked examples of the format descriptions --------------------------------------- */

static void row_is(const struct weight_ref *w, uint32_t row, const float *want, uint32_t n,
		   float tolerance)
{
	float got[64];

	assert_true(w->cols <= 64);
	dequant_row(w, row, got);
	for (uint32_t i = 0; i < n; i++)
		if (!(fabsf(got[i] - want[i]) <= tolerance * fabsf(want[i])))
			fail_msg("[%u, %u]: got %.9g, want %.9g", row, i, (double)got[i],
				 (double)want[i]);
}

TEST(nvfp4_in_both_conventions_gives_the_worked_example)
{
	static const uint8_t codes[8] = { 0x21, 0x93, 0xf0, 0x4e, 0x05 }, scale[1] = { 0x58 };
	static const uint8_t second_scale[1] = { 0x5e };
	static const float want[8] = {
		0.00297619048f, 0.00595238095f, 0.00892857143f, -0.00297619048f, 0,
		-0.0357142857f, -0.0238095238f, 0.0119047619f
	};
	struct weight_ref w = { .format = WF_NVFP4,
				.rows = 1,
				.cols = 16,
				.data = codes,
				.scale_format = WF_FP8,
				.span_rows = 1,
				.span_cols = 16,
				.scale = scale,
				.global = 1.0f / 2688 };

	row_is(&w, 0, want, 8, 1e-7f);		/* a divisor of 2688 */
	w.global = 1.0f / (6 * 448);		/* the multiplier max / (6 * 448), max 1 */
	row_is(&w, 0, want, 8, 1e-7f);
	w.scale = second_scale;
	w.global = 0.5f / 2688;			/* code 5, scale 28, max 0.5 */
	assert_true(fabsf(dequant_operand(&w, 0, 8) * dequant_factor(&w, 0, 8) - 0.015625f) <
		    1e-9f);
	is_float(dequant_operand(&w, 0, 8), 84);
}

TEST(fp8_in_blocks_by_row_and_by_tensor_gives_the_worked_examples)
{
	static const uint8_t bytes[32] = { 0x3c, 0xc4, [16] = 0xb8 };
	static const uint16_t block[1] = { 0x3a83 }, by_row[2] = { 0x3f80, 0x3a90 /* 0.0010986 */ };
	static const float one[1] = { 0.002f };
	struct weight_ref w = { .format = WF_FP8, .rows = 2, .cols = 16, .data = bytes,
				.scale_format = WF_BF16, .span_rows = 128, .span_cols = 128,
				.scale = block, .global = 1 };

	row_is(&w, 0, (float[]){ 0.001499176f, -0.002998352f }, 2, 1e-6f);
	w.span_rows = 1;
	w.span_cols = 16;
	w.scale = by_row;
	row_is(&w, 1, (float[]){ -0.00109863f }, 1, 1e-5f);
	w.span_rows = 2;
	w.scale_format = WF_F32;
	w.scale = one;
	row_is(&w, 0, (float[]){ 0.003f, -0.006f }, 2, 1e-7f);
}

TEST(blocks_that_stick_out_have_their_own_scale)
{
	enum { ROWS = 130, COLS = 200 };
	static uint8_t bytes[ROWS * COLS];
	static const float scale[4] = { 1, 2, 4, 8 };	/* [2, 2] */
	const struct weight_ref w = { .format = WF_FP8, .rows = ROWS, .cols = COLS, .data = bytes,
				      .scale_format = WF_F32, .span_rows = 128, .span_cols = 128,
				      .scale = scale };

	memset(bytes, 0x38, sizeof(bytes));
	EQ(weight_scale_rows(&w), 2);
	EQ(weight_scale_cols(&w), 2);
	is_float(dequant_factor(&w, 127, 127), 1);
	is_float(dequant_factor(&w, 127, 128), 2);
	is_float(dequant_factor(&w, 128, 127), 4);
	is_float(dequant_factor(&w, 129, 199), 8);
	assert_false(dequant_factor_per_row(&w));
}

/* ---- served -------------------------------------------------------------------------------- */

/* Logits of TOKENS tokens in chunks of 64; the caller frees them. */
static float *logits_of(const struct model_shape *shape, const struct weight_source *source,
			enum step_numerics numerics)
{
	const struct device_limits limits = { .n_slots = 1,
					      .n_blocks = 3,
					      .max_rows = 128,
					      .max_context = 192,
					      .n_threads = 2,
					      .numerics = numerics };
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	static const kv_block blocks[3] = { 0, 1, 2 };
	size_t vocab = shape->vocab_rows;
	float *ret = calloc(TOKENS * vocab, sizeof(*ret));
	struct device *d;
	struct err e = { .code = 0 };

	assert_non_null(ret);
	OK(device_open("cpu", shape, &limits, &d, &e));
	if (device_load(d, source, NULL, NULL, &e) < 0)
		fail_msg("%s", e.text);
	OK(slot_begin(d, 0, &greedy, NULL, 0));
	for (uint32_t at = 0; at < TOKENS; at += 64) {
		uint32_t tokens[64], n = TOKENS - at < 64 ? TOKENS - at : 64;
		struct run_result res;
		struct plan_run r = { .kind = ROW_PREFILL, .pos = at, .n = n, .tokens = tokens,
				      .blocks = blocks, .n_blocks = 3, .logits = ret + at * vocab };
		const struct plan p = { .runs = &r, .n_runs = 1 };

		for (uint32_t i = 0; i < n; i++)
			tokens[i] = (at + i) * (at + i) * 7u % 199u;
		OK(device_submit(d, &p));
		assert_true(device_collect(d, &res, 1) >= 0);
	}
	device_close(d);
	return ret;
}

static void compare(enum quant_recipe recipe, bool dense, enum step_numerics numerics,
		    double tolerance)
{
	static struct quant_model m;
	double sum = 0, error = 0;

	quant_model_init(&m, recipe, dense);
	float *got = logits_of(&m.shape, &m.source, numerics);
	float *want = logits_of(&m.shape, &m.twin, numerics);
	size_t n = TOKENS * (size_t)m.shape.vocab_rows;

	for (size_t i = 0; i < n; i++) {
		double d = (double)got[i] - (double)want[i];

		sum += (double)want[i] * (double)want[i];
		error += d * d;
	}
	if (!(sum > 0 && sqrt(error / sum) <= tolerance))
		fail_msg("relative error %g of %zu logits, %g allowed", sqrt(error / sum), n,
			 tolerance);
	free(got);
	free(want);
	quant_model_done(&m);
}

TEST(scales_along_a_row_change_no_bit_that_a_plain_weight_has)
{
	compare(QUANT_EXACT, false, NUMERICS_BF16, 0);
	compare(QUANT_EXACT, true, NUMERICS_BF16, 0);
	compare(QUANT_EXACT, true, NUMERICS_F32, 0);
}

TEST(every_format_gives_the_logits_of_its_dequantised_twin)
{
	compare(QUANT_MIXED, false, NUMERICS_F32, 1e-5);
	compare(QUANT_MIXED, true, NUMERICS_F32, 1e-5);
	compare(QUANT_MIXED, true, NUMERICS_BF16, 3e-2);	/* the twin's weights are rounded */
}

/* A source with one bad byte or scale in W_HEAD. */
struct spoilt {
	struct quant_model *m;
	bool scale;
	uint8_t bytes[203 * 192];
	float scales[1];
};

static int find_spoilt(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		       struct weight_ref *ret)
{
	struct spoilt *s = ctx;
	int r = s->m->source.find(s->m->source.ctx, slot, layer, expert, ret);

	if (slot != W_HEAD)
		return r;
	EQ((size_t)ret->rows * ret->cols, sizeof(s->bytes));
	memset(s->bytes, 0x38, sizeof(s->bytes));
	s->bytes[192 * 5 + 7] = s->scale ? 0 : 0xff;
	s->scales[0] = s->scale ? INFINITY : 1;
	*ret = (struct weight_ref){ .format = WF_FP8,
				    .rows = ret->rows,
				    .cols = ret->cols,
				    .data = s->bytes,
				    .name = "head.weight",
				    .scale_format = WF_F32,
				    .span_rows = ret->rows,
				    .span_cols = ret->cols,
				    .scale = s->scales };
	return r;
}

TEST(what_is_not_a_number_is_refused_by_name)
{
	static struct quant_model m;
	static struct spoilt s = { .m = &m };
	const struct weight_source source = { .ctx = &s, .find = find_spoilt, .total_bytes = 1 };
	const struct device_limits limits = { .n_slots = 1, .n_blocks = 1, .max_rows = 64,
					      .max_context = 64 };

	for (int scale = 0; scale < 2; scale++) {
		struct device *d;
		struct err e = { .code = 0 };

		quant_model_init(&m, QUANT_MIXED, true);
		s.scale = scale;
		OK(device_open("cpu", &m.shape, &limits, &d, &e));
		EQ(device_load(d, &source, NULL, NULL, &e), -EINVAL);
		assert_non_null(strstr(e.text, "head.weight"));
		assert_non_null(strstr(e.text, scale ? "scale" : "[5, 7]"));
		device_close(d);
		quant_model_done(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(e2m1_has_sixteen_values),
		cmocka_unit_test(e4m3_agrees_with_the_reference_for_every_byte),
		cmocka_unit_test(f16_and_bf16_are_read),
		cmocka_unit_test(an_nvfp4_operand_is_exact_in_bfloat16),
		cmocka_unit_test(nvfp4_in_both_conventions_gives_the_worked_example),
		cmocka_unit_test(fp8_in_blocks_by_row_and_by_tensor_gives_the_worked_examples),
		cmocka_unit_test(blocks_that_stick_out_have_their_own_scale),
		cmocka_unit_test(scales_along_a_row_change_no_bit_that_a_plain_weight_has),
		cmocka_unit_test(every_format_gives_the_logits_of_its_dequantised_twin),
		cmocka_unit_test(what_is_not_a_number_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
