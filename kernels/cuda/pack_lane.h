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

/* A word from two pairs of e4m3, (a[0], a[1]) and (b[0], b[1]), index 1 in the upper half.  `a`
 * stands as bfloat16 wants it: the sign in bit 15, the rest in 10..4.  `b` is read as
 * (w >> 4 ^ w << 4) & 0x87f087f0: each of its bits is one of the bits left, xor another that is
 * known by then. */
PACK_FN uint32_t pack_fp8_scatter(const uint8_t a[2], const uint8_t b[2])
{
	uint32_t w = 0;

	for (int high = 0; high < 2; high++) {
		const uint32_t v = b[high], by = high ? 16 : 0;
		uint32_t h = (uint32_t)(a[high] >> 7) << 15 | (uint32_t)(a[high] & 0x7f) << 4;

		h |= ((v >> 4 & 7) << 12) ^ (h << 8 & 0x7000);	/* 14..12, through w >> 4 */
		h |= (v & 7) ^ (h >> 8 & 7);			/* 2..0, through w << 4 */
		w |= h << by;
	}
	/* Sign and bit 3, through both: the upper half's, then the lower's, which sees it. */
	w |= (uint32_t)(b[1] >> 7) << 27;
	w |= ((b[1] >> 3 & 1u) ^ (w >> 27 & 1)) << 19;
	w |= ((uint32_t)(b[0] >> 7) ^ (w >> 19 & 1)) << 11;
	w |= ((b[0] >> 3 & 1u) ^ (w >> 11 & 1)) << 3;
	return w;
}

/* A scale as the unit keeps it: +0 where it is -0 or NaN, too; what that scales becomes zero weights. */
PACK_FN float pack_fp8_scale(float scale)
{
	return scale < 0 || scale > 0 ? scale : 0;
}

/* scale: of the lane's rows g and g + 8 in these columns.  -1 when a weight is NaN, else 0. */
PACK_FN int pack_fp8_lane(const struct pack_rows *m, const struct pack_place *at,
			  const float scale[2], uint32_t ret[2])
{
	uint8_t v[4][2] = { { 0 } };
	int bad = 0;

	for (int p = 0; p < 4; p++)
		if (pack_inside(m, at->row[p], at->col[p])) {
			const uint8_t *from =
				(const uint8_t *)m->data + pack_index(m, at->row[p], at->col[p]);

			if (scale[p % 2] < 0 || scale[p % 2] > 0) {
				v[p][0] = from[0];
				v[p][1] = from[1];
			}
			bad |= pack_e4m3_nan(from[0]) | pack_e4m3_nan(from[1]);
		}
	/* Word 0: pairs 0 and 1, word 1: pairs 2 and 3. */
	ret[0] = pack_fp8_scatter(v[0], v[1]);
	ret[1] = pack_fp8_scatter(v[2], v[3]);
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

/* Where the nibbles (sign, two exponent bits, mantissa bit) of pairs 0..2 stand in one half of a
 * word.  Pair 1 is read through a rotation by six: its sign is in the other half. */
PACK_FN uint32_t pack_fp4_three(const uint8_t v[4], int high)
{
	uint32_t own = 0, other = 0;

	own |= (uint32_t)(v[0] & 7) << 6 | (uint32_t)(v[0] >> 3) << 15;
	own |= (uint32_t)(v[1] & 7) << 12;
	other |= (uint32_t)(v[1] >> 3) << 5;
	own |= (uint32_t)(v[2] & 7) | (uint32_t)(v[2] >> 3) << 9;
	return high ? own << 16 | other : own | other << 16;
}

/* A word from the nibbles of four pairs.  Bits 3, 4, 10 and 11 of each half are left for pair 3,
 * and lie so that no one shift brings them together.  It is read as (w >> 4 ^ w << 4) & 0x81c081c0:
 * each of the eight bits asked for is one of the bits left, xor another that is known by then. */
PACK_FN uint32_t pack_fp4_scatter(const uint8_t low[4], const uint8_t high[4])
{
	uint32_t w = pack_fp4_three(low, 0) | pack_fp4_three(high, 1);
	const uint32_t l = low[3], h = high[3];

	w |= ((h & 1) ^ (w >> 18 & 1)) << 26;		/* mantissa bits */
	w |= ((l & 1) ^ (w >> 2 & 1)) << 10;
	w |= ((h >> 2 & 1) ^ (w >> 28 & 1)) << 20;	/* upper exponent bits */
	w |= ((l >> 2 & 1) ^ (w >> 12 & 1)) << 4;
	w |= (h >> 3) << 27;				/* sign, lower exponent bit: high ... */
	w |= ((h >> 1 & 1) ^ (h >> 3)) << 19;
	w |= ((l >> 3) ^ (w >> 19 & 1)) << 11;		/* ... and low, which sees the high one's */
	w |= ((l >> 1 & 1) ^ (w >> 11 & 1)) << 3;
	return w;
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
	return pack_fp4_scatter(low, high);
}

/* Byte i (0..255) of a unit's scales: for the lanes (g, q) with q / 2 == half, for each 64 columns,
 * those of row g in their first and second 32, then of row g + 8, in the 16-column block that the
 * lanes' columns lie in.  The e4m3 itself: pack_scale_code() of it is stored. */
PACK_FN uint8_t pack_nvfp4_unit_scale(const struct pack_rows *m, const uint8_t *scale,
				      uint32_t tile, uint32_t slice, uint32_t i)
{
	const uint32_t g = i / 32, half = i / 16 % 2, in = i % 16;

	return pack_nvfp4_scale(m, scale, tile * MATMUL_TILE + g + in / 2 % 2 * 8,
				slice * MATMUL_SLICE + in / 4 * 64 + in % 2 * 32 + half * 16);
}

#endif
