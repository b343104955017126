/* decode_sum.cu - the last product of a layer of experts with the sum over its slots, for few rows.
 *
 * A block has a tile of 16 outputs of a row, and a warp for each slot: so what a row's slots give
 * meets in the block, and one sum goes to memory where decode_experts() leaves one of each slot.  A
 * warp multiplies its slices in order, two on their way at a time.  Who was chosen is read, not
 * chosen again: a block finds its place only when the product before makes room, and by then it is
 * written.
 */
#include "kernels/cuda/decode_narrow.cuh"

struct sum_params {
	struct matmul_params experts, last;	/* last.w NULL: the last slot's is one of the experts */
	const uint32_t *ids;
	const float *weights;
	uint32_t n_slots;
};

/* A slice's part of a row of x; the other columns of the tensor core's operand are zeros. */
static __device__ __forceinline__ void sum_x(const struct matmul_params &p, size_t row,
					     uint32_t slice, int lane, struct narrow_x<1> &x)
{
	const uint32_t k = slice * MATMUL_SLICE + lane % 4 * 8;
	const uint4 *from = (const uint4 *)(p.x + row * p.ldx + k);

#pragma unroll
	for (int j = 0; j < 8; j++) {
		x.b[0][j] = make_uint4(0, 0, 0, 0);
		if (lane < 4 && k + 32 * j < p.k)
			x.b[0][j] = from[4 * j];
	}
}

/* A slot's outputs, by a warp: rows lane / 4 and lane / 4 + 8 of the tile, in lanes 0, 4, 8... */
template <enum matmul_format F>
static __device__ __forceinline__ float2 sum_slot(const struct matmul_params &p, uint32_t expert,
						  uint32_t tile, size_t row, int lane)
{
	const char *from =
		p.w + ((size_t)expert * p.n_tiles + tile) * p.n_slices * unit<F>::bytes;
	const float *scales = tile_scales<F>(p, expert, tile);
	const float low = scale_of<F>(scales, lane / 4), high = scale_of<F>(scales, lane / 4 + 8);
	float2 v = make_float2(-0.0f, -0.0f);

#pragma unroll 1
	for (uint32_t slice = 0; slice < p.n_slices; slice += 2) {
		const bool both = slice + 1 < p.n_slices;
		struct unit<F> w[2];
		struct narrow_x<1> x[2];
		float sum[2][1][4];

		w[0].template load<true>((const uint4 *)(from + (size_t)slice * unit<F>::bytes), lane);
		w[1].template load<true>((const uint4 *)(from + (size_t)(slice + both) * unit<F>::bytes), lane);
#pragma unroll
		for (int i = 0; i < 2; i++)
			sum_x(p, row, slice + i, lane, x[i]);
#pragma unroll
		for (int i = 0; i < 2; i++)
			unit_product(w[i], x[i], sum[i], [](int) {});
		v.x = fold(v.x, sum[0][0][0]);
		v.y = fold(v.y, sum[0][0][2]);
		if (both) {
			v.x = fold(v.x, sum[1][0][0]);
			v.y = fold(v.y, sum[1][0][2]);
		}
	}
	return make_float2(__fmul_rn(v.x, low), __fmul_rn(v.y, high));
}

template <enum matmul_format F, enum matmul_format LAST>
__global__ void __launch_bounds__(EXPERTS_SUM_SLOTS *WARP, 1)
	sum_kernel(const __grid_constant__ struct sum_params a)
{
	__shared__ float outputs[EXPERTS_SUM_SLOTS][MATMUL_TILE];
	const uint32_t slot = threadIdx.x / WARP, tile = blockIdx.x, row = blockIdx.y;
	const int lane = threadIdx.x % WARP;
	const struct matmul_params &p = a.experts;
	const uint32_t pair = row * a.n_slots + slot, r = threadIdx.x;
	float weight[EXPERTS_SUM_SLOTS], sum;
	float2 v;

	chain_wait();
	chain_release();
	if (a.last.w && slot + 1 == a.n_slots)
		v = sum_slot<LAST>(a.last, 0, tile, row, lane);
	else
		v = sum_slot<F>(p, a.ids[pair], tile, pair, lane);
	if (slot == 0)
#pragma unroll
		for (uint32_t s = 0; s < EXPERTS_SUM_SLOTS; s++)
			weight[s] = s < a.n_slots ? a.weights[row * a.n_slots + s] : 0;
	if (lane % 4 == 0) {
		outputs[slot][lane / 4] = v.x;
		outputs[slot][lane / 4 + 8] = v.y;
	}
	__syncthreads();
	if (r >= MATMUL_TILE || !has_output(p, tile, r))
		return;
	sum = __fmul_rn(weight[0], outputs[0][r]);
#pragma unroll
	for (uint32_t s = 1; s < EXPERTS_SUM_SLOTS; s++)
		if (s < a.n_slots)
			sum = __fmaf_rn(weight[s], outputs[s][r], sum);
	((float *)p.y)[(size_t)row * p.ldy + tile * MATMUL_TILE + r] = sum;
}

template <enum matmul_format F>
static void (*kernel_of(enum matmul_format last))(struct sum_params)
{
	switch (last) {
	case MATMUL_BF16: return sum_kernel<F, MATMUL_BF16>;
	case MATMUL_FP8: return sum_kernel<F, MATMUL_FP8>;
	case MATMUL_NVFP4: return sum_kernel<F, MATMUL_NVFP4>;
	case MATMUL_N_FORMATS: break;
	}
	return NULL;
}

int decode_experts_sum(const struct experts_sum_args *a, void *stream)
{
	const struct decode_experts_args *e = &a->experts;
	const enum matmul_format last = a->last ? a->last->format : e->format;
	struct sum_params p = {};

	if (!matmul_experts_ok(e, MATMUL_MAX_ROWS) || e->out != MATMUL_OUT_F32 ||
	    e->n_slots > EXPERTS_SUM_SLOTS || !a->ids || !a->weights ||
	    (a->last && !matmul_last_ok(a->last, e)))
		return -EINVAL;
	p.experts = matmul_params_of_experts(e, NULL);
	if (a->last)
		p.last = matmul_params_of(a->last);
	p.ids = a->ids;
	p.weights = a->weights;
	p.n_slots = e->n_slots;
	return chain_launch(e->format == MATMUL_BF16 ? kernel_of<MATMUL_BF16>(last) :
			    e->format == MATMUL_FP8  ? kernel_of<MATMUL_FP8>(last) :
						       kernel_of<MATMUL_NVFP4>(last),
			    dim3(p.experts.n_tiles, e->n_rows), e->n_slots * WARP, 0, 1,
			    (cudaStream_t)stream, p);
}
