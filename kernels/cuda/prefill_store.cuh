/* prefill_store.cuh - a tile's sums (prefill_tile.cuh), scaled, to where they belong: bf16, float32
 * or SwiGLU of pairs.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_STORE_CUH
#define HEARTH_KERNELS_CUDA_PREFILL_STORE_CUH

#include "kernels/cuda/prefill_tile.cuh"

namespace {

/* Two columns of eight rows, a lane has (row g, columns 2q and 2q + 1): now (column g, rows 2q and
 * 2q + 1). */
__device__ uint32_t transpose(float a, float b)
{
	const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
	uint32_t r;

	asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(*(const uint32_t *)&v));
	return r;
}

/* Output rows of the columns that a lane stores, asked for before the first store: the compiler
 * must not move a load of the list over a store. */
template <int C, class X> struct out_rows {
	uint32_t row_[C / 8];

	__device__ out_rows(const X &x, uint32_t offset)
	{
#pragma unroll
		for (int j = 0; j < C / 8; j++)
			row_[j] = x.row(min(j * 8 + offset, x.n - 1));
	}
	__device__ uint32_t row(int j) const { return row_[j]; }
};

/* What the sums of rows g and g + 8 of a tile are multiplied with. */
struct row_scales {
	float low, high;
};

/* SwiGLU of a tile in turns: eight outputs a column. */
template <int C, class X>
__device__ void store_pairs(const matmul_params &p, const X &x, uint32_t tile,
			    const sums<C> &s, row_scales scale)
{
	const uint32_t lane = threadIdx.x % WARP, g = lane / 4, q = lane % 4;
	const out_rows<C, X> to(x, g);
	bf16 *y = (bf16 *)p.y_swiglu + prefill_column((tile - p.n_plain) * 8 + 2 * q);

#pragma unroll
	for (int j = 0; j < C / 8; j++) {
		const float *v = &s.h[j / (room<C>::HALF / 8)][j % (room<C>::HALF / 8) * 4];

		if (j * 8 >= (int)x.n)
			break;
		const uint32_t word =
			transpose(swiglu(__fmul_rn(v[0], scale.low), __fmul_rn(v[2], scale.high)),
				  swiglu(__fmul_rn(v[1], scale.low), __fmul_rn(v[3], scale.high)));
		if (j * 8 + g < x.n)
			*(uint32_t *)(y + (size_t)to.row(j) * p.ldy_swiglu) = word;
	}
}

/* Two neighbours of a row of y, as far as they are there. */
__device__ void store_word(const matmul_params &p, bf16 *to, uint32_t row, uint32_t word)
{
	if (row + 1 < p.n && !(p.ldy % 2)) {
		*(uint32_t *)to = word;
	} else {
		for (uint32_t i = 0; i < 2; i++)
			if (row + i < p.n)
				to[i] = __ushort_as_bfloat16((unsigned short)(word >> 16 * i));
	}
}

/* Four neighbours of a row of y a lane: lanes of even q have the upper eight rows of W, the others
 * the lower eight. */
__device__ __forceinline__ uint2 join(uint32_t upper, uint32_t lower)
{
	const bool odd = threadIdx.x & 1;
	const uint32_t got = __shfl_xor_sync(~0u, odd ? upper : lower, 1);

	return odd ? make_uint2(got, lower) : make_uint2(upper, got);
}

template <int C, class X>
__device__ void store_bf16(const matmul_params &p, const X &x, uint32_t tile,
			   const sums<C> &s, row_scales scale)
{
	const uint32_t lane = threadIdx.x % WARP, g = lane / 4, q = lane % 4,
		       row = tile * MATMUL_TILE + 2 * q;
	const out_rows<C, X> to(x, g);
	const bool wide = X::WIDE_STORES && !(p.ldy % 4) && !((uintptr_t)p.y % 8) &&
			  (tile + 1) * MATMUL_TILE <= p.n;

#pragma unroll
	for (int j = 0; j < C / 8; j++) {
		const float *v = &s.h[j / (room<C>::HALF / 8)][j % (room<C>::HALF / 8) * 4];

		if (j * 8 >= (int)x.n)
			break;
		const uint32_t upper =
			transpose(__fmul_rn(v[0], scale.low), __fmul_rn(v[1], scale.low));
		const uint32_t lower =
			transpose(__fmul_rn(v[2], scale.high), __fmul_rn(v[3], scale.high));
		bf16 *y = (bf16 *)p.y + (size_t)to.row(j) * p.ldy + row;

		if (wide) {
			const uint2 both = join(upper, lower);

			if (j * 8 + g < x.n)
				*(uint2 *)(y - 2 * q + (q & 1) * 8 + (q & 2) * 2) = both;
		} else if (j * 8 + g < x.n) {
			store_word(p, y, row, upper);
			store_word(p, y + 8, row + 8, lower);
		}
	}
}

template <int C, class X>
__device__ void store_f32(const matmul_params &p, const X &x, uint32_t tile,
			  const sums<C> &s, row_scales scale)
{
	const uint32_t lane = threadIdx.x % WARP, row = tile * MATMUL_TILE + lane / 4, q = lane % 4;

#pragma unroll
	for (int odd = 0; odd < 2; odd++) {
		const out_rows<C, X> to(x, 2 * q + odd);

#pragma unroll
		for (int j = 0; j < C / 8; j++) {
			const float *v =
				&s.h[j / (room<C>::HALF / 8)][j % (room<C>::HALF / 8) * 4 + odd];
			float *y = (float *)p.y + (size_t)to.row(j) * p.ldy + row;

			if (j * 8 + 2 * q + odd >= x.n)
				break;
			if (row < p.n)
				y[0] = __fmul_rn(v[0], scale.low);
			if (row + 8 < p.n)
				y[8] = __fmul_rn(v[2], scale.high);
		}
	}
}

/* scale: of this lane's rows of W, with all that the sums lack. */
template <int C, class X>
__device__ void store_scaled(const matmul_params &p, const X &x, uint32_t tile, const sums<C> &s,
			     row_scales scale)
{
	if (tile >= p.n_tiles)
		return;
	if (tile >= p.n_plain)
		store_pairs(p, x, tile, s, scale);
	else if (p.out == MATMUL_OUT_BF16)
		store_bf16(p, x, tile, s, scale);
	else
		store_f32(p, x, tile, s, scale);
}

/* unit: what the sums are in units of. */
template <enum matmul_format F, int C>
__device__ void store_tile(const matmul_params &p, const tile_of_x &x, uint32_t tile,
			   const sums<C> &s, row_scales unit)
{
	const uint32_t g = threadIdx.x % WARP / 4;

	if (tile >= p.n_tiles)
		return;
	const float *scales = tile_scales<F>(p, x.expert, tile);

	store_scaled(p, x, tile, s,
		     row_scales{ __fmul_rn(unit.low, scale_of<F>(scales, g)),
				 __fmul_rn(unit.high, scale_of<F>(scales, g + 8)) });
}

} /* namespace */

#endif
