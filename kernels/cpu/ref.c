/* ref.c - each operation as plainly as it can be said: see ref.h. */
#include "kernels/cpu/ref.h"

#include <math.h>

void ref_matvec(const float *w, uint32_t rows, uint32_t cols, const float *x, double *y)
{
	for (uint32_t r = 0; r < rows; r++) {
		y[r] = 0;
		for (uint32_t c = 0; c < cols; c++)
			y[r] += (double)w[(size_t)r * cols + c] * (double)x[c];
	}
}

void ref_norm(const float *x, const float *w, uint32_t n, double eps, double *y)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	for (uint32_t i = 0; i < n; i++)
		y[i] = (double)x[i] / sqrt(sum / n + eps) * (double)w[i];
}

double ref_sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

static double score(const float *q, const float *k, uint32_t dim)
{
	double s = 0;

	for (uint32_t i = 0; i < dim; i++)
		s += (double)q[i] * (double)k[i];
	return s / sqrt((double)dim);
}

void ref_attention(const float *q, const float *k, const float *v, uint32_t n, uint32_t dim,
		   double *out)
{
	double top = -INFINITY, sum = 0;

	for (uint32_t j = 0; j < n; j++)
		top = fmax(top, score(q, k + (size_t)j * dim, dim));
	for (uint32_t i = 0; i < dim; i++)
		out[i] = 0;
	for (uint32_t j = 0; j < n; j++) {
		double p = exp(score(q, k + (size_t)j * dim, dim) - top);

		sum += p;
		for (uint32_t i = 0; i < dim; i++)
			out[i] += p * (double)v[(size_t)j * dim + i];
	}
	for (uint32_t i = 0; i < dim; i++)
		out[i] /= sum;
}

void ref_delta_step(double *s, uint32_t dim, const float *q, const float *k, const float *v,
		    double g, double beta, double *out)
{
	for (uint32_t c = 0; c < dim; c++) {
		double m = 0;

		for (uint32_t i = 0; i < dim; i++) {
			s[(size_t)i * dim + c] *= exp(g);
			m += s[(size_t)i * dim + c] * (double)k[i];
		}
		double d = beta * ((double)v[c] - m);
		out[c] = 0;
		for (uint32_t i = 0; i < dim; i++) {
			s[(size_t)i * dim + c] += d * (double)k[i];
			out[c] += s[(size_t)i * dim + c] * (double)q[i];
		}
	}
}

double ref_conv(const float *u, const float *w, uint32_t taps)
{
	double c = 0;

	for (uint32_t j = 0; j < taps; j++)
		c += (double)u[j] * (double)w[j];
	return c * ref_sigmoid(c);
}
