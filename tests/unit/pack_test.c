/* pack_test.c - packed weights are the checkpoint's, each where a lane looks for it.
 *
 * Undoes the layout of kernels/cuda/pack.h with the operations of kernels/cuda/fragment.cuh
 * written in plain C, so that the packing is checked where there is no GPU. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/ref_matmul.h"
#include "kernels/cuda/pack_lane.h"
#include "lib/own.h"

static uint32_t word(const uint8_t *p)
{
	uint32_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

static uint32_t rotate_right(uint32_t w, int by)
{
	return w >> by | w << (32 - by);
}

static float half_of(uint32_t pair, int high)
{
	return ref_bf16((uint16_t)(high ? pair >> 16 : pair));
}

/* The four pairs that a lane multiplies in a step: (g, 1st) (g+8, 1st) (g, 2nd) (g+8, 2nd). */
static void fragment(enum matmul_format f, const uint8_t *unit, uint32_t step, uint32_t lane,
		     float ret[4][2])
{
	uint32_t pair[4], w;
	const uint8_t *at, *scales;

	switch (f) {
	case MATMUL_BF16:
		at = unit + (step * 32 + lane) * 16;
		for (int p = 0; p < 4; p++)
			pair[p] = word(at + 4 * p);
		break;
	case MATMUL_FP8:
		at = unit + (step / 2 * 32 + lane) * 16 + step % 2 * 8;
		for (int p = 0; p < 4; p++) {
			w = word(at + p / 2 * 4);
			pair[p] = (p % 2 ? w >> 4 ^ w << 4 : w) & 0x87f087f0;
		}
		break;
	default:
		w = word(unit + (step / 4 * 32 + lane) * 16 + step % 4 * 4);
		pair[0] = w & 0x81c081c0;
		pair[1] = rotate_right(w, 6) & 0x81c081c0;
		pair[2] = w << 6 & 0x81c081c0;
		pair[3] = (w >> 4 ^ w << 4) & 0x81c081c0;
		break;
	}
	scales = unit + 2048 + (lane / 4 * 2 + lane % 4 / 2) * 16 + step / 4 * 4 + step / 2 % 2;
	for (int p = 0; p < 4; p++)
		for (int high = 0; high < 2; high++) {
			float v = half_of(pair[p], high);

			if (f == MATMUL_FP8) {
				float s;

				memcpy(&s, unit + 4096 + (step >= 8 ? 4 : 0), sizeof(s));
				v = ldexpf(v, 120) * s;
			}
			if (f == MATMUL_NVFP4)	/* 2^52 stays for the global factor */
				v = ldexpf(v * ref_bf16((uint16_t)(scales[p % 2 * 2] * 16 + 0x6000)),
					   52);
			ret[p][high] = v;
		}
}

static void every_weight_is_in_its_place(enum matmul_format f, const struct ref_weights *ref,
					 const uint8_t *packed)
{
	const uint32_t tiles = (ref->n + 15) / 16, slices = (ref->k + 255) / 256;

	for (uint32_t i = 0; i < tiles * slices * 16 * 32; i++) {
		uint32_t lane = i % 32, step = i / 32 % 16, slice = i / 512 % slices;
		uint32_t row = i / 512 / slices * 16 + lane / 4;
		uint32_t col = slice * 256 + step / 2 * 32 + lane % 4 * 8 + step % 2 * 4;
		float v[4][2];

		fragment(f, packed + (size_t)(i / 512) * matmul_unit_bytes(f), step, lane, v);
		for (uint32_t e = 0; e < 8; e++) {
			uint32_t r = row + e / 2 % 2 * 8, c = col + e / 4 * 2 + e % 2;
			double want = r < ref->n && c < ref->k ? ref_weight(ref, r, c) : 0;

			/* FP8 has a float32 product here and a double one there. */
			assert_true(fabs(v[e / 2][e % 2] - want) <= fabs(want) * 1e-7);
		}
	}
}

static void fill(uint8_t *p, size_t bytes, uint32_t seed)
{
	for (size_t i = 0; i < bytes; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
		if ((p[i] & 0x7f) == 0x7f)
			p[i] = 0;	/* no NaN in any format */
	}
}

TEST(bf16_weights_are_in_their_places)
{
	const uint32_t n = 35, k = 520;
	CLEANUP(freep) uint16_t *w = calloc((size_t)n * k, sizeof(*w));
	CLEANUP(freep) uint8_t *packed = malloc(matmul_packed_bytes(MATMUL_BF16, n, k));
	const struct ref_weights ref = { .bf16 = w, .global = 1, .n = n, .k = k };

	fill((uint8_t *)w, (size_t)n * k * 2, 1);
	OK(matmul_pack_bf16(w, n, k, packed));
	every_weight_is_in_its_place(MATMUL_BF16, &ref, packed);
	EQ(matmul_pack_bf16(w, n, 516, packed), -EINVAL);
	EQ(matmul_pack_bf16(w, 0, k, packed), -EINVAL);
}

TEST(fp8_weights_are_in_their_places)
{
	const uint32_t n = 150, k = 400;
	CLEANUP(freep) uint8_t *w = malloc((size_t)n * k);
	CLEANUP(freep) uint8_t *packed = malloc(matmul_packed_bytes(MATMUL_FP8, n, k));
	float scale[2 * 4];
	const struct ref_weights ref = {.fp8 = w, .fp8_scale = scale, .global = 1, .n = n, .k = k};

	fill(w, (size_t)n * k, 2);
	for (int i = 0; i < 8; i++)
		scale[i] = 0.001f * (float)(i + 1);
	OK(matmul_pack_fp8(w, scale, n, k, packed));
	every_weight_is_in_its_place(MATMUL_FP8, &ref, packed);
	w[77] = 0x7f;
	EQ(matmul_pack_fp8(w, scale, n, k, packed), -EINVAL);
	EQ(matmul_pack_fp8(w, scale, n, 392, packed), -EINVAL);
}

/* Whether all bytes are 0: weights of +0, scales of +0. */
static bool all_zero(const uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i])
			return false;
	return true;
}

/* Columns 0-127 are scaled by 0, 128-255 by -0, 256-383 by 2; 384-511 are outside of the matrix. */
TEST(fp8_scale_of_zero_is_packed_as_zero)
{
	const uint32_t n = 16, k = 384;
	static const float want[4] = { 2, 0, 2, 0 };
	CLEANUP(freep) uint8_t *w = malloc((size_t)n * k);
	CLEANUP(freep) uint8_t *packed = malloc(matmul_packed_bytes(MATMUL_FP8, n, k));
	const uint8_t *second = packed + MATMUL_FP8_UNIT;
	float scale[3] = { 0, -0.0f, 2 };
	const struct ref_weights ref = {.fp8 = w, .fp8_scale = scale, .global = 1, .n = n, .k = k};

	memset(w, 0xb9, (size_t)n * k);	/* -1.125: a zero would be seen, and so would its sign */
	memset(packed, 0xee, matmul_packed_bytes(MATMUL_FP8, n, k));
	OK(matmul_pack_fp8(w, scale, n, k, packed));
	assert_true(all_zero(packed, MATMUL_FP8_UNIT));
	assert_false(all_zero(second, 2048));
	assert_true(all_zero(second + 2048, 2048));
	assert_memory_equal(second + 4096, want, sizeof(want));
	every_weight_is_in_its_place(MATMUL_FP8, &ref, packed);
	scale[2] = NAN;
	EQ(matmul_pack_fp8(w, scale, n, k, packed), -EINVAL);
	scale[2] = -INFINITY;
	EQ(matmul_pack_fp8(w, scale, n, k, packed), -EINVAL);
}

/* A lane at a time, as the loader packs on the GPU: it refuses NaN elsewhere. */
TEST(fp8_lane_has_zeros_where_its_scale_is_zero_or_nan)
{
	const float none[] = { 0, -0.0f, NAN, -NAN }, kept[] = { 1, -0x1p-149f, 0x1p-149f, 3e38f };
	uint8_t w[16 * 16];
	const struct pack_rows m = { w, 16, 16, 0 };
	const struct pack_place at = pack_place_of(0, 0, 0, 0);
	uint32_t all[2];

	memset(w, 0xb9, sizeof(w));
	OK(pack_fp8_lane(&m, &at, (const float[]){ 1, 1 }, all));
	for (int i = 0; i < 4; i++) {
		const float got = pack_fp8_scale(none[i]), same = pack_fp8_scale(kept[i]);
		uint32_t v[2] = { 1, 1 };

		assert_true(all_zero((const uint8_t *)&got, sizeof(got)));
		assert_memory_equal(&same, &kept[i], sizeof(same));
		OK(pack_fp8_lane(&m, &at, (const float[]){ none[i], none[i] }, v));
		assert_true(all_zero((const uint8_t *)v, sizeof(v)));
		OK(pack_fp8_lane(&m, &at, (const float[]){ kept[i], kept[i] }, v));
		assert_memory_equal(v, all, sizeof(v));
	}
	w[0] = 0x7f;	/* a weight of NaN is told of even under a scale of 0 */
	EQ(pack_fp8_lane(&m, &at, (const float[]){ 0, 0 }, all), -1);
}

/* All scales: zero, subnormal, negative; all codes under them. */
TEST(nvfp4_weights_are_in_their_places)
{
	const uint32_t n = 40, k = 528;
	CLEANUP(freep) uint8_t *codes = malloc((size_t)n * k / 2);
	CLEANUP(freep) uint8_t *scale = malloc((size_t)n * k / 16);
	CLEANUP(freep) uint8_t *packed = malloc(matmul_packed_bytes(MATMUL_NVFP4, n, k));
	const struct ref_weights ref = {
		.fp4 = codes, .fp4_scale = scale, .global = 1, .n = n, .k = k};

	fill(codes, (size_t)n * k / 2, 3);
	fill(scale, (size_t)n * k / 16, 4);
	for (int i = 0; i < 255; i++)
		if ((i & 0x7f) != 0x7f)
			scale[i] = (uint8_t)i;
	OK(matmul_pack_nvfp4(codes, scale, n, k, packed));
	every_weight_is_in_its_place(MATMUL_NVFP4, &ref, packed);
	scale[5] = 0xff;
	EQ(matmul_pack_nvfp4(codes, scale, n, k, packed), -EINVAL);
	EQ(matmul_pack_nvfp4(codes, scale, n, 520, packed), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bf16_weights_are_in_their_places),
		cmocka_unit_test(fp8_weights_are_in_their_places),
		cmocka_unit_test(fp8_scale_of_zero_is_packed_as_zero),
		cmocka_unit_test(fp8_lane_has_zeros_where_its_scale_is_zero_or_nan),
		cmocka_unit_test(nvfp4_weights_are_in_their_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
