/* prefill_fp4_rows.cu - rows of x to NVFP4, by the rule of kernels/fp4_row.h, in the layout of
 * fp4_lane.h.
 *
 * A warp has a row: its largest magnitude first, then sixteen columns a lane.  Nothing here needs a
 * particular chip. */
#include <cuda_fp8.h>

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/fp4_lane.h"
#include "kernels/cuda/prefill_fp4.h"

namespace {

constexpr uint32_t ROW_WARPS = 8;

struct quantise_params {
	const uint16_t *x;
	uint32_t n_rows, k, ldx, padded;
	const uint32_t *pair, *n_active, *offset; /* pair NULL: all rows */
	struct fp4_rows out;
};

/* fp4_power(), the same bits. */
__device__ float power_of(uint32_t most)
{
	const int e = max((int)(most >> 23) - 138 + ((most & 0x7fffff) > 0x280000), -110);

	return __uint_as_float(most >= 0x7f800000 ? 0x7fc00000 : (uint32_t)(e + 127) << 23);
}

/* The bits of the row's largest magnitude, as float32. */
__device__ uint32_t most_of(const uint16_t *x, uint32_t k, uint32_t lane)
{
	uint32_t most = 0;

	for (uint32_t i = lane; i < k / 8; i += WARP) {
		const uint4 v = ((const uint4 *)x)[i];

		for (uint32_t w : { v.x, v.y, v.z, v.w })
			most = max(most, max(w & 0x7fff, w >> 16 & 0x7fff));
	}
	return __reduce_max_sync(0xffffffff, most) << 16;
}

/* A block of sixteen on its way: [eight of the two][pair][of the pair], scaled by the power. */
struct block16 {
	float v[2][4][2];
	uint32_t sign[2]; /* as a word of codes has them */
};

/* x: the 32 columns it lies in, in prefill order; half: which sixteen. */
__device__ void load_block(const uint16_t *x, uint32_t half, float inverse, struct block16 *ret)
{
	ret->sign[0] = ret->sign[1] = 0;
	for (uint32_t p = 0; p < 4; p++) {
		const uint2 four = *(const uint2 *)(x + 8 * p + 4 * half);

		for (uint32_t eight = 0; eight < 2; eight++)
			for (uint32_t e = 0; e < 2; e++) {
				const uint32_t bits = (eight ? four.y : four.x) >> 16 * e & 0xffff;

				ret->v[eight][p][e] =
					__fmul_rn(__uint_as_float((bits & 0x7fff) << 16), inverse);
				ret->sign[eight] |= (bits >> 15) << (p * 4 + e * 16 + 3);
			}
	}
}

/* Between code i and i + 1; a tie goes to the even one. */
__device__ uint32_t code_of(float x, float scale)
{
	const float between[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5 };
	uint32_t code = 0;

	for (int i = 0; i < 7; i++) {
		const float t = __fmul_rn(between[i], scale);

		code += i % 2 ? x >= t : x > t;
	}
	return code;
}

/* Words of codes of both eights; returns the scale's e4m3. */
__device__ uint32_t quantise(const struct block16 &b, uint32_t ret[2])
{
	float most = 0, scale;

	for (int i = 0; i < 16; i++)
		most = fmaxf(most, b.v[i / 8][i / 2 % 4][i % 2]);
	const __nv_fp8_storage_t byte =
		__nv_cvt_float_to_fp8(__fdiv_rn(most, 6), __NV_SATFINITE, __NV_E4M3);

	scale = __half2float(__half(__nv_cvt_fp8_to_halfraw(byte, __NV_E4M3)));
	for (int eight = 0; eight < 2; eight++) {
		ret[eight] = 0;
		for (int i = 0; i < 8 && byte; i++) /* nibble i: fp4_column() */
			ret[eight] |= code_of(b.v[eight][i % 4][i / 4], scale) << 4 * i;
		ret[eight] |= byte ? b.sign[eight] : 0;
	}
	return byte;
}

__global__ void __launch_bounds__(ROW_WARPS *WARP) fp4_rows_kernel(const quantise_params p)
{
	const uint32_t lane = threadIdx.x % WARP;
	uint32_t row = blockIdx.x * ROW_WARPS + threadIdx.x / WARP;

	chain_wait();
	chain_release();
	if (row >= (p.pair ? p.offset[*p.n_active] : p.n_rows))
		return;
	row = p.pair ? p.pair[row] : row;
	const uint16_t *x = p.x + (size_t)row * p.ldx;
	const float power = power_of(most_of(x, p.k, lane));
	const bool broken = power != power;
	uint8_t *scales = (uint8_t *)p.out.scales + (size_t)row * (p.padded / 16);
	uint2 *codes = (uint2 *)p.out.codes + (size_t)row * (p.padded / 16);

	for (uint32_t i = lane; i < p.padded / 16; i += WARP) {
		uint32_t word[2] = { 0, 0 }, scale = 0;
		struct block16 b;

		if (i < p.k / 16 && !broken) {
			load_block(x + i / 2 * 32, i % 2, __frcp_rn(power), &b);
			scale = quantise(b, word);
		}
		scales[i] = (uint8_t)scale;
		codes[i] = make_uint2(word[0], word[1]);
	}
	if (lane == 0)
		p.out.power[row] = power;
}

size_t padded16(size_t bytes)
{
	return (bytes + 15) / 16 * 16;
}

} /* namespace */

size_t fp4_rows_bytes(uint32_t n_rows, uint32_t k)
{
	const size_t padded = fp4_padded(k);

	return n_rows * (padded / 2 + padded / 16) + padded16((size_t)n_rows * 4);
}

struct fp4_rows fp4_rows_at(void *mem, uint32_t n_rows, uint32_t k)
{
	const size_t padded = fp4_padded(k);
	char *at = (char *)mem;

	return { (uint32_t *)at, (uint32_t *)(at + n_rows * (padded / 2)),
		 (float *)(at + n_rows * (padded / 2 + padded / 16)) };
}

int prefill_fp4_quantise(const void *x, uint32_t n_rows, uint32_t k, uint32_t ldx,
			 const struct prefill_list *list, const struct fp4_rows *ret, void *stream)
{
	quantise_params p = {};

	if (!n_rows || !k || k % 32 || k > MATMUL_MAX_K || ldx % 32 || ldx < k || (uintptr_t)x % 16)
		return -EINVAL;
	p.x = (const uint16_t *)x;
	p.n_rows = n_rows;
	p.k = k;
	p.ldx = ldx;
	p.padded = fp4_padded(k);
	p.out = *ret;
	if (list) {
		p.pair = list->list.pair;
		p.n_active = list->list.n_active;
		p.offset = list->list.offset;
	}
	return chain_launch(fp4_rows_kernel, dim3((n_rows + ROW_WARPS - 1) / ROW_WARPS),
			    ROW_WARPS * WARP, 0, 1, (cudaStream_t)stream, p);
}
