/* gdn_convolve.cu - convolution, SiLU and normalisation: a block per chunk and head (of q, k or v).
 *
 * A thread goes down eight rows of eight channels, all eleven inputs asked for at once, and a row's
 * 128 channels are with 16 lanes. q and k leave as fp16 of norm 1, v as bf16 with the largest of
 * each value dimension, all in the order of the room.
 */
#include "kernels/cuda/gdn_prefill.cuh"

#include <errno.h>

#include "kernels/cuda/launch.cuh"

namespace gdn {
namespace {

constexpr int PIECES = D / 8, GROUP = 8;	/* lanes of a row; rows of a thread */
constexpr int THREADS = PIECES * (C / GROUP);
constexpr int WINDOW = GDN_TAPS - 1;

/* Eight channels of one token before the convolution; t counts from the chunk's first row. */
struct column {
	/* the chunk's first row; the window if the chunk is its run's first, else NULL */
	const __nv_bfloat16 *u, *window;
	int ld, channels, n;

	__device__ uint4 at(int t) const
	{
		if (t >= n)
			return make_uint4(0, 0, 0, 0);
		if (t < 0 && window)
			return *(const uint4 *)(window + (t + WINDOW) * channels);
		return *(const uint4 *)(u + t * ld);
	}
};

__device__ void unpack(float f[8], uint4 x)
{
	f[0] = low_bf16(x.x);
	f[1] = high_bf16(x.x);
	f[2] = low_bf16(x.y);
	f[3] = high_bf16(x.y);
	f[4] = low_bf16(x.z);
	f[5] = high_bf16(x.z);
	f[6] = low_bf16(x.w);
	f[7] = high_bf16(x.w);
}

/* w[tap][channel] */
__device__ void load_taps(float w[GDN_TAPS][8], const __nv_bfloat16 *taps)
{
#pragma unroll
	for (int c = 0; c < 8; c += 2) {
		const uint4 x = *(const uint4 *)(taps + c * GDN_TAPS);

		w[0][c] = low_bf16(x.x);
		w[1][c] = high_bf16(x.x);
		w[2][c] = low_bf16(x.y);
		w[3][c] = high_bf16(x.y);
		w[0][c + 1] = low_bf16(x.z);
		w[1][c + 1] = high_bf16(x.z);
		w[2][c + 1] = low_bf16(x.w);
		w[3][c + 1] = high_bf16(x.w);
	}
}

/* One token's outputs; past[0] is the oldest and falls out. */
__device__ uint4 slide(const float w[GDN_TAPS][8], float past[WINDOW][8], uint4 x)
{
	float now[8], y[8];

	unpack(now, x);
#pragma unroll
	for (int c = 0; c < 8; c++) {
		float sum = __fmul_rn(w[0][c], past[0][c]);

		sum = __fmaf_rn(w[1][c], past[1][c], sum);
		sum = __fmaf_rn(w[2][c], past[2][c], sum);
		sum = __fmaf_rn(w[3][c], now[c], sum);
		y[c] = fast_silu(sum);
		past[0][c] = past[1][c];
		past[1][c] = past[2][c];
		past[2][c] = now[c];
	}
	return make_uint4(pack_bf16(y[0], y[1]), pack_bf16(y[2], y[3]), pack_bf16(y[4], y[5]),
			  pack_bf16(y[6], y[7]));
}

/* The row by its norm, fp16. */
__device__ uint4 normalise(uint4 bf16)
{
	float y[8], sum = 0, r;

	unpack(y, bf16);
#pragma unroll
	for (int c = 0; c < 8; c++)
		sum = __fmaf_rn(y[c], y[c], sum);
#pragma unroll
	for (int m = 1; m < PIECES; m *= 2)
		sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, m));
	r = rsqrtf(__fadd_rn(sum, 1e-6f));
#pragma unroll
	for (int c = 0; c < 8; c++)
		y[c] = __fmul_rn(y[c], r);
	return make_uint4(pack_f16(y[0], y[1]), pack_f16(y[2], y[3]), pack_f16(y[4], y[5]),
			  pack_f16(y[6], y[7]));
}

/* The three tokens before the next run, into the other side. */
__device__ void store_window(const gdn_prefill_args &a, const gdn_prefill_run &run, size_t channels)
{
	const size_t ch = blockIdx.x * D + threadIdx.x;
	__nv_bfloat16 *slot =
		(__nv_bfloat16 *)a.window + (size_t)run.slot * 2 * WINDOW * channels + ch;
	const __nv_bfloat16 *past = slot + run.side * WINDOW * channels;
	__nv_bfloat16 *next = slot + (1 - run.side) * WINDOW * channels;

	for (int j = 0; j < WINDOW; j++) {
		const int t = (int)run.n - WINDOW + j;

		next[j * channels] =
			t >= 0 ? ((const __nv_bfloat16 *)a.u)[(size_t)(run.row + t) * a.ld + ch] :
				 past[(t + WINDOW) * channels];
	}
}

__global__ void __launch_bounds__(THREADS, 4) convolve_kernel(gdn_prefill_args a)
{
	__shared__ int v_max[D];	/* bits of a float >= 0: their order is that of integers */
	const room room = { (unsigned char *)a.room, a.n_chunks, a.k_heads, a.v_heads };
	const gdn_chunk chunk = a.chunks[blockIdx.y];
	const gdn_prefill_run run = a.runs[chunk.run];
	const place p = place_of(a, chunk, run, blockIdx.y);
	const int channels = (int)gridDim.x * D, piece = threadIdx.x % PIECES,
		  t0 = threadIdx.x / PIECES * GROUP;
	const size_t first = (size_t)blockIdx.x * D + 8 * piece;
	const bool values = blockIdx.x >= 2 * a.k_heads;
	const column in = { (const __nv_bfloat16 *)a.u + (size_t)p.row * a.ld + first,
			    p.first ?
				    (const __nv_bfloat16 *)a.window +
					    ((size_t)run.slot * 2 + run.side) * WINDOW * channels +
					    first :
				    NULL,
			    (int)a.ld, channels, (int)p.n };
	float w[GDN_TAPS][8], past[WINDOW][8];
	uint4 x[GROUP + WINDOW];

	static_assert(THREADS == D,
		      "a thread clears and stores one maximum, and one channel of the window");
	v_max[threadIdx.x] = 0;
	load_taps(w, (const __nv_bfloat16 *)a.conv_w + first * GDN_TAPS);
	chain_wait();
	chain_release();
#pragma unroll
	for (int i = 0; i < GROUP + WINDOW; i++)
		x[i] = in.at(t0 - WINDOW + i);
#pragma unroll
	for (int j = 0; j < WINDOW; j++)
		unpack(past[j], x[j]);
	if (!values) {
		const int key = blockIdx.x >= a.k_heads;
		unsigned char *tile = room.qk(p.chunk, blockIdx.x - (key ? a.k_heads : 0), key);

#pragma unroll
		for (int i = 0; i < GROUP; i++) {
			const uint4 y = normalise(slide(w, past, x[WINDOW + i]));

			*(uint4 *)(tile + wide_at(t0 + i, piece)) =
				t0 + i < (int)p.n ? y : make_uint4(0, 0, 0, 0);
		}
	} else {
		const size_t head = blockIdx.x - 2 * a.k_heads;
		unsigned char *tile = room.v(p.chunk, head) + piece / 2 * V_TILE;
		uint32_t most[4] = {};

		__syncthreads();
#pragma unroll
		for (int i = 0; i < GROUP; i++) {
			uint4 y = slide(w, past, x[WINDOW + i]);

			if (t0 + i >= (int)p.n)
				y = make_uint4(0, 0, 0, 0);
			*(uint4 *)(tile + narrow_at(t0 + i, piece & 1)) = y;
			most[0] = __vmaxu2(most[0], y.x & 0x7fff7fffu);
			most[1] = __vmaxu2(most[1], y.y & 0x7fff7fffu);
			most[2] = __vmaxu2(most[2], y.z & 0x7fff7fffu);
			most[3] = __vmaxu2(most[3], y.w & 0x7fff7fffu);
		}
		for (int c = 0; c < 4; c++) {
			atomicMax(&v_max[8 * piece + 2 * c], (int)(most[c] << 16));
			atomicMax(&v_max[8 * piece + 2 * c + 1], (int)(most[c] & 0xffff0000u));
		}
		__syncthreads();
		room.solve(p.chunk, head)->v_max[threadIdx.x] = __int_as_float(v_max[threadIdx.x]);
	}
	if (p.last)
		store_window(a, run, channels);
}

} /* namespace */

int convolve(const struct gdn_prefill_args *a, cudaStream_t stream)
{
	return chain_launch(convolve_kernel, dim3(2 * a->k_heads + a->v_heads, a->n_chunks),
			    THREADS, 0, 1, stream, *a);
}

} /* namespace gdn */
