/* fp4_row.c - see fp4_row.h.  The slow and plain statement: what the device's kernel is tested
 * against. */
#include "kernels/fp4_row.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/e4m3.h"

#define INFINITE 0x7f800000u
#define LEAST_E	 (-110)

static uint32_t magnitude(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits & UINT32_MAX >> 1;
}

/* 2688 is 1.3125 x 2^11: what is below 1.3125 times a power of two fits with 2^11 less, the rest
 * with one more. */
float fp4_power(uint32_t most_bits)
{
	int e = (int)(most_bits >> 23) - 127 - 11 + ((most_bits & 0x7fffff) > 0x280000);
	uint32_t bits = (uint32_t)((e > LEAST_E ? e : LEAST_E) + 127) << 23;
	float power;

	if (most_bits >= INFINITE)
		bits = INFINITE | 1u << 22;
	memcpy(&power, &bits, sizeof(power));
	return power;
}

/* x: |number| / power. */
static uint8_t code_of(float x, float scale)
{
	/* Between code i and i + 1; a tie goes to the even one. */
	static const float between[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5 };
	uint8_t code = 0;

	for (int i = 0; i < 7; i++)
		if (i % 2 ? x >= between[i] * scale : x > between[i] * scale)
			code = (uint8_t)(i + 1);
	return code;
}

static void block(const float *x, float inverse, uint8_t *ret_codes, uint8_t *ret_scale)
{
	float most = 0, scale;

	for (int i = 0; i < FP4_BLOCK; i++)
		most = fmaxf(most, fabsf(x[i]) * inverse);
	*ret_scale = e4m3_from((double)(most / 6));
	scale = dequant_e4m3(*ret_scale);
	memset(ret_codes, 0, FP4_BLOCK / 2);
	for (int i = 0; i < FP4_BLOCK && scale > 0; i++) {
		uint8_t code = code_of(fabsf(x[i]) * inverse, scale);

		ret_codes[i / 2] |= (uint8_t)((code | (signbit(x[i]) ? 8 : 0)) << i % 2 * 4);
	}
}

void fp4_row(const float *x, size_t n, uint8_t *ret_codes, uint8_t *ret_scales, float *ret_power)
{
	uint32_t most = 0;

	for (size_t i = 0; i < n; i++)
		most = magnitude(x[i]) > most ? magnitude(x[i]) : most;
	*ret_power = fp4_power(most);
	memset(ret_codes, 0, n / 2);
	memset(ret_scales, 0, n / FP4_BLOCK);
	if (isnan(*ret_power))
		return;
	for (size_t i = 0; i < n; i += FP4_BLOCK)
		block(x + i, 1 / *ret_power, ret_codes + i / 2, ret_scales + i / FP4_BLOCK);
}
