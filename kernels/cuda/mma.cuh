/* mma.cuh - the tensor core's product of a fragment, and what makes fragments of packed bits, in PTX.
 *
 * tests/emu has the same for warps that are fibers on the CPU.
 */
#ifndef HEARTH_KERNELS_CUDA_MMA_CUH
#define HEARTH_KERNELS_CUDA_MMA_CUH

#include <cuda_runtime.h>
#include <stdint.h>

/* Sixteen bytes at an address of shared memory. */
static __device__ __forceinline__ uint4 load_shared(uint32_t at)
{
	uint4 v;

	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at));
	return v;
}

struct frag {
	uint32_t r[4];		/* pairs: (g, 1st) (g+8, 1st) (g, 2nd) (g+8, 2nd) */
};

/* acc (16 x 8, f32) += weights (16 x 16) * activations (16 x 8).  acc: columns 2q and 2q+1 of
 * row g, then of row g + 8. */
static __device__ __forceinline__ void mma(float acc[4], const struct frag *a, uint32_t b0,
					   uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
		     : "r"(a->r[0]), "r"(a->r[1]), "r"(a->r[2]), "r"(a->r[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b)
{
	uint32_t v;

	asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
	return v;
}

/* (a ^ b) & mask in one instruction; the compiler by itself masks first, twice. */
static __device__ __forceinline__ uint32_t masked_xor(uint32_t a, uint32_t b, uint32_t mask)
{
	uint32_t v;

	asm("lop3.b32 %0, %1, %2, %3, 0x28;" : "=r"(v) : "r"(a), "r"(b), "r"(mask));
	return v;
}

/* One half of a pair in both: a modifier of the multiplication's operand, not an instruction. */
static __device__ __forceinline__ uint32_t low_twice(uint32_t pair)
{
	uint32_t v;

	asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l}; }" : "=r"(v) : "r"(pair));
	return v;
}

static __device__ __forceinline__ uint32_t high_twice(uint32_t pair)
{
	uint32_t v;

	asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h}; }" : "=r"(v) : "r"(pair));
	return v;
}

#endif
