/* wgmma.cuh - Hopper's warpgroup matrix instruction, its copy engine and their barriers, as inline
 * PTX (PTX ISA, "Asynchronous Warpgroup Level Matrix" and "Tensor copy").  sm_90a only. */
#ifndef HEARTH_KERNELS_CUDA_WGMMA_CUH
#define HEARTH_KERNELS_CUDA_WGMMA_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/bulk.cuh"

static __device__ __forceinline__ uint32_t smem_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- barriers and copies of bulk.cuh, by pointer ----------------------------------- */

static __device__ __forceinline__ void barrier_init(uint64_t *b, uint32_t count)
{
	ring_barrier(smem_address(b), count);
}

static __device__ __forceinline__ void barrier_arrive(uint64_t *b)
{
	ring_arrive(smem_address(b));
}

/* Arrives, and makes the phase wait for `bytes` of copies. */
static __device__ __forceinline__ void barrier_expect(uint64_t *b, uint32_t bytes)
{
	ring_expect(smem_address(b), bytes);
}

static __device__ __forceinline__ void barrier_wait(uint64_t *b, uint32_t parity)
{
	ring_wait(smem_address(b), parity);
}

/* A box at {0, row, 0} of a map of three dimensions. */
static __device__ __forceinline__ void tensor_copy(void *dst, const CUtensorMap *map, uint32_t row,
						   uint64_t *full)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(smem_address(dst)),
		     "l"(map), "r"(0), "r"(row), "r"(0), "r"(smem_address(full))
		     : "memory");
}

/* `bytes` as they lie; all of them and both addresses multiples of 16. */
static __device__ __forceinline__ void bulk_copy(void *dst, const void *src, uint32_t bytes,
						 uint64_t *full)
{
	ring_fetch(smem_address(dst), src, bytes, smem_address(full));
}

/* ---- products ---------------------------------------------------------------- */

/* A matrix in shared memory with the 128-byte swizzle.  Along the contiguous axis a column has 64
 * elements; `across`: bytes between columns (used where that axis is not the summed one), `down`:
 * between groups of 8 rows. */
static __device__ __forceinline__ uint64_t descriptor(uint32_t at, uint32_t across, uint32_t down)
{
	return (uint64_t)(at >> 4) | (uint64_t)(across >> 4) << 16 | (uint64_t)(down >> 4) << 32 |
	       (uint64_t)1 << 62;
}

static __device__ __forceinline__ void wgmma_fence(void)
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit(void)
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most PENDING groups are unfinished; `c` is what they wrote, so that no use of it moves
 * up. */
template <int PENDING, int N> static __device__ __forceinline__ void wgmma_wait(float (&c)[N])
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
#pragma unroll
	for (int i = 0; i < N; i++)
		asm volatile("" : "+f"(c[i])::"memory");
}

/* c [64][64] = (add ? c : 0) + a [64][16] b [64][16]^T, both with the summed axis contiguous. */
static __device__ __forceinline__ void wgmma_64x64x16(float (&c)[32], uint64_t a, uint64_t b,
						      int add)
{
	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "setp.ne.b32 p, %34, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
		     "%0, %1, %2, %3, %4, %5, %6, %7,"
		     "%8, %9, %10, %11, %12, %13, %14, %15,"
		     "%16, %17, %18, %19, %20, %21, %22, %23,"
		     "%24, %25, %26, %27, %28, %29, %30, %31"
		     "}, %32, %33, p, 1, 1, 0, 0;\n"
		     "}\n"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]),
		       "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]),
		       "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]),
		       "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]),
		       "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]),
		       "+f"(c[30]), "+f"(c[31])
		     : "l"(a), "l"(b), "r"(add));
}

/* c [64][256] += a [64][16] b [16][256]; a in registers, b with the axis of 256 contiguous. */
static __device__ __forceinline__ void wgmma_64x256x16(float (&c)[128], const uint32_t *a,
						       uint64_t b)
{
	asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
		     "%0, %1, %2, %3, %4, %5, %6, %7,"
		     "%8, %9, %10, %11, %12, %13, %14, %15,"
		     "%16, %17, %18, %19, %20, %21, %22, %23,"
		     "%24, %25, %26, %27, %28, %29, %30, %31,"
		     "%32, %33, %34, %35, %36, %37, %38, %39,"
		     "%40, %41, %42, %43, %44, %45, %46, %47,"
		     "%48, %49, %50, %51, %52, %53, %54, %55,"
		     "%56, %57, %58, %59, %60, %61, %62, %63,"
		     "%64, %65, %66, %67, %68, %69, %70, %71,"
		     "%72, %73, %74, %75, %76, %77, %78, %79,"
		     "%80, %81, %82, %83, %84, %85, %86, %87,"
		     "%88, %89, %90, %91, %92, %93, %94, %95,"
		     "%96, %97, %98, %99, %100, %101, %102, %103,"
		     "%104, %105, %106, %107, %108, %109, %110, %111,"
		     "%112, %113, %114, %115, %116, %117, %118, %119,"
		     "%120, %121, %122, %123, %124, %125, %126, %127"
		     "}, {%128, %129, %130, %131}, %132, 1, 1, 1, 1;\n"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]),
		       "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]),
		       "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]),
		       "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]),
		       "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]),
		       "+f"(c[30]), "+f"(c[31]), "+f"(c[32]), "+f"(c[33]), "+f"(c[34]), "+f"(c[35]),
		       "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]), "+f"(c[41]),
		       "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]),
		       "+f"(c[48]), "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]),
		       "+f"(c[54]), "+f"(c[55]), "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]),
		       "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63]), "+f"(c[64]), "+f"(c[65]),
		       "+f"(c[66]), "+f"(c[67]), "+f"(c[68]), "+f"(c[69]), "+f"(c[70]), "+f"(c[71]),
		       "+f"(c[72]), "+f"(c[73]), "+f"(c[74]), "+f"(c[75]), "+f"(c[76]), "+f"(c[77]),
		       "+f"(c[78]), "+f"(c[79]), "+f"(c[80]), "+f"(c[81]), "+f"(c[82]), "+f"(c[83]),
		       "+f"(c[84]), "+f"(c[85]), "+f"(c[86]), "+f"(c[87]), "+f"(c[88]), "+f"(c[89]),
		       "+f"(c[90]), "+f"(c[91]), "+f"(c[92]), "+f"(c[93]), "+f"(c[94]), "+f"(c[95]),
		       "+f"(c[96]), "+f"(c[97]), "+f"(c[98]), "+f"(c[99]), "+f"(c[100]),
		       "+f"(c[101]), "+f"(c[102]), "+f"(c[103]), "+f"(c[104]), "+f"(c[105]),
		       "+f"(c[106]), "+f"(c[107]), "+f"(c[108]), "+f"(c[109]), "+f"(c[110]),
		       "+f"(c[111]), "+f"(c[112]), "+f"(c[113]), "+f"(c[114]), "+f"(c[115]),
		       "+f"(c[116]), "+f"(c[117]), "+f"(c[118]), "+f"(c[119]), "+f"(c[120]),
		       "+f"(c[121]), "+f"(c[122]), "+f"(c[123]), "+f"(c[124]), "+f"(c[125]),
		       "+f"(c[126]), "+f"(c[127])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#endif
