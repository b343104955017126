/* ref.h - each operation once more, as plainly as it can be said, summed in double.
 *
 * What every kernel, here and on a GPU, is tested against.  Shapes as in path.h; nothing is
 * rounded on the way, so a test allows for the rounding of what it tests.
 */
#ifndef HEARTH_KERNELS_CPU_REF_H
#define HEARTH_KERNELS_CPU_REF_H

#include <stddef.h>
#include <stdint.h>

/* y[r] = sum_c w[r][c] x[c] */
void ref_matvec(const float *w, uint32_t rows, uint32_t cols, const float *x, double *y);
/* x / sqrt(mean(x^2) + eps) * w */
void ref_norm(const float *x, const float *w, uint32_t n, double eps, double *y);
double ref_sigmoid(double x);
/* softmax(q . k / sqrt(dim)) v over n positions; k, v [n][dim] */
void ref_attention(const float *q, const float *k, const float *v, uint32_t n, uint32_t dim,
		   double *out);
/* One token of the gated delta rule.  s [dim][dim] (key, value), q and k normalised. */
void ref_delta_step(double *s, uint32_t dim, const float *q, const float *k, const float *v,
		    double g, double beta, double *out);
/* silu(sum_j w[j] u[j]) of one channel; the last tap is the current token. */
double ref_conv(const float *u, const float *w, uint32_t taps);

#endif
