/* kv_reference.h - a KV cache in FP8, made on the host by kernels/e4m3.c, and what it means: heads
 * of a block as attn_head_bytes() has them. */
#ifndef HEARTH_TESTS_KV_REFERENCE_H
#define HEARTH_TESTS_KV_REFERENCE_H

#include "kernels/cuda/attn_decode.h"
#include "kernels/e4m3.h"
#include "tests/gpu/gpu_test.h"

static const size_t KV_CODES = (size_t)ATTN_PAGE * ATTN_DIM, KV_HEAD = KV_CODES + ATTN_PAGE;

/* 256 numbers to the place `offset` of the head at `head`. */
static inline void kv_put(uint8_t *head, uint32_t offset, const __nv_bfloat16 *x)
{
	float wide[ATTN_DIM];

	for (int d = 0; d < ATTN_DIM; d++)
		wide[d] = __bfloat162float(x[d]);
	head[KV_CODES + offset] = e4m3_head(wide, ATTN_DIM, head + (size_t)offset * ATTN_DIM);
}

static inline double kv_code_now(uint8_t code)
{
	const int e = code >> 3 & 15, m = code & 7;
	const double x = e ? std::ldexp(8 + m, e - 10) : std::ldexp(m, -9);

	return (code & 127) == 127 ? NAN : code & 128 ? -x : x;
}

/* What a code is. */
static inline double kv_code(uint8_t code)
{
	static double known[256];

	if (known[0x38] == 0)	/* one */
		for (int i = 0; i < 256; i++)
			known[i] = kv_code_now((uint8_t)i);
	return known[code];
}

static inline void kv_get(const uint8_t *head, uint32_t offset, __nv_bfloat16 *ret)
{
	const double power = (double)e4m3_power(head[KV_CODES + offset]);

	for (int d = 0; d < ATTN_DIM; d++)
		ret[d] = __float2bfloat16_rn((float)(kv_code(head[(size_t)offset * ATTN_DIM + (size_t)d]) * power));
}

/* A whole cache [heads][64][256]: its codes into `ret`, and the cache becomes what they mean. */
static inline void kv_narrow(std::vector<__nv_bfloat16> &cache, std::vector<uint8_t> &ret)
{
	const size_t heads = cache.size() / KV_CODES;

	ret.resize(heads * KV_HEAD);
	for (size_t h = 0; h < heads; h++)
		for (uint32_t i = 0; i < ATTN_PAGE; i++) {
			kv_put(&ret[h * KV_HEAD], i, &cache[h * KV_CODES + (size_t)i * ATTN_DIM]);
			kv_get(&ret[h * KV_HEAD], i, &cache[h * KV_CODES + (size_t)i * ATTN_DIM]);
		}
}

/* Numbers of heads that take all kinds of powers: most near one; some tiny or far above what one
 * product with a power of two can reach (kv.cuh); zeros; both signs. */
static inline void kv_spread(std::vector<__nv_bfloat16> &cache, int most)
{
	for (size_t row = 0; row < cache.size() / ATTN_DIM; row++) {
		const uint32_t kind = rng() % 8;
		const int e = kind == 0 ? -(int)(rng() % 120) : kind == 1 ? (int)(rng() % (uint32_t)most) : 0;

		for (size_t i = row * ATTN_DIM; i < (row + 1) * ATTN_DIM; i++)
			cache[i] = __float2bfloat16_rn(kind == 2 && rng() % 2 ?
							       0.0f :
							       std::ldexp(__bfloat162float(cache[i]), e));
	}
}

#endif
