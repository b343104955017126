/* dummy_test.c - made-up weights: known bytes, any cut of a matrix, the stream's rules, and a
 * device that runs with them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/crc32c.h"
#include "kernels/dummy.h"
#include "kernels/noise.h"
#include "kernels/step.h"
#include "kernels/weight_stream.h"
#include "tests/fake/random_model.h"
#include "tests/unit/unit.h"

static struct dummy dummy_of(enum random_shape which, enum dummy_recipe recipe, uint64_t seed)
{
	struct dummy d = { random_shape(which), recipe, seed };

	d.shape.n_mtp_layers = 0;
	return d;
}

static size_t bytes_of(const struct weight_ref *w)
{
	return weight_data_bytes(w) + weight_scale_bytes(w);
}

/* Calls each(ctx, piece that is all of it, ref) for every weight there is; how many. */
static uint32_t each_weight(struct dummy *d,
			    void (*each)(struct dummy *, const struct weight_piece *,
					 const struct weight_ref *))
{
	const struct weight_source s = dummy_source(d);
	uint32_t n = 0;

	for (uint32_t slot = 0; slot < W_N_SLOTS; slot++)
		for (uint32_t layer = 0; layer < (slot < W_PER_LAYER ? 1 : d->shape.n_layers);
		     layer++)
			for (uint32_t x = 0; x < (slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN ?
							  d->shape.n_experts :
							  1);
			     x++) {
				struct weight_piece p = { .slot = (enum weight_slot)slot,
							  .layer = layer,
							  .expert = x };
				struct weight_ref w;

				if (s.find(s.ctx, p.slot, layer, x, &w) < 0)
					continue;
				p.rows = w.rows;
				each(d, &p, &w);
				n++;
			}
	return n;
}

/* The definition, written down once more for one element. */
TEST(an_element_by_hand)
{
	struct dummy d = dummy_of(RANDOM_WHOLE, DUMMY_BF16, 0x123456789abcdefu);
	const struct weight_source s = dummy_source(&d);
	const struct weight_piece p = { W_EXPERT_UP, 2, 3, 5, 1 };
	const uint32_t col = 77;
	const uint64_t place = 5 * 128 + col;
	const uint32_t stream = W_EXPERT_UP + 64 * 2 + 32768 * 3;
	const struct noise_words w = noise_philox(d.seed, (uint32_t)(place / 8), 0, stream, 1);
	const uint32_t h = w.w[place % 8 / 2] >> (place % 2 ? 16 : 0) & 0xffff;
	struct weight_ref ref;
	uint16_t row[128];

	OK(s.find(s.ctx, p.slot, p.layer, p.expert, &ref));
	EQ(ref.cols, 128);
	assert_null(ref.data);
	dummy_fill(&d, &ref, &p, row, NULL);
	const double want = ((2 * h + 1) / 65536.0 - 1) * sqrt(3.0 / 128);
	assert_true(fabs((double)dequant_bf16(row[col]) - want) <= fabs(want) / 256);
}

/* Rows alone are the rows of the whole. */
static void cut(struct dummy *d, const struct weight_piece *p, const struct weight_ref *w)
{
	const uint32_t unit = weight_is_plain(w->format) ? 1 : w->span_rows;
	char *whole = malloc(bytes_of(w)), *part = malloc(bytes_of(w));

	dummy_fill(d, w, p, whole, whole + weight_data_bytes(w));
	for (uint32_t first = 0, n; first < w->rows; first += n) {
		struct weight_piece q = *p;
		struct weight_ref all = *w, rows;

		n = unit * (1 + first % 3);
		n = w->rows - first < n ? w->rows - first : n;
		q.first = first;
		q.rows = n;
		all.data = whole;
		all.scale = whole + weight_data_bytes(w);
		OK(weight_rows(&all, first, n, &rows));
		dummy_fill(d, w, &q, part, part + weight_data_bytes(&rows));
		assert_memory_equal(part, rows.data, weight_data_bytes(&rows));
		if (weight_scale_bytes(&rows))
			assert_memory_equal(part + weight_data_bytes(&rows), rows.scale,
					    weight_scale_bytes(&rows));
	}
	free(whole);
	free(part);
}

TEST(rows_alone_are_rows_of_the_whole)
{
	for (int r = 0; r < DUMMY_N; r++) {
		struct dummy moe = dummy_of(RANDOM_WHOLE, (enum dummy_recipe)r, 1),
			     dense = dummy_of(RANDOM_DENSE, DUMMY_BF16, 2);

		assert_true(each_weight(&moe, cut) > 80);
		assert_true(each_weight(&dense, cut) > 40);
	}
}

static uint32_t seen[4096], n_seen;

static void note(struct dummy *d, const struct weight_piece *p, const struct weight_ref *w)
{
	char *data = malloc(bytes_of(w));

	dummy_fill(d, w, p, data, data + weight_data_bytes(w));
	memcpy(&seen[n_seen++], data, 4);
	free(data);
}

TEST(no_two_weights_begin_alike)
{
	struct dummy a = dummy_of(RANDOM_WHOLE, DUMMY_NVFP4, 1),
		     b = dummy_of(RANDOM_WHOLE, DUMMY_NVFP4, 2);

	n_seen = 0;
	each_weight(&a, note);
	each_weight(&b, note);
	uint32_t alike = 0;
	for (uint32_t i = 0; i < n_seen; i++)
		for (uint32_t k = 0; k < i; k++)
			alike += seen[i] == seen[k];
	assert_true(n_seen > 160 && alike <= 1);	/* of 32 bits, 13,000 pairs */
}

static double mean_sum;
static uint32_t n_means;

static double wanted_gain(enum weight_slot slot)
{
	switch (slot) {
	case W_HEAD:
		return 4;
	case W_ROUTER:
		return 2;
	case W_GDN_OUT:
		return 0.1875;
	case W_O: case W_EXPERT_DOWN: case W_SHARED_DOWN: case W_MLP_DOWN:
		return 0.25;
	default:
		return 1;
	}
}

/* The mean square of a matrix is gain^2 / cols in every format, and no weight is NaN.  A small
 * matrix of FP8 has one scale or two, which are anywhere in [1, 2) of the least. */
static void measure(struct dummy *d, const struct weight_piece *p, const struct weight_ref *w)
{
	const double gain = wanted_gain(p->slot);
	char *data = malloc(bytes_of(w));
	float *row = malloc(w->cols * sizeof(*row));
	struct weight_ref r = *w;
	double sum = 0;

	dummy_fill(d, w, p, data, data + weight_data_bytes(w));
	r.data = data;
	r.scale = data + weight_data_bytes(w);
	for (uint32_t i = 0; i < w->rows; i++) {
		dequant_row(&r, i, row);
		for (uint32_t c = 0; c < w->cols; c++) {
			assert_true(isfinite(row[c]));
			sum += (double)row[c] * (double)row[c];
		}
	}
	if ((uint64_t)w->rows * w->cols >= 16384 && p->slot != W_EMBED) {
		const double mean = sum / w->rows / gain / gain;

		if (!(mean > (w->span_rows > 1 ? 0.4 : 0.85) &&
		      mean < (w->span_rows > 1 ? 1.8 : 1.15)))
			fail_msg("%s in %s: mean square %.3f / cols", w->name,
				 weight_format_name(w->format), mean);
		mean_sum += mean;
		n_means++;
	}
	free(data);
	free(row);
}

TEST(activations_keep_their_size)
{
	for (int r = 0; r < DUMMY_N; r++) {
		struct dummy d = dummy_of(RANDOM_WHOLE, (enum dummy_recipe)r, 5);

		mean_sum = 0;
		n_means = 0;
		each_weight(&d, measure);
		assert_true(n_means > 40 && fabs(mean_sum / n_means - 1) < 0.06);
	}
}

/* ---- the stream ------------------------------------------------------------------------ */

TEST(the_stream_brings_what_fill_makes)
{
	struct dummy d = dummy_of(RANDOM_WHOLE, DUMMY_FP8, 9);
	const struct weight_source s = dummy_source(&d);
	const struct weight_piece list[] = {
		{ W_EMBED, 0, 0, 0, 256 },
		{ W_GDN_QKV, 1, 0, 128, 256 },
		{ W_EXPERT_DOWN, 3, 2, 0, 128 },
		{ W_Q_NORM, 3, 0, 0, 1 },
	};
	const struct weight_room room = { NULL, 1 << 20 };
	struct weight_stream *in;
	struct weight_ref got[4], whole;
	struct err e;

	OK(weight_stream_open(&s, list, 4, &room, &in, &e));
	for (int i = 0; i < 4; i++)	/* all held at a time */
		OK(weight_stream_next(in, &got[i], &e));
	for (int i = 0; i < 4; i++) {
		char *want = malloc(bytes_of(&got[i]));

		OK(s.find(s.ctx, list[i].slot, list[i].layer, list[i].expert, &whole));
		dummy_fill(&d, &whole, &list[i], want, want + weight_data_bytes(&got[i]));
		assert_memory_equal(want, got[i].data, weight_data_bytes(&got[i]));
		if (weight_scale_bytes(&got[i]))
			assert_memory_equal(want + weight_data_bytes(&got[i]), got[i].scale,
					    weight_scale_bytes(&got[i]));
		free(want);
	}
	weight_stream_done(in);
	EQ(weight_stream_next(in, &got[0], &e), -ENOENT);
	weight_stream_close(in);
}

TEST(the_stream_refuses)
{
	struct dummy d = dummy_of(RANDOM_WHOLE, DUMMY_FP8, 9);
	const struct weight_source s = dummy_source(&d);
	const struct weight_piece none = { W_MLP_UP, 0, 0, 0, 1 },
				  outside = { W_EMBED, 0, 0, 200, 100 };
	const struct weight_piece no_block = { W_GDN_QKV, 0, 0, 64, 128 };
	const struct weight_piece thrice[] = { { W_EMBED, 0, 0, 0, 64 },
					       { W_EMBED, 0, 0, 64, 64 },
					       { W_EMBED, 0, 0, 128, 64 } };
	const struct weight_room room = { NULL, 2 * 64 * 128 * 2 };
	struct weight_stream *in;
	struct weight_ref ref;
	struct err e;

	EQ(weight_stream_open(&s, &none, 1, &room, &in, &e), -EINVAL);
	EQ(weight_stream_open(&s, &outside, 1, &room, &in, &e), -EINVAL);
	EQ(weight_stream_open(&s, &no_block, 1, &room, &in, &e), -EINVAL);
	EQ(weight_stream_open(&s, &(struct weight_piece){ W_EMBED, 0, 0, 0, 65 }, 1, &room, &in,
			      &e),
	   -E2BIG);
	OK(weight_stream_open(&s, thrice, 3, &room, &in, &e));
	OK(weight_stream_next(in, &ref, &e));
	OK(weight_stream_next(in, &ref, &e));
	EQ(weight_stream_next(in, &ref, &e), -ENOBUFS);
	weight_stream_done(in);
	OK(weight_stream_next(in, &ref, &e));
	weight_stream_close(in);
}

/* ---- the digests of tests -------------------------------------------------------------- */

TEST(a_crc_is_the_same_by_instruction_and_bit_by_bit)
{
	unsigned char b[300];

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (unsigned char)(i * 37 + i / 7);
	EQ(crc32c(0, "123456789", 9), 0xe3069283u);
	EQ(crc32c_plain(0, "123456789", 9), 0xe3069283u);
	for (size_t from = 0; from < 9; from++)
		for (size_t n = 0; n < 40; n++) {
			EQ(crc32c(7, b + from, n), crc32c_plain(7, b + from, n));
			EQ(crc32c(crc32c(0, b, from), b + from, n), crc32c_plain(0, b, from + n));
		}
}

/* ---- a device ---------------------------------------------------------------------------- */

TEST(the_cpu_runs_with_them)
{
	static const uint32_t ids[70] = { 3, 1, 4, 1, 5, 9, 2, 6 };
	const kv_block blocks[2] = { 0, 1 };
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	const struct device_limits l = {
		.n_slots = 1, .n_blocks = 2, .max_rows = 128, .max_context = 128, .n_threads = 1
	};

	for (int r = 0; r < DUMMY_N; r++) {
		struct dummy d = dummy_of(RANDOM_WHOLE, (enum dummy_recipe)r, DUMMY_SEED);
		const struct weight_source s = dummy_source(&d);
		float *logits = calloc(70 * d.shape.vocab_rows, sizeof(*logits));
		struct plan_run run = { .kind = ROW_PREFILL,
					.n = 70,
					.tokens = ids,
					.blocks = blocks,
					.n_blocks = 2,
					.sample = true,
					.logits = logits };
		struct run_result result;
		struct device *device;
		double sum = 0;
		struct err e;

		OK(device_open("cpu", &d.shape, &l, &device, &e));
		OK(device_load(device, &s, NULL, NULL, &e));
		OK(slot_begin(device, 0, &greedy, NULL, 0));
		OK(device_submit(device, &(struct plan){ .runs = &run, .n_runs = 1 }));
		EQ(device_collect(device, &result, 1), 1);
		assert_false(result.no_number);
		for (uint32_t i = 0; i < 70 * d.shape.vocab_rows; i++)
			sum += (double)logits[i] * (double)logits[i];
		sum = sqrt(sum / (70 * d.shape.vocab_rows));
		if (!(sum > 3 && sum < 5.5))	/* the head's gain is 4 */
			fail_msg("%s: logits of %.2f", dummy_recipe_name(d.recipe), sum);
		device_close(device);
		free(logits);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_element_by_hand),
		cmocka_unit_test(rows_alone_are_rows_of_the_whole),
		cmocka_unit_test(no_two_weights_begin_alike),
		cmocka_unit_test(activations_keep_their_size),
		cmocka_unit_test(the_stream_brings_what_fill_makes),
		cmocka_unit_test(the_stream_refuses),
		cmocka_unit_test(a_crc_is_the_same_by_instruction_and_bit_by_bit),
		cmocka_unit_test(the_cpu_runs_with_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
