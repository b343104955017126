/* e4m3.c - see e4m3.h.
 *
 * A code without its sign is 8 (e + 6) + r, where 2^e is the power of two below |x| (-6 at least:
 * below it numbers are subnormal) and r counts steps of 2^(e - 3): 8..16, or 0..8 at the bottom.  r
 * of 16 is the next power of two, and the sum says so by itself.  Adding 2^(52 + e - 3) to a double
 * rounds it to such steps, to nearest and even, and leaves r in the last bits: no branch and no
 * table.
 */
#include "kernels/e4m3.h"

#include <string.h>

#define LOWEST	UINT64_C(1017)			/* the exponent of 2^-6, as a double has it */
#define TOO_BIG	(UINT64_C(1032) << 52)		/* 512 */
#define MOST	0x7eu				/* 448 */

#define LEAST_SCALE 0x1p-126f
#define LEAST_POWER 10u				/* 2^-117: times the least code, 2^-126 */
#define INFINITE 0x7f800000u

static inline double from_bits(uint64_t bits)
{
	double x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

uint8_t e4m3_from(double x)
{
	uint64_t bits, e, sum_bits, code;
	double sum;

	memcpy(&bits, &x, sizeof(bits));
	const uint64_t sign = bits >> 63 << 7;
	bits &= UINT64_MAX >> 1;
	bits = bits < TOO_BIG ? bits : TOO_BIG;
	e = bits >> 52;
	e = e > LOWEST ? e : LOWEST;
	sum = from_bits(bits) + from_bits((e + 49) << 52);
	memcpy(&sum_bits, &sum, sizeof(sum_bits));
	code = (e - LOWEST) * 8 + (sum_bits & 31);
	return (uint8_t)(sign | (code < MOST ? code : MOST));
}

/* The bits of the largest |x|; INFINITE or more: it is none that can be counted on. */
static uint32_t most_of(const float *x, size_t n)
{
	uint32_t most = 0, bits;

	for (size_t i = 0; i < n; i++) {
		memcpy(&bits, &x[i], sizeof(bits));
		bits &= UINT32_MAX >> 1;
		most = bits > most ? bits : most;
	}
	return most;
}

size_t e4m3_row(const float *x, size_t n, uint8_t *ret_codes, float *ret_scale)
{
	uint32_t most = most_of(x, n), bits;
	float max, scale;

	for (size_t i = 0; most >= INFINITE && i < n; i++) {
		memcpy(&bits, &x[i], sizeof(bits));
		if ((bits & INFINITE) == INFINITE)
			return i;
	}
	memcpy(&max, &most, sizeof(max));
	scale = max / E4M3_MAX;
	scale = scale > LEAST_SCALE ? scale : LEAST_SCALE;
	/* A quotient of two float32 that is not halfway between codes is further from there than
	 * a double's last bit: rounding it to a double first decides nothing. */
	for (size_t i = 0; i < n; i++)
		ret_codes[i] = e4m3_from((double)x[i] / (double)scale);
	*ret_scale = scale;
	return n;
}

float e4m3_power(uint8_t b)
{
	uint32_t bits = b ? (uint32_t)b << 23 : 1u << 22;
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* 448 is 1.75 x 2^8: a number of exponent e fits with 2^(e - 8), or, above 1.75, with the next
 * power. */
static uint32_t power_for(uint32_t most)
{
	uint32_t e = (most >> 23) + ((most & 0x7fffff) > 0x600000);

	return e > LEAST_POWER + 8 ? e - 8 : LEAST_POWER;
}

uint8_t e4m3_head(const float *x, size_t n, uint8_t *ret_codes)
{
	uint32_t most = most_of(x, n), b = power_for(most);
	double inverse = 1 / (double)e4m3_power((uint8_t)b);	/* exact, and so is what it gives */

	if (most >= INFINITE) {
		memset(ret_codes, 0x7f, n);
		return LEAST_POWER;
	}
	for (size_t i = 0; i < n; i++)
		ret_codes[i] = e4m3_from((double)x[i] * inverse);
	return (uint8_t)b;
}
