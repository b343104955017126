/* decode_unit.cuh - a warp's unit of weights times few columns of x, both in registers: what the narrow form
 * (decode_narrow.cuh), the ring and one row's experts do. */
#ifndef HEARTH_KERNELS_CUDA_DECODE_UNIT_CUH
#define HEARTH_KERNELS_CUDA_DECODE_UNIT_CUH

#include "kernels/cuda/decode_matmul_int.cuh"

/* The columns one tile is multiplied with. */
struct columns {
	const uint32_t *pair;	/* NULL: column c is row c of x and y */
	uint32_t n;
};

/* A warp's slice of up to 8 NT columns, as the tensor core takes them. */
template <int NT> struct narrow_x {
	uint4 b[NT][8];		/* two steps each */

	__device__ __forceinline__ void load(const struct matmul_params &p, const struct columns &c,
					     uint32_t first, uint32_t slice, int lane)
	{
		const uint32_t k = slice * MATMUL_SLICE + lane % 4 * 8;
		const uint4 *from[NT];

#pragma unroll
		for (int t = 0; t < NT; t++) {
			uint32_t col = first + 8 * t + lane / 4;
			size_t row = col;

			if (c.pair && col < c.n)
				row = p.x_per_slot ? c.pair[col] : c.pair[col] / p.n_slots;
			from[t] = col < c.n ? (const uint4 *)(p.x + row * p.ldx + k) : NULL;
		}
		/* Steps outermost: the first product starts when its own columns are there, and
		 * from then on weights and the rest of x come in side by side. */
#pragma unroll
		for (int j = 0; j < 8; j++)
#pragma unroll
			for (int t = 0; t < NT; t++) {
				b[t][j] = make_uint4(0, 0, 0, 0);
				/* Not the read-only path: x may have been written after this kernel
				 * began. */
				if (from[t] && k + 32 * j < p.k)
					b[t][j] = from[t][4 * j];
			}
	}
};

/* One unit times NT column tiles; after(step) when a step's weights have been taken. */
template <enum matmul_format F, int NT, typename After>
static __device__ __forceinline__ void unit_product(const struct unit<F> &w,
						    const struct narrow_x<NT> &x, float sum[NT][4],
						    const After &after)
{
	float part[NT][4];	/* formats with scaled halves only */

#pragma unroll
	for (int t = 0; t < NT; t++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum[t][i] = 0;
#pragma unroll
	for (int step = 0; step < 16; step++) {
		struct frag f = w.frag_of(step);

#pragma unroll
		for (int t = 0; t < NT; t++) {
			const uint4 b = x.b[t][step / 2];

			mma(sum[t], &f, step % 2 ? b.z : b.x, step % 2 ? b.w : b.y);
		}
		after(step);
		if constexpr (unit<F>::scaled_halves)
			if (step % 8 == 7)
				join_halves<4 * NT>(step / 8, w, &sum[0][0], &part[0][0]);
	}
}

#endif
