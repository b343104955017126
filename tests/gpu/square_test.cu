/* square_test.cu - what lets the square form (decode_square.cuh) stand beside the narrow one: wgmma and
 * mma.sync give the same bits, and so do both forms, every layout and launch of them, with numbers that
 * are hard to add: exponents far apart inside a step, cancellation, products below the normal range.
 *
 *	square_test [REPEATS]	launches of each layout, 300 if not given
 *	square_test --few	one, of one shape: for the sanitizers
 *
 * Nothing here overlaps with its neighbours; again_test does.  Exits 77 without a GPU. */
#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/prefill_matmul.h"
#include "kernels/cuda/wgmma_weights.cuh"
#include "tests/gpu/gpu_test.h"

static bool few;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define WGMMA_HERE 1
#else
#define WGMMA_HERE 0
#endif

/* ---- one instruction beside the other ------------------------------------------------------- */

enum kind { NEAR, FAR, CANCEL, TINY, WILD, KINDS };
static const char *const kind_names[KINDS] = { "near", "far", "cancel", "tiny", "wild" };
static const uint32_t STEPS = 4, THREADS = 128;	/* of 16 columns: a row of 128 bytes */

static __host__ __device__ uint32_t hash(uint32_t a, uint32_t b)
{
	uint32_t h = a * 0x9e3779b1u ^ (b + 0x85ebca6bu) * 0xc2b2ae35u;

	h = (h ^ h >> 15) * 0x2c1b3c6du;
	h = (h ^ h >> 12) * 0x297a2d39u;
	return h ^ h >> 15;
}

/* A bfloat16 with an exponent up to `spread` away from 2^middle. */
static __host__ __device__ uint32_t bits_of(uint32_t h, int middle, int spread)
{
	const int exponent = 127 + middle + (int)((h >> 16) % (2 * (uint32_t)spread + 1)) - spread;

	return (h & 0x807f) | (uint32_t)exponent << 7;
}

static __device__ uint32_t number(enum kind kind, uint32_t seed, uint32_t at, bool weight)
{
	if (kind == CANCEL) {	/* neighbours: w x - w' x, w' differs in the last bit, or not at all */
		const uint32_t v = bits_of(hash(seed, at & ~1u), 0, 6);

		return weight && at % 2 ? v ^ 0x8000 ^ (at / 2 % 3 == 0) : v;
	}
	return kind == NEAR ? bits_of(hash(seed, at), 0, 1) :
	       kind == FAR  ? bits_of(hash(seed, at), 0, 14) :
	       kind == TINY ? bits_of(hash(seed, at), -66, 6) :	/* products from 2^-144 to 2^-120 */
			      bits_of(hash(seed, at), 0, 58);
}

static __device__ uint32_t pair(enum kind kind, uint32_t seed, uint32_t row, uint32_t k, bool weight)
{
	const uint32_t at = row * STEPS * 16 + k;

	return number(kind, seed, at, weight) | number(kind, seed, at + 1, weight) << 16;
}

/* N columns of x, [n][STEPS * 16], as wgmma_rows() wants them. */
template <int N> static __device__ void put_columns(enum kind kind, uint32_t seed, char *x)
{
	for (uint32_t i = threadIdx.x; i < N * 32; i += THREADS) {
		const uint32_t n = i / 32, k = i % 32 * 2;

		*(uint32_t *)(x + n * 128 + ((k / 8) ^ (n % 8)) * 16 + k % 8 * 2) = pair(kind, seed, n, k, false);
	}
}

/* The lane's part of 64 rows of weights; with both instructions it is the same. */
static __device__ void take_rows(enum kind kind, uint32_t seed, struct frag (&f)[STEPS])
{
	const uint32_t lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 + lane / 4;

#pragma unroll
	for (uint32_t s = 0; s < STEPS; s++) {
		const uint32_t k = s * 16 + lane % 4 * 2;

		f[s] = { pair(kind, seed, row, k, true), pair(kind, seed, row + 8, k, true),
			 pair(kind, seed, row, k + 8, true), pair(kind, seed, row + 8, k + 8, true) };
	}
}

/* Any number to add to: not one of bfloat16. */
static __device__ float some_sum(enum kind kind, uint32_t seed, uint32_t i)
{
	const uint32_t h = hash(seed, threadIdx.x * 64 + i);
	const uint32_t top = kind == TINY ? bits_of(hash(h, 1), -120, 6) : number(kind, seed, h % 0xffff, false);

	return __uint_as_float(top << 16 | (h & 0xffff));
}

template <int N>
static __device__ __forceinline__ void by_wgmma(uint32_t x, const struct frag (&f)[STEPS], float (&sum)[N / 2])
{
#if WGMMA_HERE
	wgmma_fence();
#pragma unroll
	for (uint32_t s = 0; s < STEPS; s++) {
		if constexpr (N == 16)
			wgmma_64x16(sum, f[s], wgmma_rows(x + s * 32));
		else if constexpr (N == 32)
			wgmma_64x32(sum, f[s], wgmma_rows(x + s * 32));
		else
			wgmma_64x64(sum, f[s], wgmma_rows(x + s * 32));
	}
	wgmma_commit();
	wgmma_wait<0>(sum);
#endif
}

/* REVERSED: the steps the other way round. */
template <int N, bool REVERSED>
static __device__ __forceinline__ void by_mma(enum kind kind, uint32_t seed, const struct frag (&f)[STEPS],
					      float (&sum)[N / 2])
{
	const uint32_t lane = threadIdx.x % WARP;

#pragma unroll
	for (uint32_t step = 0; step < STEPS; step++)
#pragma unroll
		for (int t = 0; t < N / 8; t++) {
			const uint32_t at = REVERSED ? STEPS - 1 - step : step;
			const uint32_t n = 8 * (uint32_t)t + lane / 4, k = at * 16 + lane % 4 * 2;

			mma(sum + 4 * t, &f[at], pair(kind, seed, n, k, false), pair(kind, seed, n, k + 8, false));
		}
}

/* 64 rows times N, STEPS steps on top of zero or of any number.  REVERSED: mma.sync takes the steps the
 * other way round, which has to be seen. */
template <int N, bool FROM_ZERO, bool REVERSED>
__global__ void __launch_bounds__(THREADS)
	both_kernel(enum kind kind, uint32_t rounds, unsigned long long *differ)
{
	__shared__ __align__(1024) char x[N * 128];

	for (uint32_t round = 0; round < rounds; round++) {
		const uint32_t seed = hash(blockIdx.x, round), x_seed = seed + 1;
		float sum[N / 2], other[N / 2];
		struct frag f[STEPS];
		uint32_t here = 0;

		put_columns<N>(kind, x_seed, x);
		take_rows(kind, seed, f);
#pragma unroll
		for (int i = 0; i < N / 2; i++)
			sum[i] = other[i] = FROM_ZERO ? 0 : some_sum(kind, seed + 2, (uint32_t)i);
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		__syncthreads();
		by_wgmma<N>(smem_address(x), f, sum);
		by_mma<N, REVERSED>(kind, x_seed, f, other);
#pragma unroll
		for (int i = 0; i < N / 2; i++)
			here += __float_as_uint(sum[i]) != __float_as_uint(other[i]);
		if (here)
			atomicAdd(differ, here);
		__syncthreads();
	}
}

template <int N, bool FROM_ZERO, bool REVERSED = false>
static unsigned long long both(enum kind kind)
{
	array<unsigned long long> differ(1);
	const uint32_t blocks = few ? 8 : 528, rounds = few ? 2 : 64;

	differ.h[0] = 0;
	differ.up();
	both_kernel<N, FROM_ZERO, REVERSED><<<blocks, THREADS>>>(kind, rounds, differ.d);
	CUDA(cudaGetLastError());
	CUDA(cudaDeviceSynchronize());
	differ.down();
	printf("  64x%d, %s, on %s%s: %llu of %llu sums differ\n", N, kind_names[kind],
	       FROM_ZERO ? "zero" : "a number", REVERSED ? ", steps the other way round" : "", differ.h[0],
	       (unsigned long long)blocks * rounds * 64 * N);
	return differ.h[0];
}

static void instructions(void)
{
	unsigned long long differ = 0;

	for (int i = 0; i < KINDS; i++) {
		const enum kind kind = (enum kind)i;

		differ += both<16, true>(kind) + both<16, false>(kind) + both<32, true>(kind) +
			  both<32, false>(kind) + both<64, true>(kind) + both<64, false>(kind);
	}
	claim("wgmma_and_mma_sync_give_the_same_bits", !differ);
	claim("another_order_of_steps_is_seen", both<64, true, true>(FAR) > 0);
}

/* ---- one form beside the other -------------------------------------------------------------- */

__global__ void compare_kernel(const uint32_t *got, const uint32_t *want, size_t n, uint32_t *differ)
{
	uint32_t here = 0;

	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += gridDim.x * (size_t)blockDim.x)
		here += got[i] != want[i];
	if (here)
		atomicAdd(differ, here);
}

/* Launches of one kind, and how many of them were wrong. */
struct tries {
	uint32_t asked, skipped, wrong;
};

/* One layout `repeats` times against what is wanted. */
static bool layout(const struct matmul_params &p, enum matmul_format f, const struct square_layout &l, uint32_t repeats,
		   const array<float> &y, const array<float> &want, struct tries *tries)
{
	const size_t n = (size_t)p.n_cols * p.n;
	const int rc = matmul_launch_square_as(&p, f, &l, NULL);
	array<uint32_t> differ(1);
	bool ok = true;

	if (rc) {	/* split: more slices of a block, or fewer than blocks, or no room: -EINVAL */
		tries->skipped++;
		return rc == -EINVAL;
	}
	for (uint32_t i = 0; i < repeats; i++, tries->asked++) {
		CUDA(cudaMemsetAsync(y.d, 0xee, n * 4));
		CUDA(cudaMemsetAsync(differ.d, 0, 4));
		ok &= matmul_launch_square_as(&p, f, &l, NULL) == 0;
		compare_kernel<<<264, 256>>>((const uint32_t *)y.d, (const uint32_t *)want.d, n, differ.d);
		differ.down();
		tries->wrong += differ.h[0] != 0;
		if (differ.h[0] && tries->wrong <= 3)
			printf("  %s %u x %u, %u rows, %d tiles %d blocks%s%s: %u of %zu differ\n",
			       matmul_format_name(f), p.n, p.k, p.n_cols, l.tiles, l.cluster,
			       l.split ? " split" : "", p.x_ordered ? " in order" : "", differ.h[0], n);
	}
	return ok;
}

/* Every layout, with x in both orders, `repeats` times at 16 to 64 rows: the narrow form's bits, and nothing left out. */
static bool forms(enum matmul_format f, uint32_t n, uint32_t k, uint32_t repeats)
{
	static const struct square_layout layouts[] = {
		{ 6, 2, false, 2, 0 }, { 8, 2, false, 2, 0 }, { 5, 2, false, 4, 8 }, { 1, 2, false, 2, 4 },
		{ 6, 2, false, 3, 0 }, { 2, 2, true, 0, 0 },  { 8, 8, true, 0, 0 },  { 9, 8, true, 0, 0 },
		{ 5, 4, true, 0, 0 },  { 3, 2, true, 0, 0 },  { 12, 4, true, 0, 0 },
	};
	const size_t most = 64;
	array<uint32_t> w(matmul_packed_bytes(f, n, k) / 4);
	array<uint16_t> x(most * k), x_ordered(most * k);
	array<float> y(most * n), want(most * n);
	bool ok = true;

	for (size_t i = 0; i < w.h.size(); i++) {
		const uint32_t h = hash(1, (uint32_t)i);

		w.h[i] = f == MATMUL_BF16 ? bits_of(h, 0, 8) | bits_of(hash(h, 2), 0, 8) << 16 : h & 0xbfbfbfbf;
	}
	for (size_t i = 0; i < x.h.size(); i++)
		x.h[i] = (uint16_t)bits_of(hash(3, (uint32_t)i), 0, 12);
	for (size_t i = 0; i < x.h.size(); i++)
		x_ordered.h[i / k * k + prefill_column((uint32_t)(i % k))] = x.h[i];
	w.up();
	x.up();
	x_ordered.up();
	for (uint32_t rows : { 16u, 24u, 25u, 33u, 64u }) {
		if (few && rows % 8 != 0)
			continue;
		decode_matmul_args a = {};
		struct tries tries = {};

		a.w = w.d;
		a.x = x.d;
		a.y = want.d;
		a.n_rows = rows;
		a.n = a.ldy = n;
		a.k = a.ldx = k;
		a.format = f;
		a.form = MATMUL_NARROW;
		ok &= decode_matmul(&a, NULL) == 0;
		a.y = y.d;
		struct matmul_params p = matmul_params_of(&a);

		for (const struct square_layout &l : layouts)
			for (int ordered = 0; ordered < 2; ordered++) {
				if (few && l.tiles != (l.split ? 2 : 8))	/* README.md: racecheck, tall */
					continue;
				p.x_ordered = ordered;
				p.x = (const __nv_bfloat16 *)(ordered ? x_ordered.d : x.d);
				ok &= layout(p, f, l, repeats, y, want, &tries);
			}
		printf("  %s %u x %u, %u rows: %u of %u launches differ, %u layouts do not fit\n",
		       matmul_format_name(f), n, k, rows, tries.wrong, tries.asked, tries.skipped);
		ok &= tries.asked && !tries.wrong && y.guarded();
	}
	return ok;
}

int main(int argc, char **argv)
{
	const uint32_t repeats = argc > 1 ? (uint32_t)std::max(atoi(argv[1]), 1) : 300;
	cudaDeviceProp is;

	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	CUDA(cudaGetDeviceProperties(&is, 0));
	if (is.major != 9) {
		printf("no wgmma here\n");
		return 77;
	}
	instructions();
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8 }) {
		char name[64];
		bool ok = true;

		for (const auto &s : (const uint32_t[][2]){ { 2048, 512 }, { 12352, 2048 }, { 9216, 2048 },
							     { 2048, 4096 }, { 1281, 2048 }, { 80000, 2048 } }) {
			if (few)
				break;
			ok &= forms(f, s[0], s[1], repeats);
		}
		/* Blocks with one slice beside blocks with two: five slices, seven, nine to fifteen. */
		for (uint32_t slices : { 5u, 7u, 9u, 10u, 11u, 12u, 13u, 14u, 15u })
			if (!few || slices == 5)
				ok &= forms(f, few ? 256 : 272, slices * MATMUL_SLICE - slices % 2 * 64, std::min(repeats, 20u));
		snprintf(name, sizeof(name), "square_has_the_bits_of_narrow_%s", matmul_format_name(f));
		claim(name, ok);
	}
	return n_failed ? 1 : 0;
}
