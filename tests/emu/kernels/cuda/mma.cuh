/* mma.cuh - of kernels/cuda, where warps are fibers: a fragment's sixteen products added up in double, then rounded.
 * Not the tensor core's bits. */
#ifndef HEARTH_KERNELS_CUDA_MMA_CUH
#define HEARTH_KERNELS_CUDA_MMA_CUH

#include "tests/emu/block.h"

static inline uint4 load_shared(uint32_t at)
{
	uint4 v;

	memcpy(&v, emu::shared_memory() + at, 16);
	return v;
}

struct frag {
	uint32_t r[4];
};

static inline float emu_half(uint32_t pair, unsigned high)
{
	return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

/* PTX's layout of m16n8k16: lane 4 g + q has rows g and g + 8 of a, column g of b, columns 2q and 2q + 1 of acc; of
 * sixteen k the pairs 2q and 2q + 8. */
static inline void mma(float acc[4], const struct frag *a, uint32_t b0, uint32_t b1)
{
	const uint32_t own[6] = { a->r[0], a->r[1], a->r[2], a->r[3], b0, b1 };
	const uint32_t *all = emu::gather(own, 6);
	const unsigned lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;

	for (unsigned i = 0; i < 4; i++) {
		const unsigned low_row = i / 2, col = 2 * q + i % 2;
		double sum = acc[i];

		for (unsigned k = 0; k < 16; k++) {
			const unsigned from = k % 8 / 2, far = k / 8;

			sum += (double)emu_half(all[(4 * g + from) * 6 + 2 * far + low_row], k % 2) *
			       (double)emu_half(all[(4 * col + from) * 6 + 4 + far], k % 2);
		}
		acc[i] = (float)sum;
	}
}

static inline uint32_t emu_bf16(float f)
{
	const uint32_t u = __float_as_uint(f);

	return f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* Two bfloat16 have sixteen bits together: one rounding. */
static inline uint32_t mul_bf16x2(uint32_t a, uint32_t b)
{
	return emu_bf16(emu_half(a, 0) * emu_half(b, 0)) | emu_bf16(emu_half(a, 1) * emu_half(b, 1)) << 16;
}

static inline uint32_t masked_xor(uint32_t a, uint32_t b, uint32_t mask) { return (a ^ b) & mask; }
static inline uint32_t low_twice(uint32_t pair) { return (pair & 0xffff) * 0x10001; }
static inline uint32_t high_twice(uint32_t pair) { return (pair >> 16) * 0x10001; }

#endif
