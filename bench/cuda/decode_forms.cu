/* decode_forms.cu - the decode matrices of Qwen3.6-35B-A3B in every form that can do them, side by
 * side, in under a minute.
 *
 *	decode_forms [bf16|fp8|nvfp4] [ROWS]		all formats and row counts if not given
 *
 * A line is a cell: what, format, rows, MB that must move, us at the read roof, then us and the
 * fraction of the roof for each form.  Times are medians of replays of a graph of launches in a
 * row, overlapping as in a step, each on another copy of the weights: L2 serves none.  Every
 * form of a cell is timed in the same second; "auto" is what a step takes, x in the order of steps where
 * it wants that.
 */
#include <string.h>

#include "bench/cuda/given_list.h"
#include "bench/cuda/replay.cuh"
#include "kernels/cuda/decode_matmul_int.cuh"

#define ARENA (3ull << 30)
#define EXPERTS 256
#define SLOTS 8
#define LAUNCHES 12

static char *arena, *y_all;
static __nv_bfloat16 *x_all;
static float *scales;
static double roof;	/* bytes/s */

struct form_name {
	enum matmul_form form;
	const char *name;
};

/* Bits of which bfloat16 are between 2^-7 and 2, e4m3 no NaN, and NVFP4 anything. */
__global__ void fill_kernel(uint32_t *p, size_t n)
{
	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
	     i += (size_t)gridDim.x * blockDim.x) {
		uint64_t h = (i + 1) * 0x9e3779b97f4a7c15ull;

		h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
		p[i] = ((uint32_t)(h >> 32) & 0x83ff83ff) | 0x3c003c00;
	}
}

static void cell(const char *what, enum matmul_format f, uint32_t rows, double bytes,
		 const std::vector<form_name> &forms,
		 const std::function<int(enum matmul_form, int)> &launch)
{
	printf("%-22s %-5s %3u rows %7.1f MB roof %6.1f us |", what, matmul_format_name(f), rows,
	       bytes / 1e6, bytes / roof * 1e6);
	for (const form_name &n : forms) {
		const double t = time_launches(LAUNCHES, [&](int i) { return launch(n.form, i); });

		if (t == t)
			printf(" %s %.1f us (%.2f, %.0f GB/s)", n.name, t * 1e6, bytes / roof / t,
			       bytes / t / 1e9);
	}
	printf("\n");
	fflush(stdout);
}

/* ---- dense ------------------------------------------------------------------------------- */

/* n_swiglu: rows of a second product behind the first, as the router's. */
static void dense(const char *what, enum matmul_format f, uint32_t n, uint32_t n_swiglu, uint32_t k,
		  uint32_t rows, enum matmul_out out)
{
	const size_t each = (matmul_packed_bytes(f, n, k) + matmul_packed_bytes(f, n_swiglu, k) + 255) /
			    256 * 256;
	struct decode_matmul_args a = {};

	a.x = x_all;
	a.y = y_all;
	a.n_rows = rows;
	a.n = n;
	a.k = a.ldx = k;
	a.ldy = n;
	a.n_swiglu = n_swiglu;
	a.ldy_swiglu = n_swiglu / 2;
	a.y_swiglu = n_swiglu ? y_all + (32 << 20) : NULL;
	a.row_scale = f == MATMUL_BF16 ? NULL : scales;
	a.format = f;
	a.out = out;
	cell(what, f, rows,
	     (double)matmul_packed_bytes(f, n, k) + (double)matmul_packed_bytes(f, n_swiglu, k) +
		     (double)rows * k * 2 + (double)rows * n * (out == MATMUL_OUT_F32 ? 4 : 2) +
		     (double)rows * n_swiglu,
	     { { MATMUL_AUTO, "auto" }, { MATMUL_NARROW, "narrow" }, { MATMUL_WIDE, "wide" },
	       { MATMUL_SQUARE, "square" } },
	     [&](enum matmul_form form, int i) {
		     a.w = arena + (size_t)i % (ARENA / each) * each;
		     a.form = form;
		     a.x_ordered = form == MATMUL_AUTO && decode_matmul_orders(&a);
		     return decode_matmul(&a, stream);
	     });
}

/* ---- experts ----------------------------------------------------------------------------- */

static void experts(const char *what, enum matmul_format f, uint32_t n, uint32_t k, uint32_t rows,
		    bool down)
{
	const size_t layer = matmul_packed_bytes(f, n, k) * EXPERTS;
	struct expert_list lists[LAUNCHES];
	struct decode_experts_args a = {};
	std::vector<void *> mem;
	double distinct = 0;

	srand(rows);
	for (int i = 0; i < LAUNCHES; i++) {
		std::vector<uint32_t> ids, all(EXPERTS);
		bool hit[EXPERTS] = {};
		void *list;

		for (uint32_t e = 0; e < EXPERTS; e++)
			all[e] = e;
		for (uint32_t r = 0; r < rows; r++)
			for (int s = 0; s < SLOTS; s++) {
				std::swap(all[s], all[s + rand() % (EXPERTS - s)]);
				ids.push_back(all[s]);
				hit[all[s]] = true;
			}
		distinct += std::count(hit, hit + EXPERTS, true) / (double)LAUNCHES;
		CUDA(cudaMalloc(&list, expert_list_bytes(rows, SLOTS, EXPERTS)));
		lists[i] = expert_list_at(list, rows, SLOTS, EXPERTS);
		CUDA(given_list(ids, EXPERTS, &lists[i]));
		mem.push_back(list);
	}
	a.row_scale = f == MATMUL_BF16 ? NULL : scales;
	a.x = x_all;
	a.y = y_all;
	a.n_rows = rows;
	a.n_slots = SLOTS;
	a.n_experts = EXPERTS;
	a.n = n;
	a.k = a.ldx = k;
	a.ldy = down ? n : n / 2;
	a.x_per_slot = a.list_settled = down;
	a.format = f;
	a.out = down ? MATMUL_OUT_F32 : MATMUL_OUT_SWIGLU;
	cell(what, f, rows,
	     distinct * (double)matmul_packed_bytes(f, n, k) +
		     (double)rows * k * 2 * (down ? SLOTS : 1) +
		     (double)rows * SLOTS * n * (down ? 4 : 1),
	     { { MATMUL_AUTO, "auto" }, { MATMUL_NARROW, "narrow" }, { MATMUL_RING, "ring" } },
	     [&](enum matmul_form form, int i) {
		     a.w = arena + (size_t)i % (ARENA / layer) * layer;
		     a.list = &lists[i];
		     a.form = form;
		     return decode_experts(&a, stream);
	     });
	for (void *p : mem)
		CUDA(cudaFree(p));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *what;
		uint32_t n, n_swiglu, k;
		enum matmul_out out;
	} shapes[] = {
		{ "GDN in 12352x2048", 12352, 0, 2048, MATMUL_OUT_BF16 },
		{ "head 248320x2048", 248320, 0, 2048, MATMUL_OUT_F32 },
		{ "attn in 9216x2048", 9216, 0, 2048, MATMUL_OUT_BF16 },
		{ "GDN out 2048x4096", 2048, 0, 4096, MATMUL_OUT_F32 },
		{ "router 257+1024x2048", 257, 1024, 2048, MATMUL_OUT_F32 },
		{ "shared down 2048x512", 2048, 0, 512, MATMUL_OUT_F32 },
	};
	const uint32_t only = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
	std::vector<float> ones(EXPERTS * 2048, 1.0f);
	int devices = 0;

	if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
		fprintf(stderr, "no GPU here\n");
		return 77;
	}
	CUDA(cudaStreamCreate(&stream));
	CUDA(cudaMalloc(&arena, ARENA));
	CUDA(cudaMalloc(&x_all, 64 << 20));
	CUDA(cudaMalloc(&y_all, 256 << 20));	/* the head: 200 rows of float32 */
	CUDA(cudaMalloc(&scales, ones.size() * 4));
	CUDA(cudaMemcpy(scales, ones.data(), ones.size() * 4, cudaMemcpyHostToDevice));
	fill_kernel<<<2048, 256, 0, stream>>>((uint32_t *)arena, ARENA / 4);
	fill_kernel<<<2048, 256, 0, stream>>>((uint32_t *)x_all, 16 << 20);
	CUDA(cudaMalloc(&read_sink, 4));
	roof = read_roof(arena, ARENA);
	printf("read roof %.2f TB/s\n", roof / 1e12);
	for (enum matmul_format f : { MATMUL_NVFP4, MATMUL_FP8, MATMUL_BF16 }) {
		if (argc > 1 && strcasecmp(argv[1], matmul_format_name(f)))
			continue;
		for (uint32_t rows : { 8u, 16u, 64u, 200u }) {
			if (only && rows != only)
				continue;
			experts("experts gate, up", f, 1024, 2048, rows, false);
			experts("experts down", f, 2048, 512, rows, true);
		}
		for (auto &s : shapes)
			for (uint32_t rows : { 16u, 24u, 64u, 200u })
				if (!only || rows == only)
					dense(s.what, f, s.n, s.n_swiglu, s.k, rows, s.out);
	}
	return 0;
}
