/* gdn_scan.cu - the chunks of a run in order; the state never leaves the registers.
 *
 * A block owns 32 value dimensions of a head of a run, four blocks (a cluster) the head.  All products are
 * transposed, values x tokens, so that what one product gives is the A operand of the next without leaving the registers:
 *	X = V - exp(G) (S K^T),   V' = X T^T,   S <- exp(G_last) S + (V' exp(G_last - G)) K
 *	O = exp(G) (S Q^T) + V' P^T
 * A state warp owns 16 value dimensions x 128 keys of S and waits for nobody but the copy engine.  Its output warp gets S and V'
 * as fragments through shared memory and makes O, the norm's sum over the head's 128 values (through the cluster), and the
 * rows of the result, a chunk behind.  Two more warps drive the copies.
 *
 * Operands are fp16.  T, P and the keys are at most 1; S and V are as they are while their largest in a row of
 * S lies in [2^-10, 2^9], which leaves fp16 both its 11 bits and room for the sums; a chunk where some row's does not has those
 * rows multiplied by a power of two first and divided after.  This looks at S at the chunk's start and at the chunk's V alone.
 */
#include "kernels/cuda/gdn_prefill.cuh"

#include <cooperative_groups.h>
#include <errno.h>

#include "kernels/cuda/launch.cuh"

namespace cg = cooperative_groups;

/* Others have 100 KB a multiprocessor, so one block, and no copy engine that serves several. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 1000
#define HOPPER 1
#else
#define HOPPER 0
#endif

namespace gdn {
namespace {

constexpr int SLICE = 32, SLICES = D / SLICE;	/* value dimensions of a block; blocks of a head */
constexpr int PAIRS = 2;			/* state and output warps of a block */
constexpr int THREADS = (2 * PAIRS + 2) * 32;
constexpr int AHEAD = 4;				/* chunks, into L2 */
constexpr int HEAD_WARPS = PAIRS * SLICES;	/* of each kind */
constexpr int WIDE_PART = WIDE / SLICES;
constexpr int SOLVE_PART = sizeof(solve_record) / SLICES, SCORE_PART = sizeof(score_record) / SLICES;
constexpr float Q_SCALE = 0.08838834764831845f;	/* 128^-0.5 */
constexpr float SMALLEST = 1.0f / 1024, LARGEST = 512;

struct gate {		/* a place filled by one side and emptied by the other */
	uint64_t full, empty;
};

template <int DEPTH> struct shared {
	unsigned char K[2][WIDE], Q[DEPTH][WIDE];
	solve_record solve[2];
	score_record score[2];
	unsigned char V[2][PAIRS * V_TILE];
	uint4 S[PAIRS][8][32], W[PAIRS][4][32];		/* fragments of S and V' for the output warp */
	unsigned char turn[PAIRS][V_TILE];		/* z and out, between rows and fragments */
	float squares[2][HEAD_WARPS][C];
	float scale[PAIRS][16];
	gate k[2], q[DEPTH], p[2], s[PAIRS], w[PAIRS];
	uint64_t norm[2];
};

struct scan_args {
	gdn_prefill_args a;
	bool together;		/* a block fetches its quarter for all four */
};

struct work {
	const scan_args &g;
	gdn_prefill_run run;
	uint32_t n_chunks;
	int head, slice;
};

/* ---- barriers ------------------------------------------------------------------ */

__device__ void barrier_init(uint64_t *b, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(b)), "r"(count) : "memory");
}

__device__ __forceinline__ void expect(uint64_t *b, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared_address(b)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(uint64_t *b, uint32_t parity)
{
	asm volatile("{ .reg .pred p;\n"
		     "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
		     "@p bra done;\n"
		     "bra again;\n"
		     "done: }" :: "r"(shared_address(b)), "r"(parity) : "memory");
}

/* turn: how often this place was used before. */
__device__ __forceinline__ void wait_full(gate &g, uint32_t turn)
{
	wait(&g.full, turn & 1);
}

__device__ __forceinline__ void wait_empty(gate &g, uint32_t turn)
{
	wait(&g.empty, ~turn & 1);	/* passes at once the first time */
}

/* The whole warp is done with what came before. */
__device__ __forceinline__ void arrive(uint64_t *b)
{
	__syncwarp();
	if (threadIdx.x % 32 == 0)
		asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(b)) : "memory");
}

__device__ __forceinline__ uint32_t in_block(uint32_t at, uint32_t rank)
{
	uint32_t to;

	asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank));
	return to;
}

/* ... in every block of the cluster.  It hands back room that was read, no data, so the default scope does: a release at
 * cluster scope would be a fence of the whole GPU, about a microsecond, three times a chunk. */
__device__ __forceinline__ void arrive_all(uint64_t *b)
{
	const uint32_t lane = threadIdx.x % 32;

	__syncwarp();
	if (lane < SLICES)
		asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];"
			     :: "r"(in_block(shared_address(b), lane)) : "memory");
}

/* ---- the copying warps ---------------------------------------------------------- */

__device__ void fetch_own(void *to, const void *from, uint32_t bytes, uint64_t *b)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
		     :: "r"(shared_address(to)), "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(b))
		     : "memory");
}

/* What all four blocks need, `part` the quarter of each. */
__device__ void fetch(const work &o, void *to, const void *from, uint32_t part, uint64_t *b)
{
	if (!HOPPER || !o.g.together) {
		fetch_own(to, from, part * SLICES, b);
		return;
	}
#if HOPPER
	const uint32_t skip = part * (uint32_t)o.slice;

	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
		     "[%0], [%1], %2, [%3], %4;"
		     :: "r"(shared_address(to) + skip), "l"(__cvta_generic_to_global((const char *)from + skip)), "r"(part),
			"r"(shared_address(b)), "h"((uint16_t)((1 << SLICES) - 1))
		     : "memory");
#endif
}

/* Memory is further away than a chunk is long: it is asked for AHEAD chunks early, to be in L2. */
__device__ void announce(const void *from, uint32_t bytes)
{
	asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"(__cvta_generic_to_global(from)), "r"(bytes) : "memory");
}

__device__ const unsigned char *part_of(const void *p, uint32_t part, const work &o)
{
	return (const unsigned char *)p + part * (uint32_t)o.slice;
}

/* K, T and V, for the state warps. */
template <int DEPTH> __device__ void copy_keys(shared<DEPTH> &s, const work &o, const room &room)
{
	const size_t k_head = o.head / (room.v_heads / room.k_heads);
	const uint32_t skip = (uint32_t)o.slice * PAIRS * V_TILE;

	for (uint32_t i = 0; i < o.n_chunks; i++) {
		const size_t chunk = o.run.first_chunk + i;
		const int at = i % 2;

		for (uint32_t next = i ? i + AHEAD : 1; next <= i + AHEAD && next < o.n_chunks; next++) {
			const size_t later = o.run.first_chunk + next;

			announce(part_of(room.qk(later, k_head, 1), WIDE_PART, o), WIDE_PART);
			announce(part_of(room.solve(later, o.head), SOLVE_PART, o), SOLVE_PART);
			announce(room.v(later, o.head) + skip, PAIRS * V_TILE);
		}
		wait_empty(s.k[at], i / 2);
		expect(&s.k[at].full, WIDE + sizeof(solve_record) + PAIRS * V_TILE);
		fetch(o, s.K[at], room.qk(chunk, k_head, 1), WIDE_PART, &s.k[at].full);
		fetch(o, &s.solve[at], room.solve(chunk, o.head), SOLVE_PART, &s.k[at].full);
		fetch_own(s.V[at], room.v(chunk, o.head) + skip, PAIRS * V_TILE, &s.k[at].full);
	}
}

/* Q and P, for the output warps. */
template <int DEPTH> __device__ void copy_queries(shared<DEPTH> &s, const work &o, const room &room)
{
	const size_t k_head = o.head / (room.v_heads / room.k_heads);

	for (uint32_t i = 0; i < o.n_chunks; i++) {
		const size_t chunk = o.run.first_chunk + i;

		for (uint32_t next = i ? i + AHEAD : 1; next <= i + AHEAD && next < o.n_chunks; next++) {
			const size_t later = o.run.first_chunk + next;

			announce(part_of(room.qk(later, k_head, 0), WIDE_PART, o), WIDE_PART);
			announce(part_of(room.score(later, o.head), SCORE_PART, o), SCORE_PART);
		}
		wait_empty(s.q[i % DEPTH], i / DEPTH);
		expect(&s.q[i % DEPTH].full, WIDE);
		fetch(o, s.Q[i % DEPTH], room.qk(chunk, k_head, 0), WIDE_PART, &s.q[i % DEPTH].full);
		wait_empty(s.p[i % 2], i / 2);
		expect(&s.p[i % 2].full, sizeof(score_record));
		fetch(o, &s.score[i % 2], room.score(chunk, o.head), SCORE_PART, &s.p[i % 2].full);
	}
}

template <int DEPTH> __device__ void copying_warp(shared<DEPTH> &s, const work &o, bool queries)
{
	const gdn_prefill_args &a = o.g.a;
	const room room = { (unsigned char *)a.room, a.n_chunks, a.k_heads, a.v_heads };

	if (threadIdx.x % 32)
		return;
	if (queries)
		copy_queries(s, o, room);
	else
		copy_keys(s, o, room);
}

/* ---- products ------------------------------------------------------------------ */

/* acc[8 tiles of tokens] = S (fragments) times a wide tile [token][key], transposed. */
__device__ __forceinline__ void times_wide(float acc[8][4], const uint32_t S[8][4], const unsigned char *tile)
{
	const int lane = threadIdx.x % 32, m = lane / 8, r = (m >> 1) * 8 + lane % 8;
	const uint32_t at = shared_address(tile);

#pragma unroll
	for (int j = 0; j < 8; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = 0;
#pragma unroll
	for (int k = 0; k < 8; k++)
#pragma unroll
		for (int c = 0; c < 4; c++) {
			uint32_t b[4];

			load4(b, at + wide_at(16 * c + r, 2 * k + (m & 1)));
			mma_f16(acc[2 * c], S[k], b[0], b[1]);
			mma_f16(acc[2 * c + 1], S[k], b[2], b[3]);
		}
}

/* acc += x (fragments, values x tokens) times a lower triangle, transposed. */
__device__ __forceinline__ void times_triangle(float acc[8][4], const uint32_t x[4][4], const unsigned char *triangle)
{
	const int lane = threadIdx.x % 32, m = lane / 8;
	const uint32_t at = shared_address(triangle) + narrow_at((m >> 1) * 8 + lane % 8, m & 1);

#pragma unroll
	for (int j = 0; j < 4; j++)
#pragma unroll
		for (int i = j; i < 4; i++) {
			uint32_t b[4];

			load4(b, at + triangle_at(i, j));
			mma_f16(acc[2 * i], x[j], b[0], b[1]);
			mma_f16(acc[2 * i + 1], x[j], b[2], b[3]);
		}
}

/* A narrow tile [64][16] as accumulators lie, values x tokens: pairs of bf16, [tile of tokens][half of values]. */
__device__ __forceinline__ void load_turned(uint32_t x[8][2], const unsigned char *tile)
{
	const int lane = threadIdx.x % 32, m = lane / 8, r = (m >> 1) * 8 + lane % 8;

#pragma unroll
	for (int c = 0; c < 4; c++) {
		uint32_t b[4];

		load4_trans(b, shared_address(tile) + narrow_at(16 * c + r, m & 1));
		x[2 * c][0] = b[0];
		x[2 * c][1] = b[1];
		x[2 * c + 1][0] = b[2];
		x[2 * c + 1][1] = b[3];
	}
}

/* ---- the state warp -------------------------------------------------------------- */

struct range {
	float factor[2], back[2];	/* of the rows g and g + 8 */
};

__device__ __forceinline__ bool in_range(float largest)
{
	return largest == 0 || (largest >= SMALLEST && largest <= LARGEST);
}

__device__ __forceinline__ float quad_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
	return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ __half2 max_abs(__half2 x, uint32_t y)
{
	return __hmax2(x, __habs2(*(__half2 *)&y));
}

/* Of the fragments and the chunk's values, for the whole warp. */
__device__ __forceinline__ bool fits(const uint32_t S[8][4], float v0, float v1)
{
	__half2 x = __float2half2_rn(0), y = x;
	float most0, most1;

#pragma unroll
	for (int k = 0; k < 8; k++) {
		x = max_abs(max_abs(x, S[k][0]), S[k][2]);
		y = max_abs(max_abs(y, S[k][1]), S[k][3]);
	}
	x = __halves2half2(__hmax(__low2half(x), __high2half(x)), __hmax(__low2half(y), __high2half(y)));
	most0 = fmaxf(quad_max(__low2float(x)), v0);
	most1 = fmaxf(quad_max(__high2float(x)), v1);
	return !__any_sync(0xffffffffu, !in_range(most0) || !in_range(most1));
}

/* The power of two that brings the larger of both to [1, 2), where it is out of range. */
__device__ void bring_into_range(float S[16][4], range &f, float v0, float v1)
{
	float most[2] = { 0, 0 };

#pragma unroll
	for (int j = 0; j < 16; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			most[e / 2] = fmaxf(most[e / 2], fabsf(S[j][e]));
	for (int i = 0; i < 2; i++) {
		const float m = fmaxf(quad_max(most[i]), i ? v1 : v0);
		const uint32_t exponent = min(max(__float_as_uint(m) >> 23, 1u), 253u);

		f.factor[i] = in_range(m) ? 1.0f : __uint_as_float((254 - exponent) << 23);
		f.back[i] = in_range(m) ? 1.0f : __uint_as_float(exponent << 23);
	}
#pragma unroll
	for (int j = 0; j < 16; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			S[j][e] = __fmul_rn(S[j][e], f.factor[e / 2]);
}

/* X as fragments, from acc = S K^T. */
__device__ __forceinline__ void residual(uint32_t x[4][4], float acc[8][4], const unsigned char *V, const float *decay,
					 const float factor[2])
{
	const int q = threadIdx.x % 4;
	uint32_t v[8][2];

	load_turned(v, V);
#pragma unroll
	for (int j = 0; j < 8; j++) {
		const float2 d = *(const float2 *)(decay + 8 * j + 2 * q);

#pragma unroll
		for (int h = 0; h < 2; h++) {
			acc[j][2 * h] = __fmaf_rn(-d.x, acc[j][2 * h], __fmul_rn(low_bf16(v[j][h]), factor[h]));
			acc[j][2 * h + 1] = __fmaf_rn(-d.y, acc[j][2 * h + 1], __fmul_rn(high_bf16(v[j][h]), factor[h]));
		}
	}
#pragma unroll
	for (int k = 0; k < 4; k++)
		operand(x[k], acc[2 * k], acc[2 * k + 1]);
}

/* S <- last S + (V' rest) K */
__device__ __forceinline__ void update(float S[16][4], float V[8][4], const unsigned char *K, const float *rest, float last)
{
	const int lane = threadIdx.x % 32, m = lane / 8, q = lane % 4, r = (m & 1) * 8 + lane % 8;
	const uint32_t at = shared_address(K);
	uint32_t x[4][4];

#pragma unroll
	for (int j = 0; j < 8; j++) {
		const float2 d = *(const float2 *)(rest + 8 * j + 2 * q);

#pragma unroll
		for (int e = 0; e < 4; e++)
			V[j][e] = __fmul_rn(V[j][e], e % 2 ? d.y : d.x);
	}
#pragma unroll
	for (int k = 0; k < 4; k++)
		operand(x[k], V[2 * k], V[2 * k + 1]);
#pragma unroll
	for (int j = 0; j < 16; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			S[j][e] = __fmul_rn(S[j][e], last);
#pragma unroll
	for (int part = 0; part < 2; part++)	/* eight tiles of keys in flight */
#pragma unroll
		for (int k = 0; k < 4; k++)
#pragma unroll
			for (int j = 4 * part; j < 4 * part + 4; j++) {
				uint32_t b[4];

				load4_trans(b, at + wide_at(16 * k + r, 2 * j + (m >> 1)));
				mma_f16(S[2 * j], x[k], b[0], b[1]);
				mma_f16(S[2 * j + 1], x[k], b[2], b[3]);
			}
}

template <int DEPTH> __device__ void hand_over_state(shared<DEPTH> &s, int pair, uint32_t turn, const uint32_t S[8][4], const range &f)
{
	const int lane = threadIdx.x % 32;

	wait_empty(s.s[pair], turn);
#pragma unroll
	for (int k = 0; k < 8; k++)
		s.S[pair][k][lane] = make_uint4(S[k][0], S[k][1], S[k][2], S[k][3]);
	if (lane % 4 == 0) {
		s.scale[pair][lane / 4] = __fmul_rn(Q_SCALE, f.back[0]);
		s.scale[pair][8 + lane / 4] = __fmul_rn(Q_SCALE, f.back[1]);
	}
	arrive(&s.s[pair].full);
}

template <int DEPTH> __device__ void state_chunk(shared<DEPTH> &s, int slice, int pair, uint32_t i, float S[16][4])
{
	const int at = i % 2, lane = threadIdx.x % 32, row = slice * SLICE + pair * 16 + lane / 4;
	const solve_record &solve = s.solve[at];
	range f = { { 1, 1 }, { 1, 1 } };
	uint32_t x[4][4];
	float acc[8][4];
	bool moved = false;

	wait_full(s.k[at], i / 2);
	{
		const float v0 = solve.v_max[row], v1 = solve.v_max[row + 8];
		uint32_t frag[8][4];

#pragma unroll 1
		for (;;) {
#pragma unroll
			for (int k = 0; k < 8; k++)
				operand(frag[k], S[2 * k], S[2 * k + 1]);
			times_wide(acc, frag, s.K[at]);
			if (moved || fits(frag, v0, v1))
				break;
			bring_into_range(S, f, v0, v1);
			moved = true;
		}
		hand_over_state(s, pair, i, frag, f);
	}
	residual(x, acc, s.V[at] + pair * V_TILE, solve.decay, f.factor);
#pragma unroll
	for (int j = 0; j < 8; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = 0;
	times_triangle(acc, x, solve.T);
#pragma unroll
	for (int k = 0; k < 4; k++)
		operand(x[k], acc[2 * k], acc[2 * k + 1]);
	wait_empty(s.w[pair], i);
#pragma unroll
	for (int k = 0; k < 4; k++)
		s.W[pair][k][lane] = make_uint4(x[k][0], x[k][1], x[k][2], x[k][3]);
	arrive(&s.w[pair].full);
	update(S, acc, s.K[at], solve.rest, solve.decay[C - 1]);
	arrive_all(&s.k[at].empty);
	if (moved)
#pragma unroll
		for (int j = 0; j < 16; j++)
#pragma unroll
			for (int e = 0; e < 4; e++)
				S[j][e] = __fmul_rn(S[j][e], f.back[e / 2]);
}

template <int DEPTH> __device__ void state_warp(shared<DEPTH> &s, const work &o, int pair)
{
	const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
	float *state = o.g.a.state + (((size_t)o.run.slot * o.g.a.v_heads + o.head) * D + o.slice * SLICE + pair * 16 + g) * D + 2 * q;
	float S[16][4];

#pragma unroll
	for (int j = 0; j < 16; j++) {
		const float2 x = *(const float2 *)(state + 8 * j), y = *(const float2 *)(state + 8 * D + 8 * j);

		S[j][0] = x.x;
		S[j][1] = x.y;
		S[j][2] = y.x;
		S[j][3] = y.y;
	}
#pragma unroll 1
	for (uint32_t i = 0; i < o.n_chunks; i++)
		state_chunk(s, o.slice, pair, i, S);
#pragma unroll
	for (int j = 0; j < 16; j++) {
		*(float2 *)(state + 8 * j) = make_float2(S[j][0], S[j][1]);
		*(float2 *)(state + 8 * D + 8 * j) = make_float2(S[j][2], S[j][3]);
	}
}

/* ---- the output warp ------------------------------------------------------------- */

template <int DEPTH> __device__ __forceinline__ void outputs(shared<DEPTH> &s, int pair, uint32_t i, float acc[8][4])
{
	const int lane = threadIdx.x % 32, q = lane % 4;
	float f0, f1;

	{
		uint32_t S[8][4];

		wait_full(s.s[pair], i);
#pragma unroll
		for (int k = 0; k < 8; k++)
			*(uint4 *)S[k] = s.S[pair][k][lane];
		f0 = s.scale[pair][lane / 4];
		f1 = s.scale[pair][8 + lane / 4];
		arrive(&s.s[pair].empty);
		wait_full(s.q[i % DEPTH], i / DEPTH);
		times_wide(acc, S, s.Q[i % DEPTH]);
		arrive_all(&s.q[i % DEPTH].empty);
	}
	uint32_t W[4][4];

	wait_full(s.p[i % 2], i / 2);
#pragma unroll
	for (int j = 0; j < 8; j++) {
		const float2 d = *(const float2 *)(s.score[i % 2].decay + 8 * j + 2 * q);

#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = __fmul_rn(acc[j][e], e % 2 ? d.y : d.x);
	}
	wait_full(s.w[pair], i);
#pragma unroll
	for (int k = 0; k < 4; k++)
		*(uint4 *)W[k] = s.W[pair][k][lane];
	arrive(&s.w[pair].empty);
	times_triangle(acc, W, s.score[i % 2].P);
	arrive_all(&s.p[i % 2].empty);
#pragma unroll
	for (int j = 0; j < 8; j++)
#pragma unroll
		for (int e = 0; e < 4; e++)
			acc[j][e] = __fmul_rn(acc[j][e], e < 2 ? f0 : f1);
}

/* The sums of squares over this warp's 16 values: lane l gets those of the tokens 2l and 2l + 1. */
__device__ __forceinline__ float2 squares(const float o[8][4])
{
	const int lane = threadIdx.x % 32;
	float x[8][2];

#pragma unroll
	for (int j = 0; j < 8; j++)
#pragma unroll
		for (int e = 0; e < 2; e++)
			x[j][e] = __fmaf_rn(o[j][2 + e], o[j][2 + e], __fmul_rn(o[j][e], o[j][e]));
#pragma unroll
	for (int n = 4; n; n /= 2) {	/* keep the half of the tiles that the lane's bit names, give the other */
		const bool upper = lane & 4 * n;

#pragma unroll
		for (int j = 0; j < n; j++)
#pragma unroll
			for (int e = 0; e < 2; e++) {
				const float give = upper ? x[j][e] : x[j + n][e], keep = upper ? x[j + n][e] : x[j][e];

				x[j][e] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, give, 4 * n));
			}
	}
	return make_float2(x[0][0], x[0][1]);
}

/* To all blocks of the head, as bytes that their barriers count.  A warp sends for chunk i when it has received all of i - 1,
 * so whatever arrives for i + 2 comes after everyone here has waited for i: two places are enough. */
template <int DEPTH> __device__ __forceinline__ void send(shared<DEPTH> &s, const work &o, int pair, uint32_t i, float2 sum)
{
	const uint32_t at = shared_address(&s.squares[i % 2][o.slice * PAIRS + pair][2 * (threadIdx.x % 32)]);
	const uint32_t b = shared_address(&s.norm[i % 2]);

	if (pair == 0 && threadIdx.x % 32 == 0)
		expect(&s.norm[i % 2], sizeof(s.squares[0]));
#pragma unroll
	for (uint32_t rank = 0; rank < SLICES; rank++)
		asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];"
			     :: "r"(in_block(at, rank)), "f"(sum.x), "f"(sum.y), "r"(in_block(b, rank)) : "memory");
}

/* 1 / rms of the tokens 2l and 2l + 1. */
template <int DEPTH> __device__ __forceinline__ float2 receive(shared<DEPTH> &s, const work &o, uint32_t i)
{
	float2 sum = make_float2(0, 0);

	wait(&s.norm[i % 2], i / 2 & 1);
#pragma unroll
	for (int w = 0; w < HEAD_WARPS; w++) {
		const float2 x = *(const float2 *)&s.squares[i % 2][w][2 * (threadIdx.x % 32)];

		sum.x = __fadd_rn(sum.x, x.x);
		sum.y = __fadd_rn(sum.y, x.y);
	}
	sum.x = rsqrtf(__fmaf_rn(sum.x, 1.0f / D, o.g.a.eps));
	sum.y = rsqrtf(__fmaf_rn(sum.y, 1.0f / D, o.g.a.eps));
	return sum;
}

/* Two lanes have a row of the warp's 16 values. */
struct rows {
	size_t first;		/* row of the chunk in the call */
	uint32_t n;
	int column;		/* of the head's part of a row */

	__device__ rows(const work &o, int pair, uint32_t i)
		: first(o.run.row + (size_t)i * C), n(min((uint32_t)C, o.run.n - i * C)),
		  column(o.head * D + o.slice * SLICE + pair * 16 + threadIdx.x % 2 * 8)
	{
	}
	static __device__ int at(int part) { return part * 16 + threadIdx.x % 32 / 2; }
};

/* Straight into the turning tile; rows past the end are zeros. */
__device__ __forceinline__ void load_gate(unsigned char *turn, const work &o, const rows &rows)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const bool valid = rows.at(i) < (int)rows.n;
		const __nv_bfloat16 *from = (const __nv_bfloat16 *)o.g.a.z + (rows.first + (valid ? rows.at(i) : 0)) * o.g.a.ld + rows.column;

		asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
			     :: "r"(shared_address(turn) + narrow_at(rows.at(i), threadIdx.x % 2)),
				"l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0) : "memory");
	}
}

/* bf16((w o r) silu(z)), through the turning tile. */
__device__ __forceinline__ void finish(unsigned char *turn, const work &o, const rows &rows, const float acc[8][4], float2 r,
				       const float w[2])
{
	const int lane = threadIdx.x % 32, m = lane / 8, q = lane % 4;
	uint32_t x[8][2];

	asm volatile("cp.async.wait_all;" ::: "memory");
	__syncwarp();
	load_turned(x, turn);
	__syncwarp();
#pragma unroll
	for (int j = 0; j < 8; j++) {
		const float r0 = __shfl_sync(0xffffffffu, r.x, 4 * j + q), r1 = __shfl_sync(0xffffffffu, r.y, 4 * j + q);

#pragma unroll
		for (int h = 0; h < 2; h++) {
			const float y0 = __fmul_rn(w[h], __fmul_rn(acc[j][2 * h], r0));
			const float y1 = __fmul_rn(w[h], __fmul_rn(acc[j][2 * h + 1], r1));

			x[j][h] = pack_bf16(__fmul_rn(y0, fast_silu(low_bf16(x[j][h]))),
					    __fmul_rn(y1, fast_silu(high_bf16(x[j][h]))));
		}
	}
#pragma unroll
	for (int c = 0; c < 4; c++)
		store4_trans(shared_address(turn) + narrow_at(16 * c + (m >> 1) * 8 + lane % 8, m & 1), x[2 * c][0], x[2 * c][1],
			     x[2 * c + 1][0], x[2 * c + 1][1]);
	__syncwarp();
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const uint4 y = *(const uint4 *)(turn + narrow_at(rows.at(i), lane % 2));

		if (rows.at(i) < (int)rows.n)
			*(uint4 *)((__nv_bfloat16 *)o.g.a.out + (rows.first + rows.at(i)) * o.g.a.v_heads * D + rows.column) = y;
	}
	__syncwarp();
}

/* The plain o, for tests. */
__device__ void store_plain(const work &o, int pair, uint32_t i, const float acc[8][4])
{
	const int lane = threadIdx.x % 32;
	const rows rows(o, pair, i);

#pragma unroll
	for (int j = 0; j < 8; j++)
#pragma unroll
		for (int e = 0; e < 4; e++) {
			const uint32_t t = 8 * j + 2 * (lane % 4) + e % 2;

			if (t < rows.n)
				o.g.a.o[(rows.first + t) * o.g.a.v_heads * D + o.head * D + o.slice * SLICE + pair * 16 +
					e / 2 * 8 + lane / 4] = acc[j][e];
		}
}

/* A chunk's norm is taken up when the next chunk's products are on their way. */
template <int DEPTH> __device__ void output_warp(shared<DEPTH> &s, const work &o, int pair)
{
	const __nv_bfloat16 *norm = (const __nv_bfloat16 *)o.g.a.norm_w + o.slice * SLICE + pair * 16 + threadIdx.x % 32 / 4;
	const float w[2] = { __bfloat162float(norm[0]), __bfloat162float(norm[8]) };
	float last[8][4];

#pragma unroll 1
	for (uint32_t i = 0; i <= o.n_chunks; i++) {
		float acc[8][4];
		float2 r = make_float2(0, 0);

		if (i < o.n_chunks)
			outputs(s, pair, i, acc);
		if (i)
			r = receive(s, o, i - 1);
		if (i < o.n_chunks)
			send(s, o, pair, i, squares(acc));
		if (i)
			finish(s.turn[pair], o, rows(o, pair, i - 1), last, r, w);
		if (i == o.n_chunks)
			break;
		load_gate(s.turn[pair], o, rows(o, pair, i));
		if (o.g.a.o)
			store_plain(o, pair, i, acc);
#pragma unroll
		for (int j = 0; j < 8; j++)
#pragma unroll
			for (int e = 0; e < 4; e++)
				last[j][e] = acc[j][e];
	}
}

/* ---- */

template <int DEPTH> __device__ void init(shared<DEPTH> &s)
{
	for (int i = 0; i < 2; i++) {
		barrier_init(&s.k[i].full, 1);
		barrier_init(&s.k[i].empty, HEAD_WARPS);
		barrier_init(&s.p[i].full, 1);
		barrier_init(&s.p[i].empty, HEAD_WARPS);
	}
	for (int i = 0; i < DEPTH; i++) {
		barrier_init(&s.q[i].full, 1);
		barrier_init(&s.q[i].empty, HEAD_WARPS);
	}
	for (int i = 0; i < PAIRS; i++) {
		barrier_init(&s.s[i].full, 1);
		barrier_init(&s.s[i].empty, 1);
		barrier_init(&s.w[i].full, 1);
		barrier_init(&s.w[i].empty, 1);
	}
	barrier_init(&s.norm[0], 1);
	barrier_init(&s.norm[1], 1);
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

template <int DEPTH> __global__ void __launch_bounds__(THREADS, HOPPER ? 3 - DEPTH : 1) scan_kernel(const __grid_constant__ scan_args g)
{
	extern __shared__ __align__(128) unsigned char memory[];
	shared<DEPTH> &s = *(shared<DEPTH> *)memory;
	const gdn_prefill_run run = g.a.runs[blockIdx.y];
	const work o = { g, run, (run.n + C - 1) / C, (int)blockIdx.x / SLICES, (int)blockIdx.x % SLICES };
	const int warp = threadIdx.x / 32;

	if (threadIdx.x == 0)
		init(s);
	cg::this_cluster().sync();
	chain_wait();
	chain_release();
	if (warp < PAIRS)
		state_warp(s, o, warp);
	else if (warp < 2 * PAIRS)
		output_warp(s, o, warp - PAIRS);
	else
		copying_warp(s, o, warp > 2 * PAIRS);
	__syncwarp();
	cg::this_cluster().sync();	/* nobody leaves while the others copy to it or arrive there */
}

static_assert(sizeof(shared<1>) <= 99 * 1024, "every GPU that Hearth is for has 99 KB");

/* What the GPU at hand can do; asked once. */
struct chip {
	bool hopper;
	int deep_clusters;	/* of the deep form, at a time */
	int rc;

	chip() : hopper(false), deep_clusters(0), rc(0)
	{
		cudaLaunchAttribute attribute = {};
		cudaLaunchConfig_t c = {};
		int device, major;

		if (cudaGetDevice(&device) != cudaSuccess ||
		    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
		    cudaFuncSetAttribute(scan_kernel<1>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(shared<1>)) != cudaSuccess) {
			rc = -ENODEV;
			return;
		}
		hopper = major == 9;
		if (!hopper)
			return;
		attribute.id = cudaLaunchAttributeClusterDimension;
		attribute.val.clusterDim = { SLICES, 1, 1 };
		c.gridDim = dim3(SLICES);
		c.blockDim = dim3(THREADS);
		c.dynamicSmemBytes = sizeof(shared<2>);
		c.attrs = &attribute;
		c.numAttrs = 1;
		if (cudaFuncSetAttribute(scan_kernel<2>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(shared<2>)) != cudaSuccess ||
		    cudaOccupancyMaxActiveClusters(&deep_clusters, scan_kernel<2>, &c) != cudaSuccess)
			rc = -ENODEV;
	}
};

} /* namespace */

int scan(const struct gdn_prefill_args *a, cudaStream_t stream)
{
	static const chip chip;
	const dim3 grid(a->v_heads * SLICES, a->n_runs);
	uint32_t form = a->form;

	if (chip.rc)
		return chip.rc;
	if (form > GDN_SCAN_PLAIN && !chip.hopper)
		return -EINVAL;
	if (form == GDN_SCAN_AUTO)	/* one wave: look further ahead; more: two blocks a multiprocessor */
		form = !chip.hopper						? GDN_SCAN_PLAIN
		       : a->v_heads * a->n_runs <= (uint32_t)chip.deep_clusters ? GDN_SCAN_DEEP
										: GDN_SCAN_LEAN;
	const scan_args args = { *a, form != GDN_SCAN_PLAIN };

	if (form == GDN_SCAN_DEEP)
		return chain_launch(scan_kernel<2>, grid, THREADS, sizeof(shared<2>), SLICES, stream, args);
	return chain_launch(scan_kernel<1>, grid, THREADS, sizeof(shared<1>), SLICES, stream, args);
}

} /* namespace gdn */
