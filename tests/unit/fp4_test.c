/* fp4_test.c - the FP4 product of sm_120 and sm_121 without such a chip: the rule by which rows of
 * activations become NVFP4, and the layouts: a host's mma, written from the table of fp4_lane.h,
 * fed with packed weights as a warp feeds the instruction, gives the product of the checkpoint's
 * weights. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/ref_matmul.h"
#include "kernels/cuda/fp4_lane.h"
#include "kernels/e4m3.h"
#include "kernels/fp4_row.h"
#include "lib/own.h"

static uint32_t state = 1;
static uint32_t rng(void)
{
	state = state * 1664525u + 1013904223u;
	return state >> 8;
}

static float bf16(float x) /* towards zero is good enough for random numbers */
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return ref_bf16((uint16_t)(bits >> 16));
}

static float some(int wide)
{
	return bf16(ldexpf((float)rng() / 8388608.0f - 1, -(int)(rng() % (uint32_t)wide)));
}

static uint8_t nibble(const uint8_t *codes, size_t i)
{
	return codes[i / 2] >> i % 2 * 4 & 15;
}

/* ---- rows ------------------------------------------------------------------------------ */

/* The rule once more, by search: no code is nearer, on a tie the even one; all quotients in double.
 */
static void check_row(const float *x, size_t n)
{
	CLEANUP(freep) uint8_t *codes = malloc(n / 2), *scales = malloc(n / 16);
	float power, most = 0;

	fp4_row(x, n, codes, scales, &power);
	for (size_t i = 0; i < n; i++)
		most = fmaxf(most, fabsf(x[i]));
	assert_true(frexpf(power, &(int){ 0 }) == 0.5f);
	assert_true((double)most <= 2688 * (double)power);
	assert_true((double)most > 1344 * (double)power || power == 0x1p-110f);
	for (size_t b = 0; b < n / 16; b++) {
		double top = 0, scale = (double)ref_e4m3(scales[b]);

		for (size_t i = 16 * b; i < 16 * b + 16; i++)
			top = fmax(top, fabs((double)x[i]) / (double)power);
		assert_int_equal(scales[b], e4m3_from(top / 6));
		for (size_t i = 16 * b; i < 16 * b + 16; i++) {
			const uint8_t code = nibble(codes, i);
			double own, v = (double)x[i] / (double)power;

			if (scale == 0) {
				assert_int_equal(code, 0);
				continue;
			}
			own = fabs(v - (double)ref_e2m1(code) * scale);
			assert_int_equal(code >> 3, signbit(x[i]) != 0);
			for (uint8_t c = (uint8_t)(code & 8); c <= (code | 7); c++) {
				double other = fabs(v - (double)ref_e2m1(c) * scale);

				assert_true(own < other || c == code ||
					    (own == other && code % 2 == 0));
			}
		}
	}
}

static void rows_follow_the_rule(void **ctx)
{
	float x[256];

	(void)ctx;
	for (int turn = 0; turn < 3000; turn++) {
		const int e = (int)(rng() % 200) - 100, wide = 1 + (int)(rng() % 40);
		const size_t n = 16 * (1 + rng() % 16);

		for (size_t i = 0; i < n; i++)
			x[i] = rng() % 30 ? ldexpf(some(wide), e) : rng() % 2 ? 0 : -0.0f;
		for (size_t i = 0; i < n; i++)
			x[i] = bf16(x[i]);
		check_row(x, n);
	}
}

/* Every place between two codes, and around 2688. */
static void ties_go_to_the_even_code(void **ctx)
{
	static const float v[16] = { 0.25f,  0.75f,  1.25f,  1.75f,  2.5f,  3.5f,  5,  6,
				     -0.25f, -0.75f, -1.25f, -1.75f, -2.5f, -3.5f, -5, 0 };
	static const uint8_t want[16] = { 0, 2, 2, 4, 4, 6, 6, 7, 8, 10, 10, 12, 12, 14, 14, 0 };
	uint8_t codes[8], scales[1];
	float power;

	(void)ctx;
	fp4_row(v, 16, codes, scales, &power);
	assert_true(power * ref_e4m3(scales[0]) == 1);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(nibble(codes, i), want[i]);
	for (int e = -40; e <= 40; e += 8)
		for (float top = 2656; top <= 2720; top += 16) {
			float x[16] = { ldexpf(top, e), ldexpf(1, e - 20) };

			check_row(x, 16);
			fp4_row(x, 16, codes, scales, &power);
			assert_true(power == ldexpf(top <= 2688 ? 1 : 2, e));
			assert_int_equal(scales[0] & 0x7f, top <= 2688 ?
								   e4m3_from((double)top / 6) :
								   e4m3_from((double)top / 12));
		}
}

static void ends_of_the_range(void **ctx)
{
	float x[32] = { 0 }, power;
	uint8_t codes[16], scales[2];

	(void)ctx;
	fp4_row(x, 32, codes, scales, &power); /* nothing */
	assert_true(power == 0x1p-110f && !scales[0] && !scales[1] && !codes[0]);
	x[0] = ref_bf16(0x7f7f); /* the largest bfloat16 */
	x[31] = -ref_bf16(0x7f7f);
	x[1] = ref_bf16(1); /* and the smallest */
	check_row(x, 32);
	for (int i = 0; i < 32; i++)
		x[i] = ref_bf16((uint16_t)(1 + i));
	check_row(x, 32);
	for (int i = 0; i < 2; i++) { /* broken stays broken */
		x[17] = i ? INFINITY : NAN;
		fp4_row(x, 32, codes, scales, &power);
		assert_true(isnan(power) && !scales[0] && !scales[1] && !codes[0] && !codes[8]);
	}
}

/* What NVFP4 costs: a block's step is at most a quarter at the top (4 to 6), and clipping an
 * eighth. */
static void error_is_as_expected(void **ctx)
{
	float x[256], power;
	uint8_t codes[128], scales[16];
	double err = 0, all = 0;

	(void)ctx;
	for (int turn = 0; turn < 200; turn++) {
		for (int i = 0; i < 256; i++)
			x[i] = some(1);
		fp4_row(x, 256, codes, scales, &power);
		for (size_t i = 0; i < 256; i++) {
			double v = (double)ref_e2m1(nibble(codes, i)) *
				   (double)ref_e4m3(scales[i / 16]) * (double)power;

			err += (v - (double)x[i]) * (v - (double)x[i]);
			all += (double)x[i] * (double)x[i];
		}
	}
	assert_true(sqrt(err / all) > 0.05 && sqrt(err / all) < 0.12);
}

/* ---- layouts --------------------------------------------------------------------------- */

static void scale_codes_come_back(void **ctx)
{
	(void)ctx;
	for (uint32_t s = 1; s < 0x7f; s++)
		assert_int_equal(fp4_scale(pack_scale_code((uint8_t)s)), s);
	assert_int_equal(fp4_scale(pack_scale_code(0)), 1); /* of weights that are zero */
}

struct warp {
	uint32_t a[32][4], b[32][2], scale_a[32], scale_b[32];
	double acc[32][4];
};

static double element(uint32_t reg, uint32_t i)
{
	return (double)ref_e2m1((uint8_t)(reg >> 4 * i & 15));
}

/* The instruction, as the PTX manual has it: registers of all lanes become matrices, which are
 * multiplied. */
static void host_mma(struct warp *w)
{
	double a[16][64], b[64][8];

	for (uint32_t lane = 0; lane < 32; lane++)
		for (uint32_t i = 0; i < 32; i++) {
			const uint32_t row = i < 8 || (i >= 16 && i < 24) ? lane / 4 : lane / 4 + 8;
			const uint32_t k = lane % 4 * 8 + i % 8 + (i < 16 ? 0 : 32);

			a[row][k] = element(w->a[lane][i / 8], i % 8);
			if (i < 16)
				b[lane % 4 * 8 + i % 8 + (i < 8 ? 0 : 32)][lane / 4] =
					element(w->b[lane][i / 8], i % 8);
		}
	for (uint32_t lane = 0; lane < 32; lane++)
		for (uint32_t i = 0; i < 4; i++) {
			const uint32_t row = lane / 4 + (i < 2 ? 0 : 8), col = lane % 4 * 2 + i % 2;
			/* thread-id 0: the first two lanes of a quad for A, the first for B */
			const uint32_t sa = w->scale_a[row % 8 * 4 + row / 8],
				       sb = w->scale_b[col * 4];

			for (uint32_t k = 0; k < 64; k++)
				w->acc[lane][i] += a[row][k] * b[k][col] *
						   (double)ref_e4m3((uint8_t)(sa >> k / 16 * 8)) *
						   (double)ref_e4m3((uint8_t)(sb >> k / 16 * 8));
		}
}

static uint32_t word_at(const void *p, size_t i)
{
	uint32_t w;

	memcpy(&w, (const char *)p + 4 * i, sizeof(w));
	return w;
}

/* 64 columns of a unit into the registers of A, as prefill_fp4.cu's fp4_unit does. */
static void load_weights(const uint8_t *unit, uint32_t m, struct warp *w)
{
	for (uint32_t lane = 0; lane < 32; lane++) {
		const uint8_t *at = unit + (m * 32 + lane) * 16,
			      *scales = unit + 2048 + lane / 4 * 32;

		fp4_pair(word_at(at, 0), word_at(at, 1), &w->a[lane][0]);
		fp4_pair(word_at(at, 2), word_at(at, 3), &w->a[lane][2]);
		w->scale_a[lane] =
			fp4_scales(word_at(scales, m), word_at(scales + 16, m), lane % 2);
	}
}

/* And eight rows of quantised x, 64 columns from c on, into those of B. */
static void load_x(const uint8_t *codes, const uint8_t *scales, uint32_t k, uint32_t c,
		   struct warp *w)
{
	memset(w->b, 0, sizeof(w->b));
	memset(w->scale_b, 0, sizeof(w->scale_b));
	for (uint32_t lane = 0; lane < 32; lane++) {
		const uint32_t row = lane / 4;

		for (uint32_t i = 0; i < 16; i++) {
			const uint32_t col = c + i / 8 * 32 + lane % 4 * 8 + fp4_column(i % 8);

			if (col < k)
				w->b[lane][i / 8] |= (uint32_t)nibble(codes, (size_t)row * k + col)
						     << i % 8 * 4;
		}
		for (uint32_t b = 0; b < 4; b++)
			if (c + 16 * b < k)
				w->scale_b[lane] |= (uint32_t)scales[(row * k + c) / 16 + b]
						    << 8 * b;
	}
}

static void check_product(uint32_t n, uint32_t k)
{
	CLEANUP(freep) uint8_t *codes = malloc(n * k / 2), *scales = malloc(n * k / 16);
	CLEANUP(freep) uint8_t *packed = malloc(matmul_packed_bytes(MATMUL_NVFP4, n, k));
	CLEANUP(freep) uint8_t *xc = malloc(8 * k / 2), *xs = malloc(8 * k / 16);
	CLEANUP(freep) float *x = malloc(8 * k * sizeof(float));
	const uint32_t slices = (k + 255) / 256;
	struct ref_weights ref = { .fp4 = codes, .fp4_scale = scales, .global = 1, .n = n, .k = k };
	float power[8];

	for (uint32_t i = 0; i < n * k / 2; i++)
		codes[i] = (uint8_t)rng();
	for (uint32_t i = 0; i < n * k / 16; i++) /* zero and negative scales too */
		scales[i] = (uint8_t)(rng() % 10 ? rng() % 0x7f : rng() % 2 * 0x80 + rng() % 2);
	for (uint32_t i = 0; i < 8 * k; i++)
		x[i] = some(10);
	for (uint32_t r = 0; r < 8; r++)
		fp4_row(x + r * k, k, xc + r * k / 2, xs + r * k / 16, &power[r]);
	OK(matmul_pack_nvfp4(codes, scales, n, k, packed));
	for (uint32_t tile = 0; tile < (n + 15) / 16; tile++) {
		struct warp w = { .acc = { { 0 } } };

		for (uint32_t c = 0; c < slices * 256; c += 64) {
			load_weights(packed + (size_t)(tile * slices + c / 256) * MATMUL_NVFP4_UNIT,
				     c / 64 % 4, &w);
			load_x(xc, xs, k, c, &w);
			host_mma(&w);
		}
		for (uint32_t i = 0; i < 128; i++) {
			const uint32_t lane = i / 4, row = tile * 16 + lane / 4 + i % 4 / 2 * 8,
				       col = lane % 4 * 2 + i % 2;
			double want = 0, size = 0;

			for (uint32_t c = 0; row < n && c < k; c++) {
				const double p = ref_weight(&ref, row, c) *
						 (double)ref_e2m1(nibble(xc, col * k + c)) *
						 (double)ref_e4m3(xs[(col * k + c) / 16]);

				want += p;
				size += fabs(p);
			}
			assert_true(fabs(w.acc[lane][i % 4] - want) <= size * 1e-14);
		}
	}
}

static void packed_weights_are_the_instructions_operand(void **ctx)
{
	(void)ctx;
	check_product(16, 64);
	check_product(16, 256);
	check_product(41, 96);
	check_product(48, 544);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_follow_the_rule),
		cmocka_unit_test(ties_go_to_the_even_code),
		cmocka_unit_test(ends_of_the_range),
		cmocka_unit_test(error_is_as_expected),
		cmocka_unit_test(scale_codes_come_back),
		cmocka_unit_test(packed_weights_are_the_instructions_operand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
