/* gdn_prepare.cu - the part of a chunk that needs no state: a block per chunk and key head.
 *
 * K K^T and Q K^T once for all value heads of the key head, and for each of them the gates, the
 * decays, P and T = (I + A)^-1 diag(beta).
 *
 * T by blocks of 16: the diagonal blocks by forward substitution in float32, a column a lane; below
 * them T_ij = -T_ii sum_k A_ik T_kj on the tensor core, fp16 operands, a column of blocks a warp.
 * It goes transposed, because the accumulators of T_kj^T are then the A operand of the next product
 * as they stand. Keys have norm <= 1 and beta <= 1, so I - beta k k^T shrinks everything and |T_rc|
 * <= 1: fp16 holds it.
 */
#include "kernels/cuda/gdn_prefill.cuh"

#include <errno.h>
#include <stddef.h>

#include "kernels/cuda/launch.cuh"

namespace gdn {
namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 1000
constexpr int BLOCKS = 3;	/* of a multiprocessor */
#else
constexpr int BLOCKS = 1;	/* 100 KB there */
#endif
constexpr int MAX_RATIO = 4, PAIR = 2;		/* value heads of a key head; solved at a time */
constexpr int JOBS = 20, JOBS_PER_WARP = (JOBS + WARPS - 1) / WARPS;

struct head_shared {
	unsigned char A[6 * TILE];		/* below the diagonal blocks */
	unsigned char T[4 * TILE];		/* diagonal blocks of the inverse, without beta */
	float diag[4][16][16];			/* diagonal blocks of A */
	solve_record solve;
	score_record score;
};

struct shared {
	unsigned char Q[WIDE], K[WIDE];
	head_shared head[PAIR];
	float G[MAX_RATIO][C], beta[MAX_RATIO][C];
	uint64_t arrived;
};

__device__ int below(int i, int j)
{
	return (i * (i - 1) / 2 + j) * TILE;
}

__device__ float softplus(float x)
{
	return x > 20.0f ? x : log1pf(expf(x));
}

/* beta and the running sum of g: a warp per value head, two rows a lane.  Rows past the end: beta
 * 0, g 0. */
__device__ void gates(shared &s, const gdn_prefill_args &a, const place &p, int k_head, int ratio)
{
	const int lane = threadIdx.x % 32;

	for (int h = threadIdx.x / 32; h < ratio; h += WARPS) {
		const int head = k_head * ratio + h;
		const float decay = -expf(a.a_log[head]), bias = a.dt_bias[head];
		float g[2], sum, before;

		for (int i = 0; i < 2; i++) {
			const uint32_t t = 2 * lane + i;
			const size_t at = (size_t)(p.row + t) * a.ld + head;
			float beta = 0;

			g[i] = 0;
			if (t < p.n) {
				beta = __fdiv_rn(
					1.0f,
					__fadd_rn(1.0f, expf(-__bfloat162float((
								(const __nv_bfloat16 *)a.b)[at]))));
				g[i] = __fmul_rn(
					decay,
					softplus(__fadd_rn(
						__bfloat162float(((const __nv_bfloat16 *)a.a)[at]),
						bias)));
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
__device__ void decayed(head_shared &s, const float *G, const float *beta, const job &job,
			const float acc[2][4])
{
	const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;

#pragma unroll
	for (int t = 0; t < 2; t++) {
#pragma unroll
		for (int half = 0; half < 2; half++) {
			const int row = g + 8 * half, r = 16 * job.i + row,
				  c = 16 * job.j + 8 * t + 2 * q;
			const int at = narrow_at(row, t) + 4 * q;
			float x[2];

			for (int e = 0; e < 2; e++) {
				const bool in = job.score ? c + e <= r : c + e < r;
				const float d =
					in ? fast_exp(fminf(__fsub_rn(G[r], G[c + e]), 0)) : 0;

				x[e] = in ? __fmul_rn(acc[t][2 * half + e], d) : 0;
				if (!job.score)
					x[e] = __fmul_rn(x[e], beta[r]);
			}
			if (job.score)
				*(uint32_t *)(s.score.P + triangle_at(job.i, job.j) + at) =
					pack_f16(x[0], x[1]);
			else if (job.i == job.j)
				*(float2 *)&s.diag[job.i][row][8 * t + 2 * q] =
					make_float2(x[0], x[1]);
			else
				*(uint32_t *)(s.A + below(job.i, job.j) + at) =
					pack_f16(x[0], x[1]);
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
		*(__half *)(s.solve.T + triangle_at(block, block) + at) =
			__float2half_rn(__fmul_rn(x[r], b));
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
	const int lane = threadIdx.x % 32, m = lane / 8,
		  at = narrow_at((m >> 1) * 8 + lane % 8, m & 1);
	const float b0 = beta[16 * j + lane / 4], b1 = beta[16 * j + 8 + lane / 4];
	const uint32_t A = shared_address(s.A), T = shared_address(s.T),
		       out = shared_address(s.solve.T);
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
		store4_trans(out + triangle_at(i, j) + at,
			     pack_f16(__fmul_rn(x[0][0], b0), __fmul_rn(x[0][1], b0)),
			     pack_f16(__fmul_rn(x[0][2], b1), __fmul_rn(x[0][3], b1)),
			     pack_f16(__fmul_rn(x[1][0], b0), __fmul_rn(x[1][1], b0)),
			     pack_f16(__fmul_rn(x[1][2], b1), __fmul_rn(x[1][3], b1)));
	}
}

/* n <= PAIR value heads from h0 on; `first` is the key head's first. */
__device__ void solve(shared &s, const room &room, size_t chunk, size_t first, int n, int h0,
		      const float acc[JOBS_PER_WARP][2][4])
{
	const int warp = threadIdx.x / 32, h = warp / 4;

#pragma unroll
	for (int i = 0; i < JOBS_PER_WARP; i++)
		for (int k = 0; k < n && warp + WARPS * i < JOBS; k++)
			decayed(s.head[k], s.G[h0 + k], s.beta[h0 + k], job(warp + WARPS * i),
				acc[i]);
	__syncthreads();
	if (h < n)
		invert_diagonal(s.head[h], s.beta[h0 + h], warp % 4);
	for (int i = threadIdx.x; i < n * C; i += THREADS) {
		const float *G = s.G[h0 + i / C], decay = fast_exp(G[i % C]);

		s.head[i / C].solve.decay[i % C] = decay;
		s.head[i / C].score.decay[i % C] = decay;
		s.head[i / C].solve.rest[i % C] = fast_exp(fminf(__fsub_rn(G[C - 1], G[i % C]), 0));
	}
	__syncthreads();
	if (h < n && warp % 4 < 3)
		invert_below(s.head[h], s.beta[h0 + h], warp % 4);
	copy_fence();
	__syncthreads();
	if (threadIdx.x)
		return;
	for (int k = 0; k < n; k++) {
		store_bulk(room.solve(chunk, first + h0 + k), &s.head[k].solve,
			   offsetof(solve_record, v_max));
		store_bulk(room.score(chunk, first + h0 + k), &s.head[k].score,
			   sizeof(score_record));
	}
	store_bulk_commit();
}

__global__ void __launch_bounds__(THREADS, BLOCKS) prepare_kernel(gdn_prefill_args a)
{
	extern __shared__ __align__(128) unsigned char memory[];
	shared &s = *(shared *)memory;
	const room room = { (unsigned char *)a.room, a.n_chunks, a.k_heads, a.v_heads };
	const int k_head = (int)blockIdx.x, ratio = (int)(a.v_heads / a.k_heads),
		  warp = threadIdx.x / 32;
	const gdn_chunk chunk = a.chunks[blockIdx.y];
	const place p = place_of(a, chunk, a.runs[chunk.run], blockIdx.y);
	float acc[JOBS_PER_WARP][2][4];

	if (threadIdx.x == 0) {
		barrier_init(&s.arrived, 1);
		copy_fence();
	}
	__syncthreads();
	chain_wait();
	chain_release();
	if (threadIdx.x == 0) {
		expect(&s.arrived, 2 * WIDE);
		fetch_own(s.Q, room.qk(p.chunk, k_head, 0), 2 * WIDE, &s.arrived);
	}
	gates(s, a, p, k_head, ratio);
	wait(&s.arrived, 0);
#pragma unroll
	for (int i = 0; i < JOBS_PER_WARP; i++)
		if (warp + WARPS * i < JOBS)
			products(s, job(warp + WARPS * i), acc[i]);
	__syncthreads();
	for (int h = 0; h < ratio; h += PAIR) {
		if (h) {
			if (threadIdx.x == 0)
				store_bulk_wait();
			__syncthreads();
		}
		solve(s, room, p.chunk, (size_t)k_head * ratio, min(PAIR, ratio - h), h, acc);
	}
	if (threadIdx.x == 0)
		store_bulk_wait();
}

} /* namespace */

int prepare(const struct gdn_prefill_args *a, cudaStream_t stream)
{
	if (cudaFuncSetAttribute(prepare_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 sizeof(shared)) != cudaSuccess)
		return -ENODEV;
	return chain_launch(prepare_kernel, dim3(a->k_heads, a->n_chunks), THREADS, sizeof(shared),
			    1, stream, *a);
}

static_assert(sizeof(shared) <= 75 * 1024,
	      "three blocks to a multiprocessor of an H200; the others have 99 KB for one");

} /* namespace gdn */
