/* pack_lane.h - which weights a lane holds, and how its bits are scattered: the layouts of pack.h,
 * one lane at a time.
 *
 * Plain inline functions for host and device: pack.c packs a matrix with them, and the loader's
 * kernels do the same on the GPU.  Values outside of the matrix are zero weights.  Nothing here
 * fails: who packs looks for NaN first (pack_e4m3_nan()).
 */
#ifndef HEARTH_KERNELS_CUDA_PACK_LANE_H
#define HEARTH_KERNELS_CUDA_PACK_LANE_H

#include "kernels/cuda/pack.h"

#ifdef __CUDACC__
#define PACK_FN static inline __host__ __device__
#else
#define PACK_FN static inline
#endif

/* Row-major data, and in which order its rows are packed. */
struct pack_rows {
	const void *data;
	uint32_t n, k;
	int turns;	/* the second half of the rows mixed with the first in turns of eight */
};

/* The row of the data that stands at `row` of the packed matrix. */
PACK_FN uint32_t pack_source_row(const struct pack_rows *m, uint32_t row)
{
	return m->turns ? row / 16 * 8 + row % 8 + row % 16 / 8 * (m->n / 2) : row;
}

/* Where the pairs of a lane's fragment stand: pair p is columns col[p] and col[p] + 1 of row[p], in
 * packed order. */
struct pack_place {
	uint32_t row[4], col[4];
};

PACK_FN struct pack_place pack_place_of(uint32_t tile, uint32_t slice, uint32_t step, uint32_t lane)
{
	const uint32_t row = tile * MATMUL_TILE + lane / 4;
	const uint32_t col = slice * MATMUL_SLICE + step / 2 * 32 + 8 * (lane % 4) + step % 2 * 4;
	const struct pack_place at = {
		{ row, row + 8, row, row + 8 },
		{ col, col, col + 2, col + 2 },
	};

	return at;
}

PACK_FN int pack_inside(const struct pack_rows *m, uint32_t row, uint32_t col)
{
	return row < m->n && col < m->k;
}

PACK_FN size_t pack_index(const struct pack_rows *m, uint32_t row, uint32_t col)
{
	return (size_t)pack_source_row(m, row) * m->k + col;
}

PACK_FN int pack_e4m3_nan(uint8_t byte)
{
	return (byte & 0x7f) == 0x7f;
}

/* ---- bfloat16: 16 bytes a lane and step ---------------------------------------- */

PACK_FN void pack_bf16_lane(const struct pack_rows *m, const struct pack_place *at, uint32_t ret[4])
{
	for (int p = 0; p < 4; p++) {
		ret[p] = 0;
		if (pack_inside(m, at->row[p], at->col[p])) {
			const uint16_t *from =
				(const uint16_t *)m->data + pack_index(m, at->row[p], at->col[p]);

			ret[p] = from[0] | (uint32_t)from[1] << 16;
		}
	}
}

/* ---- FP8: 8 bytes a lane and step ------------------------------------------------ */

/* Spreads two e4m3 of one 16-bit half: `a` so that its sign is bit 15 and the rest bits
 * 10..4, `b` into what is left: sign 11, top three bits 14..12, low four 3..0. */
PACK_FN uint32_t pack_fp8_scatter(uint8_t a, uint8_t b)
{
	return (uint32_t)(a >> 7) << 15 | (uint32_t)(a & 0x7f) << 4 |
	       (uint32_t)(b >> 7) << 11 | (uint32_t)(b >> 4 & 7) << 12 | (b & 15u);
}

/* A scale as the unit keeps it: what 0 scales becomes zero weights, and any other scale does. */
PACK_FN float pack_fp8_scale(float scale)
{
	return scale < 0 || scale > 0 ? scale : 1;
}

/* scale: of the lane's rows g and g + 8 in these columns.  -1 when a weight is NaN, else 0. */
PACK_FN int pack_fp8_lane(const struct pack_rows *m, const struct pack_place *at,
			  const float scale[2], uint32_t ret[2])
{
	uint8_t v[8] = { 0 };
	int bad = 0;

	for (int p = 0; p < 4; p++)
		if (pack_inside(m, at->row[p], at->col[p])) {
			const uint8_t *from =
				(const uint8_t *)m->data + pack_index(m, at->row[p], at->col[p]);

			if (scale[p % 2] < 0 || scale[p % 2] > 0) {
				v[2 * p] = from[0];
				v[2 * p + 1] = from[1];
			}
			bad |= pack_e4m3_nan(from[0]) | pack_e4m3_nan(from[1]);
		}
	/* Word 0: pairs 0 and 1, word 1: pairs 2 and 3. */
	ret[0] = pack_fp8_scatter(v[0], v[2]) | pack_fp8_scatter(v[1], v[3]) << 16;
	ret[1] = pack_fp8_scatter(v[4], v[6]) | pack_fp8_scatter(v[5], v[7]) << 16;
	return bad ? -1 : 0;
}

/* ---- NVFP4: 4 bytes a lane and step, and scales ------------------------------------ */

/* A block scale as the kernels read it: exponent + 9 in five bits, three bits of
 * mantissa, no sign.  Every e4m3 but zero fits: the smallest is 2^-9, the largest
 * 448 < 2^9.  Zero has no code: its block's weights become zero instead. */
PACK_FN uint8_t pack_scale_code(uint8_t e4m3)
{
	const uint32_t exp = e4m3 >> 3 & 15, man = e4m3 & 7;

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
PACK_FN uint32_t pack_fp4_scatter(const uint8_t v[4], int high)
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

/* m->data: nibbles, m->k of them a row; scale: [n, k / 16] e4m3, rows as m->data's. */
PACK_FN uint8_t pack_nvfp4_scale(const struct pack_rows *m, const uint8_t *scale, uint32_t row,
				 uint32_t col)
{
	return pack_inside(m, row, col) ? scale[pack_index(m, row, col) / 16] : 0;
}

/* The nibble at [row, col], with what the scale cannot say moved into it. */
PACK_FN uint8_t pack_nvfp4_code(const struct pack_rows *m, const uint8_t *scale, uint32_t row,
				uint32_t col)
{
	uint8_t byte, s;

	if (!pack_inside(m, row, col))
		return 0;
	byte = ((const uint8_t *)m->data)[pack_index(m, row, col) / 2];
	s = pack_nvfp4_scale(m, scale, row, col);
	if (!(s & 0x7f))
		return 0;
	return (uint8_t)((col % 2 ? byte >> 4 : byte & 15) ^ (s & 0x80 ? 8 : 0));
}

PACK_FN uint32_t pack_nvfp4_lane(const struct pack_rows *m, const uint8_t *scale,
				 const struct pack_place *at)
{
	uint8_t low[4], high[4];

	for (int p = 0; p < 4; p++) {
		low[p] = pack_nvfp4_code(m, scale, at->row[p], at->col[p]);
		high[p] = pack_nvfp4_code(m, scale, at->row[p], at->col[p] + 1);
	}
	return pack_fp4_scatter(low, 0) | pack_fp4_scatter(high, 1);
}

/* Byte i (0..255) of a unit's scales: for the lanes (g, q) with q / 2 == half, for each 32 columns,
 * those of rows g and g + 8 in the 16-column block that the lanes' columns lie in.  The e4m3
 * itself: pack_scale_code() of it is stored. */
PACK_FN uint8_t pack_nvfp4_unit_scale(const struct pack_rows *m, const uint8_t *scale,
				      uint32_t tile, uint32_t slice, uint32_t i)
{
	const uint32_t g = i / 32, half = i / 16 % 2, in = i % 16;

	return pack_nvfp4_scale(m, scale, tile * MATMUL_TILE + g + in % 2 * 8,
				slice * MATMUL_SLICE + in / 2 * 32 + half * 16);
}

#endif
