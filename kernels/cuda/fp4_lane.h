/* fp4_lane.h - who holds what in the block-scaled FP4 product of sm_120a and sm_121a.
 *
 *	mma.sync.aligned.kind::mxf4nvf4.block_scale.scale_vec::4X.m16n8k64.row.col
 *		.f32.e2m1.e2m1.f32.ue4m3
 *
 * D (16 x 8) += (A (16 x 64) * scale_A (16 x 4)) * (scale_B (4 x 8) * B (64 x 8)): a scale for
 * each 16 of K on both sides.  Here A are 16 rows of W and B eight rows of x.  Lane = 4 g + q, g
 * 0..7, q 0..3; a register has eight e2m1, nibble i being bits 4i .. 4i+3 (PTX ISA, "Matrix
 * Fragments for mma.m16n8k64" and "Block Scaling for mma.sync"):
 *
 *	register	row of W or x		K
 *	A 0		g			8q + i
 *	A 1		g + 8			8q + i
 *	A 2		g			32 + 8q + i
 *	A 3		g + 8			32 + 8q + i
 *	B 0		g (of x)		8q + i
 *	B 1		g (of x)		32 + 8q + i
 *	C, D 0, 1	g of W; 2q, 2q+1 of x	(float32)
 *	C, D 2, 3	g + 8 of W; the same
 *
 *	scale register: byte b is the ue4m3 of K 16b .. 16b+15
 *	scale_A		lane 4 (r mod 8) + r / 8 has those of row r, where thread-id-a is 0 (q = 0, 1); with
 *			thread-id-a 1 it would be the lanes q = 2, 3.  byte-id-a must be 0
 *	scale_B		lane 4 n has those of column n, where thread-id-b is 0.  byte-id-b must be 0
 *
 * The scales are put into every lane that any selector could ask (q and q + 2 alike for A, all of
 * a quad for B), so that no reading of the selectors can pick a wrong one.
 *
 * The order of K inside a lane's eight is ours to choose, as long as W and x agree and both stay
 * in one block of 16: nibble i is column fp4_column(i) of the lane's eight.  It is the order that
 * falls out of pack.h's bits.  For that layout gives lane (g, q) the rows g and g + 8 and of each
 * 32 columns the eight from 8q on: exactly the fragment above.  So the native path reads the
 * weights of the decode kernels, where they lie: two words of two steps become registers of rows g
 * and g + 8 (fp4_pair()), and the scale codes become e4m3 again (fp4_scales()).  No second copy of
 * the weights.
 *
 * Plain inline functions for host and device, so that tests hold the layout together without a
 * GPU.
 */
#ifndef HEARTH_KERNELS_CUDA_FP4_LANE_H
#define HEARTH_KERNELS_CUDA_FP4_LANE_H

#include "kernels/cuda/pack_lane.h"

#define FP4_K 64		/* columns of an instruction */
#define FP4_STEPS (MATMUL_SLICE / FP4_K)

/* Of eight columns, the one that nibble i holds. */
PACK_FN uint32_t fp4_column(uint32_t i)
{
	return i % 4 * 2 + i / 4;
}

/* Nibbles of pack_fp4_scatter(), both halves of the word at once, in bits 0..3 and 16..19: of row
 * g, the first and the second pair of columns; of row g + 8, the same. */
PACK_FN uint32_t fp4_low_first(uint32_t w)
{
	return (w >> 6 & 0x00070007) | (w >> 12 & 0x00080008);
}

PACK_FN uint32_t fp4_low_second(uint32_t w)
{
	return (w & 0x00070007) | (w >> 6 & 0x00080008);
}

PACK_FN uint32_t fp4_high_first(uint32_t w)
{
	return (w >> 12 & 0x00070007) | ((w >> 16 | w << 16) >> 2 & 0x00080008);
}

PACK_FN uint32_t fp4_high_second(uint32_t w)
{
	return fp4_low_first(w >> 4 ^ w << 4);	/* scattered to be read so */
}

/* Registers of rows g and g + 8 from a lane's words of the steps 2j and 2j + 1. */
PACK_FN void fp4_pair(uint32_t even, uint32_t odd, uint32_t ret[2])
{
	ret[0] = fp4_low_first(even) | fp4_low_second(even) << 4 | fp4_low_first(odd) << 8 |
		 fp4_low_second(odd) << 12;
	ret[1] = fp4_high_first(even) | fp4_high_second(even) << 4 | fp4_high_first(odd) << 8 |
		 fp4_high_second(odd) << 12;
}

/* The e4m3 that pack_scale_code() made a code of.  Zero had none (its weights are zero): its code
 * says 2^-9. */
PACK_FN uint32_t fp4_scale(uint32_t code)
{
	return code >= 24 ? code - 16 : code >= 16 ? code / 2 - 4 : code >= 8 ? code / 4 : 1;
}

/* The scale register of a lane, of row g or (high) of row g + 8: `first` and `second` are word m
 * of the two 16-byte halves of the lane's g in a unit's scales (pack_nvfp4_unit_scale()). */
PACK_FN uint32_t fp4_scales(uint32_t first, uint32_t second, uint32_t high)
{
	const uint32_t a = first >> 16 * high, b = second >> 16 * high;

	return fp4_scale(a & 0xff) | fp4_scale(b & 0xff) << 8 | fp4_scale(a >> 8 & 0xff) << 16 |
	       fp4_scale(b >> 8 & 0xff) << 24;
}

/* ---- rows of x ------------------------------------------------------------------------- */

/* Quantised (kernels/fp4_row.h) and laid out for the product: codes in words of eight columns,
 * word c of columns 8c .. 8c+7 in the order of fp4_column(); scales in the order of K.  Columns up
 * to a multiple of MATMUL_SLICE are zeros. */
PACK_FN uint32_t fp4_padded(uint32_t k)
{
	return (k + MATMUL_SLICE - 1) / MATMUL_SLICE * MATMUL_SLICE;
}

#endif
