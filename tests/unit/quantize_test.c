/* quantize_test.c - weights that become FP8 while they are loaded: the rounding against a slow
 * search, the source against a plain conversion of the whole matrix, and the CPU back end against a
 * checkpoint that has the same bytes. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/cpu/ref_matmul.h"
#include "kernels/e4m3.h"
#include "kernels/quantize.h"
#include "kernels/step.h"
#include "kernels/weight_stream.h"
#include "tests/fake/random_model.h"
#include "tests/unit/unit.h"

#define TOKENS 150	/* two chunks of prefill and a tail */

/* ---- the slow way ---------------------------------------------------------------- */

/* The code nearest to x / scale, by looking at all 127 of them, the even one on a tie; nothing is
 * divided, and a product of a code (4 bits), one more for the middle of two, and a scale (24) is
 * exact in a long double. */
static uint8_t slow_code(float x, float scale)
{
	const long double size = (long double)fabsf(x);
	uint8_t best = 0;

	for (uint8_t i = 1; i < 127; i++) {
		long double middle =
			((long double)ref_e4m3((uint8_t)(i - 1)) + (long double)ref_e4m3(i)) / 2 *
			(long double)scale;

		if (size < middle || (size == middle && i % 2))
			break;
		best = i;
	}
	return signbit(x) ? best | 0x80 : best;
}

static uint32_t bits_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* max / 448 to nearest: no other float is nearer, in integers a last bit away. */
static void scale_is_right(float max, float scale)
{
	const long double want = (long double)max / 448;

	if (max / 448 < 0x1p-126f) {
		assert_true(scale == 0x1p-126f);
		return;
	}
	const long double off = fabsl((long double)scale - want);
	assert_true(off <= fabsl((long double)nextafterf(scale, 0) - want));
	assert_true(off <= fabsl((long double)nextafterf(scale, INFINITY) - want));
}

static void row_is_right(const float *x, size_t n)
{
	uint8_t *codes = malloc(n);
	float scale = -1, max = 0;

	assert_non_null(codes);
	assert_true(e4m3_row(x, n, codes, &scale) == n);
	for (size_t i = 0; i < n; i++)
		max = fmaxf(max, fabsf(x[i]));
	scale_is_right(max, scale);
	for (size_t i = 0; i < n; i++)
		if (codes[i] != slow_code(x[i], scale))
			fail_msg("%a with scale %a: code %02x, not %02x", (double)x[i],
				 (double)scale, codes[i], slow_code(x[i], scale));
	free(codes);
}

/* ---- numbers --------------------------------------------------------------------- */

TEST(every_bfloat16_is_rounded_to_nearest_and_even)
{
	for (uint32_t i = 0; i < 1u << 16; i++) {
		float x = ref_bf16((uint16_t)i);

		if (isnan(x))
			continue;
		if (isinf(x))
			EQ(e4m3_from((double)x), x > 0 ? 0x7e : 0xfe);
		else
			EQ(e4m3_from((double)x), slow_code(x, 1));
	}
}

TEST(every_code_and_every_middle_of_two)
{
	for (int i = 0; i < 127; i++) {
		double x = (double)ref_e4m3((uint8_t)i),
		       up = (double)ref_e4m3((uint8_t)(i < 126 ? i + 1 : i));
		double middle = (x + up) / 2;

		EQ(e4m3_from(x), i);
		EQ(e4m3_from(-x), i | 0x80);
		EQ(e4m3_from(middle), i < 126 ? i + i % 2 : i);
		EQ(e4m3_from(nextafter(middle, 0)), i);
		EQ(e4m3_from(nextafter(middle, 1000)), i < 126 ? i + 1 : i);
	}
	EQ(e4m3_from(464), 0x7e);	/* halfway to what would be NaN */
	EQ(e4m3_from(1e300), 0x7e);
	EQ(e4m3_from(0x1p-1074), 0);
}

/* All finite bfloat16 of one exponent, both signs, and those of the 20 exponents below: what rows
 * hold. */
TEST(rows_of_every_size_have_the_codes_that_a_search_finds)
{
	static float x[22 * 128 * 2];

	for (uint32_t top = 0; top < 255; top++) {
		size_t n = 0;

		for (uint32_t e = top < 20 ? 0 : top - 20; e <= top; e++)
			for (uint32_t man = 0; man < 128; man += e + 3 < top ? 9 : 1) {
				x[n++] = ref_bf16((uint16_t)(e << 7 | man));
				x[n++] = ref_bf16((uint16_t)(0x8000 | e << 7 | man));
			}
		row_is_right(x, n);
	}
}

TEST(float32_rows_are_rounded_once_from_the_exact_quotient)
{
	static float x[512];
	uint32_t seed = 1;

	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < 512; i++) {
			uint32_t bits, exponent;

			seed = seed * 1664525u + 1013904223u;
			exponent = 40 + (uint32_t)round + (seed >> 28);
			bits = (seed & 0x807fffffu) | exponent << 23;
			memcpy(&x[i], &bits, sizeof(bits));
		}
		/* middles of two codes with this row's own scale, and their neighbours */
		float most = 0;
		for (size_t i = 100; i < 512; i++)
			most = fmaxf(most, fabsf(x[i]));
		for (size_t i = 0; i < 96; i += 3) {
			x[i] = most / 448 *
			       (ref_e4m3((uint8_t)(i + 8)) + ref_e4m3((uint8_t)(i + 9))) / 2;
			x[i + 1] = nextafterf(x[i], 0);
			x[i + 2] = nextafterf(x[i], INFINITY);
		}
		row_is_right(x, 512);
	}
}

TEST(zeros_and_the_ends_of_the_range)
{
	float x[4] = { 0, -0.0f, 0, 0 }, scale;
	uint8_t codes[4];

	EQ(e4m3_row(x, 4, codes, &scale), 4);
	assert_true(scale == 0x1p-126f);
	assert_memory_equal(codes, "\x00\x80\x00\x00", 4);
	x[0] = FLT_TRUE_MIN;
	x[2] = -FLT_MIN;
	row_is_right(x, 4);
	x[0] = ref_bf16(0x7f7f);	/* the largest bfloat16, and what becomes of it is finite */
	x[1] = -x[0];
	row_is_right(x, 4);
	EQ(e4m3_row(x, 4, codes, &scale), 4);
	EQ(codes[0], 0x7e);
	assert_true(isfinite(scale * 448));
	x[3] = FLT_MAX;
	row_is_right(x, 4);
}

TEST(what_is_no_number_is_found_where_it_is)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY };
	uint8_t codes[9];
	float scale;

	for (size_t i = 0; i < 3; i++)
		for (size_t at = 0; at < 9; at++) {
			float x[9] = { FLT_MAX, 1, 2, 3, 4, 5, 6, 7, -FLT_MAX };

			x[at] = bad[i];
			assert_true(e4m3_row(x, 9, codes, &scale) == at);
		}
}

/* Keys and values: the least power of two with which the largest still fits, down to 2^-117. */
TEST(a_head_has_the_least_power_of_two_that_fits)
{
	uint8_t codes[3];

	for (int e = -133; e < 127; e++)
		for (int man = 0; man < 8; man++) {
			float x[3] = { ldexpf(1 + (float)man / 8, e), -ldexpf(1, e - 3), 0 };
			uint8_t b = e4m3_head(x, 3, codes);
			float scale = e4m3_power(b);

			assert_true(scale == ldexpf(1, b - 127));
			assert_true(x[0] <= 448 * scale || isinf(448 * scale));
			if (b > 10)
				assert_true(x[0] > 224 * scale);
			for (int i = 0; i < 3; i++)
				EQ(codes[i], slow_code(x[i], scale));
			/* what is read back is exact in bfloat16 */
			EQ((uint16_t)(bits_of(dequant_e4m3(codes[0]) * scale)), 0);
		}
	EQ(e4m3_head((float[]){ 1, NAN, 2 }, 3, codes), 10);
	assert_memory_equal(codes, "\x7f\x7f\x7f", 3);
	e4m3_head((float[]){ -INFINITY, 0, 2 }, 3, codes);
	assert_memory_equal(codes, "\x7f\x7f\x7f", 3);
	assert_true(e4m3_power(0) == 0x1p-127f && e4m3_power(127) == 1);
}

/* ---- the source ------------------------------------------------------------------ */

TEST(the_words)
{
	enum quantize q;

	for (int i = 0; i < 4; i++) {
		OK(quantize_parse(quantize_name((enum quantize)i), &q));
		EQ(q, i);
	}
	OK(quantize_parse("head+dense", &q));
	EQ(q, QUANTIZE_HEAD | QUANTIZE_DENSE);
	EQ(quantize_parse("dense+head", &q), -EINVAL);
	EQ(quantize_parse("", &q), -EINVAL);
}

/* A checkpoint that has what the conversion should make: whole matrices, converted by the slow
 * search. */
struct twin {
	const struct weight_source *inner;
	enum quantize what;
	struct made {
		enum weight_slot slot;
		uint32_t layer;
		uint8_t *codes;
		float *scales;
	} made[256];
	uint32_t n;
};

static bool wanted(enum quantize what, enum weight_slot slot)
{
	static const enum weight_slot dense[] = {
		W_GDN_QKV,     W_GDN_Z,	    W_GDN_OUT,	   W_Q,	       W_K,	 W_V,	    W_O,
		W_SHARED_GATE, W_SHARED_UP, W_SHARED_DOWN, W_MLP_GATE, W_MLP_UP, W_MLP_DOWN
	};
	bool ret = slot == W_HEAD && (what & QUANTIZE_HEAD);

	for (size_t i = 0; i < sizeof(dense) / sizeof(dense[0]); i++)
		ret |= slot == dense[i] && (what & QUANTIZE_DENSE);
	return ret;
}

static struct made *make(struct twin *t, enum weight_slot slot, uint32_t layer,
			 const struct weight_ref *w)
{
	struct made *m = &t->made[t->n++];

	assert_true(t->n <= 256);
	*m = (struct made){ slot, layer, malloc((size_t)w->rows * w->cols),
			    malloc(w->rows * sizeof(float)) };
	assert_true(m->codes && m->scales);
	for (uint32_t r = 0; r < w->rows; r++) {
		float max = 0;

		for (uint32_t c = 0; c < w->cols; c++)
			max = fmaxf(max, fabsf(dequant_operand(w, r, c)));
		m->scales[r] = max / 448;
		for (uint32_t c = 0; c < w->cols; c++)
			m->codes[(size_t)r * w->cols + c] =
				slow_code(dequant_operand(w, r, c), m->scales[r]);
	}
	return m;
}

static int find_twin(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		     struct weight_ref *ret)
{
	struct twin *t = ctx;
	struct made *m = NULL;
	int r = t->inner->find(t->inner->ctx, slot, layer, expert, ret);

	if (r < 0 || !wanted(t->what, slot) || ret->cols % 16 || !weight_is_plain(ret->format))
		return r;
	for (uint32_t i = 0; i < t->n; i++)
		if (t->made[i].slot == slot && t->made[i].layer == layer)
			m = &t->made[i];
	if (!m)
		m = make(t, slot, layer, ret);
	*ret = (struct weight_ref){ .format = WF_FP8,
				    .rows = ret->rows,
				    .cols = ret->cols,
				    .data = m->codes,
				    .name = ret->name,
				    .scale_format = WF_F32,
				    .span_rows = 1,
				    .span_cols = ret->cols,
				    .scale = m->scales,
				    .global = 1 };
	return 0;
}

static void twin_done(struct twin *t)
{
	while (t->n--) {
		free(t->made[t->n].codes);
		free(t->made[t->n].scales);
	}
}

/* Logits of TOKENS tokens, the first 128 as a prompt, the rest as answers; the caller frees
 * them. */
static float *logits_of(const struct model_shape *shape, const struct weight_source *source)
{
	const struct device_limits limits = {
		.n_slots = 1, .n_blocks = 3, .max_rows = 128, .max_context = 192, .n_threads = 2
	};
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	static const kv_block blocks[3] = { 0, 1, 2 };
	size_t vocab = shape->vocab_rows;
	float *ret = calloc(TOKENS * vocab, sizeof(*ret));
	struct err e = { .code = 0 };
	struct device *d;

	assert_non_null(ret);
	OK(device_open("cpu", shape, &limits, &d, &e));
	if (device_load(d, source, NULL, NULL, &e) < 0)
		fail_msg("%s", e.text);
	OK(slot_begin(d, 0, &greedy, NULL, 0));
	for (uint32_t at = 0; at < TOKENS; at += 64) {
		uint32_t tokens[64], n = TOKENS - at < 64 ? TOKENS - at : 64;
		struct plan_run r = { .kind = at < 128 ? ROW_PREFILL : ROW_REPLAY,
				      .pos = at,
				      .n = n,
				      .tokens = tokens,
				      .blocks = blocks,
				      .n_blocks = 3,
				      .logits = ret + at * vocab };
		const struct plan p = { .runs = &r, .n_runs = 1 };
		struct run_result res;

		for (uint32_t i = 0; i < n; i++)
			tokens[i] = (at + i) * (at + i) * 7u % 199u;
		OK(device_submit(d, &p));
		assert_true(device_collect(d, &res, 1) >= 0);
	}
	device_close(d);
	return ret;
}

static void same_logits(enum random_shape which, enum weight_format format, enum quantize what)
{
	const struct model_shape shape = random_shape(which);
	struct twin *t = calloc(1, sizeof(*t));
	struct random_model *m;
	struct quantized *q;

	OK(random_model_new(&shape, format, 5, &m));
	OK(quantized_new(&shape, random_model_source(m), what, &q));
	assert_non_null(t);
	t->inner = random_model_source(m);
	t->what = what;
	const struct weight_source twin = { .ctx = t, .find = find_twin, .total_bytes = 1 };
	float *got = logits_of(&shape, quantized_source(q)), *want = logits_of(&shape, &twin);
	float *plain = logits_of(&shape, random_model_source(m));
	size_t n = (size_t)TOKENS * shape.vocab_rows;

	assert_memory_equal(got, want, n * sizeof(*got));
	EQ(quantized_facts(q)->n_matrices, t->n);
	assert_true((memcmp(got, plain, n * sizeof(*got)) == 0) == (t->n == 0));
	free(got);
	free(want);
	free(plain);
	twin_done(t);
	free(t);
	quantized_free(q);
	random_model_free(m);
}

TEST(a_worker_that_converts_answers_as_one_whose_checkpoint_has_these_bytes)
{
	same_logits(RANDOM_WHOLE, WF_BF16, QUANTIZE_HEAD_DENSE);
	same_logits(RANDOM_WHOLE, WF_F32, QUANTIZE_HEAD);
	same_logits(RANDOM_DENSE, WF_BF16, QUANTIZE_DENSE);
	same_logits(RANDOM_MOE, WF_BF16, QUANTIZE_HEAD_DENSE);
	same_logits(RANDOM_MOE, WF_BF16, QUANTIZE_NONE);
}

/* ---- the stream ------------------------------------------------------------------ */

/* A head of float32 (more than one reading of it to a piece), an expert, and a norm. */
struct few {
	struct weight_source source;
	float *head, expert[32 * 48], norm[48];
	uint32_t rows, cols;
	const char *file;		/* that the head is said to lie in */
};

static int find_few(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		    struct weight_ref *ret)
{
	const struct few *f = ctx;

	if (layer || expert)
		return -ENOENT;
	*ret = (struct weight_ref){
		.format = WF_F32, .rows = 1, .cols = 48, .data = f->norm, .name = "norm"
	};
	if (slot == W_HEAD)
		*ret = (struct weight_ref){ .format = WF_F32,
					    .rows = f->rows,
					    .cols = f->cols,
					    .data = f->head,
					    .name = "lm_head.weight",
					    .file = f->file };
	else if (slot == W_EXPERT_UP)
		*ret = (struct weight_ref){
			.format = WF_F32, .rows = 32, .cols = 48, .data = f->expert, .name = "up"
		};
	return slot == W_HEAD || slot == W_EXPERT_UP || slot == W_FINAL_NORM ? 0 : -ENOENT;
}

static void few_init(struct few *f, uint32_t rows, uint32_t cols)
{
	*f = (struct few){ .source = { .ctx = f, .find = find_few }, .rows = rows, .cols = cols };
	f->source.total_bytes = ((uint64_t)rows * cols + 32 * 48 + 48) * 4;
	f->head = calloc((size_t)rows * cols, sizeof(float));
	assert_non_null(f->head);
	for (size_t i = 0; i < (size_t)rows * cols; i++)
		f->head[i] = (float)(int32_t)(i * 2654435761u) * 0x1p-30f;
	for (size_t i = 0; i < 32 * 48; i++)
		f->expert[i] = (float)i;
}

static struct weight_ref whole_head(const struct few *f, uint8_t **ret_codes, float **ret_scales)
{
	struct weight_ref w = { .format = WF_FP8,
				.rows = f->rows,
				.cols = f->cols,
				.name = "whole",
				.scale_format = WF_F32,
				.span_rows = 1,
				.span_cols = f->cols,
				.global = 1 };

	w.data = *ret_codes = malloc((size_t)f->rows * f->cols);
	w.scale = *ret_scales = malloc(f->rows * sizeof(float));
	assert_true(w.data && w.scale);
	for (uint32_t r = 0; r < f->rows; r++)
		assert_true(e4m3_row(f->head + (size_t)r * f->cols, f->cols,
				     *ret_codes + (size_t)r * f->cols, *ret_scales + r) == f->cols);
	return w;
}

static void is_piece(const struct weight_ref *got, const struct weight_ref *whole, uint32_t first,
		     uint32_t rows)
{
	struct weight_ref want;

	OK(weight_rows(whole, first, rows, &want));
	EQ(got->format, WF_FP8);
	assert_true(got->rows == rows && got->cols == whole->cols && got->span_rows == 1 &&
		    !got->streamed);
	assert_string_equal(got->name, "lm_head.weight");
	assert_memory_equal(got->data, want.data, weight_data_bytes(&want));
	assert_memory_equal(got->scale, want.scale, weight_scale_bytes(&want));
}

TEST(pieces_are_the_rows_of_the_whole_whatever_is_held)
{
	enum { ROWS = 5000, COLS = 512 };
	static const struct weight_piece pieces[] = {
		{ W_HEAD, 0, 0, 0, 1 }, { W_EXPERT_UP, 0, 0, 0, 32 }, { W_HEAD, 0, 0, 1, 4998 },
		{ W_FINAL_NORM, 0, 0, 0, 1 }, { W_HEAD, 0, 0, 4999, 1 }, { W_HEAD, 0, 0, 128, 256 },
	};
	const struct weight_room room = { NULL, WEIGHT_ROOM };
	struct weight_ref got[6], ref;
	struct err e = { .code = 0 };
	struct weight_stream *s;
	struct quantized *q;
	struct few f;
	uint8_t *codes;
	float *scales;

	few_init(&f, ROWS, COLS);
	struct weight_ref whole = whole_head(&f, &codes, &scales);
	OK(quantized_new(&(struct model_shape){ .n_layers = 1 }, &f.source, QUANTIZE_HEAD, &q));
	EQ(quantized_facts(q)->n_matrices, 1);
	assert_true(quantized_facts(q)->bytes_before == (uint64_t)ROWS * COLS * 4);
	assert_true(quantized_facts(q)->bytes_after == (uint64_t)ROWS * (COLS + 4));
	const struct weight_source *w = quantized_source(q);
	assert_true(w->total_bytes ==
		    f.source.total_bytes - (uint64_t)ROWS * (4 * COLS - COLS - 4));
	OK(w->find(w->ctx, W_HEAD, 0, 0, &ref));
	assert_true(ref.format == WF_FP8 && ref.streamed && !ref.data && !ref.scale);
	OK(w->find(w->ctx, W_EXPERT_UP, 0, 0, &ref));
	assert_true(ref.format == WF_F32 && ref.data == f.expert && !ref.streamed);
	for (int held = 0; held < 2; held++) {
		OK(weight_stream_open(w, pieces, 6, &room, &s, &e));
		for (int i = 0; i < 6; i++) {
			OK(weight_stream_next(s, &got[i], &e));
			if (held && i < 4)	/* the first four at the same time */
				continue;
			for (int k = held && i == 4 ? 0 : i; k <= i; k++)
				if (pieces[k].slot == W_HEAD)
					is_piece(&got[k], &whole, pieces[k].first, pieces[k].rows);
				else
					EQ(got[k].format, WF_F32);
			weight_stream_done(s);
		}
		EQ(weight_stream_next(s, &ref, &e), -ENOENT);
		weight_stream_close(s);
	}
	EQ(weight_stream_open(w, &(struct weight_piece){ W_HEAD, 0, 0, 4999, 2 }, 1, &room, &s, &e),
	   -EINVAL);
	assert_non_null(strstr(e.text, "lm_head.weight"));
	free(codes);
	free(scales);
	free(f.head);
	quantized_free(q);
}

TEST(a_nan_among_the_weights_is_refused_with_its_name_and_place)
{
	const struct weight_piece piece = { W_HEAD, 0, 0, 100, 4000 };
	const struct weight_room room = { NULL, WEIGHT_ROOM };
	struct weight_stream *s;
	struct weight_ref ref;
	struct quantized *q;
	struct few f;

	few_init(&f, 4200, 512);
	OK(quantized_new(&(struct model_shape){ .n_layers = 1 }, &f.source, QUANTIZE_HEAD, &q));
	for (int i = 0; i < 2; i++) {
		struct err e = { .code = 0 };

		f.file = i ? "/m/shard-7" : NULL;
		f.head[4007 * 512 + 13] = i ? INFINITY : NAN;
		OK(weight_stream_open(quantized_source(q), &piece, 1, &room, &s, &e));
		for (int again = 0; again < 2; again++) { /* and so for every call from then on */
			e = (struct err){ .code = 0 };
			EQ(weight_stream_next(s, &ref, &e), -EINVAL);
			assert_string_equal(e.text, i ? "/m/shard-7: lm_head.weight: [4007, 13] is not finite and "
							"cannot become FP8" :
							"lm_head.weight: [4007, 13] is not finite and cannot "
							"become FP8");
		}
		weight_stream_close(s);
	}
	free(f.head);
	quantized_free(q);
}

/* A tied head's bytes were never counted; what has none before its stream does (kernels/dummy.h)
 * is no tied one. */
static int find_tied(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		     struct weight_ref *ret)
{
	(void)layer;
	(void)expert;
	*ret = (struct weight_ref){
		.format = WF_BF16, .rows = 64, .cols = 32, .data = ctx, .name = "embed"
	};
	return slot == W_EMBED || slot == W_HEAD ? 0 : -ENOENT;
}

TEST(a_tied_head_is_one_matrix_more)
{
	static uint16_t embed[64 * 32];
	struct weight_source w = { .ctx = embed, .find = find_tied, .total_bytes = sizeof(embed) };
	struct weight_ref ref;
	struct quantized *q;

	OK(quantized_new(&(struct model_shape){ .n_layers = 1 }, &w, QUANTIZE_HEAD_DENSE, &q));
	assert_true(quantized_facts(q)->bytes_before == 0);
	assert_true(quantized_source(q)->total_bytes == sizeof(embed) + 64 * 36);
	quantized_free(q);
	w.ctx = NULL;
	OK(quantized_new(&(struct model_shape){ .n_layers = 1 }, &w, QUANTIZE_HEAD_DENSE, &q));
	OK(quantized_source(q)->find(quantized_source(q)->ctx, W_HEAD, 0, 0, &ref));
	assert_true(ref.format == WF_FP8 && !ref.data && ref.streamed);
	assert_true(quantized_facts(q)->bytes_before == 64 * 32 * 2);
	quantized_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_bfloat16_is_rounded_to_nearest_and_even),
		cmocka_unit_test(every_code_and_every_middle_of_two),
		cmocka_unit_test(rows_of_every_size_have_the_codes_that_a_search_finds),
		cmocka_unit_test(float32_rows_are_rounded_once_from_the_exact_quotient),
		cmocka_unit_test(zeros_and_the_ends_of_the_range),
		cmocka_unit_test(what_is_no_number_is_found_where_it_is),
		cmocka_unit_test(a_head_has_the_least_power_of_two_that_fits),
		cmocka_unit_test(the_words),
		cmocka_unit_test(
			a_worker_that_converts_answers_as_one_whose_checkpoint_has_these_bytes),
		cmocka_unit_test(pieces_are_the_rows_of_the_whole_whatever_is_held),
		cmocka_unit_test(a_nan_among_the_weights_is_refused_with_its_name_and_place),
		cmocka_unit_test(a_tied_head_is_one_matrix_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
