/* pack.c - row-major weights to mma fragments.  The layout is in pack.h.
 *
 * Written for clarity: one function says which weight a lane holds where, and each
 * format says how it writes one fragment of eight weights. */
#include "kernels/cuda/pack.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

const char *matmul_format_name(enum matmul_format f)
{
	switch (f) {
	case MATMUL_BF16: return "BF16";
	case MATMUL_FP8: return "FP8";
	case MATMUL_NVFP4: return "NVFP4";
	case MATMUL_N_FORMATS: break;
	}
	return "?";
}

size_t matmul_unit_bytes(enum matmul_format f)
{
	switch (f) {
	case MATMUL_BF16: return MATMUL_BF16_UNIT;
	case MATMUL_FP8: return MATMUL_FP8_UNIT;
	case MATMUL_NVFP4: return MATMUL_NVFP4_UNIT;
	case MATMUL_N_FORMATS: break;
	}
	return 0;
}

static size_t ceil_div(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

size_t matmul_packed_bytes(enum matmul_format f, uint32_t n, uint32_t k)
{
	return ceil_div(n, MATMUL_TILE) * ceil_div(k, MATMUL_SLICE) * matmul_unit_bytes(f);
}

/* Where the eight weights of a lane's fragment stand in the matrix; pair p is elements
 * 2p (lower column) and 2p+1. */
struct place {
	uint32_t row[4], col[4];	/* of the lower column of pair p */
};

static struct place place_of(uint32_t tile, uint32_t slice, uint32_t step, uint32_t lane)
{
	uint32_t g = lane / 4, q = lane % 4;
	uint32_t row = tile * MATMUL_TILE + g;
	uint32_t col = slice * MATMUL_SLICE + step / 2 * 32 + 8 * q + step % 2 * 4;

	return (struct place){
		.row = { row, row + 8, row, row + 8 },
		.col = { col, col, col + 2, col + 2 },
	};
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* ---- bfloat16 -------------------------------------------------------------- */

static void pack_bf16_lane(const uint16_t *w, uint32_t n, uint32_t k, const struct place *at,
			   uint8_t *out)
{
	for (int p = 0; p < 4; p++) {
		uint32_t v = 0;

		if (at->row[p] < n && at->col[p] < k) {
			const uint16_t *from = w + (size_t)at->row[p] * k + at->col[p];

			v = from[0] | (uint32_t)from[1] << 16;
		}
		put32(out + 4 * p, v);
	}
}

int matmul_pack_bf16(const uint16_t *w, uint32_t n, uint32_t k, void *ret_packed)
{
	uint8_t *out = ret_packed;

	if (!n || !k || k % 8)
		return -EINVAL;
	for (uint32_t tile = 0; tile < ceil_div(n, MATMUL_TILE); tile++)
		for (uint32_t slice = 0; slice < ceil_div(k, MATMUL_SLICE); slice++)
			for (uint32_t step = 0; step < 16; step++)
				for (uint32_t lane = 0; lane < 32; lane++, out += 16) {
					struct place at = place_of(tile, slice, step, lane);

					pack_bf16_lane(w, n, k, &at, out);
				}
	return 0;
}

/* ---- FP8 ------------------------------------------------------------------- */

/* Spreads two e4m3 of one 16-bit half: `a` so that its sign is bit 15 and the rest bits
 * 10..4, `b` into what is left: sign 11, top three bits 14..12, low four 3..0. */
static uint32_t fp8_scatter(uint8_t a, uint8_t b)
{
	return (uint32_t)(a >> 7) << 15 | (uint32_t)(a & 0x7f) << 4 |
	       (uint32_t)(b >> 7) << 11 | (uint32_t)(b >> 4 & 7) << 12 | (b & 15u);
}

static int pack_fp8_lane(const uint8_t *w, uint32_t n, uint32_t k, const struct place *at,
			 uint8_t *out)
{
	uint8_t v[8] = { 0 };

	for (int p = 0; p < 4; p++)
		if (at->row[p] < n && at->col[p] < k)
			memcpy(v + 2 * p, w + (size_t)at->row[p] * k + at->col[p], 2);
	for (int i = 0; i < 8; i++)
		if ((v[i] & 0x7f) == 0x7f)
			return -EINVAL;
	/* Word 0: pairs 0 and 1, word 1: pairs 2 and 3. */
	put32(out, fp8_scatter(v[0], v[2]) | fp8_scatter(v[1], v[3]) << 16);
	put32(out + 4, fp8_scatter(v[4], v[6]) | fp8_scatter(v[5], v[7]) << 16);
	return 0;
}

static float fp8_scale_at(const float *scale, uint32_t k, uint32_t row, uint32_t col)
{
	return col < k ? scale[row / 128 * ceil_div(k, 128) + col / 128] : 0;
}

int matmul_pack_fp8(const uint8_t *w, const float *scale, uint32_t n, uint32_t k,
		    void *ret_packed)
{
	uint8_t *out = ret_packed;

	if (!n || !k || k % 16)
		return -EINVAL;
	for (uint32_t tile = 0; tile < ceil_div(n, MATMUL_TILE); tile++)
		for (uint32_t slice = 0; slice < ceil_div(k, MATMUL_SLICE); slice++) {
			uint32_t row = tile * MATMUL_TILE, col = slice * MATMUL_SLICE;
			float tail[4] = { fp8_scale_at(scale, k, row, col),
					  fp8_scale_at(scale, k, row, col + 128) };

			if (tail[0] != tail[0] || tail[1] != tail[1])
				return -EINVAL;
			for (uint32_t step = 0; step < 16; step++)
				for (uint32_t lane = 0; lane < 32; lane++) {
					struct place at = place_of(tile, slice, step, lane);
					size_t to = (step / 2 * 32 + lane) * 16 + step % 2 * 8;

					if (pack_fp8_lane(w, n, k, &at, out + to))
						return -EINVAL;
				}
			memcpy(out + 4096, tail, sizeof(tail));
			out += MATMUL_FP8_UNIT;
		}
	return 0;
}

/* ---- NVFP4 ----------------------------------------------------------------- */

/* A block scale as the kernels read it: exponent + 9 in five bits, three bits of
 * mantissa, no sign.  Every e4m3 but zero fits: the smallest is 2^-9, the largest
 * 448 < 2^9.  Zero has no code: its block's weights become zero instead. */
static uint8_t scale_code(uint8_t e4m3)
{
	uint32_t exp = e4m3 >> 3 & 15, man = e4m3 & 7;

	if (exp)			/* 2^(exp - 7) */
		return (uint8_t)((exp + 2) << 3 | man);
	if (man >= 4)			/* man * 2^-9 */
		return (uint8_t)(2 << 3 | (man * 2 - 8));
	if (man >= 2)
		return (uint8_t)(1 << 3 | (man * 4 - 8));
	return 0;
}

/* One 16-bit half of a word: nibble p (sign, two exponent bits, mantissa bit) of pair
 * p = 0..3.  `high` nibbles go to the upper half; pairs 1 and 3 are read through a
 * rotation of the whole word, so their sign bits stand in the other half. */
static uint32_t fp4_scatter(const uint8_t v[4], bool high)
{
	uint32_t own = 0, other = 0;

	own |= (uint32_t)(v[0] & 7) << 6 | (uint32_t)(v[0] >> 3) << 15;
	own |= (uint32_t)(v[1] & 7) << 12;
	other |= (uint32_t)(v[1] >> 3) << 5;
	own |= (uint32_t)(v[2] & 7) | (uint32_t)(v[2] >> 3) << 9;
	own |= (uint32_t)(v[3] & 3) << 10 | (uint32_t)(v[3] >> 2 & 1) << 4;
	other |= (uint32_t)(v[3] >> 3) << 3;
	return high ? own << 16 | other : own | other << 16;
}

struct nvfp4 {
	const uint8_t *codes, *scale;
	uint32_t n, k;
};

/* The nibble at [row, col], with what the scale cannot say moved into it. */
static uint8_t nvfp4_code(const struct nvfp4 *m, uint32_t row, uint32_t col)
{
	uint8_t byte, scale;

	if (row >= m->n || col >= m->k)
		return 0;
	byte = m->codes[((size_t)row * m->k + col) / 2];
	scale = m->scale[((size_t)row * m->k + col) / 16];
	if (!(scale & 0x7f))
		return 0;
	return (uint8_t)((col % 2 ? byte >> 4 : byte & 15) ^ (scale & 0x80 ? 8 : 0));
}

static void pack_nvfp4_lane(const struct nvfp4 *m, const struct place *at, uint8_t *out)
{
	uint8_t low[4], high[4];

	for (int p = 0; p < 4; p++) {
		low[p] = nvfp4_code(m, at->row[p], at->col[p]);
		high[p] = nvfp4_code(m, at->row[p], at->col[p] + 1);
	}
	put32(out, fp4_scatter(low, false) | fp4_scatter(high, true));
}

/* Sixteen bytes for the lanes (g, q) with q / 2 == half: for each 32 columns the scales
 * of rows g and g + 8 in the 16-column block that those lanes' columns lie in. */
static int pack_nvfp4_scales(const struct nvfp4 *m, uint32_t tile, uint32_t slice, uint8_t *out)
{
	for (uint32_t g = 0; g < 8; g++)
		for (uint32_t half = 0; half < 2; half++)
			for (uint32_t i = 0; i < 16; i++, out++) {
				uint32_t row = tile * MATMUL_TILE + g + i % 2 * 8;
				uint32_t col = slice * MATMUL_SLICE + i / 2 * 32 + half * 16;
				uint8_t s = row < m->n && col < m->k ?
						    m->scale[((size_t)row * m->k + col) / 16] : 0;

				if ((s & 0x7f) == 0x7f)
					return -EINVAL;
				*out = scale_code(s);
			}
	return 0;
}

int matmul_pack_nvfp4(const uint8_t *codes, const uint8_t *scale, uint32_t n, uint32_t k,
		      void *ret_packed)
{
	const struct nvfp4 m = { .codes = codes, .scale = scale, .n = n, .k = k };
	uint8_t *out = ret_packed;

	if (!n || !k || k % 16)
		return -EINVAL;
	for (uint32_t tile = 0; tile < ceil_div(n, MATMUL_TILE); tile++)
		for (uint32_t slice = 0; slice < ceil_div(k, MATMUL_SLICE); slice++) {
			for (uint32_t step = 0; step < 16; step++)
				for (uint32_t lane = 0; lane < 32; lane++) {
					struct place at = place_of(tile, slice, step, lane);

					pack_nvfp4_lane(&m, &at,
							out + (step / 4 * 32 + lane) * 16 +
								step % 4 * 4);
				}
			if (pack_nvfp4_scales(&m, tile, slice, out + 2048))
				return -EINVAL;
			out += MATMUL_NVFP4_UNIT;
		}
	return 0;
}
