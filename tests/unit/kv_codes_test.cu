/* kv_codes_test.cu - the arithmetic of kernels/cuda/kv.cuh that host and device share, against
 * kernels/e4m3.c, for every number there is.  Needs nvcc, and no GPU; what only a GPU does is in
 * tests/gpu/rows_test.cu. */
#include "kernels/cuda/kv.cuh"
#include "tests/gpu/kv_reference.h"

static float number(uint32_t bits)
{
	const uint32_t wide = bits << 16;
	float x;

	memcpy(&x, &wide, sizeof(x));
	return x;
}

/* A head's power decides from its largest number alone, and is that of the CPU; so is what every smaller number is
 * multiplied by to become a code. */
static void powers(void)
{
	bool power = true, code = true;

	for (uint32_t most = 0; most < 0x8000; most++) {
		float x[ATTN_DIM];
		uint8_t codes[ATTN_DIM];

		for (uint32_t i = 0; i < ATTN_DIM; i++)
			x[i] = number(i == most % ATTN_DIM ? most : (most - std::min(most, rng() % (i < 128 ? 2000 : 30))) | rng() % 2 << 15);
		const uint8_t want = e4m3_head(x, ATTN_DIM, codes);
		const uint32_t got = kv::power_for(most);

		power = power && got == want;
		for (uint32_t i = 0; most < kv::NO_NUMBER && i < ATTN_DIM; i++)
			code = code && e4m3_from((double)(x[i] * kv::inverse_of(got))) == codes[i];
	}
	claim("the_power_of_every_largest_number_is_that_of_e4m3_head", power);
	claim("numbers_times_its_inverse_have_the_same_codes", code);
}

/* The product of bfloat16 numbers, where it is one. */
static bool product(uint32_t a, uint32_t b, uint32_t *ret)
{
	const float x = number(a) * number(b);
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	*ret = bits >> 16;
	return std::isfinite(x) && !(bits & 0xffff) && (double)x == (double)number(a) * (double)number(b);
}

static void numbers(void)
{
	bool exact = true, right = true;
	uint32_t bits = 0;

	for (uint32_t power = kv::LEAST; power <= 247; power++)
		for (uint32_t code = 0; code < 256; code++) {
			const double want = kv_code((uint8_t)code) * (double)e4m3_power((uint8_t)power);

			if ((code & 127) == 127 || std::fabs(want) > 3.4e38)	/* 247: above 255.5 nothing is stored but 256 */
				continue;
			exact = exact && product(kv::placed(code), kv::factor_of(power) & 0xffff, &bits);
			if (!kv::is_plain(power))
				exact = exact && product(bits, kv::second_factor_of(power) & 0xffff, &bits);
			right = right && (double)number(bits) == want && kv::factor_of(power) >> 16 == (kv::factor_of(power) & 0xffff);
		}
	exact = exact && product(kv::placed(kv::NAN_CODE), kv::factor_of(kv::LEAST) & 0xffff, &bits) && bits == kv::NAN_LEAST;
	claim("every_code_with_every_power_becomes_a_bfloat16_exactly", exact);
	claim("it_is_the_code_times_the_power", right);
}

int main(void)
{
	powers();
	numbers();
	return n_failed ? 1 : 0;
}
