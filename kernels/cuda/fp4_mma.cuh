/* fp4_mma.cuh - the block-scaled FP4 instruction (fp4_lane.h has its table), and a stand-in.
 *
 * On sm_120a and sm_121a fp4_mma() is the instruction.  On sm_90a, which has none, it is the table
 * written out with shuffles: slow, for tests only, so that everything around the instruction
 * (staging, gathering, unpacking, scales, storing) is run on a chip that people who test have.
 * Nothing serves with it: prefill_fp4_here() says no there.
 */
#ifndef HEARTH_KERNELS_CUDA_FP4_MMA_CUH
#define HEARTH_KERNELS_CUDA_FP4_MMA_CUH

#include <stdint.h>

#if defined(__CUDA_ARCH_FEAT_SM120_ALL) || defined(__CUDA_ARCH_FEAT_SM121_ALL)
#define FP4_NATIVE 1
#else
#define FP4_NATIVE 0
#endif

#if FP4_NATIVE
static __device__ __forceinline__ void fp4_mma(float acc[4], const uint32_t (&a)[4],
					       uint32_t scale_a, uint32_t b0, uint32_t b1,
					       uint32_t scale_b)
{
	asm volatile("mma.sync.aligned.kind::mxf4nvf4.block_scale.scale_vec::4X.m16n8k64.row.col"
		     ".f32.e2m1.e2m1.f32.ue4m3 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, "
		     "{%10}, {%12, %12}, {%11}, {%12, %12};"
		     : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(scale_a),
		       "r"(scale_b), "n"(0));
}
#else
/* Twice the value of an e2m1: 0 1 2 3 4 6 8 12, with its sign. */
static __device__ __forceinline__ int fp4_twice(uint32_t nibble)
{
	const int v = (int)(0xc8643210u >> (nibble & 7) * 4 & 15);

	return nibble & 8 ? -v : v;
}

static __device__ __forceinline__ float fp4_e4m3(uint32_t byte)
{
	const uint32_t e = byte >> 3 & 15, m = byte & 7;

	return e ? ldexpf((float)(8 + m), (int)e - 10) : ldexpf((float)m, -9);
}

/* Four times the products of eight of K. */
static __device__ __forceinline__ int fp4_eight(uint32_t a, uint32_t b)
{
	int sum = 0;

	for (int i = 0; i < 32; i += 4)
		sum += fp4_twice(a >> i) * fp4_twice(b >> i);
	return sum;
}

static __device__ __noinline__ void fp4_mma(float acc[4], const uint32_t (&a)[4], uint32_t scale_a,
					    uint32_t b0, uint32_t b1, uint32_t scale_b)
{
	const uint32_t all = 0xffffffff, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
	const uint32_t b[2] = { b0, b1 };
	int sum[4][4] = {}; /* [output][block of 16] */

	for (uint32_t from = 0; from < 4; from++) /* lane of a quad: its eights */
		for (uint32_t half = 0; half < 2; half++) {
			const uint32_t low = __shfl_sync(all, a[2 * half], (int)(4 * g + from)),
				       high = __shfl_sync(all, a[2 * half + 1],
							  (int)(4 * g + from));

			for (uint32_t odd = 0; odd < 2; odd++) {
				const uint32_t x =
					__shfl_sync(all, b[half], (int)(4 * (2 * q + odd) + from));

				sum[odd][2 * half + from / 2] += fp4_eight(low, x);
				sum[2 + odd][2 * half + from / 2] += fp4_eight(high, x);
			}
		}
	for (uint32_t i = 0; i < 4; i++) {
		const uint32_t w = __shfl_sync(all, scale_a, (int)(4 * g + i / 2)),
			       x = __shfl_sync(all, scale_b, (int)(4 * (2 * q + i % 2)));

		for (int block = 0; block < 4; block++)
			acc[i] += (float)sum[i][block] / 4 * fp4_e4m3(w >> 8 * block & 0xff) *
				  fp4_e4m3(x >> 8 * block & 0xff);
	}
}
#endif

#endif
