/* ref_matmul.c - dot products in double over every weight format. */
#include "kernels/cpu/ref_matmul.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

float ref_bf16(uint16_t bits)
{
	uint32_t u = (uint32_t)bits << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

float ref_e4m3(uint8_t bits)
{
	int exp = bits >> 3 & 15, man = bits & 7;
	float v;

	if ((bits & 0x7f) == 0x7f)
		return NAN;
	v = exp ? ldexpf(1 + (float)man / 8, exp - 7) : ldexpf((float)man, -9);
	return bits & 0x80 ? -v : v;
}

float ref_e2m1(uint8_t nibble)
{
	static const float value[8] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };

	return nibble & 8 ? -value[nibble & 7] : value[nibble & 7];
}

double ref_weight(const struct ref_weights *w, uint32_t row, uint32_t col)
{
	size_t at = (size_t)row * w->k + col;

	if (w->bf16)
		return (double)ref_bf16(w->bf16[at]) * w->global;
	if (w->fp8) {
		size_t block = (size_t)(row / 128) * ((w->k + 127) / 128) + col / 128;

		return (double)ref_e4m3(w->fp8[at]) * w->fp8_scale[block] * w->global;
	}
	uint8_t byte = w->fp4[at / 2];

	return (double)ref_e2m1(col % 2 ? byte >> 4 : byte & 15) *
	       ref_e4m3(w->fp4_scale[at / 16]) * w->global;
}

void ref_matmul_dot(const struct ref_weights *w, uint32_t row, const uint16_t *x,
		    double *ret_sum, double *ret_magnitude)
{
	double sum = 0, magnitude = 0;

	for (uint32_t i = 0; i < w->k; i++) {
		double p = ref_weight(w, row, i) * ref_bf16(x[i]);

		sum += p;
		magnitude += fabs(p);
	}
	*ret_sum = sum;
	*ret_magnitude = magnitude;
}
