/* noise.h - the random number that belongs to (seed, choice, position, token id).
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011) as a pure function: no state, so a sample can be taken again on
 * another worker, in another batch, or twice.  The key is the seed; the counter is
 * (id / 4, position, choice, 0), and the word id % 4 of the result is used.
 *
 * Header only, plain C that nvcc takes too.  Thread-safe.
 */
#ifndef HEARTH_KERNELS_NOISE_H
#define HEARTH_KERNELS_NOISE_H

#include <stdint.h>

#ifdef __CUDACC__
#define NOISE_FN static __host__ __device__ inline
#else
#define NOISE_FN static inline
#endif

struct noise_words {
	uint32_t w[4];
};

NOISE_FN struct noise_words noise_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2,
					 uint32_t c3)
{
	uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
	struct noise_words out;

	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * c0;
		uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;

		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out.w[0] = c0;
	out.w[1] = c1;
	out.w[2] = c2;
	out.w[3] = c3;
	return out;
}

/* Uniform in (0, 1): never 0 and never 1, so both logarithms of a Gumbel variate
 * -log(-log(u)) are finite.  23 bits, exact in float32. */
NOISE_FN float noise_uniform(uint64_t seed, uint32_t choice, uint32_t position, uint32_t id)
{
	struct noise_words r = noise_philox(seed, id / 4, position, choice, 0);

	return ((float)(r.w[id % 4] >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

#endif
