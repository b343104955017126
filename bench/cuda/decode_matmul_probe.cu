/* decode_matmul_probe.cu - how near the decode matrix kernels come to the read roof, as markdown.
 *
 *	decode_matmul_probe [--sweep] > table.md
 *	decode_matmul_probe --only MATRIX FORMAT ROWS	(for ncu; MATRIX as "head" or "down")
 *
 * Every time is the median of replays of a CUDA graph of several launches, each on another
 * copy of the weights, so that L2 serves none of them; nothing overlaps between the
 * launches.  The roof is a plain read of 4 GiB measured in the same run.  Beside each cell stand
 *  - "same bytes": a plain read kernel over as many bytes as the cell must read, launched
 *    the same way: what start, ramp and tail of one launch leave of the roof;
 *  - "free": the fastest kernel here that is not held to the order of sums: the wide form without
 *    slices in every layout, and for one BF16 row an ordinary GEMV.
 * --sweep prints every layout of every cell to stderr.
 */
#include <string.h>
#include <time.h>

#include <string>

#include "bench/cuda/given_list.h"
#include "bench/cuda/replay.cuh"
#include "kernels/cuda/decode_wide.cuh"

#define ARENA (4ull << 30)
#define MAX_COPIES 24

static bool sweep;
static char **only;	/* MATRIX, FORMAT, ROWS, or NULL */
static char *arena;
static double roof;	/* bytes/s */
static double mma_peak;	/* flop/s */

/* ---- yardsticks ---------------------------------------------------------------- */

__global__ void __launch_bounds__(256) mma_kernel(float *sink, int n)
{
	float acc[8][4] = {};
	struct frag f = { threadIdx.x * 7919u & 0x3f803f80, 0x3f803f80, 0x3f813f82, 0x3e803f80 };

	for (int i = 0; i < n; i++)
#pragma unroll
		for (int j = 0; j < 8; j++)
			mma(acc[j], &f, 0x3c003c00 + threadIdx.x + j, 0xbc003c00 + threadIdx.x);
	if (acc[0][0] + acc[1][1] + acc[2][2] + acc[3][3] + acc[4][0] + acc[5][1] + acc[6][0] +
		    acc[7][2] ==
	    1.5f)
		*sink = acc[0][0];
}

/* y = W x for one row by FMA, a warp per two rows: nothing but a GEMV. */
template <int K>
__global__ void __launch_bounds__(256)
	gemv_kernel(const char *w, const __nv_bfloat16 *x, float *y, uint32_t n)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	float2 v[K / 256][4];

#pragma unroll
	for (int i = 0; i < K / 256; i++) {
		uint4 u = __ldg((const uint4 *)x + i * 32 + lane);
		const __nv_bfloat162 *h = (const __nv_bfloat162 *)&u;
#pragma unroll
		for (int j = 0; j < 4; j++)
			v[i][j] = __bfloat1622float2(h[j]);
	}
	for (uint32_t r = blockIdx.x * 8 + warp; r < n; r += gridDim.x * 8) {
		const uint4 *from = (const uint4 *)(w + (size_t)r * K * 2) + lane;
		uint4 u[K / 256];
		float sum = 0;

#pragma unroll
		for (int i = 0; i < K / 256; i++)
			u[i] = load_weights<true>(from + i * 32);
#pragma unroll
		for (int i = 0; i < K / 256; i++) {
			const __nv_bfloat162 *h = (const __nv_bfloat162 *)&u[i];
#pragma unroll
			for (int j = 0; j < 4; j++) {
				float2 a = __bfloat1622float2(h[j]);

				sum = __fmaf_rn(a.x, v[i][j].x, sum);
				sum = __fmaf_rn(a.y, v[i][j].y, sum);
			}
		}
		for (int d = 16; d; d /= 2)
			sum += __shfl_xor_sync(~0u, sum, d);
		if (!lane)
			y[r] = sum;
	}
}

__global__ void fill_kernel(uint32_t *p, size_t n, bool bf16)
{
	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
	     i += (size_t)gridDim.x * blockDim.x) {
		uint64_t h = (i + 1) * 0x9e3779b97f4a7c15ull;

		h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
		h ^= h >> 32;
		/* bfloat16 between 2^-7 and 2. */
		p[i] = bf16 ? ((uint32_t)h & 0x83ff83ff) | 0x3c003c00 : (uint32_t)h;
	}
}

__global__ void fp8_tail_kernel(char *p, size_t n_units)
{
	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n_units;
	     i += (size_t)gridDim.x * blockDim.x)
		*(float4 *)(p + (i + 1) * MATMUL_FP8_UNIT - 16) = make_float4(0.01f, 0.02f, 0, 0);
}

static void fill(enum matmul_format f)
{
	fill_kernel<<<2048, 256, 0, stream>>>((uint32_t *)arena, ARENA / 4, f == MATMUL_BF16);
	if (f == MATMUL_FP8)
		fp8_tail_kernel<<<1024, 256, 0, stream>>>(arena, ARENA / MATMUL_FP8_UNIT);
	CUDA(cudaStreamSynchronize(stream));
}

static void measure_yardsticks(void)
{
	float *sink;
	double t;

	fill(MATMUL_BF16);
	roof = read_roof(arena, ARENA);
	CUDA(cudaMalloc(&sink, 4));
	t = time_launches(1, [&](int) {
		mma_kernel<<<device_sms() * 4, 256, 0, stream>>>(sink, 2000);
		return 0;
	});
	mma_peak = device_sms() * 4.0 * 8 * 2000 * 8 * 4096 / t;
	CUDA(cudaFree(sink));
}

/* ---- a cell ------------------------------------------------------------------- */

struct cell {
	std::string what;
	enum matmul_format format;
	uint32_t rows, n, k;
	double read, written;	/* bytes of one launch */
	double flop;
	double ours, same_bytes, free;
	std::string free_name;
};

static void cell_print(const struct cell *c)
{
	double bytes = c->read + c->written;

	printf("| %s | %s | %u | %.1f | %.2f | %.2f | **%.2f** | %.2f | %.2f | %s %.2f | %+.0f %% "
	       "| %.2f |\n",
	       c->what.c_str(), matmul_format_name(c->format), c->rows, bytes / 1e6,
	       bytes / roof * 1e6, c->ours * 1e6, bytes / roof / c->ours, c->same_bytes * 1e6,
	       c->same_bytes / c->ours, c->free_name.c_str(), c->free * 1e6,
	       (c->ours / c->free - 1) * 100, c->flop / mma_peak * 1e6);
	fflush(stdout);
}

static double time_same_bytes(double bytes, int copies, int launches)
{
	size_t each = (size_t)bytes / 256 * 256;
	double best = 1e9;

	for (int per_sm : { 1, 2, 4 })
		best = std::min(best, time_launches(launches, [&](int i) {
					return read_launch(arena + i % copies * each, each, per_sm);
				}));
	return best;
}

static void free_is(struct cell *c, double t, const char *name)
{
	if (t == t && (!(c->free > 0) || t < c->free)) {
		c->free = t;
		c->free_name = name;
	}
}

static bool skipped(const char *what, enum matmul_format f, uint32_t rows)
{
	return only && (!strstr(what, only[0]) || strcmp(matmul_format_name(f), only[1]) ||
			(uint32_t)atoi(only[2]) != rows);
}

/* ---- dense -------------------------------------------------------------------- */

static __nv_bfloat16 *x_all;	/* random, large enough for every x */
static char *y_all;

template <enum matmul_format F, int MT, int NT>
static int free_wide_launch(struct matmul_params p, const struct wide_layout *l)
{
	auto kernel = wide_kernel<F, MT, NT, false>;
	const size_t shared = wide_shared<MT, NT>(l->m_warps, l->k_warps);
	const uint32_t tiles = l->m_warps * MT;

	p.m_warps = l->m_warps;
	p.k_warps = l->k_warps;
	if (shared > SHARED_MAX || l->m_warps * l->k_warps > wide_warps<F, MT, NT> ||
	    (uint32_t)l->k_warps > p.n_slices)
		return -EINVAL;
	CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				  (int)shared));
	kernel<<<dim3((p.n_cols + 8 * NT - 1) / (8 * NT), (p.n_tiles + tiles - 1) / tiles),
		 l->m_warps * l->k_warps * 32, shared, stream>>>(p);
	return 0;
}

template <enum matmul_format F>
static int free_wide(const struct matmul_params &p, const struct wide_layout *l)
{
	if (l->tiles == 1)
		return l->col_tiles == 4 ? free_wide_launch<F, 1, 4>(p, l)
					 : free_wide_launch<F, 1, 8>(p, l);
	if constexpr (F == MATMUL_NVFP4)
		return l->col_tiles == 8 ? free_wide_launch<F, 2, 8>(p, l) : -EINVAL;
	return -EINVAL;
}

static int free_wide_of(enum matmul_format f, const struct matmul_params &p,
			const struct wide_layout *l)
{
	switch (f) {
	case MATMUL_BF16: return free_wide<MATMUL_BF16>(p, l);
	case MATMUL_FP8: return free_wide<MATMUL_FP8>(p, l);
	default: return free_wide<MATMUL_NVFP4>(p, l);
	}
}

/* Calls with every layout worth a look. */
static void each_layout(const std::function<void(const struct wide_layout *)> &call)
{
	for (int mt : { 1, 2 })
		for (int nt : { 4, 8 })
			for (int mw : { 2, 3, 4, 5, 6 })
				for (int kw : { 1, 2, 4 })
					if (mw * kw >= 4 && mw * kw <= WIDE_WARPS) {
						struct wide_layout l = { mt, nt, mw, kw };

						call(&l);
					}
}

static void dense_cell(const char *what, enum matmul_format f, uint32_t n, uint32_t k,
		       uint32_t rows, enum matmul_out out)
{
	const size_t bytes = (matmul_packed_bytes(f, n, k) + 255) / 256 * 256;
	const int copies = (int)std::min<size_t>(MAX_COPIES, ARENA / bytes),
		  launches = std::max(copies, 8);
	struct decode_matmul_args a = {};
	struct cell c = {};

	if (skipped(what, f, rows))
		return;
	a.x = x_all;
	a.y = y_all;
	a.n_rows = rows;
	a.n = a.ldy = n;
	a.k = a.ldx = k;
	a.format = f;
	a.out = out;
	c.what = what;
	c.format = f;
	c.rows = rows;
	c.read = (double)matmul_packed_bytes(f, n, k) + (double)rows * k * 2;
	c.written = (double)rows * n * (out == MATMUL_OUT_BF16 ? 2 : 4);
	c.flop = 2.0 * ((rows + 7) / 8 * 8) * n * k;
	auto with = [&](enum matmul_form form) {
		return time_launches(launches, [&](int i) {
			a.w = arena + i % copies * bytes;
			a.form = form;
			return decode_matmul(&a, stream);
		});
	};
	c.ours = with(MATMUL_AUTO);
	if (only) {
		printf("%s %s %u: %.2f us\n", what, only[1], rows, c.ours * 1e6);
		return;
	}
	c.same_bytes = time_same_bytes(c.read, copies, launches);
	each_layout([&](const struct wide_layout *l) {
		struct matmul_params p = matmul_params_of(&a);
		char name[64];
		double exact, free;

		if (n > 100000 && !(l->m_warps >= 4 && l->k_warps <= 2))
			return;
		snprintf(name, sizeof(name), "%dx%d %dx%d", l->tiles * 16, l->col_tiles * 8,
			 l->m_warps, l->k_warps);
		free = time_launches(launches, [&](int i) {
			p.w = arena + i % copies * bytes;
			return free_wide_of(f, p, l);
		});
		free_is(&c, free, name);
		if (!sweep || free != free)
			return;
		exact = time_launches(launches, [&](int i) {
			p.w = arena + i % copies * bytes;
			return matmul_launch_wide_as(&p, f, l, stream);
		});
		fprintf(stderr, "%s|%s|%u|%s|%.2f|%.2f\n", what, matmul_format_name(f), rows, name,
			exact * 1e6, free * 1e6);
	});
	if (sweep)
		fprintf(stderr, "%s|%s|%u|auto|%.2f|0\n%s|%s|%u|narrow|%.2f|0\n", what,
			matmul_format_name(f), rows, c.ours * 1e6, what, matmul_format_name(f),
			rows, with(MATMUL_NARROW) * 1e6);
	if (rows == 1 && f == MATMUL_BF16)
		for (int per_sm : { 1, 2, 4, 8 })
			free_is(&c, time_launches(launches, [&](int i) {
					const char *w = arena + i % copies * bytes;
					unsigned blocks = std::min(
						(n + 7) / 8, (uint32_t)(device_sms() * per_sm));

					if (k == 2048)
						gemv_kernel<2048><<<blocks, 256, 0, stream>>>(
							w, x_all, (float *)y_all, n);
					else
						gemv_kernel<4096><<<blocks, 256, 0, stream>>>(
							w, x_all, (float *)y_all, n);
					return 0;
				}), "gemv");
	cell_print(&c);
}

/* ---- experts ------------------------------------------------------------------ */

#define EXPERTS 256
#define SLOTS 8
#define ROUTINGS 16

static void routing(std::vector<uint32_t> *ids, uint32_t rows, int launch)
{
	std::vector<uint32_t> all(EXPERTS);

	ids->clear();
	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t i = 0; i < EXPERTS; i++)
			all[i] = (i * 97 + 13) % EXPERTS;
		for (int s = 0; s < SLOTS; s++) {
			if (rows > 1)
				std::swap(all[s], all[s + rand() % (EXPERTS - s)]);
			/* A single row takes other experts in every launch. */
			ids->push_back(rows > 1 ? all[s] : all[launch * SLOTS + s]);
		}
	}
}

static void experts_cell(const char *what, enum matmul_format f, uint32_t n, uint32_t k,
			 uint32_t rows, bool per_slot)
{
	struct expert_list lists[ROUTINGS];
	struct decode_experts_args a = {};
	struct cell c = {};
	std::vector<uint32_t> ids;
	double distinct = 0;
	void *mem[ROUTINGS];

	if (skipped(what, f, rows))
		return;
	srand(rows);
	for (int i = 0; i < ROUTINGS; i++) {
		bool hit[EXPERTS] = {};

		routing(&ids, rows, i);
		for (uint32_t e : ids)
			hit[e] = true;
		distinct += std::count(hit, hit + EXPERTS, true) / (double)ROUTINGS;
		CUDA(cudaMalloc(&mem[i], expert_list_bytes(rows, SLOTS, EXPERTS)));
		lists[i] = expert_list_at(mem[i], rows, SLOTS, EXPERTS);
		CUDA(given_list(ids, EXPERTS, &lists[i]));
	}
	a.x = x_all;
	a.y = (float *)y_all;
	a.n_rows = rows;
	a.n_slots = SLOTS;
	a.n_experts = EXPERTS;
	a.n = a.ldy = n;
	a.k = a.ldx = k;
	a.x_per_slot = per_slot;
	a.format = f;
	c.what = what;
	c.format = f;
	c.rows = rows;
	c.read = distinct * matmul_packed_bytes(f, n, k) +
		 (double)rows * k * 2 * (per_slot ? SLOTS : 1);
	c.written = (double)rows * SLOTS * n * 4;
	c.flop = 2.0 * std::max(8.0 * distinct, (double)rows * SLOTS) * n * k;
	/* Alternate between "layers" where the arena holds several. */
	const size_t layer = matmul_packed_bytes(f, n, k) * EXPERTS;
	const int layers = (int)std::min<size_t>(4, ARENA / layer);
	c.ours = time_launches(ROUTINGS, [&](int i) {
		a.w = arena + i % layers * layer;
		a.list = &lists[i];
		return decode_experts(&a, stream);
	});
	if (only) {
		printf("%s %s %u: %.2f us\n", what, only[1], rows, c.ours * 1e6);
		return;
	}
	c.same_bytes = time_same_bytes(
		c.read, (int)std::min<size_t>(MAX_COPIES, ARENA / (size_t)c.read), ROUTINGS);
	c.free = c.same_bytes;
	c.free_name = "read";
	cell_print(&c);
	if (per_slot && f == MATMUL_BF16) {
		struct experts_combine_args m = {
			(float *)y_all, (float *)x_all, x_all, y_all + (64 << 20), rows, SLOTS, n};
		double combine =
			time_launches(ROUTINGS, [&](int) { return experts_combine(&m, stream); });

		fprintf(stderr, "rows %u: %.1f experts hit; combination %.2f us\n", rows, distinct,
			combine * 1e6);
	}
	for (void *m : mem)
		CUDA(cudaFree(m));
}

static void say(const char *command)
{
	FILE *f = popen(command, "r");
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		printf("%s", line);
	if (f)
		pclose(f);
}

int main(int argc, char **argv)
{
	static const uint32_t counts[] = { 1, 8, 24, 64, 200 };
	static const struct {
		const char *what;
		uint32_t n, k;
		enum matmul_out out;
	} shapes[] = {
		{ "GDN in 12352 x 2048", 12352, 2048, MATMUL_OUT_BF16 },
		{ "attention in 9216 x 2048", 9216, 2048, MATMUL_OUT_BF16 },
		{ "out 2048 x 4096", 2048, 4096, MATMUL_OUT_F32 },
		{ "head 248320 x 2048", 248320, 2048, MATMUL_OUT_F32 },
	};
	int devices = 0;
	time_t now = time(NULL);

	sweep = argc > 1 && !strcmp(argv[1], "--sweep");
	if (argc == 5 && !strcmp(argv[1], "--only"))
		only = argv + 2;
	if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
		fprintf(stderr, "no GPU here\n");
		return 77;
	}
	CUDA(cudaStreamCreate(&stream));
	CUDA(cudaMalloc(&arena, ARENA));
	CUDA(cudaMalloc(&read_sink, 4));
	CUDA(cudaMalloc(&x_all, 64 << 20));
	CUDA(cudaMalloc(&y_all, 320 << 20));
	fill_kernel<<<1024, 256, 0, stream>>>((uint32_t *)x_all, 16 << 20, true);
	fill_kernel<<<1024, 256, 0, stream>>>((uint32_t *)y_all, 80 << 20, true);
	measure_yardsticks();
	printf("Date: %s", ctime(&now));
	printf("GPU, driver, clocks now (SM, memory), power: ");
	fflush(stdout);
	say("nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.draw "
	    "--format=csv,noheader");
	printf("Read roof %.2f TB/s (4 GiB), mma.sync m16n8k16 bf16 %.0f TFLOP/s from "
	       "registers\n\n",
	       roof / 1e12, mma_peak / 1e12);
	printf("| matrix | format | rows | MB | at the roof us | measured us | of the roof | same "
	       "bytes us | "
	       "of same bytes | free us | cost of order | mma alone us |\n"
	       "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|\n");
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_NVFP4, MATMUL_FP8 }) {
		fill(f);
		for (auto &s : shapes)
			for (uint32_t rows : counts)
				dense_cell(s.what, f, s.n, s.k, rows, s.out);
		for (uint32_t rows : counts)
			experts_cell("experts gate/up 1024 x 2048", f, 1024, 2048, rows, false);
		for (uint32_t rows : counts)
			experts_cell("experts down 2048 x 512", f, 2048, 512, rows, true);
	}
	printf("\n");
	say("nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw,clocks_throttle_reasons.active "
	    "--format=csv,noheader");
	return 0;
}
