/* pack.h - weights in the order in which the decode kernels read them.
 *
 * A checkpoint's matrix is row-major [n, k].  The decode kernels feed weights to
 * the tensor core as the 16-row operand of mma.m16n8k16, and want each lane's
 * 16-byte load to be exactly the fragments that lane multiplies: no shuffle, no
 * shared memory, a warp's load is 512 consecutive bytes.  So a matrix is repacked
 * once, at load (plain C, no CUDA: quantize/ and tests use it as well).
 *
 * The unit is 16 rows x 256 columns (a row tile x a slice of K), units in the order
 * [row tile][slice].  Rows are padded to 16 and columns to 256 with zero weights.
 * Inside a unit, lane = 4 g + q (g 0..7, q 0..3) holds the rows g and g + 8, and of
 * each 32 columns the eight columns 8q .. 8q+7, which make two mma steps:
 *
 *	step 2j:   columns 32j + 8q + {0,1} and {2,3}
 *	step 2j+1: columns 32j + 8q + {4,5} and {6,7}
 *
 * and a step's fragment is four pairs: (row g, first), (row g+8, first),
 * (row g, second), (row g+8, second).  The mma's own idea of "column" is permuted by
 * this in weights and activations alike, which changes no product; and it lets
 * a lane's activations of two steps be one 16-byte load from a row-major x.
 *
 *	MATMUL_BF16   16 steps x 32 lanes x 16 bytes		 8,192 bytes a unit
 *	MATMUL_FP8     8 x 32 x 16 bytes, two steps a load; then	 4,112 bytes
 *		      four float32 scales: rows 0-7 with columns 0-127 and
 *		      128-255, rows 8-15 with the same.  Finite; where one is 0
 *		      it is +0 and the weights that it scales are +0
 *	MATMUL_NVFP4   4 x 32 x 16 bytes, four steps a load; then	 2,304 bytes
 *		      16 x 16 bytes of block scales
 *
 * The bits of 4- and 8-bit codes are scattered over their 32-bit word so that one masking (of the
 * word, a shift of it, or two shifts xored) gives two bfloat16 at once: pack_lane.h scatters,
 * fragment.cuh takes them up.
 */
#ifndef HEARTH_KERNELS_CUDA_PACK_H
#define HEARTH_KERNELS_CUDA_PACK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum matmul_format { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4, MATMUL_N_FORMATS };

#define MATMUL_TILE 16		/* rows of a unit */
#define MATMUL_SLICE 256	/* columns of a unit; the slices of docs/numerics.md */

#define MATMUL_BF16_UNIT 8192
#define MATMUL_FP8_UNIT 4112
#define MATMUL_NVFP4_UNIT 2304

const char *matmul_format_name(enum matmul_format f);
size_t matmul_unit_bytes(enum matmul_format f);
size_t matmul_packed_bytes(enum matmul_format f, uint32_t n, uint32_t k);

/* All answer 0, or -EINVAL when a size is 0 or k is not a multiple of what is said, or
 * when a scale or weight is NaN.  `ret_packed` has matmul_packed_bytes(), 16-byte
 * aligned, and is undefined after a failure. */

/* w: [n, k] bfloat16; k a multiple of 8. */
int matmul_pack_bf16(const uint16_t *w, uint32_t n, uint32_t k, void *ret_packed);

/* w: [n, k] e4m3; scale: [ceil(n/128), ceil(k/128)] finite float32 multipliers
 * ("weight_scale_inv"; 0 and -0 become +0, with zero weights); k a multiple of 16.  -EINVAL, too,
 * when a scale is infinite. */
int matmul_pack_fp8(const uint8_t *w, const float *scale, uint32_t n, uint32_t k,
		    void *ret_packed);

/* codes: [n, k/2], low nibble is the even column; scale: [n, k/16] e4m3.  The global
 * float32 factor is not packed: it is a row_scale of the kernels.  k a multiple of 16. */
int matmul_pack_nvfp4(const uint8_t *codes, const uint8_t *scale, uint32_t n, uint32_t k,
		      void *ret_packed);

#ifdef __cplusplus
}
#endif
#endif
