/* gdn_prefill.cuh - what the three kernels of gdn_prefill.h share: the layout of the room between
 * them, and the few instructions that have no name in CUDA C++.
 *
 * Everything in the room is already in the order in which shared memory wants it, so a chunk comes
 * in by linear bulk copies.  Two kinds of tile:
 *  - wide, [64][128] of 2 bytes: the 16 byte piece p of row r lies at r 256 + (p ^ r % 8) 16;
 *  - narrow, [rows][16] of 2 bytes: the piece p of row r at r 32 + (p ^ r / 4 % 2) 16.
 * Either way the eight rows of an ldmatrix lie in different banks.  A lower triangle [64][64] is
 * ten narrow tiles of 16 rows, (i, j) at place i (i + 1) / 2 + j.
 */
#ifndef HEARTH_KERNELS_CUDA_GDN_PREFILL_CUH
#define HEARTH_KERNELS_CUDA_GDN_PREFILL_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/gdn_prefill.h"
#include "kernels/cuda/gdn_step.h"

namespace gdn {

constexpr int C = GDN_CHUNK, D = GDN_DIM;
constexpr int TILE = 16 * 16 * 2;		/* bytes of a narrow tile of 16 rows */
constexpr int TRIANGLE = 10 * TILE;
constexpr int WIDE = C * D * 2;
constexpr int V_TILE = C * 16 * 2;		/* 16 value dimensions of a chunk */

/* Per chunk and value head: T = (I + A)^-1 diag(beta), fp16, and the factors by row. */
struct solve_record {
	unsigned char T[TRIANGLE];
	float decay[C];			/* exp(G_r) */
	float rest[C];			/* exp(G_last - G_r) */
	float v_max[D];	/* largest |v| of each value dimension; from the convolution */
};
/* Per chunk and value head: P_rc = (q_r . k_c) exp(G_r - G_c), c <= r, fp16. */
struct score_record {
	unsigned char P[TRIANGLE];
	float decay[C];
};

struct room {
	unsigned char *base;
	size_t n_chunks, k_heads, v_heads;

	__host__ __device__ size_t qk_bytes() const { return n_chunks * k_heads * 2 * WIDE; }
	__host__ __device__ size_t v_bytes() const { return n_chunks * v_heads * WIDE; }
	__host__ __device__ size_t solve_bytes() const
	{
		return n_chunks * v_heads * sizeof(solve_record);
	}
	__host__ __device__ size_t bytes() const
	{
		return qk_bytes() + v_bytes() + solve_bytes() +
		       n_chunks * v_heads * sizeof(score_record);
	}
	/* which: 0 q, 1 k; fp16, normalised, q not scaled */
	__device__ unsigned char *qk(size_t chunk, size_t k_head, int which) const
	{
		return base + ((chunk * k_heads + k_head) * 2 + which) * WIDE;
	}
	/* bf16, eight narrow tiles [64][16] */
	__device__ unsigned char *v(size_t chunk, size_t head) const
	{
		return base + qk_bytes() + (chunk * v_heads + head) * WIDE;
	}
	__device__ solve_record *solve(size_t chunk, size_t head) const
	{
		return (solve_record *)(base + qk_bytes() + v_bytes()) + chunk * v_heads + head;
	}
	__device__ score_record *score(size_t chunk, size_t head) const
	{
		return (score_record *)(base + qk_bytes() + v_bytes() + solve_bytes()) +
		       chunk * v_heads + head;
	}
};

int convolve(const struct gdn_prefill_args *a, cudaStream_t stream);	/* gdn_convolve.cu */
/* A chunk's place in the call. */
struct place {
	uint32_t chunk, row, n;		/* of the whole list; first row; rows of this chunk */
	bool first, last;		/* of its run */
};

int prepare(const struct gdn_prefill_args *a, cudaStream_t stream);	/* gdn_prepare.cu */
int scan(const struct gdn_prefill_args *a, cudaStream_t stream);	/* gdn_scan.cu */

#ifdef __CUDACC__

static __device__ __forceinline__ place place_of(const gdn_prefill_args &a, const gdn_chunk &chunk,
						 const gdn_prefill_run &run, uint32_t at)
{
	const uint32_t done = chunk.index * C;

	return { at, run.row + done, run.n - done < C ? run.n - done : C, done == 0,
		 run.n - done <= C };
}

static __device__ __forceinline__ int wide_at(int row, int piece)
{
	return row * 256 + ((piece ^ (row & 7)) << 4);
}

static __device__ __forceinline__ int narrow_at(int row, int piece)
{
	return row * 32 + ((piece ^ (row >> 2 & 1)) << 4);
}

static __device__ __forceinline__ int triangle_at(int i, int j)
{
	return (i * (i + 1) / 2 + j) * TILE;
}

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void load4(uint32_t r[4], uint32_t at)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

static __device__ __forceinline__ void load4_trans(uint32_t r[4], uint32_t at)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

static __device__ __forceinline__ void store4_trans(uint32_t at, uint32_t r0, uint32_t r1,
						    uint32_t r2, uint32_t r3)
{
	asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
		     :: "r"(at), "r"(r0), "r"(r1), "r"(r2), "r"(r3) : "memory");
}

/* acc (16 x 8, f32) += a (16 x 16, fp16) b (16 x 8): lane (g, q) has columns 2q, 2q + 1 of the rows
 * g and g + 8. */
static __device__ __forceinline__ void mma_f16(float acc[4], const uint32_t a[4], uint32_t b0,
					       uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint32_t pack_f16(float x, float y)
{
	__half2 h = __floats2half2_rn(x, y);

	return *(uint32_t *)&h;
}

static __device__ __forceinline__ uint32_t pack_bf16(float x, float y)
{
	__nv_bfloat162 h = __floats2bfloat162_rn(x, y);

	return *(uint32_t *)&h;
}

static __device__ __forceinline__ float low_bf16(uint32_t x)
{
	return __uint_as_float(x << 16);
}

static __device__ __forceinline__ float high_bf16(uint32_t x)
{
	return __uint_as_float(x & 0xffff0000u);
}

/* Two accumulator tiles side by side are the A fragment of the next product. */
static __device__ __forceinline__ void operand(uint32_t a[4], const float x[4], const float y[4])
{
	a[0] = pack_f16(x[0], x[1]);
	a[1] = pack_f16(x[2], x[3]);
	a[2] = pack_f16(y[0], y[1]);
	a[3] = pack_f16(y[2], y[3]);
}

/* exp and the reciprocal as the hardware has them, each within 2^-22 of its value; denormals are
 * 0. */
static __device__ __forceinline__ float fast_exp(float x)
{
	float e;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(__fmul_rn(x, 1.4426950408889634f)));
	return e;
}

static __device__ __forceinline__ float fast_silu(float x)
{
	float r;

	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(__fadd_rn(1.0f, fast_exp(-x))));
	return __fmul_rn(x, r);
}

/* What ordinary stores wrote to shared memory, the copy engine may read: before the barrier. */
static __device__ __forceinline__ void copy_fence(void)
{
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ __forceinline__ void store_bulk(void *to, const void *from, uint32_t bytes)
{
	asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
			     __cvta_generic_to_global(to)),
		     "r"(shared_address(from)), "r"(bytes)
		     : "memory");
}

static __device__ __forceinline__ void store_bulk_commit(void)
{
	asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

static __device__ __forceinline__ void store_bulk_wait(void)
{
	asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

static __device__ __forceinline__ void barrier_init(uint64_t *b, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count)
		     : "memory");
}

static __device__ __forceinline__ void expect(uint64_t *b, uint32_t bytes)
{
	asm volatile(
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)),
		"r"(bytes)
		: "memory");
}

static __device__ __forceinline__ void wait(uint64_t *b, uint32_t parity)
{
	asm volatile("{ .reg .pred p;\n"
		     "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
		     "@p bra done;\n"
		     "bra again;\n"
		     "done: }" :: "r"(shared_address(b)), "r"(parity) : "memory");
}

/* Bytes on their way to shared memory, counted by a barrier of this block. */
static __device__ __forceinline__ void fetch_own(void *to, const void *from, uint32_t bytes,
						 uint64_t *b)
{
	asm volatile(
		"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
		"[%0], [%1], %2, [%3];" ::
			"r"(shared_address(to)),
		"l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(b))
		: "memory");
}

#endif

} /* namespace gdn */

#endif
