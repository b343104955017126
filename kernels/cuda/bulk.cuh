/* bulk.cuh - barriers and bulk copies of a block, by address in shared memory. */
#ifndef HEARTH_KERNELS_CUDA_BULK_CUH
#define HEARTH_KERNELS_CUDA_BULK_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/once.cuh"

/* The address in shared memory of what a pointer points to. */
static __device__ __forceinline__ uint32_t shared_at(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void ring_barrier(uint32_t at, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

/* After the last of a thread's ring_barrier(): bulk copies see them. */
static __device__ __forceinline__ void ring_barriers_made(void)
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void ring_arrive(uint32_t at)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

static __device__ __forceinline__ void ring_wait(uint32_t at, uint32_t parity)
{
	asm volatile("{ .reg .pred come;\n"
		     "again: mbarrier.try_wait.parity.shared::cta.b64 come, [%0], %1;\n"
		     "@!come bra again; }" ::"r"(at), "r"(parity) : "memory");
}

/* A barrier's only arrival, and how many bytes will come. */
static __device__ __forceinline__ void ring_expect(uint32_t barrier, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
		     "r"(bytes)
		     : "memory");
}

/* Bytes on their way, of those that are expected. */
static __device__ __forceinline__ void ring_fetch(uint32_t to, const void *from, uint32_t bytes,
						  uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1], %2, [%3];" ::"r"(to),
		     "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
		     : "memory");
}

/* The same of what is read once (once.cuh). */
static __device__ __forceinline__ void ring_fetch_once(uint32_t to, const void *from, uint32_t bytes,
						       uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
		     "[%0], [%1], %2, [%3], %4;" ::"r"(to),
		     "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier), "l"(once_policy())
		     : "memory");
}

/* Expected and on their way, where they are all; read once. */
static __device__ __forceinline__ void ring_copy_once(uint32_t to, const void *from, uint32_t bytes,
						      uint32_t barrier)
{
	ring_expect(barrier, bytes);
	ring_fetch_once(to, from, bytes, barrier);
}

static __device__ __forceinline__ void ring_put(uint32_t at, const float v[4])
{
	asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at), "f"(v[0]), "f"(v[1]),
		     "f"(v[2]), "f"(v[3])
		     : "memory");
}

static __device__ __forceinline__ float4 ring_get(uint32_t at)
{
	float4 v;

	asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
		     : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
		     : "r"(at));
	return v;
}

static __device__ __forceinline__ void ring_note(uint32_t at, uint32_t word)
{
	asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(word) : "memory");
}

static __device__ __forceinline__ uint32_t ring_noted(uint32_t at)
{
	uint32_t word;

	asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
	return word;
}

/* An address that the compiler keeps instead of making it again. */
static __device__ __forceinline__ uint32_t ring_kept(uint32_t at)
{
	asm volatile("" : "+r"(at));
	return at;
}

#endif
