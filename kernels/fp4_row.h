/* fp4_row.h - a row of activations to NVFP4: what prompts' native FP4 product multiplies.
 *
 * A row of n numbers becomes e2m1 codes, an e4m3 scale for each 16 of them, and a power of two:
 *
 *	x[i] ~ e2m1(code[i]) * e4m3(scale[i / 16]) * power
 *
 * The rule, every step of it exact or rounded once, so that a GPU gives the same bytes:
 *
 *	power	2^e, the least with max |x| <= 2688 * 2^e (2688 = 6 * 448), and e >= -110.  A power of two
 *		scales exactly, and e4m3 has an exponent of its own: another number would make no
 *		scale finer
 *	scale	e4m3 nearest to max |x of the 16| / 6 / 2^e, ties to even
 *	code	e2m1 nearest to x / (scale * 2^e), ties to the even code, 6 at most, with the sign of
 *		x; found by comparing |x| / 2^e with scale * {0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5},
 *		which are exact in float32: nothing is divided.  A scale that rounds to 0 has codes 0
 *
 * A row that has a NaN or an infinity gets codes and scales of 0 and a power of NaN, which makes
 * NaN of every sum: what is broken stays broken.  x are bfloat16 numbers (8 significant bits: a
 * quotient by 6 is then either halfway between two e4m3 or further from it than a float32's last
 * bit).
 *
 * Plain C, the same bits on every host.  kernels/cuda/prefill_fp4.cu does the same on the device.
 */
#ifndef HEARTH_KERNELS_FP4_ROW_H
#define HEARTH_KERNELS_FP4_ROW_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FP4_BLOCK 16

/* n is a multiple of FP4_BLOCK.  ret_codes: n / 2 bytes, the low nibble is the even column;
 * ret_scales: n / 16 e4m3. */
void fp4_row(const float *x, size_t n, uint8_t *ret_codes, uint8_t *ret_scales, float *ret_power);

/* 2^e of a row whose largest magnitude has these bits; NaN when it is none that can be counted
 * on. */
float fp4_power(uint32_t most_bits);

#ifdef __cplusplus
}
#endif
#endif
