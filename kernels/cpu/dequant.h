/* dequant.h - a quantised matrix as numbers, element by element.
 *
 * The plain statement of every format of kernels/model.h, read from the checkpoint's own bytes:
 * what the CPU back end loads with and what each kernel that knows a format is tested against.
 * A weight is
 *
 *	operand * factor
 *
 * The operand is what a matrix product multiplies: the weight itself when it is plain, e4m3(byte)
 * in FP8, e2m1(code) * block scale in NVFP4; exact in bfloat16 unless the weight is F32 or F16.
 * The factor is what may be applied to a float32 sum afterwards: 1, the FP8 scale, or NVFP4's
 * global.
 *
 * Works on any host, allocates nothing.  Not fast.
 */
#ifndef HEARTH_KERNELS_CPU_DEQUANT_H
#define HEARTH_KERNELS_CPU_DEQUANT_H

#include "kernels/model.h"

#ifdef __cplusplus
extern "C" {
#endif

float dequant_e4m3(uint8_t byte);	/* NaN for 0x7f and 0xff */
float dequant_e2m1(uint8_t nibble);	/* the low four bits count */
float dequant_bf16(uint16_t bits);
float dequant_f16(uint16_t bits);

/* Element i of an array in any format but NVFP4, without scales; `data` maybe unaligned. */
float dequant_element(const void *data, enum weight_format f, size_t i);

float dequant_operand(const struct weight_ref *w, uint32_t row, uint32_t col);
float dequant_factor(const struct weight_ref *w, uint32_t row, uint32_t col);

/* cols operands of a row. */
void dequant_operands(const struct weight_ref *w, uint32_t row, float *ret);
/* cols weights of a row, each operand * factor rounded once to float32. */
void dequant_row(const struct weight_ref *w, uint32_t row, float *ret);

/* True when the factor is the same along each row (all formats but FP8 in blocks). */
bool dequant_factor_per_row(const struct weight_ref *w);

#ifdef __cplusplus
}
#endif
#endif
