/* decode_square_x.cuh - the square form's blocks: what a layout is, and the order of x in shared memory
 * (decode_square.cuh says what for).
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_SQUARE_X_CUH
#define HEARTH_KERNELS_CUDA_DECODE_SQUARE_X_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/decode_matmul_int.cuh"

#define SQUARE_WARPS 8		/* that multiply */
#define SQUARE_BRINGERS 4
#define SQUARE_THREADS ((SQUARE_WARPS + SQUARE_BRINGERS) * WARP)

/* A piece of a ring: half a unit of BF16, or a unit with its scales; then its barrier. */
template <enum matmul_format F>
constexpr uint32_t piece_bytes = F == MATMUL_BF16 ? MATMUL_BF16_UNIT / 2 : unit<F>::bytes;
template <enum matmul_format F> constexpr uint32_t piece_room = piece_bytes<F> + 16;
template <enum matmul_format F> constexpr int unit_pieces = F == MATMUL_BF16 ? 2 : 1;
/* A stage of x: [64 of K][row], 128 bytes each, swizzled. */
template <int N> constexpr uint32_t x_stage = N * MATMUL_SLICE * 2;

/* A layout as the kernel needs it. */
struct square_params {
	uint32_t tiles;		/* row tiles of a block; split: of a cluster */
	uint32_t cluster;
	uint32_t stages, ring;	/* tall: of x; pieces of each warp's ring */
	bool ordered;		/* x comes in the order of steps */
	bool apart;		/* split: sums have room of their own */
};

/* The same address in another block of the cluster. */
static __device__ __forceinline__ uint32_t in_block(uint32_t at, uint32_t rank)
{
	uint32_t there;

	asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
	return there;
}

/* ---- x ---------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint4 load_shared_now(uint32_t at)
{
	uint4 v;

	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "r"(at)
		     : "memory");
	return v;
}

static __device__ __forceinline__ void put_words(uint32_t at, uint32_t a, uint32_t b, uint32_t c,
						 uint32_t d)
{
	asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(a), "r"(b), "r"(c),
		     "r"(d)
		     : "memory");
}

/* The first 16 bytes of a lane's i-th 32 columns, as a row of 128 bytes has them. */
template <int N> static __device__ __forceinline__ uint32_t square_order_unit(uint32_t part, int i)
{
	const uint32_t unit = i * WARP + threadIdx.x % WARP, row = unit % N;

	return part + row * 128 + (unit / N * 4 ^ row % 8) * 16;
}

/* 64 columns of N rows into the order of steps: a lane has 32 columns of a row, four pieces of 16
 * bytes of which the first gets the first word of each, and so on. */
template <int N> static __device__ __forceinline__ void square_order(uint32_t part)
{
	constexpr int UNITS = 2 * N / WARP, AT_ONCE = N > 16 ? 1 : UNITS;

#pragma unroll
	for (int first = 0; first < UNITS; first += AT_ONCE) {
		uint4 v[AT_ONCE][4];

#pragma unroll
		for (int i = 0; i < AT_ONCE; i++)
#pragma unroll
			for (uint32_t c = 0; c < 4; c++)
				v[i][c] = load_shared_now(square_order_unit<N>(part, first + i) ^ c * 16);
#pragma unroll
		for (int i = 0; i < AT_ONCE; i++) {
			const uint32_t at = square_order_unit<N>(part, first + i);

			put_words(at, v[i][0].x, v[i][1].x, v[i][2].x, v[i][3].x);
			put_words(at ^ 16, v[i][0].y, v[i][1].y, v[i][2].y, v[i][3].y);
			put_words(at ^ 32, v[i][0].z, v[i][1].z, v[i][2].z, v[i][3].z);
			put_words(at ^ 48, v[i][0].w, v[i][1].w, v[i][2].w, v[i][3].w);
		}
	}
}

#endif
