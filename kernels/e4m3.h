/* e4m3.h - numbers to FP8 (e4m3fn: four bits of exponent, three of mantissa, no infinity).
 *
 * The way back is dequant_e4m3() in kernels/cpu/dequant.h.  Rounding is to nearest, ties to the
 * even code; what is larger than 448 becomes 448 (a cast of PyTorch's makes NaN of it); zeros keep
 * their sign.  Plain C, the same bits on every host.
 */
#ifndef HEARTH_KERNELS_E4M3_H
#define HEARTH_KERNELS_E4M3_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define E4M3_MAX 448.0f

/* x is a number (no NaN); infinities become 448. */
uint8_t e4m3_from(double x);

/* n weights with one scale: code = e4m3_from(x / scale) with the exact quotient rounded once,
 * scale = max |x| / 448 in float32, and never below 2^-126: a row of zeros, or of numbers so small
 * that nothing adds up to anything, keeps a scale that is a normal number.  Answers n; or less:
 * x[that many] is NaN or infinite, and what was written means nothing. */
size_t e4m3_row(const float *x, size_t n, uint8_t *ret_codes, float *ret_scale);

/* n numbers with one power of two, for keys and values: answers b, the scale is 2^(b - 127) as in
 * UE8M0 (e4m3_power()).  It is the least that keeps max |x| at 448 or below, and 2^-117 or more.
 * e4m3 has an exponent of its own: a scale that is no power of two would make the codes no finer,
 * and every number no longer exact in bfloat16.  If one is NaN or infinite, all codes are NaN. */
uint8_t e4m3_head(const float *x, size_t n, uint8_t *ret_codes);
float e4m3_power(uint8_t b);

#ifdef __cplusplus
}
#endif
#endif
