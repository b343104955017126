/* gdn_prepare.cu - the part of a chunk that needs no state: a block per chunk and key head.
 *
 * Convolution, SiLU and normalisation of the key head's q and k and of its value heads' v, from registers
 * that slide down the rows; then K K^T and Q K^T once for all value heads, and for each of them
 * the decays, P and T = (I + A)^-1 diag(beta).
 *
 * T by blocks of 16: the diagonal blocks by forward substitution in float32, a column a lane; below
 * them T_ij = -T_ii sum_k A_ik T_kj on the tensor core, fp16 operands, a column of blocks a warp.  It goes transposed,
 * because the accumulators of T_kj^T are then the A operand of the next product as they stand.
 * Keys have norm <= 1 and beta <= 1, so I - beta k k^T shrinks everything and |T_rc| <= 1: fp16 holds it.
 */
#include "kernels/cuda/gdn_prefill.cuh"

#include <errno.h>

#include "kernels/cuda/launch.cuh"

namespace gdn {
namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int MAX_RATIO = 8, PAIR = 2;		/* value heads of a key head; solved at a time */
constexpr int GROUP = 16, AHEAD = 4;		/* rows that a thread goes down; that it loads at a time */
constexpr int JOBS = 20, JOBS_PER_WARP = (JOBS + WARPS - 1) / WARPS;
constexpr int WINDOW = GDN_TAPS - 1;
constexpr uint32_t LEAD = 18;			/* chunks: two blocks on each of 132 multiprocessors, 16 to a chunk */
constexpr int DIAG_LD = 24;			/* floats: the rows of a store in different banks */

struct head_shared {
	unsigned char A[6 * TILE];		/* below the diagonal blocks */
	unsigned char T[4 * TILE];		/* diagonal blocks of the inverse, without beta */
	float diag[4][16][DIAG_LD];		/* diagonal blocks of A */
	solve_record solve;
	score_record score;
};

struct shared {
	unsigned char Q[WIDE], K[WIDE];
	head_shared head[PAIR];
	float G[MAX_RATIO][C], beta[MAX_RATIO][C];
	int v_max[MAX_RATIO][D];		/* bits of a float >= 0: their order is that of integers */
};

struct place {
	gdn_prefill_run run;
	uint32_t chunk, row, n;		/* of the whole list; first row; rows of this chunk */
	bool first, last;
	int k_head, ratio, channels;
};

__device__ int below(int i, int j)
{
	return (i * (i - 1) / 2 + j) * TILE;
}

__device__ float softplus(float x)
{
	return x > 20.0f ? x : log1pf(expf(x));
}

/* beta and the running sum of g: a warp per value head, two rows a lane.  Rows past the end: beta 0, g 0. */
__device__ void gates(shared &s, const gdn_prefill_args &a, const place &p)
{
	const int lane = threadIdx.x % 32;

	for (int h = threadIdx.x / 32; h < p.ratio; h += WARPS) {
		const int head = p.k_head * p.ratio + h;
		const float decay = -expf(a.a_log[head]), bias = a.dt_bias[head];
		float g[2], sum, before;

		for (int i = 0; i < 2; i++) {
			const uint32_t t = 2 * lane + i;
			const size_t at = (size_t)(p.row + t) * a.ld + head;
			float beta = 0;

			g[i] = 0;
			if (t < p.n) {
				beta = __fdiv_rn(1.0f, __fadd_rn(1.0f, expf(-__bfloat162float(((const __nv_bfloat16 *)a.b)[at]))));
				g[i] = __fmul_rn(decay, softplus(__fadd_rn(__bfloat162float(((const __nv_bfloat16 *)a.a)[at]), bias)));
			}
			s.beta[h][t] = beta;
		}
		sum = __fadd_rn(g[0], g[1]);
		for (int m = 1; m < 32; m *= 2) {
			float up = __shfl_up_sync(0xffffffffu, sum, m);

			sum = lane >= m ? __fadd_rn(up, sum) : sum;
		}
		before = __shfl_up_sync(0xffffffffu, sum, 1);
		s.G[h][2 * lane] = lane ? __fadd_rn(before, g[0]) : g[0];
		s.G[h][2 * lane + 1] = sum;
	}
}

/* Eight channels of one token before the convolution; t counts from the chunk's first row. */
struct column {
	const __nv_bfloat16 *u, *window;	/* the chunk's first row; window of the run's first chunk, else NULL */
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

/* The convolution's output of eight channels going down: bf16 pairs. */
struct slider {
	float w[GDN_TAPS][8], past[WINDOW][8];

	__device__ void begin(const __nv_bfloat16 *taps, const column &in, int t)
	{
#pragma unroll
		for (int c = 0; c < 8; c++) {
			const uint2 x = *(const uint2 *)(taps + c * GDN_TAPS);

			w[0][c] = low_bf16(x.x);
			w[1][c] = high_bf16(x.x);
			w[2][c] = low_bf16(x.y);
			w[3][c] = high_bf16(x.y);
		}
#pragma unroll
		for (int j = 0; j < WINDOW; j++)
			unpack(past[j], in.at(t - WINDOW + j));
	}
	__device__ uint4 next(uint4 x)
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
		return make_uint4(pack_bf16(y[0], y[1]), pack_bf16(y[2], y[3]), pack_bf16(y[4], y[5]), pack_bf16(y[6], y[7]));
	}
};

/* A row's 128 channels are with 16 lanes: normalise, and on to shared memory. */
__device__ void keep_qk(unsigned char *tile, uint4 bf16, int t, int piece, bool valid)
{
	const uint32_t half = 0xffffu << (threadIdx.x & 16);
	float y[8], sum = 0, r;

	unpack(y, bf16);
#pragma unroll
	for (int c = 0; c < 8; c++)
		sum = __fmaf_rn(y[c], y[c], sum);
	for (int m = 1; m < 16; m *= 2)
		sum = __fadd_rn(sum, __shfl_xor_sync(half, sum, m));
	r = rsqrtf(__fadd_rn(sum, 1e-6f));
#pragma unroll
	for (int c = 0; c < 8; c++)
		y[c] = valid ? __fmul_rn(y[c], r) : 0;
	*(uint4 *)(tile + wide_at(t, piece)) =
		make_uint4(pack_f16(y[0], y[1]), pack_f16(y[2], y[3]), pack_f16(y[4], y[5]), pack_f16(y[6], y[7]));
}

__device__ void convolve(shared &s, const gdn_prefill_args &a, const place &p, const room &room)
{
	const int heads = 2 + p.ratio;

	/* q and k cost more than v: their warps not all on the same schedulers */
	for (int item = threadIdx.x ^ (threadIdx.x >> 7 & 1) << 5; item < heads * 16 * (C / GROUP); item += THREADS) {
		const int piece = item % 16, which = item / 16 % heads, t0 = item / 16 / heads * GROUP;
		const int head = p.k_head * p.ratio + which - 2;
		const size_t first = (size_t)D * (which < 2 ? which * a.k_heads + p.k_head : 2 * a.k_heads + head) + 8 * piece;
		const __nv_bfloat16 *window = (const __nv_bfloat16 *)a.window +
					      ((size_t)p.run.slot * 2 + p.run.side) * WINDOW * p.channels + first;
		const column in = { (const __nv_bfloat16 *)a.u + (size_t)p.row * a.ld + first, p.first ? window : NULL,
				    (int)a.ld, p.channels, (int)p.n };
		unsigned char *v = which < 2 ? NULL : room.v(p.chunk, head) + piece / 2 * V_TILE;
		uint32_t largest[4] = {};
		slider slide;

		slide.begin((const __nv_bfloat16 *)a.conv_w + first * GDN_TAPS, in, t0);
#pragma unroll 1
		for (int part = 0; part < GROUP; part += AHEAD) {
			uint4 x[AHEAD];

#pragma unroll
			for (int i = 0; i < AHEAD; i++)
				x[i] = in.at(t0 + part + i);
#pragma unroll
			for (int i = 0; i < AHEAD; i++) {
				const int t = t0 + part + i;
				const bool valid = t < (int)p.n;
				uint4 y = slide.next(x[i]);

				if (which < 2) {
					keep_qk(which ? s.K : s.Q, y, t, piece, valid);
					continue;
				}
				if (!valid)
					y = make_uint4(0, 0, 0, 0);
				*(uint4 *)(v + narrow_at(t, piece & 1)) = y;
				largest[0] = __vmaxu2(largest[0], y.x & 0x7fff7fffu);
				largest[1] = __vmaxu2(largest[1], y.y & 0x7fff7fffu);
				largest[2] = __vmaxu2(largest[2], y.z & 0x7fff7fffu);
				largest[3] = __vmaxu2(largest[3], y.w & 0x7fff7fffu);
			}
		}
		if (which >= 2)
			for (int c = 0; c < 4; c++) {
				atomicMax(&s.v_max[which - 2][8 * piece + 2 * c], (int)(largest[c] << 16));
				atomicMax(&s.v_max[which - 2][8 * piece + 2 * c + 1], (int)(largest[c] & 0xffff0000u));
			}
	}
}

/* The inputs of the block that will follow on this multiprocessor, or thereabouts, into L2. */
__device__ void announce(const gdn_prefill_args &a, const place &p)
{
	const uint32_t later = blockIdx.y + LEAD;

	if (later >= a.n_chunks)
		return;
	const gdn_chunk chunk = a.chunks[later];
	const gdn_prefill_run run = a.runs[chunk.run];
	const uint32_t row = run.row + chunk.index * C, n = min((uint32_t)C, run.n - chunk.index * C);

	for (uint32_t i = threadIdx.x; i < n * 3; i += THREADS) {
		const uint32_t part = i / n;
		const size_t first = (size_t)D * (part < 2 ? part * a.k_heads + p.k_head : 2 * a.k_heads + p.k_head * p.ratio);
		const __nv_bfloat16 *from = (const __nv_bfloat16 *)a.u + (size_t)(row + i % n) * a.ld + first;

		asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;"
			     :: "l"(__cvta_generic_to_global(from)), "r"(D * 2 * (part < 2 ? 1 : p.ratio)) : "memory");
	}
}

/* The three tokens before the next run, into the other side. */
__device__ void store_window(const gdn_prefill_args &a, const place &p)
{
	__nv_bfloat16 *slot = (__nv_bfloat16 *)a.window + (size_t)p.run.slot * 2 * WINDOW * p.channels;
	const __nv_bfloat16 *past = slot + (size_t)p.run.side * WINDOW * p.channels;
	__nv_bfloat16 *next = slot + (size_t)(1 - p.run.side) * WINDOW * p.channels;

	for (int i = threadIdx.x; i < (2 + p.ratio) * D * WINDOW; i += THREADS) {
		const int j = i / ((2 + p.ratio) * D), c = i % ((2 + p.ratio) * D), t = (int)p.run.n - WINDOW + j;
		const size_t ch = c < D	    ? p.k_head * D + c
				  : c < 2 * D ? (a.k_heads + p.k_head) * D + c - D
					      : (2 * a.k_heads + p.k_head * p.ratio) * D + c - 2 * D;

		next[(size_t)j * p.channels + ch] =
			t >= 0 ? ((const __nv_bfloat16 *)a.u)[(size_t)(p.run.row + t) * a.ld + ch]
			       : past[(size_t)(t + WINDOW) * p.channels + ch];
	}
}

/* Ten blocks of K K^T and ten of Q K^T, 16 x 16. */
struct job {
	bool score;
	int i, j;

	__device__ explicit job(int n) : score(n >= JOBS / 2)
	{
		n %= JOBS / 2;
		i = n < 1 ? 0 : n < 3 ? 1 : n < 6 ? 2 : 3;
		j = n - i * (i + 1) / 2;
	}
};

__device__ void products(const shared &s, const job &job, float acc[2][4])
{
	const int lane = threadIdx.x % 32, m = lane / 8, r = lane % 8;
	const uint32_t rows = shared_address(job.score ? s.Q : s.K), cols = shared_address(s.K);
	const int row = 16 * job.i + (m & 1) * 8 + r, col = 16 * job.j + (m >> 1) * 8 + r;

	for (int t = 0; t < 2; t++)
		for (int e = 0; e < 4; e++)
			acc[t][e] = 0;
#pragma unroll
	for (int k = 0; k < D / 16; k++) {
		uint32_t x[4], y[4];

		load4(x, rows + wide_at(row, 2 * k + (m >> 1)));
		load4(y, cols + wide_at(col, 2 * k + (m & 1)));
		mma_f16(acc[0], x, y[0], y[1]);
		mma_f16(acc[1], x, y[2], y[3]);
	}
}

/* One head's share of a job: decays, then A or P. */
__device__ void decayed(head_shared &s, const float *G, const float *beta, const job &job, const float acc[2][4])
{
	const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;

#pragma unroll
	for (int t = 0; t < 2; t++) {
#pragma unroll
		for (int half = 0; half < 2; half++) {
			const int row = g + 8 * half, r = 16 * job.i + row, c = 16 * job.j + 8 * t + 2 * q;
			const int at = narrow_at(row, t) + 4 * q;
			float x[2];

			for (int e = 0; e < 2; e++) {
				const bool in = job.score ? c + e <= r : c + e < r;
				const float d = in ? fast_exp(fminf(__fsub_rn(G[r], G[c + e]), 0)) : 0;

				x[e] = in ? __fmul_rn(acc[t][2 * half + e], d) : 0;
				if (!job.score)
					x[e] = __fmul_rn(x[e], beta[r]);
			}
			if (job.score)
				*(uint32_t *)(s.score.P + triangle_at(job.i, job.j) + at) = pack_f16(x[0], x[1]);
			else if (job.i == job.j)
				*(float2 *)&s.diag[job.i][row][8 * t + 2 * q] = make_float2(x[0], x[1]);
			else
				*(uint32_t *)(s.A + below(job.i, job.j) + at) = pack_f16(x[0], x[1]);
		}
	}
}

/* (I + A_ii)^-1: lane c has column c; lanes 16 to 31 do the same again. */
__device__ void invert_diagonal(head_shared &s, const float *beta, int block)
{
	const int lane = threadIdx.x % 32, c = lane % 16;
	const float b = beta[16 * block + c];
	float x[16];

#pragma unroll
	for (int r = 0; r < 16; r++) {
		float even = r == c ? 1.0f : 0.0f, odd = 0;

#pragma unroll
		for (int j = 0; j < r; j += 2) {
			const float2 A = *(const float2 *)&s.diag[block][r][j];

			even = __fmaf_rn(-A.x, x[j], even);
			if (j + 1 < r)
				odd = __fmaf_rn(-A.y, x[j + 1], odd);
		}
		x[r] = __fadd_rn(even, odd);
	}
	if (lane >= 16)
		return;
#pragma unroll
	for (int r = 0; r < 16; r++) {
		const int at = narrow_at(r, c / 8) + c % 8 * 2;

		*(__half *)(s.T + block * TILE + at) = __float2half_rn(x[r]);
		*(__half *)(s.solve.T + triangle_at(block, block) + at) = __float2half_rn(__fmul_rn(x[r], b));
	}
}

/* acc (two tiles of 8) += a times the narrow tile, transposed. */
__device__ void times_tile(float acc[2][4], const uint32_t a[4], uint32_t tile)
{
	const int lane = threadIdx.x % 32, m = lane / 8;
	uint32_t b[4];

	load4(b, tile + narrow_at((m >> 1) * 8 + lane % 8, m & 1));
	mma_f16(acc[0], a, b[0], b[1]);
	mma_f16(acc[1], a, b[2], b[3]);
}

/* T_ij for one j and all i > j. */
__device__ void invert_below(head_shared &s, const float *beta, int j)
{
	const int lane = threadIdx.x % 32, m = lane / 8, at = narrow_at((m >> 1) * 8 + lane % 8, m & 1);
	const float b0 = beta[16 * j + lane / 4], b1 = beta[16 * j + 8 + lane / 4];
	const uint32_t A = shared_address(s.A), T = shared_address(s.T), out = shared_address(s.solve.T);
	uint32_t t[3][4];

	load4_trans(t[0], T + j * TILE + at);
#pragma unroll
	for (int d = 1; d < 4; d++) {
		const int i = j + d;
		float sum[2][4] = {}, x[2][4] = {};
		uint32_t r[4];

		if (i > 3)
			break;
#pragma unroll
		for (int e = 0; e < d; e++)
			times_tile(sum, t[e], A + below(i, j + e));
		operand(r, sum[0], sum[1]);
		times_tile(x, r, T + i * TILE);
#pragma unroll
		for (int n = 0; n < 2; n++)
#pragma unroll
			for (int e = 0; e < 4; e++)
				x[n][e] = -x[n][e];
		if (d < 3)
			operand(t[d], x[0], x[1]);
		store4_trans(out + triangle_at(i, j) + at, pack_f16(__fmul_rn(x[0][0], b0), __fmul_rn(x[0][1], b0)),
			     pack_f16(__fmul_rn(x[0][2], b1), __fmul_rn(x[0][3], b1)),
			     pack_f16(__fmul_rn(x[1][0], b0), __fmul_rn(x[1][1], b0)),
			     pack_f16(__fmul_rn(x[1][2], b1), __fmul_rn(x[1][3], b1)));
	}
}

/* The value heads h0 and h0 + 1. */
__device__ void solve(shared &s, const place &p, const room &room, int h0, const float acc[JOBS_PER_WARP][2][4])
{
	const int warp = threadIdx.x / 32, n = min(PAIR, p.ratio - h0), h = warp / 4;

#pragma unroll
	for (int i = 0; i < JOBS_PER_WARP; i++)
		for (int k = 0; k < n && warp + WARPS * i < JOBS; k++)
			decayed(s.head[k], s.G[h0 + k], s.beta[h0 + k], job(warp + WARPS * i), acc[i]);
	__syncthreads();
	if (h < n)
		invert_diagonal(s.head[h], s.beta[h0 + h], warp % 4);
	for (int i = threadIdx.x; i < n * C; i += THREADS) {
		const float *G = s.G[h0 + i / C], decay = fast_exp(G[i % C]);

		s.head[i / C].solve.decay[i % C] = decay;
		s.head[i / C].score.decay[i % C] = decay;
		s.head[i / C].solve.rest[i % C] = fast_exp(fminf(__fsub_rn(G[C - 1], G[i % C]), 0));
	}
	for (int i = threadIdx.x; i < n * D; i += THREADS)
		s.head[i / D].solve.v_max[i % D] = __int_as_float(s.v_max[h0 + i / D][i % D]);
	__syncthreads();
	if (h < n && warp % 4 < 3)
		invert_below(s.head[h], s.beta[h0 + h], warp % 4);
	copy_fence();
	__syncthreads();
	if (threadIdx.x)
		return;
	for (int k = 0; k < n; k++) {
		const size_t head = (size_t)p.k_head * p.ratio + h0 + k;

		store_bulk(room.solve(p.chunk, head), &s.head[k].solve, sizeof(solve_record));
		store_bulk(room.score(p.chunk, head), &s.head[k].score, sizeof(score_record));
	}
	store_bulk_commit();
}

__global__ void __launch_bounds__(THREADS, 2) prepare_kernel(gdn_prefill_args a)
{
	extern __shared__ __align__(128) unsigned char memory[];
	shared &s = *(shared *)memory;
	const room room = { (unsigned char *)a.room, a.n_chunks, a.k_heads, a.v_heads };
	const gdn_chunk chunk = a.chunks[blockIdx.y];
	const int warp = threadIdx.x / 32;
	float acc[JOBS_PER_WARP][2][4];
	place p;

	p.run = a.runs[chunk.run];
	p.chunk = blockIdx.y;
	p.row = p.run.row + chunk.index * C;
	p.n = min((uint32_t)C, p.run.n - chunk.index * C);
	p.first = chunk.index == 0;
	p.last = chunk.index * C + p.n == p.run.n;
	p.k_head = (int)blockIdx.x;
	p.ratio = (int)(a.v_heads / a.k_heads);
	p.channels = (int)(2 * a.k_heads + a.v_heads) * D;
	for (int i = threadIdx.x; i < p.ratio * D; i += THREADS)
		s.v_max[i / D][i % D] = 0;
	chain_wait();
	chain_release();
	__syncthreads();
	announce(a, p);
	gates(s, a, p);
	convolve(s, a, p, room);
	copy_fence();
	__syncthreads();
	if (threadIdx.x == 0) {
		store_bulk(room.qk(p.chunk, p.k_head, 0), s.Q, 2 * WIDE);
		store_bulk_commit();
	}
#pragma unroll
	for (int i = 0; i < JOBS_PER_WARP; i++)
		if (warp + WARPS * i < JOBS)
			products(s, job(warp + WARPS * i), acc[i]);
	for (int h = 0; h < p.ratio; h += PAIR) {
		if (h) {
			if (threadIdx.x == 0)
				store_bulk_wait();
			__syncthreads();
		}
		solve(s, p, room, h, acc);
	}
	if (p.last)
		store_window(a, p);
	if (threadIdx.x == 0)
		store_bulk_wait();
}

} /* namespace */

int prepare(const struct gdn_prefill_args *a, cudaStream_t stream)
{
	if (cudaFuncSetAttribute(prepare_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(shared)) != cudaSuccess)
		return -ENODEV;
	return chain_launch(prepare_kernel, dim3(a->k_heads, a->n_chunks), THREADS, sizeof(shared), 1, stream, *a);
}

static_assert(sizeof(shared) <= 99 * 1024, "every GPU that Hearth is for has 99 KB");

} /* namespace gdn */
