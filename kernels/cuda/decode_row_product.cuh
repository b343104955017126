/* decode_row_product.cuh - products of one row, a unit in shared memory at a time, and their slices added up. */
#ifndef HEARTH_KERNELS_CUDA_DECODE_ROW_PRODUCT_CUH
#define HEARTH_KERNELS_CUDA_DECODE_ROW_PRODUCT_CUH

#include "kernels/cuda/decode_row_int.cuh"

/* A slice of a row of k columns; the other columns of the tensor core's operand are zeros. */
static __device__ __forceinline__ void row_x(const __nv_bfloat16 *x, uint32_t k, uint32_t slice, int lane,
					     struct narrow_x<1> &ret)
{
	const uint32_t at = slice * MATMUL_SLICE + lane % 4 * 8;

#pragma unroll
	for (int j = 0; j < 8; j++) {
		ret.b[0][j] = make_uint4(0, 0, 0, 0);
		if (lane < 4 && at + 32 * j < k)
			ret.b[0][j] = __ldcg((const uint4 *)(x + at) + 4 * j);
	}
}

/* The same of a slice that lies in shared memory, in order. */
static __device__ __forceinline__ void row_x(const uint4 *x, int lane, struct narrow_x<1> &ret)
{
#pragma unroll
	for (int j = 0; j < 8; j++) {
		ret.b[0][j] = make_uint4(0, 0, 0, 0);
		if (lane < 4)
			ret.b[0][j] = x[4 * j + lane];
	}
}

/* The only column of a slice's sum, to its place. */
static __device__ __forceinline__ void row_put(float *to, const float sum[4], int lane)
{
	if (lane % 4 == 0) {
		to[lane / 4] = sum[0];
		to[lane / 4 + 8] = sum[2];
	}
}

/* Of row r, all slices in order, STRIDE floats apart; those that there are not add -0, which changes nothing. */
template <int STRIDE = MATMUL_TILE>
static __device__ __forceinline__ float row_fold(const float *from, uint32_t slices, uint32_t r)
{
	float v = -0.0f;

#pragma unroll 1
	for (uint32_t i = 0; i < slices; i += ROW_SLICES) {
		float part[ROW_SLICES];

#pragma unroll
		for (uint32_t j = 0; j < ROW_SLICES; j++)
			part[j] = i + j < slices ? from[(i + j) * STRIDE + r] : -0.0f;
#pragma unroll
		for (uint32_t j = 0; j < ROW_SLICES; j++)
			v = fold(v, part[j]);
	}
	return v;
}

/* What row r of a tile is multiplied by. */
template <enum matmul_format F>
static __device__ __forceinline__ float row_scale(const struct row_matrix &m, uint32_t expert,
						  uint32_t tile, uint32_t r)
{
	return scale_of<F>(m.scale ? m.scale + ((size_t)expert * m.n_tiles + tile) * MATMUL_TILE : NULL,
			   r);
}

/* A unit in shared memory times x. */
template <enum matmul_format F>
static __device__ __forceinline__ void row_unit(uint32_t from, const struct narrow_x<1> &x, float *to,
						int lane)
{
	struct unit<F> w;
	float sum[1][4];

	w.take(from, lane);
	unit_product(w, x, sum, [](int) {});
	row_put(to, sum[0], lane);
}

/* A unit as the tensor core wants it, before there is anything to multiply it with. */
template <enum matmul_format F> struct row_ready {
	struct frag f[16];
	struct unit<F> w;

	__device__ __forceinline__ void take(uint32_t from, int lane)
	{
		w.take(from, lane);
#pragma unroll
		for (int i = 0; i < 16; i++) {
			f[i] = w.frag_of(i);
#pragma unroll
			for (int j = 0; j < 4; j++)	/* now, not where it is needed */
				asm volatile("" : "+r"(f[i].r[j]));
		}
	}
	/* Sums of eight columns. */
	__device__ __forceinline__ void multiply(const struct narrow_x<1> &x, float (&ret)[1][4]) const
	{
		constexpr int CHAINS = unit<F>::scaled_halves ? 2 : 1;
		float sum[CHAINS][4] = {}, part[4];

#pragma unroll
		for (int i = 0; i < 16; i++) {
			const int step = i / CHAINS + i % CHAINS * 8;
			const uint4 v = x.b[0][step / 2];

			mma(sum[i % CHAINS], &f[step], step % 2 ? v.z : v.x, step % 2 ? v.w : v.y);
		}
		if constexpr (CHAINS == 2) {
			join_halves<4>(0, w, sum[0], part);
			join_halves<4>(1, w, sum[1], part);
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			ret[0][i] = sum[CHAINS - 1][i];
	}
	/* Of one column; x: a slice of it, in order, in shared memory. */
	__device__ __forceinline__ void multiply(const uint4 *x, float *to, int lane) const
	{
		struct narrow_x<1> one;
		float sum[1][4];

		row_x(x, lane, one);
		multiply(one, sum);
		row_put(to, sum[0], lane);
	}
};

#endif
