/* dequant.c - see dequant.h. */
#include "kernels/cpu/dequant.h"

#include <string.h>

static float from_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

float dequant_bf16(uint16_t bits)
{
	return from_bits((uint32_t)bits << 16);
}

/* A small float of sign, exponent and `man_bits` of mantissa, without its special values;
 * tiny is the value of the last place of a subnormal number. */
static float from_small(uint32_t sign, uint32_t exp, uint32_t man, uint32_t man_bits, uint32_t bias,
			float tiny)
{
	float f = exp ? from_bits((exp + 127 - bias) << 23 | man << (23 - man_bits)) :
			(float)man * tiny;

	return sign ? -f : f;
}

float dequant_f16(uint16_t bits)
{
	uint32_t sign = bits >> 15, exp = bits >> 10 & 31u, man = bits & 1023u;

	if (exp == 31)	/* infinity, NaN */
		return from_bits(sign << 31 | 255u << 23 | man << 13);
	return from_small(sign, exp, man, 10, 15, 1.0f / 16777216.0f);
}

float dequant_e4m3(uint8_t byte)
{
	uint32_t sign = byte >> 7, exp = byte >> 3 & 15u, man = byte & 7u;

	if ((byte & 0x7f) == 0x7f)	/* NaN; there is no infinity */
		return from_bits(sign << 31 | 0x7fc00000u);
	return from_small(sign, exp, man, 3, 7, 1.0f / 512.0f);
}

float dequant_e2m1(uint8_t nibble)
{
	return from_small(nibble >> 3 & 1u, nibble >> 1 & 3u, nibble & 1u, 1, 1, 0.5f);
}

float dequant_element(const void *data, enum weight_format f, size_t i)
{
	const char *p = data;
	uint32_t word;
	uint16_t half;

	switch (f) {
	case WF_F32:
		memcpy(&word, p + 4 * i, 4);
		return from_bits(word);
	case WF_F16:
		memcpy(&half, p + 2 * i, 2);
		return dequant_f16(half);
	case WF_BF16:
		memcpy(&half, p + 2 * i, 2);
		return dequant_bf16(half);
	case WF_FP8:
		return dequant_e4m3((uint8_t)p[i]);
	case WF_NVFP4:
	case WF_N:
		break;
	}
	return 0;
}

static float scale_at(const struct weight_ref *w, uint32_t row, uint32_t col)
{
	size_t at = (size_t)(row / w->span_rows) * weight_scale_cols(w) + col / w->span_cols;

	return dequant_element(w->scale, w->scale_format, at);
}

float dequant_operand(const struct weight_ref *w, uint32_t row, uint32_t col)
{
	const uint8_t *bytes = w->data;

	if (w->format != WF_NVFP4)
		return dequant_element(w->data, w->format, (size_t)row * w->cols + col);
	uint8_t two = bytes[weight_row_bytes(WF_NVFP4, w->cols) * row + col / 2];
	return dequant_e2m1(col % 2 ? two >> 4 : two & 15) * scale_at(w, row, col);
}

float dequant_factor(const struct weight_ref *w, uint32_t row, uint32_t col)
{
	if (w->format == WF_FP8)
		return scale_at(w, row, col);
	return w->format == WF_NVFP4 ? w->global : 1.0f;
}

void dequant_operands(const struct weight_ref *w, uint32_t row, float *ret)
{
	for (uint32_t c = 0; c < w->cols; c++)
		ret[c] = dequant_operand(w, row, c);
}

void dequant_row(const struct weight_ref *w, uint32_t row, float *ret)
{
	/* the product of the two fits a double, so this rounds once */
	for (uint32_t c = 0; c < w->cols; c++)
		ret[c] = (float)((double)dequant_operand(w, row, c) *
				 (double)dequant_factor(w, row, c));
}

bool dequant_factor_per_row(const struct weight_ref *w)
{
	return w->format != WF_FP8 || w->span_cols >= w->cols;
}
