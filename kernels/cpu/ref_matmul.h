/* ref_matmul.h - what the matrix kernels must compute, summed in double.
 *
 * Reads the checkpoint's own layouts, not the packed one, so that it checks the
 * packing too.  Not fast, and not bit-equal to any kernel: beside each sum it gives
 * the sum of magnitudes, and a kernel is right when it differs by less than a small
 * multiple of float32's epsilon times that.
 */
#ifndef HEARTH_KERNELS_CPU_REF_MATMUL_H
#define HEARTH_KERNELS_CPU_REF_MATMUL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

float ref_bf16(uint16_t bits);
float ref_e4m3(uint8_t bits);	/* NaN for 0x7f and 0xff */
float ref_e2m1(uint8_t nibble);

/* A row of weights in the layout of its checkpoint. */
struct ref_weights {
	const uint16_t *bf16;		/* [n, k], or NULL */
	const uint8_t *fp8;		/* [n, k] e4m3, or NULL */
	const float *fp8_scale;		/* [ceil(n/128), ceil(k/128)] */
	const uint8_t *fp4;		/* [n, k/2], low nibble first, or NULL */
	const uint8_t *fp4_scale;	/* [n, k/16] e4m3 */
	float global;			/* multiplies every weight */
	uint32_t n, k;
};
double ref_weight(const struct ref_weights *w, uint32_t row, uint32_t col);

/* sum over k of W[row][k] x[k]; x: [k] bfloat16. */
void ref_matmul_dot(const struct ref_weights *w, uint32_t row, const uint16_t *x,
		    double *ret_sum, double *ret_magnitude);

#ifdef __cplusplus
}
#endif
#endif
